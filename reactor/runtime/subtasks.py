"""Tasks of user code inside queries and mutations: `asyncio.gather` over calls on `ctx`, and nothing else.

Owns what a handler may wait for. Promises that a handler waits only for its own calls and tasks, however deep it has
hidden another wait; and that a `gather` that fails ends only when all its members have ended, so that what a function
did before it failed does not depend on timing. Used by executions.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final

from reactor.errors import DeterminismError
from reactor.runtime.determinism import Ambient, frozen_ambient

log = logging.getLogger(__name__)

FOREIGN: Final = (
    "Can't wait for anything but ctx calls in queries and mutations: real I/O and timers would make a second run "
    "differ. Use an action."
)


class Wake(asyncio.Future[None]):
    """What an operation waits for while it is suspended."""

    def wake(self) -> None:
        """Let it go on, unless it was cancelled meanwhile."""
        if not self.done():
            self.set_result(None)

    def wait(self) -> Generator[Any, None, None]:
        """Wait for it; also when it is done already, until the loop comes round."""
        self._asyncio_future_blocking = True
        yield self
        self.result()


class SubTask(asyncio.Task[Any]):
    """A task that a query or mutation made."""

    is_fresh = True  # it has issued no operation yet

    def __del__(self) -> None:
        # Not asyncio's own report: it formats a traceback wherever the garbage collector happens to run, and CPython
        # 3.11 fails when that is while source is being parsed.
        if not self.cancelled() and self.done() and getattr(self, "_log_traceback", False):
            log.warning("A task in a query or mutation failed, and nobody awaited it: %r", self.exception())


def supervise(
    send: Callable[[None], Any], throw: Callable[[BaseException], Any], yielded: Any, *, is_driven: bool = False
) -> Generator[Any, Any, Any]:
    """Drive a coroutine that has yielded once, passing on only what a handler may wait for.

    With `is_driven` a bare yield, by which an operation gives up its slice outside of tasks, is passed on, too. The
    traceback of an error holds the frames it went through, so none of them may hold the error or the future it came
    from: that would be a cycle, which only a garbage collection can free.

    Raises:
        DeterminismError: inside the coroutine, when it waits for anything else.
    """
    while True:
        error: BaseException | None = None
        if _is_own(yielded) or (is_driven and yielded is None):
            try:
                yield yielded
            except BaseException as failure:
                error = failure
                if isinstance(failure, GeneratorExit):
                    raise
                yield from _all_ended(yielded)
        else:
            error = DeterminismError(FOREIGN)
            if isinstance(yielded, asyncio.Future):
                yielded._asyncio_future_blocking = False
                yielded.add_done_callback(ignore)  # nobody will wait for it any more
        yielded = None
        try:
            yielded = send(None) if error is None else throw(error)
        except StopIteration as stop:
            return stop.value
        finally:
            error = None


def ignore(future: asyncio.Future[Any]) -> None:
    """Take note of how a future ended that nobody will wait for."""
    if not future.cancelled():
        future.exception()


def _is_own(yielded: Any) -> bool:
    """Whether a handler waits for its own calls: an operation, a task made from one, or `gather` over them."""
    return isinstance(yielded, Wake | SubTask) or type(yielded).__name__ == "_GatheringFuture"


def _all_ended(gathering: Any) -> Generator[Any, None, None]:
    """Wait until all members of a failed `gather` have ended."""
    for member in getattr(gathering, "_children", ()):
        yield from _ended(member)


def _ended(member: asyncio.Future[Any]) -> Generator[Any, None, None]:
    """Wait until a member has ended, one way or the other."""
    while not member.done():
        try:
            yield from member
        except BaseException:
            if member.done():
                return
            raise


async def _supervised(surroundings: Ambient, awaitable: Awaitable[Any]) -> Any:
    try:
        return await _Supervised(awaitable)
    except SystemExit as error:
        raise RuntimeError(f"sys.exit({error.code!r}) was called in a task of a query or mutation") from error
    finally:
        surroundings.tasks -= 1


class _Supervised:
    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._awaitable if asyncio.iscoroutine(self._awaitable) else self._awaitable.__await__()
        try:
            yielded = steps.send(None)
        except StopIteration as stop:
            return stop.value
        rest = supervise(steps.send, steps.throw, yielded)
        yielded = None  # `supervise` says why
        return (yield from rest)


async def _refuse() -> None:
    raise DeterminismError(FOREIGN)


def _task_of(surroundings: Ambient, awaitable: Any, name: str | None = None, context: Any = None) -> Any:
    """Return a task for what a query or mutation wants to run beside itself."""
    if isinstance(awaitable, asyncio.Future):
        if _is_own(awaitable):
            return awaitable
        awaitable = _refuse()
    elif not hasattr(awaitable, "__await__"):
        raise TypeError("An asyncio.Future, a coroutine or an awaitable is required")
    loop = asyncio.get_running_loop()
    work: Coroutine[Any, Any, Any] = _supervised(surroundings, awaitable)
    task = SubTask(work, loop=loop, name=name, context=context)
    surroundings.tasks += 1
    return task


_installing: Final = threading.Lock()
_installed = False


def install() -> None:
    """Let tasks made inside queries and mutations be ours, once per process. Outside of these nothing changes."""
    global _installed
    with _installing:
        if _installed:
            return
        _install()
        _installed = True


def _install() -> None:
    create_task = asyncio.create_task
    home: Any = asyncio.tasks

    @functools.wraps(create_task)
    def make(coro: Any, **options: Any) -> Any:
        surroundings = frozen_ambient()
        if surroundings is None:
            return create_task(coro, **options)
        return _task_of(surroundings, coro, options.get("name"), options.get("context"))

    def ensure(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def ensure_future(coro_or_future: Any, *, loop: Any = None) -> Any:
            surroundings = frozen_ambient()
            if surroundings is None:
                return original(coro_or_future, loop=loop)
            return _task_of(surroundings, coro_or_future)

        return ensure_future

    home.create_task = make
    setattr(asyncio, "create_task", make)  # noqa: B010 (typeshed has it final)
    setattr(asyncio, "ensure_future", ensure(asyncio.ensure_future))  # noqa: B010
    for name in ("ensure_future", "_ensure_future"):  # what `gather` calls; which of them depends on the version
        if hasattr(home, name):
            setattr(home, name, ensure(getattr(home, name)))
