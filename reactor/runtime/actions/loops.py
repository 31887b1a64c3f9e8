"""The event loops that async actions run on, each in a thread of its own.

Owns the threads and which of them new actions go to. Promises that one action which blocks its loop keeps only those
waiting that began there before: within `action_stall_seconds` its place in the code is logged, a fresh loop takes over,
and what had not begun goes there. Made on first use. Used by `actions`; everything but what says otherwise belongs to
the engine's thread.
"""

import asyncio
import concurrent.futures
import logging
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, Final, Protocol

from reactor.runtime.determinism import is_user_code

log = logging.getLogger(__name__)

Post = Callable[..., None]


class Tenant(Protocol):
    """What a loop runs."""

    tasks: set[asyncio.Task[Any]]
    has_begun: bool

    def begin_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, on the loop's thread, unless it has begun elsewhere."""


tenant: Final[ContextVar[Tenant | None]] = ContextVar("reactor_action", default=None)


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task that its action knows of."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
    owner = tenant.get()
    if owner is not None:
        owner.tasks.add(task)
        task.add_done_callback(partial(_done, owner.tasks))
    return task


def _done(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if task.cancelled():
        # Who asks first gets the error with its traceback. anyio, which asks next, would keep that in a cycle, with
        # what the frames hold: for a stream whose client is gone, the part that was on its way.
        with suppress(asyncio.CancelledError):
            task.exception()


def post(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: Any) -> bool:
    """Have `callback` called on another thread's loop, outside of any action; return False if that loop has closed."""
    try:
        loop.call_soon_threadsafe(callback, *args, context=Context())
    except RuntimeError:
        return False
    return True


class ActionLoop:
    """One event loop in a daemon thread, so that an action which never returns can't keep the process alive."""

    def __init__(self, number: int, threads: int, ended: Callable[[], object]) -> None:
        self.tenants: set[Tenant] = set()
        self.is_blocked = False
        self.has_answered = True  # since it was last asked
        self._is_over = False
        # Not uvloop: on a thread that is not the main one, only asyncio's own loop can start processes.
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(_make_task)
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, f"reactor-action-{number}-thread")
        self.loop.set_default_executor(self._pool)
        self._ended = ended
        self.thread = threading.Thread(target=self._main, name=f"reactor-actions-{number}", daemon=True)
        try:
            self.thread.start()
        except BaseException:  # the system gives no thread
            self.loop.close()
            raise

    def take(self, run: Tenant) -> None:
        """Begin `run` as soon as the loop gets to it."""
        self.tenants.add(run)
        post(self.loop, run.begin_on, self.loop)

    def ask(self) -> None:
        """Have `has_answered` set as soon as the loop gets to it."""
        self.has_answered = False
        post(self.loop, self._answer)

    def end(self) -> None:
        """Cancel what still runs and end the thread, as soon as the loop gets to it."""
        post(self.loop, self._stop)

    def frame(self) -> types.FrameType | None:
        """Return what the thread is at."""
        assert self.thread.ident is not None
        return sys._current_frames().get(self.thread.ident)

    # On the thread.

    def _answer(self) -> None:
        self.has_answered = True

    def _stop(self) -> None:
        self._is_over = True
        self.loop.stop()

    def _main(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            while not self._is_over:
                try:
                    loop.run_forever()
                except BaseException:  # SystemExit of a task of an action; its action has heard of it
                    log.debug("an action tried to end the process", exc_info=True)
            loop.run_until_complete(self._clear())
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            loop.close()
            self._ended()

    async def _clear(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.2)
        await self.loop.shutdown_asyncgens()


class ActionLoops:
    """The loops of one deployment: the one that takes new actions, and those that others still run on."""

    def __init__(self, stall_seconds: float, threads: int) -> None:
        self._period = stall_seconds / 2  # a loop is asked once in each, and is blocked when it has not answered twice
        self._threads = threads
        self._loops: list[ActionLoop] = []
        self._count = 0
        self._running = 0  # threads
        self._timer: asyncio.TimerHandle | None = None
        self._engine: asyncio.AbstractEventLoop | None = None
        self._all_ended: asyncio.Event | None = None

    def take(self, run: Tenant) -> None:
        """Begin `run` on a loop that answers."""
        self._newest().take(run)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._period, self._look)

    def leave(self, run: Tenant) -> None:
        """Forget a run that has ended."""
        for loop in self._loops:
            loop.tenants.discard(run)

    async def close(self, seconds: float) -> None:
        """End every loop; those that are blocked for longer than `seconds` are left to themselves."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._all_ended = asyncio.Event()
        for loop in self._loops:
            loop.end()
        if self._running:
            try:
                await asyncio.wait_for(self._all_ended.wait(), seconds)
            except TimeoutError:
                log.warning("%d thread(s) of actions are blocked and were left behind", self._running)

    def _newest(self) -> ActionLoop:
        if not self._loops:
            self._open()
        return self._loops[-1]

    def _open(self) -> None:
        engine = self._engine = asyncio.get_running_loop()
        self._loops.append(ActionLoop(self._count + 1, self._threads, lambda: post(engine, self._ended)))
        self._count += 1
        self._running += 1

    def _ended(self) -> None:
        self._running -= 1
        if not self._running and self._all_ended is not None:
            self._all_ended.set()

    def _look(self) -> None:
        """Find out which loops are blocked."""
        self._timer = None
        for loop in list(self._loops):
            if not loop.has_answered:
                if not loop.is_blocked:
                    self._blocked(loop)
                continue
            loop.is_blocked = False
            if not loop.tenants and loop is not self._loops[-1]:
                self._loops.remove(loop)
                loop.end()
            else:
                loop.ask()
        if any(loop.tenants for loop in self._loops):
            self._timer = asyncio.get_running_loop().call_later(self._period, self._look)

    def _blocked(self, loop: ActionLoop) -> None:
        loop.is_blocked = True
        log.warning(
            "An async action blocks its event loop, at %s: other async actions that began before wait for it. Await "
            "asyncio.to_thread(...) there, or make the action a plain `def`.",
            place_in(loop.frame()),
        )
        if loop is self._loops[-1]:
            self._open()
        for run in [run for run in loop.tenants if not run.has_begun]:
            loop.tenants.discard(run)
            self._newest().take(run)


def place_of_waiting(task: asyncio.Task[Any]) -> str:
    """Return where in the project a task waits, for a log line."""
    frame: types.FrameType | None = None
    waiting: Any = task.get_coro()
    while waiting is not None:
        at = getattr(waiting, "cr_frame", None)
        if at is not None and is_user_code(at):
            frame = at
        waiting = getattr(waiting, "cr_await", None)
    return place_in(frame)


def place_in(frame: types.FrameType | None) -> str:
    """Return where in the project a thread is, and where below that, for a log line."""
    inner = frame
    while frame is not None and not is_user_code(frame):
        frame = frame.f_back
    if frame is None or inner is None:
        return "a place outside of the project"
    place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
    if inner is not frame:
        place += f" (in {inner.f_globals.get('__name__')}.{inner.f_code.co_name})"
    return place
