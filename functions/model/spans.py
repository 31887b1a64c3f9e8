"""Spans of time that callers ask about: from a start up to and not including an end, or the last hour.

Half-open, so that adjacent ranges count each request once. Used by every function that sums up or looks back.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from functions.model.amounts import require_finite
from reactor import QueryCtx, ReactorError, v
from reactor.components.aggregate import Bound, Bounds

MINUTE_MS: Final = 60_000.0
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
WINDOWS: Final[Mapping[str, float]] = {
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "1h": HOUR_MS,
    "6h": 6 * HOUR_MS,
    "24h": DAY_MS,
    "7d": 7 * DAY_MS,
    "30d": 30 * DAY_MS,
}

time_range = v.object({"start": v.number(), "end": v.optional(v.number())})
window = v.union(*(v.literal(name) for name in WINDOWS))


class Span(NamedTuple):
    """start <= time < end; without an end it stays open, and live queries see what is added."""

    start: float
    end: float | None

    @property
    def bounds(self) -> Bounds:
        """The span as bounds of an aggregate whose keys are times."""
        upper = None if self.end is None else Bound(self.end, inclusive=False)
        return Bounds(lower=Bound(self.start, inclusive=True), upper=upper)


def span_of(ctx: QueryCtx, time_range: Mapping[str, Any] | None, window: str | None) -> Span:
    """Return the span that a caller asks for: a range, or a window that ends now.

    A window begins with a whole minute, so that everybody who asks within a minute asks the same.

    Raises:
        ReactorError: code `INVALID_RANGE`: both are given, or neither; `INVALID_NUMBER`: a time is not finite.
    """
    if (time_range is None) == (window is None):
        raise ReactorError({"code": "INVALID_RANGE", "message": "Give one of timeRange and window."})
    if window is not None:
        return Span(minute_of(ctx.now() - WINDOWS[window]), None)
    assert time_range is not None
    span = Span(time_range["start"], time_range.get("end"))
    require_finite("timeRange.start", span.start)
    if span.end is not None:
        require_finite("timeRange.end", span.end)
    return span


def minute_of(time: float) -> float:
    """Return the first millisecond of the minute in which a time lies."""
    return time // MINUTE_MS * MINUTE_MS
