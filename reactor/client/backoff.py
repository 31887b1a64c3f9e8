"""How long to wait before the next connection attempt.

A server that closes says why, and how long it should be left alone follows from that: by the reason, else by the code.

Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015): clients that lost one server
spread over the whole interval instead of coming back together. Pure: chance is passed in. Used by the shells.
"""

from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 0.1  # after a drop for no stated reason
SERVER_ERROR_SECONDS: Final = 1.0  # close code 1011
OVERLOADED_SECONDS: Final = 3.0  # close code 1013
MAX_SECONDS: Final = 16.0

_BY_CODE: Final = {1011: SERVER_ERROR_SECONDS, 1013: OVERLOADED_SECONDS}
_BY_REASON: Final = dict.fromkeys(
    (
        "InternalServerError",
        "VectorIndexesUnavailable",
        "SearchIndexesUnavailable",
        "TableSummariesUnavailable",
    ),
    SERVER_ERROR_SECONDS,
) | dict.fromkeys(
    (
        "SubscriptionsWorkerFullError",
        "TooManyConcurrentRequests",
        "CommitterFullError",
        "AwsTooManyRequestsException",
        "ExecuteFullError",
        "SystemTimeoutError",
        "ExpiredInQueue",
        "VectorIndexTooLarge",
        "SearchIndexTooLarge",
        "TooManyWritesInTimePeriod",
    ),
    OVERLOADED_SECONDS,
)


class Backoff:
    """The attempts since things last went well. `random` returns floats in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many attempts failed since things last went well."""
        return self._failures

    def failed(self, close_code: int | None = None, reason: str = "") -> float:
        """Count a failure and return the seconds to wait, given what the server closed with, if it did."""
        base = _base(close_code, reason)
        ceiling = min(MAX_SECONDS, base * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return ceiling * self._random()

    def succeeded(self) -> None:
        """Start over: the server has caught up with everything this client wanted."""
        self._failures = 0


def _base(close_code: int | None, reason: str) -> float:
    for prefix, seconds in _BY_REASON.items():
        if reason.startswith(prefix):
            return seconds
    return FIRST_SECONDS if close_code is None else _BY_CODE.get(close_code, FIRST_SECONDS)
