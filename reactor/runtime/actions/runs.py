"""One action under way: an `async def` on an event loop, a plain `def` in a thread of its own.

Owns its life: it waits for a place, begins, is cancelled or comes to its end, and is reported exactly once. Promises
that what it started on its event loop ends with it, that its `ctx` is dead when its end was reported, and that one
which does not end when it must is left to itself and named in the log. Belongs to the engine's thread but for what says
otherwise. Used by `actions`.
"""

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Protocol, final

import msgspec

from reactor.errors import Error, LimitExceeded, Unavailable
from reactor.limits import MAX_ACTION_CALLS, MAX_ACTION_CALLS_WAITING
from reactor.runtime.actions.context import ActionCtx, BlockingActionCtx
from reactor.runtime.actions.line import Line
from reactor.runtime.actions.loops import place_in, place_of_waiting, post, tenant
from reactor.runtime.actions.ports import (
    ActionCall,
    AsyncPort,
    BlockingPort,
    Deliver,
    Receive,
    Request,
    unawaited_error,
)
from reactor.runtime.calls import Call, Outcome, Refused
from reactor.runtime.determinism import Ambient, AmbientKind, ambient
from reactor.runtime.environment.mapping import SnapshotEnvironment
from reactor.runtime.files.store import Files
from reactor.runtime.logs import LogBuffer, NestedLog, ToldLog
from reactor.runtime.versions import Version

log = logging.getLogger(__name__)

Work = Callable[[Any], Any]  # gets `ctx`; returns the result, or for an `async def` action a coroutine of it


class Ended(msgspec.Struct, frozen=True):
    """How an action ended: with a result, an error of its own, or because the system has `stopped` it."""

    result: Any
    error: BaseException | None
    stopped: Error | None
    log_lines: tuple[str, ...]


class Answered(msgspec.Struct):
    """What an HTTP action has answered with, once it has."""

    status: int = 0


class Task(msgspec.Struct, frozen=True):
    """What is to be run as an action."""

    call: Call
    version: Version
    path: str  # canonical, for log lines
    work: Work
    is_async: bool
    kind: AmbientKind = "action"
    shown: str = ""  # in the function log
    answered: Answered | None = None  # when it answers a request


class Stage(Protocol):
    """What runs need from the service they belong to."""

    @property
    def files(self) -> Files:
        """The stored files of the deployment."""

    def post(self, callback: Callable[..., None], *args: Any) -> bool:
        """Have `callback` called on the engine's thread; False when it has closed. From any thread."""

    def interrupt(self, run: "ActionRun") -> None:
        """Cancel a run that has begun on an event loop."""

    def new_execution(self) -> int:
        """Return a number for the function log."""

    def take_down(self, run: "ActionRun", ended: Ended) -> None:
        """Have the function log take down how a run has ended."""

    def take_down_lines(self, run: "ActionRun", lines: tuple[str, ...]) -> None:
        """Have the function log take down what a run has logged since the last time."""

    def forget(self, run: "ActionRun") -> None:
        """Give the place of a run, whose end was reported, to another."""

    def left(self, run: "ActionRun") -> None:
        """Let go of what a run used, which has really ended."""

    def now_ns(self) -> int:
        """Return the wall clock in nanoseconds. From any thread."""

    def request_handler(self, run: "ActionRun", kind: str, handler: Callable[[Any], Any]) -> Request:
        """See `action_ports.Acting`."""

    def request_function(
        self, run: "ActionRun", kind: str, function: object, args: tuple[object, ...], named: Mapping[str, object]
    ) -> tuple[Request, Receive]:
        """See `action_ports.Acting`."""


@final
class ActionRun:
    """One action under way."""

    def __init__(
        self, stage: Stage, task: Task, done: Callable[[Ended], None], parent: "ActionRun | None" = None
    ) -> None:
        self.stage = stage
        self.task = task
        self.call = task.call
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.execution = stage.new_execution()
        self.began_ns = 0
        self._lines: deque[str] = deque()  # logged, and not yet taken down
        self.log: LogBuffer = ToldLog(self._told) if parent is None else NestedLog(parent.log, task.path)
        self.unawaited: set[ActionCall[Any]] = set()
        self.tasks: set[asyncio.Task[Any]] = set()  # that it has made; of its loop's thread
        self.timers: list[asyncio.TimerHandle] = []
        self.line: Line | None = None  # in which it takes a place
        self.has_place = False
        self.variables = SnapshotEnvironment({})  # as they were when it began
        self.has_begun = False
        self.is_over = False  # its end was reported
        self.stopped: Error | None = None  # why it was cancelled
        self._thread: int | None = None  # that it has begun on
        self._done = done
        self._line = Line(MAX_ACTION_CALLS)
        self._crossings: set[_Crossing] = set()
        self._claim = threading.Lock()
        self._main: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # Beginning and ending, on the engine's thread.

    def begin_in_thread(self) -> None:
        """Begin a plain `def` action.

        Raises:
            RuntimeError: the system gives no thread.
        """
        threading.Thread(target=self._run, name=f"reactor-action {self.task.path}", daemon=True).start()
        self.has_begun = True

    def cancel(self, reason: Error) -> None:
        """End it, with all it has started. An `async def` action may still clean up; a plain one is left to itself."""
        if self.is_over or self.stopped is not None:
            return
        self.stopped = reason
        if self.task.is_async and not self._claim.acquire(blocking=False):
            self.stage.interrupt(self)
            if self._loop is not None and self._main is not None:
                post(self._loop, _cancel, self._main)
        elif self.has_begun:
            self.abandon()
        else:
            self.ended(None, reason)

    def abandon(self) -> None:
        """Report its end although it goes on."""
        if self.is_over:
            return
        assert self.stopped is not None
        log.warning("The action %s was stopped but goes on, at %s: %s", self.task.path, self._place(), self.stopped)
        self._report(None, self.stopped)

    def ended(self, result: Any, error: BaseException | None) -> None:
        """It has really ended."""
        if self.stopped is not None:
            trace = None if error is None else error.__traceback__
            error = self.stopped.with_traceback(trace)
        if not self.is_over:
            self._report(result, error)
        self._main = self._loop = None  # the task's context refers to the run
        self.log.fall_silent()  # it refers to the run, too
        self.stage.left(self)

    def _report(self, result: Any, error: BaseException | None) -> None:
        self.is_over = True
        for timer in self.timers:
            timer.cancel()
        for crossing in list(self._crossings):
            crossing.fail(self.stopped or Unavailable("The action that made this call has ended."))
        self.stage.forget(self)
        done, self._done = self._done, _nothing
        ended = Ended(result, error, self.stopped, self.log.lines)
        self.take_down_lines()
        self.stage.take_down(self, ended)
        done(ended)

    def take_down_lines(self) -> None:
        """Have the function log take down what was logged since the last time."""
        lines: list[str] = []
        while self._lines:
            lines.append(self._lines.popleft())
        if lines:
            self.stage.take_down_lines(self, tuple(lines))

    def _place(self) -> str:
        main = self._main
        if main is not None and not getattr(main.get_coro(), "cr_running", False):
            return place_of_waiting(main)
        return place_in(sys._current_frames().get(self._thread or 0))

    # On the thread of the action.

    def begin_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin an `async def` action, unless it has begun on another loop or was cancelled."""
        loop.create_task(self._follow(loop), context=Context())

    async def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        # Only now: another action that came before may have blocked the loop, and this one may be elsewhere meanwhile.
        if not self._claim.acquire(blocking=False):
            return
        self.has_begun = True
        self._thread = threading.get_ident()
        self._loop = loop
        self._main = asyncio.current_task()
        result, failure = None, None
        self._enter()
        tenant.set(self)
        try:
            if self.stopped is not None:  # meanwhile
                raise self.stopped
            result = await self.task.work(ActionCtx(AsyncPort(self), self._now))
        except BaseException as error:
            failure = error
        self.stage.post(self.ended, result, self._settle(failure))
        del failure  # whose traceback refers to this frame: only a collection would free the run, and its log lines

    def _run(self) -> None:
        result, failure = None, None
        self._thread = threading.get_ident()
        self._enter()
        try:
            result = self.task.work(BlockingActionCtx(BlockingPort(self), self._now))
        except BaseException as error:
            failure = error
        self.stage.post(self.ended, result, self._settle(failure))
        del failure  # whose traceback refers to this frame: only a collection would free the run, and its log lines

    def _enter(self) -> None:
        ambient.set(Ambient(self.task.kind, self.stage.now_ns(), self.log, source=self.variables))

    def _settle(self, error: BaseException | None) -> BaseException | None:
        """Leave nothing behind; return the error the action ends with, if any."""
        if error is None and self.unawaited:
            error = unawaited_error(self.unawaited)
        self.unawaited.clear()
        left = [task for task in self.tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            names = ", ".join(sorted(getattr(task.get_coro(), "__qualname__", task.get_name()) for task in left))
            self.log.warn(f"{len(left)} task(s) still ran when the action ended, and were cancelled: {names}.")
        return error

    def _told(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) == 1:  # the engine has not been told to look yet
            self.stage.post(self.take_down_lines)

    def _now(self) -> float:
        return self.stage.now_ns() / 1_000_000

    # What its ports use, on any thread.

    @property
    def files(self) -> Files:
        """The stored files of the deployment."""
        return self.stage.files

    def check_alive(self) -> None:
        """Raise when the action has ended."""
        if self.is_over:
            if self.stopped is not None:
                raise self.stopped
            raise RuntimeError("This ctx belongs to an action that has ended; it can't be used any more.")

    def send(self, request: Request, deliver: Deliver) -> Callable[[], None]:
        """Make a request of the engine, in line behind earlier ones. Returns how to withdraw it."""
        crossing = _Crossing(self, request, deliver)
        if not self.stage.post(crossing.enter):
            deliver(Refused(Unavailable("The deployment was closed.")))

        def withdraw() -> None:
            self.stage.post(crossing.withdraw)

        return withdraw

    def request_handler(self, kind: str, handler: Callable[[Any], Any]) -> Request:
        """Return the request to run a handler as an internal query or mutation."""
        return self.stage.request_handler(self, kind, handler)

    def request_function(
        self, kind: str, function: object, args: tuple[object, ...], named: Mapping[str, object]
    ) -> tuple[Request, Receive]:
        """Return the request to run a function of the project, and what turns its result into the caller's."""
        return self.stage.request_function(self, kind, function, args, named)


class _Crossing:
    """One request of an action, on the engine's thread."""

    def __init__(self, run: ActionRun, request: Request, deliver: Deliver) -> None:
        self._run = run
        self._request = request
        self._deliver = deliver
        self._take_back: Callable[[], None] | None = None
        self._is_done = False

    def enter(self) -> None:
        """Begin, or wait for the earlier ones."""
        run = self._run
        if run.is_over:
            self._deliver(Refused(run.stopped or Unavailable("The action that made this call has ended.")))
        elif len(run._line) >= MAX_ACTION_CALLS_WAITING:
            message = f"An action may have {MAX_ACTION_CALLS_WAITING} calls on ctx waiting; await some before the next."
            self._deliver(Refused(LimitExceeded("TooManyConcurrentOperations", message)))
        else:
            run._crossings.add(self)
            run._line.enter(self._begin)

    def _begin(self) -> None:
        if not self._is_done:
            self._take_back = self._request(self._finished)
        else:
            self._run._line.leave()

    def _finished(self, outcome: Outcome) -> None:
        self._run._crossings.discard(self)
        self._take_back = None
        if not self._is_done:
            self._deliver_once(outcome)
        self._run._line.leave()

    def withdraw(self) -> None:
        """Nobody waits for the outcome any more: do not begin, and end what can be ended."""
        if self._run._line.withdraw(self._begin):
            self._is_done = True
            self._run._crossings.discard(self)
        elif self._take_back is not None:
            self._take_back()

    def fail(self, error: Error) -> None:
        """Deliver `error` now, whatever comes of the request."""
        if not self._is_done:
            self._deliver_once(Refused(error))
        self.withdraw()

    def _deliver_once(self, outcome: Outcome) -> None:
        self._is_done = True
        # Let go of whoever keeps the outcome: the traceback of its error leads through the call to this object.
        deliver, self._deliver = self._deliver, _nobody
        deliver(outcome)


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _nobody(outcome: Outcome) -> None:
    """An outcome is delivered once."""


def _nothing(ended: Ended) -> None:
    """An end is reported once."""
