"""The asyncio client: a thin shell of sockets and futures around the pure session.

Owns the connection and its state, the waiting callers and the live queries' mailboxes. Promises that calls wait
through outages, that an unanswered mutation is sent again under the same session and request id, and that nothing is
left running after `close`. Every rule of the protocol is in `client/session`.
"""

import asyncio
import contextlib
import enum
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self, assert_never

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from reactor.client.address import client_name, is_loopback, path_of, sync_url
from reactor.client.backoff import Backoff
from reactor.client.outcome import Outcome
from reactor.client.session import (
    NO_ARGS,
    Answered,
    Ended,
    QueryChanged,
    Session,
    SessionEvent,
    TokenAccepted,
    TokenRefused,
)
from reactor.client.subscription import Subscription
from reactor.client.tokens import TokenFetcher, Tokens, refresh_delay
from reactor.errors import AuthError, Error, InvalidArgument, ProtocolError, Unavailable
from reactor.ports import Clock
from reactor.values.json import encode_json
from reactor.values.stored import normalise

OPEN_TIMEOUT_SECONDS: Final = 10.0
CLOSE_TIMEOUT_SECONDS: Final = 2.0

_log: Final = logging.getLogger("reactor.client")


class ConnectionState(enum.Enum):
    """Where a client's connection is."""

    NEW = "new"  # nothing was asked yet
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"  # for the next attempt
    CLOSED = "closed"  # by `close`, or for good by the server


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
        self._state = ConnectionState.NEW
        self._main: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()  # the session may have frames to send
        self._ended: Error | None = None

        self._requests: dict[int, asyncio.Future[Outcome]] = {}
        self._one_shots: dict[int, asyncio.Future[Outcome]] = {}
        self._readers: dict[int, dict[Subscription, None]] = {}

        self._tokens = Tokens(None)
        self._refusal: str | None = None  # the server's reason; set while the refused connection is taken down
        self._fetching: asyncio.Task[None] | None = None

    @property
    def state(self) -> ConnectionState:
        """Where the connection is."""
        return self._state

    # Verbs.

    async def query(self, function: Any, args: Mapping[str, Any] | None = None, /) -> Any:
        """Run a query once and return its result.

        Raises:
            ReactorError: the function raised the application's own error.
            FunctionError: the function failed otherwise.
            ValidationError: the arguments are no Convex values.
            AuthError: the server refused the token.
            ProtocolError: the server ended the session for good.
            Unavailable: the client is closed.
        """
        path, encoded = path_of(function), _encode_args(args)
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

    async def mutation(self, function: Any, args: Mapping[str, Any] | None = None, /) -> Any:
        """Run a mutation exactly once and return its result, when the live queries of this client show its effects.

        Mutations run in the order of their calls. Cancelling one that was already sent does not undo it.

        Raises:
            ReactorError: the function raised the application's own error; nothing was written.
            FunctionError: the function failed otherwise; nothing was written.
            ValidationError: the arguments are no Convex values.
            AuthError: the server refused the token.
            ProtocolError: the server ended the session for good.
            Unavailable: the client is closed.
        """
        path, encoded = path_of(function), _encode_args(args)
        self._begin()
        return await self._answer(self._session.mutate(path, encoded))

    async def action(self, function: Any, args: Mapping[str, Any] | None = None, /) -> Any:
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
        path, encoded = path_of(function), _encode_args(args)
        self._begin()
        return await self._answer(self._session.act(path, encoded))

    def subscribe(self, function: Any, args: Mapping[str, Any] | None = None, /) -> Subscription:
        """Start a live query. Needs a running event loop; close the subscription, best with `async with`.

        Raises:
            ValidationError: the arguments are no Convex values.
            Unavailable: the client is closed.
        """
        path, encoded = path_of(function), _encode_args(args)
        self._begin()
        query_id = self._session.subscribe(path, encoded)
        subscription = Subscription(lambda: self._unsubscribe(query_id, subscription))
        self._readers.setdefault(query_id, {})[subscription] = None
        outcome = self._session.result(query_id)
        if outcome is not None:
            _deliver(subscription, outcome)
        self._wake.set()
        return subscription

    def set_auth(self, token: str | TokenFetcher | None) -> None:
        """Choose the identity of every later call: a JWT, an async callable that gets one, or None for nobody.

        The callable is called as `fetch(force_refresh=False)`, and with True when the server refused a token or it is
        about to expire. A token that cannot be replaced fails what is waiting with `AuthError`; then the client goes
        on without identity.
        """
        self._stop_fetching()
        self._tokens = Tokens(token)
        if self._tokens.fetcher is None:
            self._session.set_token(self._tokens.fixed)
        else:
            self._session.hold()
            if self._main is not None:
                self._fetch(force_refresh=False)
        self._wake.set()

    async def close(self) -> None:
        """Close the connection; waiting calls raise `Unavailable` and live queries end. Closing twice is harmless."""
        running = [task for task in (self._main, self._fetching) if task is not None]
        self._main = None
        if self._ended is None:
            self._end(Unavailable("the client is closed"), None)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

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
            self._state = ConnectionState.CONNECTING
            self._main = asyncio.get_running_loop().create_task(self._stay_connected(), name="reactor client")
            if self._tokens.fetcher is not None:
                self._fetch(force_refresh=False)

    async def _answer(self, request_id: int) -> Any:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._requests[request_id] = future
        self._wake.set()
        try:
            outcome = await future
        finally:
            del self._requests[request_id]
            if future.cancelled():
                self._session.abandon(request_id)
        return outcome.unwrap()

    def _unsubscribe(self, query_id: int, subscription: Subscription) -> None:
        readers = self._readers[query_id]
        del readers[subscription]
        if not readers:
            del self._readers[query_id]
        self._session.unsubscribe(query_id)
        self._wake.set()

    def _fail_waiting(self, error: Error) -> None:
        """Every call that waits fails with `error`; live queries get it as a result."""
        self._session.drop_requests()
        self._settle_waiting(error)
        for readers in self._readers.values():
            for subscription in readers:
                subscription.fail(error)

    def _end(self, error: Error, reason: Error | None) -> None:
        """Nothing works any more: `error` is what calls raise, `reason` what live queries end with."""
        self._ended = error
        self._state = ConnectionState.CLOSED
        self._settle_waiting(error)
        for subscription in [reader for readers in self._readers.values() for reader in readers]:
            subscription.end(reason)

    def _settle_waiting(self, error: Error) -> None:
        outcome = Outcome(error=error)
        for future in (*self._requests.values(), *self._one_shots.values()):
            _settle(future, outcome)

    # The connection.

    async def _stay_connected(self) -> None:
        try:
            while self._ended is None:
                code = await self._connect_once()
                if self._refusal is not None:
                    self._handle_refusal(self._refusal)
                elif self._ended is None:
                    self._state = ConnectionState.WAITING
                    await self._sleep(self._backoff.failed(code))
        except Exception as error:
            # A defect, but callers must not wait for ever on a task that is gone.
            _log.exception("the client stopped")
            self._end(ProtocolError("ClientStopped", f"the client stopped: {error!r}"), None)

    async def _connect_once(self) -> int | None:
        """Connect and serve the connection to its end; return the server's close code, if it gave one."""
        self._state = ConnectionState.CONNECTING
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
            return None
        writer = None
        code: int | None = None
        reason: str | None = None
        try:
            self._session.opened(self._now_ms())
            self._state = ConnectionState.CONNECTED
            writer = asyncio.create_task(self._write(socket), name="reactor client writer")
            await self._read(socket)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else None
            reason = (closed.rcvd.reason if closed.rcvd else "") or f"closed with code {code or 1006}"
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
        return code

    async def _read(self, socket: ClientConnection) -> None:
        while self._ended is None and self._refusal is None:
            self._dispatch(self._session.receive(await socket.recv(decode=False)))
            if self._session.is_caught_up:
                self._backoff.succeeded()
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
        for event in events:
            match event:
                case QueryChanged(query_id=query_id, outcome=outcome):
                    for subscription in self._readers.get(query_id, ()):
                        _deliver(subscription, outcome)
                    if query_id in self._one_shots:
                        _settle(self._one_shots[query_id], outcome)
                case Answered(request_id=request_id, outcome=outcome):
                    if request_id in self._requests:
                        _settle(self._requests[request_id], outcome)
                case TokenAccepted():
                    self._tokens.accepted()
                    self._schedule_refresh()
                case TokenRefused(message=message):
                    self._refusal = message
                case Ended(error=error):
                    _log.error("%s", error)
                    self._end(error, error)
                case _:
                    assert_never(event)

    # Tokens.

    def _handle_refusal(self, message: str) -> None:
        self._refusal = None
        _log.info("the server refused the token: %s", message)
        if self._tokens.refused():
            self._fetch(force_refresh=True, refusal=message)
        else:
            self._give_up(AuthError(message))

    def _give_up(self, error: AuthError) -> None:
        self._stop_fetching()
        self._tokens = Tokens(None)
        self._fail_waiting(error)
        self._session.set_token(None)
        self._wake.set()

    def _fetch(self, *, force_refresh: bool, refusal: str | None = None, after: float = 0.0) -> None:
        self._stop_fetching()
        self._fetching = asyncio.get_running_loop().create_task(
            self._fetch_token(self._tokens, force_refresh, refusal, after), name="reactor client token"
        )

    async def _fetch_token(self, tokens: Tokens, force_refresh: bool, refusal: str | None, after: float) -> None:
        assert tokens.fetcher is not None
        if after:
            await self._sleep(after)
        try:
            token = await tokens.fetcher(force_refresh=force_refresh)
            if token is not None and not isinstance(token, str):
                raise InvalidArgument(f"expected a JWT or None, got {type(token).__name__}")
        except Exception as cause:
            error = AuthError(f"the token callable failed: {cause!r}")
            error.__cause__ = cause
            if self._tokens is tokens:
                self._give_up(error)
            return
        if self._tokens is not tokens:
            return  # `set_auth` was called meanwhile
        if refusal is not None and (token is None or token == tokens.current):
            self._give_up(AuthError(refusal))
        elif force_refresh and refusal is None and token == tokens.current:
            return  # nothing newer to announce
        else:
            tokens.current = token
            self._session.set_token(token)
            self._wake.set()

    def _schedule_refresh(self) -> None:
        tokens = self._tokens
        if tokens.fetcher is None or tokens.current is None or (self._fetching and not self._fetching.done()):
            return
        delay = refresh_delay(tokens.current)
        if delay is not None:
            self._fetch(force_refresh=True, after=delay)

    def _stop_fetching(self) -> None:
        if self._fetching is not None and self._fetching is not asyncio.current_task():
            self._fetching.cancel()
        self._fetching = None


def _encode_args(args: Mapping[str, Any] | None) -> bytes:
    if not args:
        return NO_ARGS
    normalised = normalise(dict(args))
    return encode_json(normalised.value, normalised.plain)


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def _deliver(subscription: Subscription, outcome: Outcome) -> None:
    try:
        value = outcome.unwrap()
    except Error as error:
        subscription.fail(error)
    else:
        subscription.deliver(value)
