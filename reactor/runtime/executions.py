"""One attempt at running one user function, driven a slice at a time.

Owns the coroutine of an async handler and the `ctx` calls it has made. Promises that the first slice runs without a
current task and in a context of its own, so that nothing in user code can reach the connection that asked; that a
handler which only uses `ctx` never costs a task; that operations issued side by side run one after the other, in the
order in which they were issued; and that a call which was never awaited fails the function. Used by runs and nested
calls (`design.md` §4, 1 and 2).
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Generator, Mapping
from contextvars import Context
from types import FrameType, GeneratorType
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from reactor.engine.database import Database
from reactor.errors import InvalidFunctionCall, UnawaitedCallError
from reactor.runtime.calls import Call
from reactor.runtime.determinism import Ambient, ambient
from reactor.runtime.documents import Documents
from reactor.runtime.guard import outside
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.subtasks import SubTask, Wake, ignore, supervise
from reactor.runtime.versions import Version

T = TypeVar("T")
Step = Generator[None, None, T]  # yields where the transaction may be suspended
_Ended = tuple[Any, BaseException | None]  # what a handler returned, or what it raised


class AttemptEnded(BaseException):
    """Thrown into a handler whose transaction can't commit any more. Not an `Exception`, so that nobody catches it."""


class FileUrls(Protocol):
    """Makes the URLs of stored files; see `stored_files.Files`."""

    def upload_url(self, component: str, now_ns: int) -> str: ...
    def url(self, component: str, uuid: str) -> str: ...


class Owner(Protocol):
    """What an execution reports to: the run that it is an attempt of."""

    call: Call
    version: Version | None

    @property
    def database(self) -> Database:
        """The database that the run reads and writes."""

    @property
    def files(self) -> FileUrls:
        """What makes the URLs of stored files."""

    def revalidate(self) -> None:
        """Raise when a suspended attempt should not go on."""

    def look(self) -> None:
        """Note that the identity of the caller was looked at."""

    def outlasted(self) -> None:
        """The attempt has used up the time in which it keeps all others waiting."""

    def finished(self, result: Any, error: BaseException | None) -> None:
        """Take what the handler returned or raised. Called exactly once."""

    def call_nested(
        self, parent: "Execution", kind: str, function: object, args: tuple[object, ...], named: Mapping[str, object]
    ) -> Generator[Any, Any, Any]:
        """Run another function in the same transaction."""

    def call_stale(
        self, parent: "Execution", function: object, args: tuple[object, ...], named: Mapping[str, object]
    ) -> Generator[Any, Any, Any]:
        """Run a query on the snapshot of the transaction's begin, without depending on it."""

    def function_handle(self, parent: "Execution", function: object) -> str:
        """Return the handle of a function that the code of `parent` can name."""


class Operation(Generic[T]):
    """One call on `ctx`, made and not yet awaited. Its work is done when it is awaited, once."""

    __slots__ = ("_execution", "_frame", "_lasti", "_work", "name")

    suspends_itself: ClassVar[bool] = False  # its steps yield what is to be waited for, not just places to be suspended

    def __init__(self, execution: "Execution", name: str, work: Callable[[], Step[T] | T], depth: int = 2) -> None:
        frame = sys._getframe(depth)  # the user's line: this constructor, the method of ctx, the user
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
        is_in_line = False
        try:
            if not execution.is_alive:
                execution.check_alive()
            if execution.ambient.tasks:
                yield from execution.enter()
                is_in_line = True
            if execution.queue.is_due():
                yield from execution.pause()
            result = work()
            if type(result) is GeneratorType:  # not `isinstance` of the ABC, which costs as much as a short step
                step = result
                if self.suspends_itself:
                    return (yield from step)  # type: ignore[no-any-return]
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
            if is_in_line:
                execution.leave()

    def where(self) -> str:
        """Return the file and line of the call."""
        assert self._frame is not None, "asked only of a call that was never awaited"
        return line_of(self._frame, self._lasti)


def line_of(frame: FrameType, instruction: int) -> str:
    """Return the file and line of an instruction that a frame was at."""
    code = frame.f_code
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{code.co_filename}:{line}"


class Made(Protocol):
    """A call on `ctx` that was made: an `Operation`, or an `ActionCall`."""

    name: str

    def where(self) -> str:
        """Return the file and line of the call."""


def never_awaited(calls: Collection[Made], consequence: str) -> UnawaitedCallError:
    """Return the error of a function that has ended without having awaited `calls`."""
    places = sorted((call.where(), call.name) for call in calls)
    listed = ", ".join(f"{name} at {place}" for place, name in places)
    return UnawaitedCallError(
        f"{len(places)} call(s) were made but never awaited: {listed}. Write `await` before each; {consequence}"
    )


class NestedCall(Operation[T]):
    """A call of another function in the same transaction, which it owns until it has ended."""

    __slots__ = ()

    suspends_itself = True


def run_to_end(step: Generator[Any, Any, T]) -> T:
    """Run a step that nobody can suspend: the blocking form of `ctx`.

    Raises:
        InvalidFunctionCall: the step is an async function that waits for tasks, which need the event loop.
    """
    error: BaseException | None = None
    while True:
        try:
            yielded = next(step) if error is None else step.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        error = None if yielded is None else InvalidFunctionCall(NO_GATHER_BELOW_DEF)
        if isinstance(yielded, asyncio.Future):
            yielded.add_done_callback(ignore)


def result_of(work: Generator[Any, Any, T] | T) -> T:
    """Return what a call on `ctx` gives, which may have to be run to its end for it."""
    return run_to_end(work) if type(work) is GeneratorType else work  # type: ignore[return-value]


NO_GATHER_BELOW_DEF: Final = (
    "An async function that was called from a plain `def` function can't wait for asyncio.gather or a task, because "
    "the caller blocks. Make the caller `async def`."
)


class Execution:
    """A handler on its way to a result.

    `owner.finished` is called exactly once, with the handler's return value or its exception; never from inside
    `start`'s caller's frame above the run queue. `owner.revalidate` is called at each resume and raises when the
    attempt is lost.
    """

    __slots__ = (
        "_exclusive_until",
        "_has_ended",
        "_holding",
        "_in_task",
        "_is_busy",
        "_line",
        "ambient",
        "can_pause",
        "context",
        "coroutine",
        "documents",
        "is_alive",
        "lost",
        "owner",
        "queue",
        "unawaited",
    )

    depth = 0  # of a function that a client called; one more for each call it is nested in

    def __init__(self, queue: RunQueue, documents: Documents, surroundings: Ambient, owner: Owner) -> None:
        self.queue = queue
        self.documents = documents
        self.ambient = surroundings
        self.owner = owner
        self.unawaited: set[Operation[Any]] = set()
        self.context = Context()
        self.is_alive = True
        self.can_pause = True  # False below a plain `def` function, whose caller is blocked until it returns
        self.lost: BaseException | None = None  # why the attempt can't win any more
        self._is_busy = False
        self._line: deque[Wake] | None = None
        self._has_ended = False
        self._exclusive_until: float | None = None
        self._in_task = False
        self._holding: asyncio.TimerHandle | None = None
        self.coroutine: Coroutine[Any, Any, Any] | None = None

    def start(self, call: Callable[[], Any], is_async: bool) -> None:
        """Run the first slice of `call()`, which returns a coroutine when `is_async`."""
        ended = self.context.run(self._start, call, is_async)
        # Back outside the user's context: what the engine starts from here on must not see a frozen clock.
        if ended is not None:
            self._end(*ended)
            ended = None  # the traceback of an error holds this frame: with the error in it, a cycle

    def _start(self, call: Callable[[], Any], is_async: bool) -> _Ended | None:
        ambient.set(self.ambient)
        self.can_pause = is_async
        try:
            result = call()
        except BaseException as error:
            return None, error
        if not is_async:
            return result, None
        self.coroutine = result
        return self._drive(None)

    def check_alive(self) -> None:
        """Refuse a call on a `ctx` whose function has ended or lost."""
        if not self.is_alive:
            if self.lost is not None:
                raise self.lost
            raise RuntimeError("This ctx belongs to a function that has ended; it can't be used any more.")

    # The line: while tasks of the handler are alive, one operation at a time, in the order of issue.

    def enter(self) -> Generator[Any, None, None]:
        """Wait until the operations issued before have ended. Whoever enters must `leave`."""
        task = asyncio.current_task()
        if type(task) is SubTask and task.is_fresh:
            task.is_fresh = False
        elif task is not None:
            # Tasks take turns after each operation, whether or not one of them was suspended in it: otherwise the order
            # of their operations would depend on how fast the machine is.
            turn = Wake(loop=asyncio.get_running_loop())
            turn.set_result(None)
            yield from turn.wait()
        if self._is_busy:
            turn = Wake(loop=asyncio.get_running_loop())
            if self._line is None:
                self._line = deque()
            self._line.append(turn)
            try:
                yield from turn.wait()
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self.leave()
                raise
        self._is_busy = True
        if not self.is_alive:
            self.leave()
            self.check_alive()

    def leave(self) -> None:
        """Let the next operation in line begin."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)  # it is busy from now on, not from when its task is woken
                return
        self._is_busy = False

    # Suspension.

    def pause(self) -> Generator[Any, None, None]:
        """Give up the rest of the slice; comes back when the run queue says so."""
        if self.lost is not None:
            raise self.lost
        if self._exclusive_until is not None:
            if self.queue.now() < self._exclusive_until:
                return
            self._outlast()
        self.documents.record_scans()
        if self._in_task or asyncio.current_task() is not None:
            future = Wake(loop=asyncio.get_running_loop())
            self.queue.suspend(future.wake)
            yield from future.wait()
            self.check_alive()
            self.queue.start_slice()
            lost = self._check_lost()
            if lost is not None:
                raise lost
        else:
            yield None  # to `_drive`

    def _check_lost(self) -> BaseException | None:
        """Return why the attempt should not go on, if so; from then on nothing it does counts."""
        try:
            self.owner.revalidate()
        except BaseException as error:
            self.lost = error
            self.is_alive = False
        return self.lost

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
        ended = self.context.run(self._drive, self._check_lost())
        if ended is not None:
            self._end(*ended)
            ended = None  # see `start`

    def be_exclusive(self, seconds: float) -> None:
        """Let nobody else run before this attempt has ended, for at most `seconds` from now."""
        self._exclusive_until = self.queue.now() + seconds

    def _hold(self, until: float) -> None:
        """Stay exclusive while tasks of this attempt go through the loop."""
        self.queue.hold()
        left = max(0.0, until - self.queue.now())
        # Inside the user's context, where a timer would be refused.
        loop = asyncio.get_running_loop()
        self._holding = outside(lambda: loop.call_later(left, self._outlast))

    def _outlast(self) -> None:
        self._give_way()
        self.owner.outlasted()

    def _give_way(self) -> None:
        """Let the others run again."""
        self._exclusive_until = None
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
            self.queue.release()

    async def _follow(self, coroutine: Coroutine[Any, Any, Any], yielded: Any) -> None:
        """Drive a handler that waits for something of asyncio's, such as `gather`, from a task."""
        result: Any = None
        failure: BaseException | None = None
        rest = _Continuation(coroutine, yielded)
        yielded = None  # `supervise` says why
        try:
            result = await rest
        except BaseException as error:
            failure = error
        asyncio.get_running_loop().call_soon(self._end, result, failure, context=Context())
        try:
            if isinstance(failure, asyncio.CancelledError):
                raise failure
        finally:
            failure = None  # see `start`

    def _end(self, result: Any, error: BaseException | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._give_way()
        error = self.settle(error)
        self.owner.finished(result, error)

    def settle(self, error: BaseException | None) -> BaseException | None:
        """End the life of this `ctx`; return the error the function ends with, if any."""
        self.documents.record_scans()
        overrun = self.ambient.observed.overrun
        if overrun is not None:
            error = overrun
        if self.lost is not None:  # whatever the handler made of it
            error = self.lost
        elif error is None and self.unawaited:
            error = never_awaited(self.unawaited, "nothing was committed.")
        self.is_alive = False
        self.unawaited.clear()
        return error


class _Continuation:
    """Awaitable that goes on driving a coroutine which has already yielded once."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], yielded: Any) -> None:
        self._coroutine = coroutine
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, Any]:
        yielded, self._yielded = self._yielded, None  # `supervise` says why
        return supervise(self._coroutine.send, self._coroutine.throw, yielded)
