"""The real clock and the real chance, for everything that is no test."""

import asyncio
import inspect
import os
import time
from collections.abc import Callable
from typing import Final

# Unwrapped: functions of the project see `time` and `os.urandom` through dispatchers, the engine must not.
_time_ns: Final[Callable[[], int]] = inspect.unwrap(time.time_ns)
_monotonic: Final[Callable[[], float]] = inspect.unwrap(time.monotonic)
_urandom: Final[Callable[[int], bytes]] = inspect.unwrap(os.urandom)

MAX_SLEEP_SECONDS: Final = 30.0  # before the wall clock, which somebody may have set, is looked at again


class SystemClock:
    """Implements `ports.Clock` with the operating system's clocks."""

    # The functions themselves: the run queue looks at the time before each step of a handler.
    now_ns = staticmethod(_time_ns)
    monotonic = staticmethod(_monotonic)


class SystemAlarms:
    """Implements `ports.Alarms` with timers of the event loop."""

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once the wall clock has reached `when_ns`; see `ports.Alarms`."""
        return _Alarm(when_ns, callback).cancel


class _Alarm:
    def __init__(self, when_ns: int, callback: Callable[[], None]) -> None:
        self._when_ns = when_ns
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._sleep()

    def _sleep(self) -> None:
        left = max(0.0, (self._when_ns - _time_ns()) / 1e9)
        self._timer = self._loop.call_later(min(left, MAX_SLEEP_SECONDS), self._wake)

    def _wake(self) -> None:
        if _time_ns() < self._when_ns:
            self._sleep()
        else:
            self._callback()

    def cancel(self) -> None:
        self._timer.cancel()


class SystemRng:
    """Implements `ports.Rng` with the operating system's generator."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        return _urandom(count)
