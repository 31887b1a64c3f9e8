"""How long to wait before the next connection attempt.

Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015): clients that lost one server
spread over the whole interval instead of coming back together. Pure: chance is passed in. Used by the shells.
"""

from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 0.1  # after a drop for no stated reason
SERVER_ERROR_SECONDS: Final = 1.0  # close code 1011
OVERLOADED_SECONDS: Final = 3.0  # close code 1013
MAX_SECONDS: Final = 16.0

_BASES: Final = {1011: SERVER_ERROR_SECONDS, 1013: OVERLOADED_SECONDS}


class Backoff:
    """The attempts since things last went well. `random` returns floats in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0

    def failed(self, close_code: int | None = None) -> float:
        """Count a failure and return the seconds to wait, given the code the server closed with, if it did."""
        base = FIRST_SECONDS if close_code is None else _BASES.get(close_code, FIRST_SECONDS)
        ceiling = min(MAX_SECONDS, base * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return ceiling * self._random()

    def succeeded(self) -> None:
        """Start over: the server has caught up with everything this client wanted."""
        self._failures = 0
