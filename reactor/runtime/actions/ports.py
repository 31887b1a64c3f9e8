"""How the code of an action reaches the engine, which runs on another thread.

A port carries requests over and results back: as something to await for `async def` actions, and by waiting for plain
`def` ones. Promises that what crosses are values, that every request is an operation of its own, and that nothing goes
over for an action that has ended. Used by `action_context` and by whatever else `ctx` offers in actions.
"""

import asyncio
import queue
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Generator, Mapping
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

from reactor.errors import UnawaitedCallError
from reactor.runtime.actions.loops import post
from reactor.runtime.calls import Call, Outcome
from reactor.runtime.executions import line_of, never_awaited
from reactor.runtime.failures import unwrap
from reactor.runtime.files.store import Files

T = TypeVar("T")
Deliver = Callable[[Outcome], None]  # called on the engine's thread
Request = Callable[
    [Deliver], Callable[[], None] | None
]  # on the engine's thread; returns how to take it back, if at all
Receive = Callable[[Any], Any]


class Acting(Protocol):
    """The action that a port belongs to."""

    call: Call
    unawaited: "set[ActionCall[Any]]"

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables as they were when it began."""

    @property
    def files(self) -> Files:
        """The stored files of the deployment."""

    def check_alive(self) -> None:
        """Raise when the action has ended."""

    def send(self, request: Request, deliver: Deliver) -> Callable[[], None]:
        """Make a request of the engine, in line behind earlier ones. Returns how to withdraw it."""

    def request_handler(self, kind: str, handler: Callable[[Any], Any]) -> Request:
        """Return the request to run a handler as an internal query or mutation."""

    def request_function(
        self, kind: str, function: object, args: tuple[object, ...], named: Mapping[str, object]
    ) -> tuple[Request, Receive]:
        """Return the request to run a function of the project, and what turns its result into the caller's."""


class Port(ABC):
    """One action's way to the engine."""

    __slots__ = ("_action",)

    def __init__(self, action: Acting) -> None:
        self._action: Final = action

    @property
    def call(self) -> Call:
        """The action's own call: who calls, in which component, as part of which job."""
        return self._action.call

    def check_alive(self) -> None:
        """Raise when the action has ended."""
        self._action.check_alive()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables as they were when the action began."""
        self._action.check_alive()
        return self._action.variables

    @property
    def files(self) -> Files:
        """The stored files of the deployment."""
        return self._action.files

    def check_awaited(self) -> None:
        """Raise when a call was made that nobody has awaited so far.

        Raises:
            UnawaitedCallError: there is one.
        """
        if self._action.unawaited:
            raise unawaited_error(self._action.unawaited)

    def mutate(self, handler: Callable[[Any], Any], name: str = "a call on ctx") -> Any:
        """Run `handler(ctx)` on the engine's thread as an internal mutation; give its result.

        `ctx` is a `MutationCtx`, and what the handler returns is awaited if it can be. `name` is for error texts.
        """
        return self._ask(name, lambda: (self._action.request_handler("mutation", handler), _as_is))

    def query(self, handler: Callable[[Any], Any], name: str = "a call on ctx") -> Any:
        """Run `handler(ctx)` on the engine's thread as an internal query; see `mutate`."""
        return self._ask(name, lambda: (self._action.request_handler("query", handler), _as_is))

    def run(self, kind: str, function: object, args: tuple[object, ...], named: Mapping[str, object]) -> Any:
        """Run a function of the project; give its result."""
        return self._ask(f"ctx.run_{kind}()", lambda: self._action.request_function(kind, function, args, named))

    @abstractmethod
    def give(self, name: str, value: object) -> Any:
        """Give a value that is known already."""

    @abstractmethod
    def _ask(self, name: str, prepare: Callable[[], tuple[Request, Receive]]) -> Any: ...


class BlockingPort(Port):
    """The port of a plain `def` action: results themselves. May be used from any thread but the engine's."""

    __slots__ = ()

    def give(self, name: str, value: object) -> Any:
        """Give a value that is known already."""
        self._action.check_alive()
        return value

    def _ask(self, name: str, prepare: Callable[[], tuple[Request, Receive]]) -> Any:
        action = self._action
        action.check_alive()
        request, receive = prepare()
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        action.send(request, outcomes.put)
        return receive(unwrap(outcomes.get()))


class AsyncPort(Port):
    """The port of an `async def` action: results to be awaited."""

    __slots__ = ()

    def give(self, name: str, value: object) -> "ActionCall[Any]":
        """Give a value that is known already."""

        async def known() -> object:
            return value

        return ActionCall(self._action, name, known)

    def do(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> "ActionCall[T]":
        """Give what comes of `work()`, which makes requests of its own."""
        return ActionCall(self._action, name, work)

    def _ask(self, name: str, prepare: Callable[[], tuple[Request, Receive]]) -> "ActionCall[Any]":
        action = self._action

        async def asked() -> Any:
            request, receive = prepare()
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Outcome] = loop.create_future()
            withdraw = action.send(request, partial(_deliver, loop, future))
            try:
                await future
            except BaseException:
                withdraw()
                raise
            settled = [future.result()]
            del future, withdraw  # the traceback of an error refers to this frame, which must not refer to the error
            return receive(unwrap(settled.pop()))

        return ActionCall(action, name, asked)


class ActionCall(Coroutine[Any, Any, T], Generic[T]):
    """One call on the `ctx` of an action, made and not yet awaited. A coroutine: it can be made a task."""

    __slots__ = ("_action", "_frame", "_inner", "_lasti", "_work", "name")

    def __init__(self, action: Acting, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        frame = sys._getframe(1)
        while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("reactor."):
            frame = frame.f_back
        self._frame: FrameType | None = frame  # the user's line
        self._lasti = frame.f_lasti
        self._action = action
        self._work: Callable[[], Coroutine[Any, Any, T]] | None = work
        self._inner: Coroutine[Any, Any, T] | None = None
        self.name = name
        action.unawaited.add(self)

    def where(self) -> str:
        """Return the file and line of the call."""
        assert self._frame is not None, "asked only of a call that was never awaited"
        return line_of(self._frame, self._lasti)

    def _begin(self) -> Coroutine[Any, Any, T]:
        work, self._work = self._work, None
        if work is None:
            raise RuntimeError(f"{self.name} was awaited twice")
        self._forget()
        self._action.check_alive()
        self._inner = work()
        return self._inner

    def _forget(self) -> None:
        self._action.unawaited.discard(self)
        self._frame = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begin().__await__()

    def send(self, value: Any, /) -> Any:
        """See `collections.abc.Coroutine`."""
        return (self._inner or self._begin()).send(value)

    def throw(self, kind: Any, value: BaseException | object = None, trace: TracebackType | None = None, /) -> Any:
        """See `collections.abc.Coroutine`."""
        if self._inner is None:
            self._work = None
            self._forget()
            raise kind
        return self._inner.throw(kind) if value is None else self._inner.throw(kind, value, trace)

    def close(self) -> None:
        """See `collections.abc.Coroutine`."""
        if self._inner is not None:
            self._inner.close()
        else:
            self._work = None
            self._forget()


def unawaited_error(calls: Collection[ActionCall[Any]]) -> UnawaitedCallError:
    """Return the error for calls that nobody has awaited."""
    return never_awaited(calls, "without it they do not run.")


def _deliver(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    post(loop, _settle, future, outcome)


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def _as_is(value: Any) -> Any:
    return value
