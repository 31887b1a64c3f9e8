"""The blocking client: the asyncio client on a loop in a thread of its own.

Promises the same verbs with the same meaning, from any number of threads. Everything but waiting is in
`client/async_client`.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from reactor.client.async_client import Client
from reactor.client.connection_state import ConnectionReport, ConnectionState
from reactor.client.optimistic import OptimisticUpdate
from reactor.client.pagination import BlockingPaginatedSubscription, PaginatedSubscription
from reactor.client.portal import LoopThread
from reactor.client.subscription import BlockingSubscription
from reactor.client.tokens import TokenFetcher
from reactor.errors import Unavailable
from reactor.protocol.references import ActionReference, MutationReference, NamesFunction, QueryReference

D = ParamSpec("D")
K = ParamSpec("K")
R = TypeVar("R")


class BlockingClient:
    """A client of one deployment for code without an event loop, usable from many threads at once.

    It connects at the first call and reconnects by itself. Close it, best with `with`.
    """

    def __init__(self, url: str, *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        """Choose the deployment; nothing is connected yet.

        Raises:
            InvalidArgument: `url` is no deployment URL.
        """
        self._client = Client(url)
        self._thread = LoopThread("reactor client", loop_factory)

    @property
    def state(self) -> ConnectionState:
        """Where the connection is."""
        return self._client.state

    def connection_state(self) -> ConnectionReport:
        """Return the state of the connection with what depends on it."""
        return self._client.connection_state()

    def connection_states(self) -> BlockingSubscription:
        """Return a subscription to `connection_state()`; see `Client.connection_states`."""
        return BlockingSubscription(self._thread.run(self._client.connection_states), self._thread)

    @overload
    def query(self, function: QueryReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    def query(self, function: QueryReference[D, K, R], args: Mapping[str, Any], /, *, timeout: float | None) -> R: ...

    @overload
    def query(
        self, function: str | NamesFunction, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None
    ) -> Any: ...

    def query(self, function: Any, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None) -> Any:  # type: ignore[misc]
        """Run a query once and return its result.

        Raises:
            ReactorError: the function raised the application's own error.
            FunctionError: the function failed otherwise.
            ValidationError: the arguments are no Convex values.
            AuthError: the server refused the token.
            TimeoutError: there was no answer within `timeout` seconds.
            ProtocolError: the server ended the session for good.
            Unavailable: the client is closed.
        """
        return self._thread.call(self._client.query, function, args, timeout=timeout)

    @overload
    def mutation(self, function: MutationReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    def mutation(
        self,
        function: MutationReference[D, K, R],
        args: Mapping[str, Any],
        /,
        *,
        optimistic_update: OptimisticUpdate | None,
        timeout: float | None = None,
    ) -> R: ...

    @overload
    def mutation(
        self,
        function: MutationReference[D, K, R],
        args: Mapping[str, Any],
        /,
        *,
        optimistic_update: None = None,
        timeout: float | None,
    ) -> R: ...

    @overload
    def mutation(
        self,
        function: str | NamesFunction,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        optimistic_update: OptimisticUpdate | None = None,
        timeout: float | None = None,
    ) -> Any: ...

    def mutation(  # type: ignore[misc]
        self,
        function: Any,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        optimistic_update: OptimisticUpdate | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run a mutation exactly once and return its result, when the live queries of this client show its effects.

        `optimistic_update` is as for `Client.mutation`; it runs on the client's own thread and must not wait.

        Raises:
            Exception: whatever `optimistic_update` raised at its first call; the mutation was not sent.
            ReactorError: the function raised the application's own error; nothing was written.
            FunctionError: the function failed otherwise; nothing was written.
            ValidationError: the arguments are no Convex values.
            AuthError: the server refused the token.
            TimeoutError: there was no answer within `timeout` seconds; a mutation that was already sent is not undone.
            ProtocolError: the server ended the session for good.
            Unavailable: the client is closed.
        """

        def mutate() -> Awaitable[Any]:
            return self._client.mutation(function, args, optimistic_update=optimistic_update)

        return self._thread.call(mutate, timeout=timeout)

    @overload
    def action(self, function: ActionReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    def action(self, function: ActionReference[D, K, R], args: Mapping[str, Any], /, *, timeout: float | None) -> R: ...

    @overload
    def action(
        self, function: str | NamesFunction, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None
    ) -> Any: ...

    def action(self, function: Any, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None) -> Any:  # type: ignore[misc]
        """Run an action at most once and return its result.

        Raises:
            ConnectionLost: the connection ended while the action ran; whether it finished is unknown.
            ReactorError: the function raised the application's own error.
            FunctionError: the function failed otherwise.
            ValidationError: the arguments are no Convex values.
            AuthError: the server refused the token.
            TimeoutError: there was no answer within `timeout` seconds; the action may still run.
            ProtocolError: the server ended the session for good.
            Unavailable: the client is closed.
        """
        return self._thread.call(self._client.action, function, args, timeout=timeout)

    @overload
    def subscribe(
        self, function: QueryReference[D, K, Any], /, *args: D.args, **options: D.kwargs
    ) -> BlockingSubscription: ...

    @overload
    def subscribe(
        self, function: str | NamesFunction, args: Mapping[str, Any] | None = None, /
    ) -> BlockingSubscription: ...

    def subscribe(self, function: Any, args: Mapping[str, Any] | None = None, /) -> BlockingSubscription:  # type: ignore[misc]
        """Start a live query. Close the subscription, best with `with`.

        Raises:
            ValidationError: the arguments are no Convex values.
            Unavailable: the client is closed.
        """
        return BlockingSubscription(self._thread.run(self._client.subscribe, function, args), self._thread)

    def subscribe_paginated(
        self, function: Any, args: Mapping[str, Any] | None = None, /, *, initial_num_items: int
    ) -> BlockingPaginatedSubscription:
        """Start a live list; see `Client.subscribe_paginated`. Close the subscription, best with `with`.

        Raises:
            InvalidArgument: `initial_num_items` is not positive.
            ValidationError: the arguments are no Convex values.
            Unavailable: the client is closed.
        """

        def subscribe() -> PaginatedSubscription:
            return self._client.subscribe_paginated(function, args, initial_num_items=initial_num_items)

        return BlockingPaginatedSubscription(self._thread.run(subscribe), self._thread)

    def set_auth(self, token: str | TokenFetcher | None) -> None:
        """Choose the identity of every later call: a JWT, a callable that gets one, or None for nobody.

        The callable, called as in `Client.set_auth`, may be async or plain; a plain one runs in a worker thread.
        """
        if token is None or isinstance(token, str):
            self._thread.run(self._client.set_auth, token)
            return
        fetch: Callable[..., Any] = token

        async def fetch_in_thread(*, force_refresh: bool) -> Any:
            result = await asyncio.to_thread(fetch, force_refresh=force_refresh)
            return await result if inspect.isawaitable(result) else result

        self._thread.run(self._client.set_auth, fetch_in_thread)

    def set_admin_auth(self, key: str, acting_as: Mapping[str, Any] | None = None) -> None:
        """Be an administrator from now on; see `Client.set_admin_auth`."""
        self._thread.run(self._client.set_admin_auth, key, acting_as)

    def close(self) -> None:
        """Close the connection; waiting calls raise `Unavailable` and live queries end. Closing twice is harmless."""
        with contextlib.suppress(Unavailable):  # another thread was faster
            self._thread.call(self._client.close)
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
