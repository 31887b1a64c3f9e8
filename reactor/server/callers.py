"""Calling functions of a deployment from the process it runs in.

Promises values in and values out with the same meaning as over a socket, one identity per caller, and that live
queries come from the same results as everybody else's. Such calls may reach internal functions. Used by the
composition root; the blocking form is for code without an event loop.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, ParamSpec, TypeVar, overload

from reactor.auth.identity import ANONYMOUS, Identity, admin_identity, user_identity
from reactor.client.subscription import Subscription
from reactor.errors import InvalidArgument, Unavailable
from reactor.protocol.references import ActionReference, MutationReference, QueryReference
from reactor.runtime.calls import Call
from reactor.runtime.components.targets import HANDLE, address_of
from reactor.runtime.decorators import Function, Kind
from reactor.runtime.failures import exception_of, unwrap
from reactor.runtime.references import FunctionReference, parse_path
from reactor.runtime.results import QueryResult
from reactor.runtime.rounds import LiveHandle
from reactor.server.backend import Backend, OpenBackend, outcome_of
from reactor.server.http.fetch import FetchResponse, fetch
from reactor.values.json import decode_json, encode_json
from reactor.values.stored import normalise
from reactor.values.types import Value

D = ParamSpec("D")
K = ParamSpec("K")
R = TypeVar("R")

Untyped = str | FunctionReference | Callable[..., Any]  # decorated functions among them

NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Caller:
    """Calls functions as one identity. Belongs to the deployment's event loop."""

    def __init__(
        self, backend: OpenBackend, feeds: "set[Feed]", identity: Identity = ANONYMOUS, component: str = ""
    ) -> None:
        self._open_backend = backend
        self._feeds = feeds
        self._identity = identity
        self._component = component

    def component(self, path: str, /) -> "Caller":
        """Return a caller of the functions of a mounted component, such as `limiter` or `limiter/inner`.

        `run` sees the data of that instance and nothing else.
        """
        return Caller(self._open_backend, self._feeds, self._identity, path)

    def with_identity(self, claims: Mapping[str, Any], /) -> "Caller":
        """Return a caller that functions see as the user with these claims, such as `{"name": "Alice"}`.

        Missing `subject`, `issuer` and `tokenIdentifier` are made up, the same for the same claims.

        Raises:
            InvalidArgument: a known claim has the wrong type, or a claim is no JSON.
        """
        return Caller(self._open_backend, self._feeds, user_identity(claims), self._component)

    def as_admin(self, acting_as: Mapping[str, Any] | None = None, /) -> "Caller":
        """Return a caller that functions see as somebody with an admin key, perhaps acting as a user.

        Raises:
            InvalidArgument: the user is named by neither `tokenIdentifier` nor `issuer` and `subject`, or see
                `with_identity`.
        """
        return Caller(self._open_backend, self._feeds, admin_identity(acting_as), self._component)

    @overload
    async def query(self, function: QueryReference[D, K, R], /, *args: K.args, **fields: K.kwargs) -> R: ...

    @overload
    async def query(self, function: QueryReference[D, K, R], /, *args: D.args, **fields: D.kwargs) -> R: ...

    @overload
    async def query(self, function: Untyped, args: Mapping[str, Any] | None = None, /, **fields: Any) -> Value: ...

    async def query(self, function: Any, args: Mapping[str, Any] | None = None, /, **fields: Any) -> Any:  # type: ignore[misc]
        """Run a query once and return its result. Arguments are one dict, or keywords.

        `function` may be a plain function instead, which gets the `ctx` of a query:
        `query(lambda ctx: ctx.db.get(id))`.

        Raises:
            ReactorError: the function raised the application's own error.
            Exception: whatever else it raised, or what kept it from running.
            Unavailable: the deployment is not open.
        """
        if _is_inline(function):
            return await self._run_inline("query", function, args or fields)
        backend = self._open_backend()
        call = self.call(backend, function, args or {}, fields)
        return unwrap(await outcome_of(backend.functions.submit_query, call))

    @overload
    async def mutation(self, function: MutationReference[D, K, R], /, *args: K.args, **fields: K.kwargs) -> R: ...

    @overload
    async def mutation(self, function: MutationReference[D, K, R], /, *args: D.args, **fields: D.kwargs) -> R: ...

    @overload
    async def mutation(self, function: Untyped, args: Mapping[str, Any] | None = None, /, **fields: Any) -> Value: ...

    async def mutation(self, function: Any, args: Mapping[str, Any] | None = None, /, **fields: Any) -> Any:  # type: ignore[misc]
        """Run a mutation and return its result, once it is durable. Arguments are one dict, or keywords.

        `function` may be a plain function instead; see `run`.

        Raises:
            ReactorError: the function raised the application's own error; nothing was written.
            Exception: whatever else it raised, or what kept it from running; nothing was written.
            OutcomeUnknown: it may or may not have become durable.
            Unavailable: the deployment is not open.
        """
        if _is_inline(function):
            return await self._run_inline("mutation", function, args or fields)
        backend = self._open_backend()
        call = self.call(backend, function, args or {}, fields)
        return unwrap(await outcome_of(backend.functions.submit_mutation, call))

    @overload
    async def action(self, function: ActionReference[D, K, R], /, *args: K.args, **fields: K.kwargs) -> R: ...

    @overload
    async def action(self, function: ActionReference[D, K, R], /, *args: D.args, **fields: D.kwargs) -> R: ...

    @overload
    async def action(self, function: Untyped, args: Mapping[str, Any] | None = None, /, **fields: Any) -> Value: ...

    async def action(self, function: Any, args: Mapping[str, Any] | None = None, /, **fields: Any) -> Any:  # type: ignore[misc]
        """Run an action and return its result. Arguments are one dict, or keywords.

        It runs on whether or not anybody waits for it. `function` may be a plain function instead, which gets the
        `ctx` of an action, on the thread where actions run: `action(lambda ctx: ctx.storage.store(b"..."))`.

        Raises:
            ReactorError: the function raised the application's own error. What it did before stays.
            Exception: whatever else it raised, or what kept it from running.
            TooManyRequests: as many actions run as may.
            Unavailable: the deployment is not open, or closes.
        """
        if _is_inline(function):
            return await self._run_inline("action", function, args or fields)
        backend = self._open_backend()
        call = self.call(backend, function, args or {}, fields)
        return unwrap(await outcome_of(backend.functions.submit_action, call))

    async def run(self, handler: Callable[[Any], Any], /) -> Value:
        """Run `handler(ctx)` as a mutation of its own and return its result: `run(lambda ctx: ctx.db.get(id))`.

        It may run more than once, like any mutation.

        Raises:
            Exception: whatever `handler` raised; nothing was written.
            Unavailable: the deployment is not open.
        """
        return await self._run_inline("mutation", handler, NONE)

    async def _run_inline(self, kind: Kind, handler: Callable[[Any], Any], args: Mapping[str, Any]) -> Value:
        if args:
            raise InvalidArgument(
                f"A plain function takes ctx and nothing else: let it use {', '.join(args)} directly."
            )
        backend = self._open_backend()

        async def run_handler(ctx: Any) -> Any:
            result = handler(ctx)
            return await result if inspect.isawaitable(result) else result

        call = Call(
            path="run",
            args=b"{}",
            identity=self._identity,
            request_id=backend.new_request_id(),
            internal=True,
            component=self._component,
            caller="Tester",
        )
        return unwrap(await outcome_of(partial(backend.submit_handler, kind, run_handler), call))

    async def fetch(
        self,
        path: str,
        /,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        json: Any = None,
    ) -> FetchResponse:
        """Send a request to the project's HTTP actions and return the whole response, whatever its status.

        Args:
            path: from "/" on, with the query, without `/http`: `/stripe/webhook?test=1`.
            headers: a caller from `with_identity` needs no `Authorization`.
            body: or `json`, a value that is sent encoded and with its `Content-Type`.

        Raises:
            InvalidArgument: the path does not begin with "/", or both `body` and `json` are given.
            ConnectionLost: the action failed when a part of its response was sent already.
            Unavailable: the deployment is not open.
        """
        known = None if self._identity is ANONYMOUS else self._identity
        return await fetch(self._open_backend().http_actions, path, method, headers or {}, body, json, known)

    @overload
    def subscribe(
        self, function: QueryReference[D, K, Any], /, *args: K.args, **fields: K.kwargs
    ) -> "LocalSubscription": ...

    @overload
    def subscribe(
        self, function: QueryReference[D, K, Any], /, *args: D.args, **fields: D.kwargs
    ) -> "LocalSubscription": ...

    @overload
    def subscribe(
        self, function: Untyped, args: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> "LocalSubscription": ...

    def subscribe(self, function: Any, args: Mapping[str, Any] | None = None, /, **fields: Any) -> "LocalSubscription":  # type: ignore[misc]
        """Start a live query. Close the subscription, best with `async with`.

        Raises:
            ValidationError: the arguments are no Convex values.
            Unavailable: the deployment is not open.
        """
        backend = self._open_backend()
        return Feed(backend, self.call(backend, function, args or {}, fields), self._feeds).subscription

    def call(self, backend: Backend, function: Any, args: Mapping[str, Any], fields: Mapping[str, Any] = NONE) -> Call:
        """Return what a call of `function` by this caller is to the runtime.

        Raises:
            InvalidArgument: `function` names no function.
            ProtocolError: the path can't be one.
            ValidationError: the arguments are no Convex values.
        """
        address = address_of(self._component, function)
        if not address.path.startswith(HANDLE):
            parse_path(address.path)
        normal = normalise({**args, **fields})
        return Call(
            path=address.path,
            args=encode_json(normal.value, normal.plain),
            identity=self._identity,
            request_id=backend.new_request_id(),
            internal=True,
            component=address.component,
            caller="Tester",
        )


class LocalSubscription(Subscription):
    """A subscription in the deployment's own process, which can tell that it is up to date."""

    def __init__(self, feed: "Feed") -> None:
        super().__init__(feed.ended)
        self._feed = feed

    async def settled(self) -> Any:
        """Wait until everything committed before this call is taken into account; return the value, which is now read.

        Raises:
            ReactorError, FunctionError: the newest result is a failure.
            Unavailable: the subscription, or the deployment, was closed.
        """
        await self._feed.settle()
        self._unread = False
        return self.value

    async def is_unchanged(self) -> bool:
        """Whether everything committed before this call leaves the reader with the result it has read last.

        Raises:
            Unavailable: the subscription, or the deployment, was closed.
        """
        await self._feed.settle()
        return not self._unread


class Feed:
    """Keeps one subscription filled: an observer of the live queries."""

    def __init__(self, backend: Backend, call: Call, feeds: "set[Feed]") -> None:
        self.subscription = LocalSubscription(self)
        self._durable_ts = backend.durable_ts
        self._settling: list[tuple[int, asyncio.Future[None]]] = []  # who waits for which timestamp
        self._live = backend.live
        self._feeds = feeds
        self._seen: QueryResult | None = None
        self._handle: LiveHandle = backend.live.subscribe(call, self, None)
        feeds.add(self)

    def settled(self, ts: int) -> None:
        """Deliver the result if it is a new one."""
        self._deliver()
        waiting, self._settling = self._settling, []
        for wanted, future in waiting:
            if wanted > ts:
                self._settling.append((wanted, future))
            elif not future.done():
                future.set_result(None)

    async def settle(self) -> None:
        """Wait until the result is that of now or later.

        Raises:
            Unavailable: the subscription, or the deployment, was closed.
        """
        if self.subscription.closed:
            raise Unavailable("The subscription is closed.")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.append((self._durable_ts(), future))
        self._live.request_settle(self)
        await future

    def _deliver(self) -> None:
        result = self._handle.result
        if result is None or result is self._seen:
            return
        self._seen = result
        if result.error is None:
            assert result.value is not None
            self.subscription.deliver(decode_json(result.value))
        else:
            self.subscription.fail(exception_of(result.error))

    def end(self) -> None:
        """The deployment closes."""
        self.subscription.end(Unavailable("The deployment was closed."))

    def ended(self) -> None:
        """The subscription was closed, by its reader or with the deployment."""
        self._feeds.discard(self)
        self._live.forget(self)
        waiting, self._settling = self._settling, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(Unavailable("The subscription was closed."))


def _is_inline(function: object) -> bool:
    """Whether this is a function itself, and not the name of one."""
    return callable(function) and not isinstance(function, Function | FunctionReference)
