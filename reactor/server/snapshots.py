"""Timestamps lent to clients, who come back to read at them.

Promises that what stood at a lent timestamp can be read for `snapshot_seconds`, as far as the bound on history allows,
with a number of pins that does not grow with the number of clients. Used by the HTTP API.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LENDING_SECONDS = 1.0  # timestamps lent within this time share one pin, that of the oldest


class Snapshots:
    """The lent timestamps of an open deployment."""

    def __init__(
        self,
        *,
        pin: Callable[[int], None],
        unpin: Callable[[int], None],
        durable_ts: Callable[[], int],
        seconds: float,
        later: Callable[[float, Callable[[], Any]], asyncio.TimerHandle],
    ) -> None:
        """
        Args:
            pin, unpin: keep and give back the history that a snapshot needs.
            seconds: how long a lent timestamp stays good.
            later: as `loop.call_later`.
        """
        self._pin = pin
        self._unpin = unpin
        self._durable_ts = durable_ts
        self._seconds = seconds
        self._later = later
        self._timers: dict[int, list[asyncio.TimerHandle]] = {}
        self._is_lending = False

    def lend(self) -> int:
        """Return the latest timestamp, and keep it readable for a while."""
        ts = self._durable_ts()
        if not self._is_lending:
            self._is_lending = True
            self._later(LENDING_SECONDS, self._end_lending)
            self._pin(ts)
            timer = self._later(LENDING_SECONDS + self._seconds, lambda: self._give_back(ts))
            self._timers.setdefault(ts, []).append(timer)
        return ts

    @contextmanager
    def latest(self) -> Iterator[int]:
        """Keep the latest timestamp readable for the block."""
        ts = self._durable_ts()
        self._pin(ts)
        try:
            yield ts
        finally:
            self._unpin(ts)

    def close(self) -> None:
        """Give everything back."""
        for ts in list(self._timers):
            for timer in self._timers.pop(ts):
                timer.cancel()
                self._unpin(ts)

    def _end_lending(self) -> None:
        self._is_lending = False

    def _give_back(self, ts: int) -> None:
        timers = self._timers[ts]
        timers.pop(0)  # they run in the order they were made
        if not timers:
            del self._timers[ts]
        self._unpin(ts)
