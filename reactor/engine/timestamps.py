"""The two clocks of the engine: commit timestamps and creation times.

Promises that both strictly increase, whatever the wall clock does, also across a restart (they start at the end of the
log). Used by the database; creation times are drawn in call order by every transaction (`design.md` §4, 15).
"""

import math

from reactor.ports import Clock


class CommitClock:
    """Hands out commit timestamps in nanoseconds: `max(last + 1, wall clock, at_least)`."""

    def __init__(self, clock: Clock, last: int) -> None:
        self._clock = clock
        self.last = last

    def next(self, at_least: int = 0) -> int:
        """Return the timestamp of the commit that is being applied now."""
        self.last = max(self.last + 1, self._clock.now_ns(), at_least)
        return self.last


class CreationClock:
    """Hands out `_creationTime` values: milliseconds as float, the next float up when the wall clock has not moved."""

    def __init__(self, clock: Clock, last_ts: int) -> None:
        self._clock = clock
        self.last = last_ts / 1e6

    def next(self) -> float:
        """Return the creation time of the document that is being inserted now."""
        self.last = max(math.nextafter(self.last, math.inf), self._clock.now_ns() / 1e6)
        return self.last


def covering_ts(creation_ms: float) -> int:
    """Return a commit timestamp that is certainly not before `creation_ms`.

    Both the product and its division by 1e6 at the next start round to 256 ns at present-day magnitudes; the margin
    keeps a restarted `CreationClock` above every value already given out.
    """
    return int(creation_ms * 1e6) + 512
