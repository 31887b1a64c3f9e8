"""What tests must control: time, chance, and the starting of background work.

The core takes these as parameters; only `server/app` and `testing` choose the real or the virtual form.
"""

from collections.abc import Coroutine
from typing import Any, Protocol


class Clock(Protocol):
    """Wall-clock and monotonic time."""

    def now_ns(self) -> int:
        """Return the wall clock in nanoseconds since the Unix epoch. It may step back."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin that never step back."""


class Rng(Protocol):
    """A source of unpredictable bytes."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes of operating-system strength, or a reproducible stream in tests."""


class Spawn(Protocol):
    """Starts background work whose failure must not go unseen."""

    def __call__(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` until it ends; the owner of this port awaits or cancels what is left at shutdown."""
