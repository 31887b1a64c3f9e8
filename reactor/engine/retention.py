"""Retention: which snapshots are in use, and how much history is kept for them.

Owns the pins, the order in which commits left something in the history, and the floor below which nothing can be
read. Promises that what a pinned snapshot needs stays until it is given back, or until the history would pass its bound
in bytes: then the oldest snapshot fails as retriable. Used by the database, which reports commits, and by whoever holds
a snapshot across a suspension.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Final

from reactor.engine.committer import Kept
from reactor.engine.writelog import WriteLog
from reactor.errors import SnapshotTooOld
from reactor.storage.interface import Record

ENTRY_BYTES: Final = 150  # of one changed key, beside the document that stood there


class Retention:
    """The snapshots in use, and the history behind them. Belongs to one event loop."""

    def __init__(self, write_log: WriteLog, durable_ts: Callable[[], int], floor: int, history_bytes: int) -> None:
        """
        Args:
            write_log: truncated together with the history.
            durable_ts: what queries begin at; nothing newer is ever pruned.
            floor: the oldest timestamp that can be read.
            history_bytes: the bound (`limits.history_bytes`).
        """
        self.floor = floor
        self.bytes = 0
        self._write_log = write_log
        self._durable_ts = durable_ts
        self._bound = history_bytes
        self._pins: dict[int, int] = {}
        self._commits: deque[tuple[int, list[Kept], int]] = deque()  # timestamp, what history holds of it, bytes
        self._prune_is_due = False
        self._waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        """How many different snapshots are pinned."""
        return len(self._pins)

    def pin(self, ts: int) -> None:
        """Keep the history that a snapshot at `ts` needs, until `unpin`. Needed only across suspensions."""
        self._pins[ts] = self._pins.get(ts, 0) + 1

    def unpin(self, ts: int) -> None:
        """Give a snapshot back."""
        left = self._pins[ts] - 1
        if left:
            self._pins[ts] = left
            return
        del self._pins[ts]
        self._wake()
        if self._commits and ts < self._commits[0][0] <= self._durable_ts() and not self._prune_is_due:
            # Not at once: who gives a snapshot back may be about to commit what it read there.
            self._prune_is_due = True
            asyncio.get_running_loop().call_soon(self._prune, context=Context())

    def check(self, ts: int) -> None:
        """Check that what stood there at `ts` is still known; to be asked again after each suspension.

        Raises:
            SnapshotTooOld: it is not; the message names the bound.
        """
        if ts < self.floor:
            raise SnapshotTooOld(
                f"Timestamp {ts} is too early, retry with a higher timestamp. History is kept from {self.floor} on "
                f"(REACTOR_HISTORY_BYTES={self._bound})."
            )

    @property
    def oldest_reader(self) -> int:
        """The oldest snapshot that anybody may still read at."""
        durable = self._durable_ts()
        return min(min(self._pins, default=durable), durable)

    async def no_reader_before(self, ts: int) -> None:
        """Wait until no snapshot older than `ts` is in use."""
        while self.oldest_reader < ts:
            passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(passed)
            await passed

    def applied(self, record: Record, kept: list[Kept]) -> None:
        """Note what a commit left in the history."""
        size = ENTRY_BYTES * len(kept)
        for write in record.writes:
            if write.value is not None:
                size += len(write.value)
        self._commits.append((record.ts, kept, size))
        self.bytes += size

    def published(self) -> None:
        """After `durable_ts` has moved: drop what no reader needs any more."""
        self._prune()
        self._wake()

    def _prune(self) -> None:
        self._prune_is_due = False
        commits, durable = self._commits, self._durable_ts()
        oldest = max(self.floor, self.oldest_reader)
        # Beyond the bound the oldest snapshots in use give way, but never what is not durable yet.
        left = self.bytes
        for commit_ts, _, size in commits:
            if commit_ts > durable or (commit_ts > oldest and left <= self._bound):
                break
            left -= size
            oldest = max(oldest, commit_ts)
        self.floor = oldest
        while commits and commits[0][0] <= oldest:
            _, kept, size = commits.popleft()
            self.bytes -= size
            for history, key in kept:
                history.forget(key, oldest)
        self._write_log.truncate(oldest)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
