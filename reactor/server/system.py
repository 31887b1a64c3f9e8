"""The real clock and the real chance, for everything that is no test."""

import inspect
import os
import time
from collections.abc import Callable
from typing import Final

# Unwrapped: functions of the project see `time` and `os.urandom` through dispatchers, the engine must not.
_time_ns: Final[Callable[[], int]] = inspect.unwrap(time.time_ns)
_monotonic: Final[Callable[[], float]] = inspect.unwrap(time.monotonic)
_urandom: Final[Callable[[int], bytes]] = inspect.unwrap(os.urandom)


class SystemClock:
    """Implements `ports.Clock` with the operating system's clocks."""

    def now_ns(self) -> int:
        """Return the wall clock in nanoseconds since the Unix epoch."""
        return _time_ns()

    def monotonic(self) -> float:
        """Return seconds that never step back."""
        return _monotonic()


class SystemRng:
    """Implements `ports.Rng` with the operating system's generator."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        return _urandom(count)
