"""The asyncio client: a thin shell of sockets and futures around the pure session.

Owns the connection and its state, and the waiting callers. Promises that calls wait through outages, that an unanswered
mutation is sent again under the same session and request id, and that nothing is left running after `close`. Every rule
of the protocol is in `client/session`; live queries are in `client/live`, identities in `client/authentication`.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, assert_never, cast, overload

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from reactor.client.address import client_name, is_loopback, path_of, sync_url
from reactor.client.authentication import Authentication
from reactor.client.backoff import Backoff
from reactor.client.connection_state import ConnectionReport, ConnectionState
from reactor.client.live import LiveQueries, SingleReader
from reactor.client.optimistic import OptimisticUpdate, encode_args
from reactor.client.outcome import Outcome
from reactor.client.pagination import Pages, PaginatedSubscription
from reactor.client.session import (
    Answered,
    Ended,
    QueryChanged,
    Session,
    SessionEvent,
    TokenAccepted,
    TokenRefused,
)
from reactor.client.subscription import Subscription
from reactor.client.tokens import AdminKey, TokenFetcher
from reactor.errors import Error, ProtocolError, Unavailable
from reactor.ports import Clock
from reactor.protocol.references import ActionReference, MutationReference, NamesFunction, QueryReference

OPEN_TIMEOUT_SECONDS: Final = 10.0
CLOSE_TIMEOUT_SECONDS: Final = 2.0

D = ParamSpec("D")
K = ParamSpec("K")
R = TypeVar("R")

_log: Final = logging.getLogger("reactor.client")


class Client:
    """A client of one deployment. It connects at the first call and reconnects by itself.

    Belongs to the event loop of its first call. `random`, `clock` and `sleep` are for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        random: Callable[[], float] = random.random,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Choose the deployment; nothing is connected yet.

        Raises:
            InvalidArgument: `url` is no deployment URL.
        """
        self._url = sync_url(url)
        self._clock = clock
        self._sleep = sleep
        self._backoff = Backoff(random)
        self._session = Session(str(uuid.uuid4()))
        self._live = LiveQueries(self._session)
        self._state = ConnectionState.NEW
        self._watchers: dict[Subscription, None] = {}  # of the connection
        self._list_ids = itertools.count(1)
        self._main: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()  # the session may have frames to send
        self._ended: Error | None = None

        self._requests: dict[int, asyncio.Future[Outcome]] = {}
        self._one_shots: dict[int, asyncio.Future[Outcome]] = {}
        self._refusal: str | None = None  # the server's reason; set while the refused connection is taken down
        self._authentication = Authentication(self._session, sleep, self._wake.set, self._fail_waiting)

    @property
    def state(self) -> ConnectionState:
        """Where the connection is."""
        return self._state

    def connection_state(self) -> ConnectionReport:
        """Return the state of the connection with what depends on it."""
        session = self._session
        return ConnectionReport(
            self._state,
            session.connection_count,
            self._backoff.failures,
            session.unfinished_mutations,
            session.unfinished_actions,
            session.max_observed_timestamp,
        )

    def connection_states(self) -> Subscription:
        """Return a subscription to `connection_state()`: first what it is now, then each change of it.

        Close it, best with `async with`. It ends with the client.
        """
        watcher = Subscription(lambda: self._watchers.pop(watcher, None))
        if self._ended is None:
            self._watchers[watcher] = None
            watcher.deliver(cast("Any", self.connection_state()))
        else:
            watcher.deliver(cast("Any", self.connection_state()))
            watcher.end()
        return watcher

    # Verbs.

    @overload
    async def query(self, function: QueryReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    async def query(self, function: str | NamesFunction, args: Mapping[str, Any] | None = None, /) -> Any: ...

    async def query(self, function: Any, args: Mapping[str, Any] | None = None, /) -> Any:  # type: ignore[misc]
        """Run a query once and return its result.

        Raises:
            ReactorError: the function raised the application's own error.
            FunctionError: the function failed otherwise.
            ValidationError: the arguments are no Convex values.
            AuthError: the server refused the token.
            ProtocolError: the server ended the session for good.
            Unavailable: the client is closed.
        """
        path, encoded = path_of(function), encode_args(args)
        self._begin()
        query_id = self._session.subscribe(path, encoded, shared=False)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._one_shots[query_id] = future
        self._wake.set()
        try:
            outcome = await future
        finally:
            del self._one_shots[query_id]
            self._session.unsubscribe(query_id)
            self._wake.set()
        return outcome.unwrap()

    @overload
    async def mutation(self, function: MutationReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    async def mutation(
        self,
        function: MutationReference[D, K, R],
        args: Mapping[str, Any],
        /,
        *,
        optimistic_update: OptimisticUpdate | None,
    ) -> R: ...

    @overload
    async def mutation(
        self,
        function: str | NamesFunction,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        optimistic_update: OptimisticUpdate | None = None,
    ) -> Any: ...

    async def mutation(  # type: ignore[misc]
        self,
        function: Any,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        optimistic_update: OptimisticUpdate | None = None,
    ) -> Any:
        """Run a mutation exactly once and return its result, when the live queries of this client show its effects.

        Mutations run in the order of their calls. Cancelling one that was not sent yet keeps it from running;
        cancelling one that was sent does not undo it.

        Args:
            function: a path, a reference or a decorated function.
            args: its arguments.
            optimistic_update: called as `update(store, args)` to show right away what the mutation is going to do to
                live queries, and again whenever the server's results change before it is finished.

        Raises:
            Exception: whatever `optimistic_update` raised at its first call; the mutation was not sent.
            ReactorError: the function raised the application's own error; nothing was written.
            FunctionError: the function failed otherwise; nothing was written.
            ValidationError: the arguments are no Convex values.
            AuthError: the server refused the token.
            ProtocolError: the server ended the session for good.
            Unavailable: the client is closed.
        """
        path, encoded = path_of(function), encode_args(args)
        self._begin()
        if optimistic_update is None:
            return await self._answer(self._session.mutate(path, encoded))
        return await self._answer(self._live.mutate(path, encoded, optimistic_update))

    @overload
    async def action(self, function: ActionReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    async def action(self, function: str | NamesFunction, args: Mapping[str, Any] | None = None, /) -> Any: ...

    async def action(self, function: Any, args: Mapping[str, Any] | None = None, /) -> Any:  # type: ignore[misc]
        """Run an action at most once and return its result.

        Raises:
            ConnectionLost: the connection ended while the action ran; whether it finished is unknown.
            ReactorError: the function raised the application's own error.
            FunctionError: the function failed otherwise.
            ValidationError: the arguments are no Convex values.
            AuthError: the server refused the token.
            ProtocolError: the server ended the session for good.
            Unavailable: the client is closed.
        """
        path, encoded = path_of(function), encode_args(args)
        self._begin()
        return await self._answer(self._session.act(path, encoded))

    @overload
    def subscribe(self, function: QueryReference[D, K, Any], /, *args: D.args, **options: D.kwargs) -> Subscription: ...

    @overload
    def subscribe(self, function: str | NamesFunction, args: Mapping[str, Any] | None = None, /) -> Subscription: ...

    def subscribe(self, function: Any, args: Mapping[str, Any] | None = None, /) -> Subscription:  # type: ignore[misc]
        """Start a live query. Needs a running event loop; close the subscription, best with `async with`.

        Raises:
            ValidationError: the arguments are no Convex values.
            Unavailable: the client is closed.
        """
        path, encoded = path_of(function), encode_args(args)
        self._begin()
        return SingleReader(self._live, path, encoded, self._wake.set).subscription

    def subscribe_paginated(
        self, function: Any, args: Mapping[str, Any] | None = None, /, *, initial_num_items: int
    ) -> PaginatedSubscription:
        """Start a live list of what a paginated query gives, page by page; `args` without `paginationOpts`.

        Needs a running event loop; close the subscription, best with `async with`.

        Raises:
            InvalidArgument: `initial_num_items` is not positive.
            ValidationError: the arguments are no Convex values.
            Unavailable: the client is closed.
        """
        path = path_of(function)
        self._begin()
        return Pages(self._live, path, args or {}, initial_num_items, self._list_ids, self._wake.set).subscription

    def set_auth(self, token: str | TokenFetcher | None) -> None:
        """Choose the identity of every later call: a JWT, a callable that gets one, or None for nobody.

        The callable is called as `fetch(force_refresh=False)`, and with True when the server refused a token or it is
        about to expire; it may be async, and must not block if it is not. A token that cannot be replaced fails what
        is waiting with `AuthError`; then the client goes on without identity.
        """
        self._authentication.choose(token)

    def set_admin_auth(self, key: str, acting_as: Mapping[str, Any] | None = None) -> None:
        """Be an administrator from now on, by an admin key of the deployment.

        Functions then see nobody, or the user with the claims `acting_as`: `issuer` and `subject`, or
        `tokenIdentifier`, and any others. A key that the server refuses fails what is waiting with `AuthError`.
        """
        self._authentication.choose(AdminKey(key, None if acting_as is None else dict(acting_as)))

    async def close(self) -> None:
        """Close the connection; waiting calls raise `Unavailable` and live queries end. Closing twice is harmless."""
        main, self._main = self._main, None
        if self._ended is None:
            self._end(Unavailable("the client is closed"), None)
        await self._authentication.close()
        if main is not None:
            main.cancel()
            await asyncio.gather(main, return_exceptions=True)

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Callers.

    def _begin(self) -> None:
        if self._ended is not None:
            raise self._ended.with_traceback(None)
        if self._main is None:
            self._be(ConnectionState.CONNECTING)
            self._main = asyncio.get_running_loop().create_task(self._stay_connected(), name="reactor client")
            self._authentication.start()

    async def _answer(self, request_id: int) -> Any:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._requests[request_id] = future
        self._wake.set()
        self._report()
        try:
            outcome = await future
        finally:
            del self._requests[request_id]
            if future.cancelled() and self._session.abandon(request_id):
                self._live.step({}, (request_id,))  # what it showed will not come true
            self._report()
        return outcome.unwrap()

    def _fail_waiting(self, error: Error) -> None:
        """Every call that waits fails with `error`; live queries get it as a result."""
        self._session.drop_requests()
        self._settle_waiting(error)
        self._live.fail(error)

    def _end(self, error: Error, reason: Error | None) -> None:
        """Nothing works any more: `error` is what calls raise, `reason` what live queries end with."""
        self._ended = error
        self._be(ConnectionState.CLOSED)
        self._settle_waiting(error)
        self._live.end(reason)
        for watcher in list(self._watchers):
            watcher.end()

    def _settle_waiting(self, error: Error) -> None:
        outcome = Outcome(error=error)
        for future in (*self._requests.values(), *self._one_shots.values()):
            _settle(future, outcome)

    def _be(self, state: ConnectionState) -> None:
        self._state = state
        self._report()

    def _report(self) -> None:
        """Tell those who watch the connection, if anything about it is different."""
        if self._watchers:
            report = cast("Any", self.connection_state())
            for watcher in self._watchers:
                if watcher.value != report:
                    watcher.deliver(report)

    # The connection.

    async def _stay_connected(self) -> None:
        try:
            while self._ended is None:
                code, reason = await self._connect_once()
                refusal, self._refusal = self._refusal, None
                if refusal is not None:
                    _log.info("the server refused the token: %s", refusal)
                    self._authentication.refused(refusal)
                elif self._ended is None:
                    seconds = self._backoff.failed(code, reason)
                    self._be(ConnectionState.WAITING)
                    await self._sleep(seconds)
        except Exception as error:
            # A defect, but callers must not wait for ever on a task that is gone.
            _log.exception("the client stopped")
            self._end(ProtocolError("ClientStopped", f"the client stopped: {error!r}"), None)

    async def _connect_once(self) -> tuple[int | None, str]:
        """Connect and serve the connection to its end; return the code and reason the server closed with, if any."""
        self._be(ConnectionState.CONNECTING)
        try:
            socket = await connect(
                self._url,
                additional_headers={"Convex-Client": client_name()},
                compression=None,
                # A proxy for the outside world would not reach this machine's own loopback.
                proxy=None if is_loopback(self._url) else True,
                open_timeout=OPEN_TIMEOUT_SECONDS,
                close_timeout=CLOSE_TIMEOUT_SECONDS,
                max_size=None,
            )
        except (OSError, WebSocketException, TimeoutError) as error:
            _log.warning("cannot connect to %s: %s", self._url, error)
            self._dispatch(self._session.closed(f"cannot connect: {type(error).__name__}"))
            return None, ""
        writer = None
        code: int | None = None
        given = ""
        reason: str | None = None
        try:
            self._session.opened(self._now_ms())
            self._be(ConnectionState.CONNECTED)
            writer = asyncio.create_task(self._write(socket), name="reactor client writer")
            await self._read(socket)
        except ConnectionClosed as closed:
            code, given = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")
            reason = given or f"closed with code {code or 1006}"
            _log.info("connection to %s ended: %s", self._url, reason)
        except ProtocolError as error:
            reason = f"{error.rule}: {error}"[:500]
            _log.warning("closing the connection to %s: %s", self._url, reason)
        finally:
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
            self._dispatch(self._session.closed(reason))
            await socket.close()
        return code, given

    async def _read(self, socket: ClientConnection) -> None:
        while self._ended is None and self._refusal is None:
            self._dispatch(self._session.receive(await socket.recv(decode=False)))
            if self._session.is_caught_up and self._backoff.failures:
                self._backoff.succeeded()
                self._report()
            if self._session.has_waiting_requests:
                self._wake.set()

    async def _write(self, socket: ClientConnection) -> None:
        # An end of the connection is noticed, and told, by the reader.
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._wake.clear()
                for frame in self._session.take_frames():
                    await socket.send(frame, text=True)
                await self._wake.wait()

    def _now_ms(self) -> int:
        return (self._clock.now_ns() if self._clock is not None else time.time_ns()) // 1_000_000

    def _dispatch(self, events: list[SessionEvent]) -> None:
        changed: dict[int, Outcome] = {}
        answered: dict[int, Outcome] = {}
        for event in events:
            match event:
                case QueryChanged(query_id=query_id, outcome=outcome):
                    if query_id in self._one_shots:
                        _settle(self._one_shots[query_id], outcome)
                    else:
                        changed[query_id] = outcome
                case Answered(request_id=request_id, outcome=outcome):
                    answered[request_id] = outcome
                case TokenAccepted():
                    self._authentication.accepted()
                case TokenRefused(message=message):
                    self._refusal = message
                case Ended(error=error):
                    _log.error("%s", error)
                    self._end(error, error)
                case _:
                    assert_never(event)
        if changed or answered:
            # One step: whoever awaits a mutation finds its effects in the live queries, and its preview gone.
            self._live.step(changed, answered)
            for request_id, outcome in answered.items():
                if request_id in self._requests:
                    _settle(self._requests[request_id], outcome)
            self._report()


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
