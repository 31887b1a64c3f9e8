"""A clock that moves only when a test says so.

Owns virtual wall time, and who waits for it. Promises that two tests see the same times, and that time passes for
nobody without `advance`.
Monotonic time is real plus what was advanced: it bounds how long code may run, which a test must not switch off. Used
by the pytest plugin and by tests of what depends on time.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from reactor.errors import InvalidArgument

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_NS_PER_MS: Final = 1_000_000


class VirtualClock:
    """Implements `ports.Clock` and `ports.Alarms`. Starts at the same moment in every test."""

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise InvalidArgument("A clock starts at an aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC).")
        self._now_ns = _nanoseconds(start - datetime.fromtimestamp(0, UTC))
        self._advanced_ns = 0
        self._alarms: list[tuple[int, int, _Alarm]] = []  # a heap: when, in which order they were set
        self._order = itertools.count()

    def now_ns(self) -> int:
        """Return virtual nanoseconds since the Unix epoch."""
        return self._now_ns

    def monotonic(self) -> float:
        """Return real seconds plus the advanced ones."""
        return time.monotonic() + self._advanced_ns / 1e9

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once `advance` has reached `when_ns`; see `ports.Alarms`."""
        alarm = _Alarm(asyncio.get_running_loop(), callback)
        heapq.heappush(self._alarms, (when_ns, next(self._order), alarm))
        self._ring()
        return alarm.cancel

    @property
    def next_alarm_ns(self) -> int | None:
        """When somebody next waits to be called, or None. What is due already was called."""
        while self._alarms and self._alarms[0][2].is_cancelled:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    @property
    def now_ms(self) -> float:
        """Virtual milliseconds since the Unix epoch, as `ctx.now()` would give them."""
        return self._now_ns / _NS_PER_MS

    def advance(
        self,
        by: timedelta = timedelta(),
        /,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
    ) -> None:
        """Move the clock forward, by a `timedelta` or by named units: `advance(minutes=5)`.

        What becomes due runs when the test next awaits something; `deployment.advance` waits for it.

        Raises:
            InvalidArgument: the step is negative; a server that sees time step back is another test.
        """
        by += timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
        if by < timedelta():
            raise InvalidArgument(f"A clock advances; {by} would set it back.")
        step = _nanoseconds(by)
        self._now_ns += step
        self._advanced_ns += step
        self._ring()

    def _ring(self) -> None:
        while self._alarms and self._alarms[0][0] <= self._now_ns:
            heapq.heappop(self._alarms)[2].ring()


class _Alarm:
    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self.is_cancelled = False

    def ring(self) -> None:
        # The clock may be advanced from another thread, or when the loop of a deployment that was closed is gone.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        if not self.is_cancelled:
            self._callback()

    def cancel(self) -> None:
        self.is_cancelled = True


def _nanoseconds(span: timedelta) -> int:
    return (span.days * 86_400 + span.seconds) * 1_000_000_000 + span.microseconds * 1000
