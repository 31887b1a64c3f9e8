"""The watchdog: ends user code of queries and mutations that runs too long, without a cost for code that does not.

A thread looks, a few times a second, whether the engine's thread does anything but wait, and if so sends it a signal.
The handler runs on the engine's thread between two instructions, where it can tell whose execution was interrupted and
where: it charges the time to it, and past the limit raises `TimeIsUp`. Promises never to raise into code of reactor or
of the event loop, so a call on `ctx` is whole or not made at all; that time spent in the engine, suspended or
importing is not charged as user code; and that a handler which swallows `TimeIsUp` gets the next one at once and fails
anyway.

C code that holds the interpreter stops the thread too. Then an interval timer sends the signal, which ends C code that
checks for signals, such as a regular expression; for the rest there is `lastresort`. Where signals can't be used, off
the main thread and on Windows, the watchdog only reports. Used by `host` (`design.md` §4, 13).
"""

import logging
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any, Final, Literal

from reactor.errors import FunctionTimeout, SystemTimeout
from reactor.limits import Limits
from reactor.runtime.determinism import ambient, is_user_code
from reactor.runtime.guard import outside

log = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 0.05
URGENT_SECONDS: Final = 0.002  # for a handler that swallows what is raised: one of many hits it outside its `try`

_OURS: Final = "reactor."
# Parts of reactor that user code calls without noticing, and that have nothing to lose.
_TRANSPARENT: Final = frozenset(f"reactor.runtime.{name}" for name in ("guard", "determinism", "datetimes", "logs"))
# What starts a handler: code of no project above one of these is a handler that was handed in.
_DRIVERS: Final = frozenset(f"reactor.runtime.{name}" for name in ("executions", "executor", "runs", "invocation"))
# An exception in the middle of these could leave a lock held or a task half made, for everybody.
_FRAGILE: Final = frozenset({"logging", "linecache", "threading", "asyncio", "concurrent", "queue", "importlib"})
_WAITING: Final = frozenset({"selectors", "asyncio.runners", "asyncio.base_events", "asyncio.events"})

Place = Literal["user", "engine", "fragile"]


class TimeIsUp(BaseException):
    """Raised into user code whose time is up. Not an `Exception`, so that few handlers catch it."""


def _trace(frame: types.FrameType) -> types.TracebackType | None:
    """Return the traceback that an exception raised in `frame` would have at the end of its way."""
    trace: types.TracebackType | None = None
    at: types.FrameType | None = frame
    while at is not None:
        trace = types.TracebackType(trace, at, at.f_lasti, at.f_lineno or at.f_code.co_firstlineno)
        at = at.f_back
    return trace


def place_of(frame: types.FrameType) -> Place:
    """Return whose code an interrupted frame belongs to."""
    first: types.FrameType | None = frame
    at: types.FrameType | None = frame
    while at is not None:
        name = str(at.f_globals.get("__name__"))
        if is_user_code(at):
            return "user"
        if name.partition(".")[0] in _FRAGILE:
            return "fragile"
        if name.startswith(_OURS) and name not in _TRANSPARENT:
            return "user" if name in _DRIVERS and at is not first else "engine"
        at = at.f_back
    return "fragile"


def _raise_when_caught(frame: types.FrameType) -> None:
    """Have the next line of `frame`, and of its callers in user code, raise as well.

    The first one was swallowed. The next line after this one is caught is that of the `except` clause, which the `try`
    that swallows does not cover.
    """

    def local(frame: types.FrameType, event: str, argument: object) -> Any:
        if event == "line":
            raise TimeIsUp("swallowed")  # which also ends the tracing
        return local

    def everywhere(frame: types.FrameType, event: str, argument: object) -> None:
        sys.settrace(None)  # something else has been called: nothing was caught

    at: types.FrameType | None = frame
    while at is not None and str(at.f_globals.get("__name__")) not in _DRIVERS:
        if is_user_code(at):
            at.f_trace = local
        at = at.f_back
    sys.settrace(everywhere)


class Watch:
    """What is known about one thread that runs an engine."""

    def __init__(self, watchdog: "Watchdog", thread: int, can_interrupt: bool) -> None:
        self._watchdog = watchdog
        self.thread = thread
        self.can_interrupt = can_interrupt
        self.all_limits: list[Limits] = []
        self.is_urgent = False
        self._cpu = _cpu_clock(thread)
        self._charged_until = self._ticked_at = time.monotonic()
        self._cpu_charged_until = self._cpu_ticked_at = self._cpu()
        self._reported: int | None = None
        self._stuck: tuple[int, float] | None = None

    # On the watchdog's thread.

    def tick(self, frame: types.FrameType | None) -> None:
        """Look at what the thread does, and interrupt it when that may be user code."""
        now, cpu = time.monotonic(), self._cpu()
        self._charged_until, self._ticked_at = max(self._charged_until, self._ticked_at), now
        self._cpu_charged_until, self._cpu_ticked_at = max(self._cpu_charged_until, self._cpu_ticked_at), cpu
        if frame is None or frame.f_globals.get("__name__") in _WAITING:
            self.is_urgent = False
            self._stuck = None
        elif self.can_interrupt:
            signal.pthread_kill(self.thread, SIGNAL)
        else:
            self._report(frame, now)

    def _report(self, frame: types.FrameType, now: float) -> None:
        outermost = place = None
        at: types.FrameType | None = frame
        while at is not None:
            if is_user_code(at):
                outermost, place = at, place or f"{at.f_code.co_filename}:{at.f_lineno} in {at.f_code.co_name}"
            at = at.f_back
        if outermost is None:
            self._stuck = None
        elif self._stuck is None or self._stuck[0] != id(outermost):
            self._stuck = id(outermost), now
        elif now - self._stuck[1] > self.user_seconds and self._reported != id(outermost):
            self._reported = id(outermost)
            log.error(
                "user code has been running for more than %gs at %s; it can't be stopped here, since this event loop "
                "is not on the main thread of a POSIX process",
                self.user_seconds,
                place,
            )

    # On the thread that is watched.

    def interrupted(self, frame: types.FrameType) -> None:
        """Charge the time since the last look to the execution that runs now.

        Raises:
            TimeIsUp: its time is up, and it is in user code.
        """
        elapsed = self._take_elapsed()
        found = ambient.get()
        if found is None or not found.frozen:
            self.is_urgent = False
            return
        observed, place = found.observed, place_of(frame)
        if place == "engine":
            observed.engine_seconds += elapsed
            if observed.engine_seconds > self.engine_seconds and observed.overrun is None:
                observed.overrun = SystemTimeout(SYSTEM_TIMEOUT).with_traceback(_trace(frame))
            return
        observed.user_seconds += elapsed
        self.is_urgent = observed.overrun is not None or observed.user_seconds > self.user_seconds
        if observed.user_seconds > self.hard_seconds and self._watchdog.on_hard_limit is not None:
            outside(
                self._watchdog.on_hard_limit,
                f"user code ran for {observed.user_seconds:.1f}s (limit {self.hard_seconds:g}s) and can't be stopped",
            )
        if self.is_urgent and place == "user":
            if observed.overrun is None:
                observed.overrun = FunctionTimeout(TIMEOUT.format(self.user_seconds)).with_traceback(_trace(frame))
            else:
                _raise_when_caught(frame)
            raise TimeIsUp(str(observed.overrun))

    def _take_elapsed(self) -> float:
        """Return the seconds since the last look; in good time, or by the thread's own clock.

        What lies longer back than two looks is charged only as far as the thread was really running: a process that
        was stopped for a while should not fail the function it was in.
        """
        now, cpu = time.monotonic(), self._cpu()
        elapsed, used = now - self._charged_until, cpu - self._cpu_charged_until
        self._charged_until, self._cpu_charged_until = now, cpu
        return max(used, min(elapsed, 2 * PERIOD_SECONDS))

    # The strictest of the deployments on this thread decides.

    @property
    def user_seconds(self) -> float:
        return min(limits.user_seconds for limits in self.all_limits)

    @property
    def engine_seconds(self) -> float:
        return min(limits.engine_seconds for limits in self.all_limits)

    @property
    def hard_seconds(self) -> float:
        return min(limits.hard_seconds for limits in self.all_limits)


TIMEOUT: Final = "Function execution timed out (maximum duration: {:g}s)"
SYSTEM_TIMEOUT: Final = "Your request timed out performing too many system operations."
SIGNAL: Final[signal.Signals] = getattr(signal, "SIGVTALRM", signal.SIGTERM)


def _cpu_clock(thread: int) -> Callable[[], float]:
    """Return how to read the processor time of a thread, where that can be done, else of the process."""
    clock_of: Callable[[int], int] | None = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return time.process_time
    clock = clock_of(thread)
    return lambda: time.clock_gettime(clock)


class Watchdog:
    """The thread that looks, and all it looks at. One per process, made on first use, waiting while there is nothing.

    `feed` is called at each look: as long as it is, the interpreter is not held by C code. `on_hard_limit` is told why
    the process should end.
    """

    NAME: Final = "reactor-watchdog"  # of the thread

    def __init__(self) -> None:
        self.feed: Callable[[], None] | None = None
        self.on_hard_limit: Callable[[str], None] | None = None
        self._watches: dict[int, Watch] = {}
        self._has_watches = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._has_handler = False

    def watch(self, limits: Limits) -> Watch:
        """Watch the current thread under `limits`, until `leave`."""
        with self._lock:
            thread = threading.get_ident()
            found = self._watches.get(thread)
            if found is None:
                found = Watch(self, thread, self._take_signal())
            found.all_limits = [*found.all_limits, limits]
            self._watches = {**self._watches, thread: found}  # last: the thread looks at what it finds here
            if self._thread is None or not self._thread.is_alive():  # not alive: this is a forked child
                self._thread = threading.Thread(target=self._run, name=self.NAME, daemon=True)
                self._thread.start()
            self._has_watches.set()
            self._arm(found)  # now, since the thread may not get to its first look
            return found

    def leave(self, watch: Watch, limits: Limits) -> None:
        """Stop watching for one of those who asked."""
        with self._lock:
            remaining = [*watch.all_limits]
            remaining.remove(limits)
            if remaining:
                watch.all_limits = remaining
                return
            self._watches = {thread: kept for thread, kept in self._watches.items() if kept is not watch}
            if not self._watches:
                self._has_watches.clear()
                if self._has_handler:
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _take_signal(self) -> bool:
        """Install the handler when the current thread can have one; return whether it can be interrupted."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_kill"):
            return False
        if not self._has_handler:
            if signal.getsignal(SIGNAL) is not signal.SIG_DFL:
                log.warning("%s is taken by the program; user code that runs too long is only reported", SIGNAL.name)
                return False
            signal.signal(SIGNAL, self._interrupted)
            self._has_handler = True
        return True

    def _interrupted(self, number: int, frame: types.FrameType | None) -> None:
        watch = self._watches.get(threading.get_ident())
        # One signal may arrive while the last is handled; it says nothing about user code.
        if watch is not None and frame is not None and frame.f_globals is not globals():
            watch.interrupted(frame)

    @staticmethod
    def _arm(watch: Watch) -> None:
        """Have the signal sent by the system when the thread is kept from looking."""
        if watch.can_interrupt:
            signal.setitimer(signal.ITIMER_VIRTUAL, watch.user_seconds, PERIOD_SECONDS)

    def _run(self) -> None:
        while True:
            self._has_watches.wait()
            urgent = any(watch.is_urgent for watch in self._watches.values())
            time.sleep(URGENT_SECONDS if urgent else PERIOD_SECONDS)
            self._look()

    def _look(self) -> None:
        # A function of its own, so that no frame, and nothing in its variables, is kept until the next look.
        watches = self._watches
        frames: dict[int, Any] = sys._current_frames()
        for watch in watches.values():
            watch.tick(frames.get(watch.thread))
            self._arm(watch)
        frames.clear()  # this frame is among them: only a collection would free them all, and what their functions held
        if self.feed is not None:
            self.feed()


watchdog: Final = Watchdog()
