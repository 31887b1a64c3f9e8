"""What tests must control: time, chance, and the starting of background work.

The core takes these as parameters; only `server/app` and `testing` choose the real or the virtual form. A wall clock
counts nanoseconds; documents and applications have milliseconds, durations are seconds.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Clock(Protocol):
    """Wall-clock and monotonic time."""

    def now_ns(self) -> int:
        """Return the wall clock in nanoseconds since the Unix epoch. It may step back."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin that never step back."""


class Alarms(Protocol):
    """Calls back at a time of the wall clock."""

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` on the running event loop once the wall clock has reached `when_ns`, never from in here.

        Returns what takes this back; doing so late or twice is harmless.
        """


class Rng(Protocol):
    """A source of unpredictable bytes."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes of operating-system strength, or a reproducible stream in tests."""


class Spawn(Protocol):
    """Starts background work whose failure must not go unseen."""

    def __call__(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` until it ends; the owner of this port awaits or cancels what is left at shutdown."""


def wall_ms(clock: Clock) -> float:
    """Return the wall clock in milliseconds since the Unix epoch, as documents and applications have it."""
    return clock.now_ns() / 1_000_000


def after(clock: Clock, seconds: float) -> int:
    """Return the time of the wall clock `seconds` from now, for an alarm."""
    return clock.now_ns() + int(seconds * 1e9)
