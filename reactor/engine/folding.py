"""Folding in the background: the durable log becomes current documents, and its old end is trimmed.

Owns the count of what waits, and the marks by which the log is trimmed. Promises small transactions between appends,
that a failure only postpones, and that records are kept for resent requests and followers up to a bound. While commits
keep coming it waits: a document written often is then written once. What waits is read again when the database opens,
so it is bounded in records and bytes. Used by the database.
"""

import asyncio
import logging
from collections import deque
from typing import Final, NamedTuple

from reactor.errors import StorageError
from reactor.limits import Limits
from reactor.ports import Spawn
from reactor.storage.interface import LogState, Persistence, Record

log = logging.getLogger(__name__)

IDLE_PART: Final = 40  # of the bound: what is folded as soon as nobody waits for the disk
_MARK_PART: Final = 40  # of the bound: records between two marks


class Mark(NamedTuple):
    """A stretch of the log."""

    ts: int  # of its last record
    records: int
    bytes: int


class Folding:
    """Background folding of one open database."""

    def __init__(self, persistence: Persistence, limits: Limits, spawn: Spawn) -> None:
        self._persistence = persistence
        self._limits = limits
        self._spawn = spawn
        self._idle_records = max(1, limits.fold_records // IDLE_PART)
        self._mark_records = max(1, limits.fold_records // _MARK_PART)
        self._waiting: deque[Mark] = deque()
        self._unfolded = 0  # records
        self._unfolded_bytes = 0
        self._kept: deque[Mark] = deque()  # folded, and not trimmed
        self._folded = 0
        self._is_busy = False  # whether commits waited for the disk when the last ones became durable
        self._is_closing = False
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    def found(self, record: Record, is_folded: bool) -> None:
        """Count a record that was in the log when the database was opened."""
        if is_folded:
            self._folded += 1
            self._mark(self._kept, record.ts, 1, 0)
        else:
            self._add(record.ts, 1, sum(len(write.value or b"") for write in record.writes))

    def published(self, ts: int, records: int, size: int, is_busy: bool) -> None:
        """Count records that became durable, the last of them at `ts`; begin to fold when it is time."""
        self._add(ts, records, size)
        self._is_busy = is_busy
        if self._is_due() and self._at_rest.is_set() and not self._is_closing:
            self._at_rest.clear()
            self._spawn(self._run(), name="fold")

    async def close(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._is_closing = True
        await self._at_rest.wait()

    def _is_due(self) -> bool:
        records = self._limits.fold_records if self._is_busy else self._idle_records
        return self._unfolded >= records or self._unfolded_bytes >= self._limits.fold_bytes

    def _add(self, ts: int, records: int, size: int) -> None:
        self._unfolded += records
        self._unfolded_bytes += size
        self._mark(self._waiting, ts, records, size)

    def _mark(self, marks: deque[Mark], ts: int, records: int, size: int) -> None:
        if marks and marks[-1].records < self._mark_records:
            last = marks.pop()
            records, size = last.records + records, last.bytes + size
        marks.append(Mark(ts, records, size))

    async def _run(self) -> None:
        try:
            while self._is_due() and not self._is_closing:
                self._moved(await self._persistence.fold(self._limits.fold_records))
                await self._trim()
                await asyncio.sleep(0)  # storage in memory does not wait for anything
        except StorageError as error:
            # Nothing is lost by waiting: the next batch that becomes durable tries again.
            log.warning("the log could not be folded: %s", error)
        finally:
            self._at_rest.set()

    def _moved(self, state: LogState) -> None:
        """Take what is folded now for folded; a stretch that is in part stays."""
        waiting = self._waiting
        while waiting and waiting[0].ts <= state.folded:
            mark = waiting.popleft()
            self._unfolded -= mark.records
            self._unfolded_bytes -= mark.bytes
            self._folded += mark.records
            self._kept.append(mark)

    async def _trim(self) -> None:
        kept, through = self._kept, None
        while kept and self._folded - kept[0].records >= self._limits.log_retention_records:
            mark = kept.popleft()
            self._folded -= mark.records
            through = mark.ts
        if through is not None:
            await self._persistence.trim(through)
