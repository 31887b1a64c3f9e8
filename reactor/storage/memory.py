"""Storage that lives as long as its object: for tests, and for deployments that keep nothing.

Owns nothing but memory, yet promises all of `interface.Persistence`: batches are kept encoded, so what a disk could not
hold is refused here too, and nobody shares an object with the log. Closing and opening again finds everything.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from reactor.errors import SnapshotTooOld, StorageError
from reactor.storage.batch import check_batch, decode_batch, encode_batch
from reactor.storage.fold import fold_records, session_marks
from reactor.storage.interface import SESSION_MARKS, AppendOutcome, LogState, Record, StoredDocument

_CHUNK: Final = 1024  # documents per chunk of a load
_FOLD_RECORDS: Final = 500  # at most in one fold: nothing else runs meanwhile
_MAX_TIMESTAMP: Final = (1 << 63) - 1  # what a signed 64-bit column holds


class _Row(NamedTuple):
    last_ts: int
    records: int
    body: bytes


class MemoryPersistence:
    """A `Persistence` in memory."""

    def __init__(self) -> None:
        self.trouble = ""
        self._rows: list[_Row] = []
        self._ends: list[int] = []  # last_ts of each row, for bisection
        self._documents: dict[int, dict[str, StoredDocument]] = {}
        self._end = self._floor = self._folded = self._epoch = 0
        self._is_open = False

    def fork(self) -> "MemoryPersistence":
        """Return a copy, not open, that shares the unchangeable batches and documents."""
        copy = MemoryPersistence()
        copy._rows, copy._ends = list(self._rows), list(self._ends)
        copy._documents = {table: dict(documents) for table, documents in self._documents.items()}
        copy._end, copy._floor, copy._folded, copy._epoch = self._end, self._floor, self._folded, self._epoch
        return copy

    async def open(self) -> LogState:
        """See `Persistence.open`."""
        if self._is_open:
            raise StorageError("this in-memory database is open already: close it first")
        self._is_open = True
        self._epoch += 1
        return self._state()

    async def append(self, batch: Sequence[Record], after: int) -> AppendOutcome:
        """See `Persistence.append`."""
        self._check_open()
        check_batch(batch, after)
        body = encode_batch(batch)
        last = batch[-1].ts
        if body is None or after != self._end or last > _MAX_TIMESTAMP:
            self.trouble = f"memory storage refused the batch at {batch[0].ts}"
            return AppendOutcome.REFUSED
        self._rows.append(_Row(last, len(batch), body))
        self._ends.append(last)
        self._end = last
        return AppendOutcome.DONE

    async def read(self, after: int, limit: int) -> list[Record]:
        """See `Persistence.read`."""
        self._check_open()
        if after < self._floor:
            raise SnapshotTooOld(f"the log is kept after {self._floor} only, and was asked for after {after}")
        return self._records(after, limit)

    async def tables(self) -> list[int]:
        """See `Persistence.tables`."""
        self._check_open()
        return sorted(number for number, documents in self._documents.items() if documents)

    async def load(self, table: int) -> AsyncIterator[list[StoredDocument]]:
        """See `Persistence.load`."""
        self._check_open()
        ids = sorted(self._documents.get(table, ()))
        for start in range(0, len(ids), _CHUNK):
            documents = self._documents[table]
            chunk = [documents[id] for id in ids[start : start + _CHUNK] if id in documents]
            if chunk:
                yield chunk

    async def fold(self, limit: int) -> LogState:
        """See `Persistence.fold`."""
        self._check_open()
        records = self._records(self._folded, min(limit, _FOLD_RECORDS))
        for (table, id), (ts, value) in fold_records(records).items():
            documents = self._documents.setdefault(table, {})
            if value is None:
                documents.pop(id, None)
            else:
                documents[id] = StoredDocument(id, ts, value)
        if records:
            self._folded = records[-1].ts
        return self._state()

    async def trim(self, keep_after: int) -> LogState:
        """See `Persistence.trim`."""
        self._check_open()
        self._floor = max(self._floor, min(keep_after, self._folded))
        gone = bisect_right(self._ends, self._floor)
        marks = self._documents.setdefault(SESSION_MARKS, {})
        for row in self._rows[:gone]:
            for session, (request, ts) in session_marks(decode_batch(row.body)).items():
                known = marks.get(session)
                highest = max(request, int(known.value)) if known is not None else request
                marks[session] = StoredDocument(session, ts, str(highest).encode())
        del self._rows[:gone], self._ends[:gone]
        return self._state()

    async def reopen(self) -> LogState:
        """See `Persistence.reopen`."""
        self._check_open()
        self._epoch += 1
        return self._state()

    async def close(self) -> None:
        """See `Persistence.close`."""
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageError("this in-memory database is not open")

    def _state(self) -> LogState:
        return LogState(self._end, self._floor, self._folded, self._epoch)

    def _records(self, after: int, limit: int) -> list[Record]:
        found: list[Record] = []
        for position in range(bisect_right(self._ends, after), len(self._rows)):
            if len(found) >= limit:
                break
            found += [record for record in decode_batch(self._rows[position].body) if record.ts > after]
        return found[:limit]
