"""One attempt at running one user function, driven a slice at a time.

Owns the coroutine of an async handler and the `ctx` calls it has made. Promises that the first slice runs without a
current task and in a context of its own, so that nothing in user code can reach the connection that asked; that a
handler which only uses `ctx` never costs a task; and that a call which was never awaited fails the function. Used by
the executor (`design.md` §4, 1 and 2).
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import FrameType, GeneratorType
from typing import Any, Final, Generic, TypeVar

from reactor.errors import DeterminismError, UnawaitedCallError
from reactor.runtime.determinism import Ambient, ambient
from reactor.runtime.documents import Documents
from reactor.runtime.guard import outside
from reactor.runtime.runqueue import RunQueue

T = TypeVar("T")
Step = Generator[None, None, T]  # yields where the transaction may be suspended
_Ended = tuple[Any, BaseException | None]  # what a handler returned, or what it raised


class AttemptEnded(BaseException):
    """Thrown into a handler whose transaction can't commit any more. Not an `Exception`, so that nobody catches it."""


class Operation(Generic[T]):
    """One call on `ctx`, made and not yet awaited. Its work is done when it is awaited, once."""

    __slots__ = ("_execution", "_frame", "_lasti", "_work", "name")

    def __init__(self, execution: "Execution", name: str, work: Callable[[], Step[T]] | Callable[[], T]) -> None:
        frame = sys._getframe(2)  # the user's line: this constructor, the method of ctx, the user
        # Not its code object: each look at one of these raises an audit event, which costs more than the rest of this.
        self._frame: FrameType | None = frame
        self._lasti = frame.f_lasti
        self._execution = execution
        self._work: Callable[[], Any] | None = work
        self.name = name
        execution.unawaited.add(self)

    def __await__(self) -> Generator[Any, None, T]:
        work = self._work
        if work is None:
            raise RuntimeError(f"{self.name} was awaited twice")
        self._work = None
        execution = self._execution
        try:
            if not execution.is_alive:
                execution.check_alive()
            if execution.queue.is_due():
                yield from execution.pause()
            result = work()
            if type(result) is GeneratorType:  # not `isinstance` of the ABC, which costs as much as a short step
                step = result
                while True:
                    try:
                        next(step)
                    except StopIteration as stop:
                        return stop.value  # type: ignore[no-any-return]
                    if execution.queue.is_due():
                        yield from execution.pause()
            return result  # type: ignore[no-any-return]
        finally:
            # Only now: what a forgotten task is still suspended in was not awaited by the handler either.
            execution.unawaited.discard(self)
            self._frame = None  # which holds this in a variable, perhaps

    def where(self) -> str:
        """Return the file and line of the call."""
        assert self._frame is not None, "asked only of a call that was never awaited"
        code = self._frame.f_code
        line = code.co_firstlineno
        for start, end, number in code.co_lines():
            if start <= self._lasti < end and number is not None:
                line = number
        return f"{code.co_filename}:{line}"


def run_to_end(step: Step[T]) -> T:
    """Run a step that nobody can suspend: the blocking form of `ctx`."""
    while True:
        try:
            next(step)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


class Execution:
    """A handler on its way to a result.

    `finished` is called exactly once, with the handler's return value or its exception; never from inside `start`'s
    caller's frame above the run queue. `revalidate` is called at each resume and raises when the attempt is lost.
    """

    __slots__ = (
        "_exclusive_until",
        "_finished",
        "_holding",
        "_in_task",
        "_revalidate",
        "ambient",
        "context",
        "coroutine",
        "documents",
        "is_alive",
        "pause_future",
        "queue",
        "unawaited",
    )

    def __init__(
        self,
        queue: RunQueue,
        documents: Documents,
        surroundings: Ambient,
        finished: Callable[[Any, BaseException | None], None],
        revalidate: Callable[[], None],
    ) -> None:
        self.queue = queue
        self.documents = documents
        self.ambient = surroundings
        self.unawaited: set[Operation[Any]] = set()
        self.context = Context()
        self.is_alive = True
        self._exclusive_until: float | None = None
        self.pause_future: asyncio.Future[None] | None = None
        self._finished = finished
        self._revalidate = revalidate
        self._in_task = False
        self._holding: asyncio.TimerHandle | None = None
        self.coroutine: Coroutine[Any, Any, Any] | None = None

    def start(self, call: Callable[[], Any], is_async: bool) -> None:
        """Run the first slice of `call()`, which returns a coroutine when `is_async`."""
        self._after_slice(self.context.run(self._start, call, is_async))

    def _start(self, call: Callable[[], Any], is_async: bool) -> _Ended | None:
        ambient.set(self.ambient)
        try:
            result = call()
        except BaseException as error:
            return None, error
        if not is_async:
            return result, None
        self.coroutine = result
        return self._drive(None)

    def _after_slice(self, ended: _Ended | None) -> None:
        # Back outside the user's context: what the engine starts from here on must not see a frozen clock.
        if ended is not None:
            self._end(*ended)

    def check_alive(self) -> None:
        """Refuse a call on a `ctx` whose function has ended or lost."""
        if not self.is_alive:
            raise RuntimeError("This ctx belongs to a function that has ended; it can't be used any more.")

    def pause(self) -> Generator[Any, None, None]:
        """Give up the rest of the slice; comes back when the run queue says so."""
        if self._exclusive_until is not None:
            if self.queue.now() < self._exclusive_until:
                return
            self._give_way()
        self.documents.record_scans()
        if self._in_task or asyncio.current_task() is not None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.pause_future = future

            def wake() -> None:
                if not future.done():
                    future.set_result(None)

            self.queue.suspend(wake)
            yield from future
            self.check_alive()
            self.queue.start_slice()
            self._revalidate()
        else:
            yield None  # to `_drive`

    def _drive(self, error: BaseException | None) -> _Ended | None:
        """Run one slice of the coroutine on the engine's own account; return how it ended, if it did."""
        coroutine = self.coroutine
        assert coroutine is not None
        try:
            yielded = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value, None
        except BaseException as failure:
            return None, failure
        if yielded is None:
            self.queue.suspend(self._resume)
        else:
            self._in_task = True
            if self._exclusive_until is not None:
                self._hold(self._exclusive_until)
            asyncio.get_running_loop().create_task(self._follow(coroutine, yielded), context=self.context)
        return None

    def _resume(self) -> None:
        lost: BaseException | None = None
        try:
            self._revalidate()
        except BaseException as error:
            lost = error
        self._after_slice(self.context.run(self._drive, lost))

    def be_exclusive(self, seconds: float) -> None:
        """Let nobody else run before this attempt has ended, for at most `seconds` from now."""
        self._exclusive_until = self.queue.now() + seconds

    def _hold(self, until: float) -> None:
        """Stay exclusive while tasks of this attempt go through the loop."""
        self.queue.hold()
        left = max(0.0, until - self.queue.now())
        # Inside the user's context, where a timer would be refused.
        loop = asyncio.get_running_loop()
        self._holding = outside(lambda: loop.call_later(left, self._give_way))

    def _give_way(self) -> None:
        """Let the others run again; this attempt takes its chances among them."""
        self._exclusive_until = None
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
            self.queue.release()

    async def _follow(self, coroutine: Coroutine[Any, Any, Any], yielded: Any) -> None:
        """Drive a handler that waits for something of asyncio's, such as `gather`, from a task."""
        result: Any = None
        failure: BaseException | None = None
        try:
            result = await _Continuation(self, coroutine, yielded)
        except BaseException as error:
            failure = error
        asyncio.get_running_loop().call_soon(self._end, result, failure, context=Context())
        if isinstance(failure, asyncio.CancelledError):
            raise failure

    def _end(self, result: Any, error: BaseException | None) -> None:
        if not self.is_alive:
            return
        self._give_way()
        self.documents.record_scans()
        overrun = self.ambient.observed.overrun
        if overrun is not None:
            error = overrun
        if error is None and self.unawaited:
            calls = sorted(self.unawaited, key=lambda call: call.where())
            listed = ", ".join(f"{call.name} at {call.where()}" for call in calls)
            error = UnawaitedCallError(
                f"{len(calls)} call(s) were made but never awaited: {listed}. Write `await` before each; "
                "nothing was committed."
            )
        self.is_alive = False
        self.unawaited.clear()
        self._finished(result, error)


FOREIGN: Final = (
    "Can't wait for anything but ctx calls in queries and mutations: real I/O and timers would make a second run "
    "differ. Use an action."
)


class _Continuation:
    """Awaitable that goes on driving a coroutine which has already yielded once."""

    def __init__(self, execution: Execution, coroutine: Coroutine[Any, Any, Any], yielded: Any) -> None:
        self._execution = execution
        self._coroutine = coroutine
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, yielded, execution = self._coroutine, self._yielded, self._execution
        while True:
            error: BaseException | None = None
            if yielded is not execution.pause_future and not _waits_for_tasks(yielded):
                error = DeterminismError(FOREIGN)
                if isinstance(yielded, asyncio.Future):
                    yielded._asyncio_future_blocking = False
            else:
                try:
                    yield yielded
                except BaseException as failure:
                    error = failure
            try:
                yielded = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value


def _waits_for_tasks(yielded: Any) -> bool:
    """Whether a handler waits for its own sub-calls: `gather` over ctx calls, or a task made from one."""
    return isinstance(yielded, asyncio.Task) or type(yielded).__name__ == "_GatheringFuture"
