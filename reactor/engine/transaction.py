"""The read phase of a transaction: a snapshot under an overlay of own writes.

Owns the read set and the staged writes of one attempt. Promises that every read is recorded before its result is known,
that a transaction sees its own writes in lookups, scans and counts, and that nothing is visible to others before the
committer applies it. Plain synchronous code; scans that may be long are generators that yield where they may be
suspended. Used by the runtime through `ctx.db`, and by the server's own commits.
"""

from bisect import bisect_left, insort
from collections.abc import Generator
from contextlib import suppress
from typing import Final, NamedTuple

from reactor.engine.catalog import SYSTEM_TABLES, Catalog, Index, Table, id_key
from reactor.engine.keyrange import IndexId, KeyRange
from reactor.engine.readset import ReadSet
from reactor.engine.snapshot import Chunk, Row, count_at, read_at, scan_at, stands_at
from reactor.errors import LimitExceeded
from reactor.limits import (
    MAX_BYTES_READ,
    MAX_BYTES_WRITTEN,
    MAX_DOCUMENTS_READ,
    MAX_DOCUMENTS_WRITTEN,
    MAX_READS,
)
from reactor.values.types import Value

READ_ADVICE: Final = (
    "Consider using smaller limits in your queries, paginating your queries, "
    "or using indexed queries with a selective index range expressions."
)


class PendingWrite:
    """The staged change of one document: what stood there at begin, and what shall stand there.

    Both are here twice: as the bytes that are kept, and as the document that index keys are made of.
    """

    __slots__ = ("after", "before", "id", "key", "new", "old", "table")

    def __init__(
        self, table: Table, document_id: str, key: bytes, before: bytes | None, old: dict[str, Value] | None
    ) -> None:
        self.table = table
        self.id = document_id
        self.key = key
        self.before = before
        self.old = old
        self.after: bytes | None = None
        self.new: dict[str, Value] | None = None


class Savepoint(NamedTuple):
    """What a transaction had staged at one moment."""

    is_outermost: bool
    undo: int
    staged: int
    documents_written: int
    bytes_written: int


class Undo(NamedTuple):
    """One document as it was staged before a sub-transaction changed it."""

    id: str
    was_staged: bool
    after: bytes | None
    new: dict[str, Value] | None


class Staged(NamedTuple):
    """One call of `put`, for the overlays of those indexes that are scanned afterwards."""

    table: Table
    old: dict[str, Value] | None
    new: dict[str, Value] | None
    data: bytes | None


class Inserted:
    """What one transaction has inserted into the tables of one name."""

    __slots__ = ("bytes", "documents")

    def __init__(self) -> None:
        self.documents = 0
        self.bytes = 0


class Overlay:
    """Own writes of one transaction in one index: key to document bytes, or None where it removed an entry."""

    __slots__ = ("entries", "keys", "seen")

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes | None] = {}
        self.keys: list[bytes] = []
        self.seen = 0  # changes of the transaction taken in so far

    def put(self, key: bytes, value: bytes | None) -> None:
        """Stage `value` at `key`."""
        if key not in self.entries:
            insort(self.keys, key)
        self.entries[key] = value

    def between(self, start: bytes, end: bytes | None) -> list[bytes]:
        """Return the staged keys of `[start, end)`, ascending."""
        low = bisect_left(self.keys, start)
        high = len(self.keys) if end is None else bisect_left(self.keys, end)
        return self.keys[low:high]


class Transaction:
    """One attempt at a query or mutation, reading at `begin_ts`."""

    __slots__ = (
        "_fresh",
        "_inserted",
        "_overlays",
        "_staged",
        "_undo",
        "begin_ts",
        "bytes_read",
        "bytes_written",
        "catalog",
        "documents_read",
        "documents_written",
        "last_creation_ts",
        "looked_ts",
        "needs",
        "own_commits",
        "reader",
        "reads",
        "reads_allowed",
        "writes",
    )

    def __init__(self, catalog: Catalog, begin_ts: int) -> None:
        self.catalog = catalog
        self.begin_ts = begin_ts
        self.reads = ReadSet()
        self.writes: dict[str, PendingWrite] = {}
        self._inserted: dict[str, Inserted]  # by local name of the table; see `inserted`
        self._staged: list[Staged] = []
        self._overlays: dict[IndexId, Overlay] = {}
        self.reads_allowed = MAX_READS  # as many may be recorded before they are counted
        self._fresh: list[tuple[IndexId, bytes]] = []  # looks at new ids, which are no reads of the application
        self._undo: list[Undo] | None = None  # kept only while a sub-transaction runs
        self.last_creation_ts = 0
        self.looked_ts = begin_ts  # what it had read by its last suspension was valid up to here
        self.reader = ""  # path of the function it runs
        self.own_commits: tuple[int, ...] = ()  # made on its behalf while it ran, so that they are no conflict
        self.needs: Table | None = None  # a table that must be loaded before another attempt
        self.documents_read = 0
        self.bytes_read = 0
        self.documents_written = 0
        self.bytes_written = 0

    # Reads.

    def get(self, table: Table, document_id: str) -> bytes | None:
        """Return the stored form of one document as this transaction sees it, or None.

        Raises:
            LimitExceeded: the transaction read too much.
        """
        key = id_key(document_id)
        reads = self.reads
        reads.add_point(table.by_id.id, key)
        if reads.recorded > self.reads_allowed:
            self.check_reads()
        pending = self.writes.get(document_id)
        value = pending.after if pending is not None else read_at(table, key, self.begin_ts)
        if value is not None:
            self.count_document(len(value))
        return value

    def expect_absent(self, table: Table, document_id: str) -> None:
        """Record that nothing stands at a new id, so that another document made there is a conflict."""
        key = id_key(document_id)
        index = table.by_id.id
        self.reads.add_point(index, key)
        self._fresh.append((index, key))

    def look_up(self, table: Table, document_id: str) -> bytes | None:
        """Return the stored form of one system document; it is read without counting toward any limit."""
        key = id_key(document_id)
        self.reads.add_point(table.by_id.id, key)
        pending = self.writes.get(document_id)
        return pending.after if pending is not None else read_at(table, key, self.begin_ts)

    def chunk(self, index: Index, start: bytes, end: bytes | None, reverse: bool, size: int) -> Chunk:
        """Return the next documents of a range in order, as this transaction sees them; `size` is a hint.

        What was consumed is recorded by the caller through `record_scan`, before the next chunk is asked for.
        """
        chunk = scan_at(index, start, end, size, reverse, self.begin_ts)
        if not self._staged:
            return chunk
        low = chunk.resume if reverse and chunk.resume is not None else start
        high = chunk.resume if not reverse and chunk.resume is not None else end
        return Chunk(_merge(chunk.rows, self._overlay(index), low, high, reverse), chunk.resume)

    def scan(
        self, index: Index, start: bytes, end: bytes | None, reverse: bool, chunk_size: int
    ) -> Generator[Chunk, None, None]:
        """Yield a range chunk by chunk; the transaction may be suspended, and may write, between two of them."""
        while True:
            chunk = self.chunk(index, start, end, reverse, chunk_size)
            yield chunk
            if chunk.resume is None:
                return
            if reverse:
                end = chunk.resume
            else:
                start = chunk.resume

    def count(self, index: Index, keys: KeyRange) -> int:
        """Return the number of documents in a range, and record the whole range as read."""
        self.reads.add_range(index.id, keys)
        self.check_reads()
        count = count_at(index, keys.start, keys.end, self.begin_ts)
        overlay = self._overlay(index) if self._staged else None
        if overlay is not None:
            for key in overlay.between(keys.start, keys.end):
                stood = stands_at(index, key, self.begin_ts)
                count += (overlay.entries[key] is not None) - stood
        return count

    def record_scan(self, index: Index, keys: KeyRange, reverse: bool, last_key: bytes | None) -> None:
        """Record what a scan of `keys` has seen: all of it, or, when it stopped at `last_key`, up to and with that."""
        if last_key is None:
            self.reads.add_range(index.id, keys)
        elif reverse:
            self.reads.add_range(index.id, KeyRange(last_key, keys.end, keys.prefix_length))
        else:
            self.reads.add_range(index.id, KeyRange(keys.start, last_key + b"\x00", keys.prefix_length))

    # Writes.

    def put(
        self,
        table: Table,
        document_id: str,
        document: dict[str, Value] | None,
        data: bytes | None,
        before: dict[str, Value] | None,
        standing: bytes | None,
    ) -> None:
        """Stage `document`, whose stored form is `data`, or None to delete.

        `before` is the document as this transaction saw it last, and `standing` its stored form, None when it was not
        there; the caller has read it, so that the read set has it. A field that holds the very same object in
        `document` and `before` counts as unchanged.

        Raises:
            LimitExceeded: the transaction wrote too much.
        """
        self.documents_written += 1
        self.bytes_written += len(data) if data is not None else 0
        if self.documents_written > MAX_DOCUMENTS_WRITTEN:
            raise LimitExceeded(
                "TooManyWrites",
                f"Too many writes in a single function execution (limit: {MAX_DOCUMENTS_WRITTEN})",
            )
        if self.bytes_written > MAX_BYTES_WRITTEN:
            raise LimitExceeded(
                "TooManyBytesWritten", "Too many bytes written in a single function execution (limit: 16 MiB)"
            )
        pending = self.writes.get(document_id)
        if self._undo is not None:
            self._undo.append(
                Undo(document_id, True, pending.after, pending.new)
                if pending is not None
                else Undo(document_id, False, None, None)
            )
        if pending is None:
            key = id_key(document_id)
            # A repeat of a run that has committed meanwhile uses its ids again.
            assert before is not None or key not in table.documents or read_at(table, key, self.begin_ts) is None, (
                "a new id is unused"
            )
            pending = PendingWrite(table, document_id, key, standing, before)
            self.writes[document_id] = pending
        pending.after = data
        pending.new = document
        self._staged.append(Staged(table, before, document, data))

    @property
    def staged_count(self) -> int:
        """How many changes are staged."""
        return len(self._staged)

    def staged_since(self, count: int) -> list[Staged]:
        """Return the changes staged after the first `count`. Their documents are not to be changed."""
        return self._staged[count:]

    def inserted(self, name: str) -> "Inserted":
        """Return how much this transaction has inserted into the tables called `name` of all component instances.

        It is for their owner to keep count in.

        Costs a walk over what is staged the first time, and after each sub-transaction that was undone.
        """
        try:
            tables = self._inserted
        except AttributeError:  # few transactions are asked, so the others don't even have the attribute
            tables = self._inserted = {}
        found = tables.get(name)
        if found is None:
            found = tables[name] = Inserted()
            for pending in self.writes.values():
                if pending.table.local_name == name and pending.before is None and pending.after is not None:
                    found.documents += 1
                    found.bytes += len(pending.after)
        return found

    # Sub-transactions.

    def savepoint(self) -> Savepoint:
        """Remember what is staged now. Ends with `release` or `roll_back`; savepoints nest."""
        is_outermost = self._undo is None
        if self._undo is None:
            self._undo = []
        return Savepoint(is_outermost, len(self._undo), len(self._staged), self.documents_written, self.bytes_written)

    def release(self, savepoint: Savepoint) -> None:
        """Keep what was staged since a savepoint."""
        if savepoint.is_outermost:
            self._undo = None

    def roll_back(self, savepoint: Savepoint) -> None:
        """Undo what was staged since a savepoint, as if it had never been written. What was read stays read."""
        undo = self._undo
        assert undo is not None, "the savepoint is still open"
        for was in reversed(undo[savepoint.undo :]):
            if not was.was_staged:
                del self.writes[was.id]
                continue
            pending = self.writes[was.id]
            pending.after, pending.new = was.after, was.new
        del undo[savepoint.undo :]
        del self._staged[savepoint.staged :]
        # An overlay that has taken in what is undone is made again when it is next needed.
        self._overlays = {index: own for index, own in self._overlays.items() if own.seen <= savepoint.staged}
        self.documents_written = savepoint.documents_written
        self.bytes_written = savepoint.bytes_written
        with suppress(AttributeError):
            del self._inserted
        self.release(savepoint)

    def _overlay(self, index: Index) -> Overlay:
        """Return own writes as `index` shows them; made on demand, since most indexes are not read after a write."""
        overlay = self._overlays.get(index.id)
        if overlay is None:
            overlay = self._overlays[index.id] = Overlay()
        for table, old, new, data in self._staged[overlay.seen :]:
            if table is not index.table:
                continue
            new_key = index.encoder(new) if new is not None else None
            if old is not None and (old_key := index.encoder(old)) != new_key:
                overlay.put(old_key, None)
            if new_key is not None:
                overlay.put(new_key, data)
        overlay.seen = len(self._staged)
        return overlay

    # Bounds.

    def check_reads(self) -> None:
        """Refuse to go on when more was read than one execution may read.

        Counts disjoint key ranges, of user tables only, without the look each insert takes at its own new id. Exact for
        distinct reads. One that reads the same ranges over and over may pass the limit by a sixteenth before this says
        so: the alternative is to merge thousands of ranges again at each further read.

        Raises:
            LimitExceeded: the transaction read too much.
        """
        reads = self.reads
        recorded = reads.recorded
        if recorded <= self.reads_allowed:
            return
        count = reads.interval_count
        own = self._own_reads()
        if count - own > MAX_READS:
            raise LimitExceeded(
                "TooManyReads", f"Too many reads in a single function execution (limit: {MAX_READS}). {READ_ADVICE}"
            )
        self.reads_allowed = MAX_READS + own + (MAX_READS // 16 if count < recorded else 0)

    def _own_reads(self) -> int:
        """Return how many of the recorded reads are not the application's."""
        points, ranges, tables = self.reads.points, self.reads.ranges, self.catalog.by_name
        own = 0
        for name in SYSTEM_TABLES:
            for index in tables[name].order:
                own += len(points.get(index.id, ())) + len(ranges.get(index.id, ()))
        return own + sum(key in points.get(index, ()) for index, key in self._fresh)

    def has_room(self, size: int) -> bool:
        """Return whether one more document of `size` stored bytes may be read."""
        return self.documents_read < MAX_DOCUMENTS_READ and self.bytes_read + size <= MAX_BYTES_READ

    def count_document(self, size: int) -> None:
        """Count one document of `size` stored bytes that was read."""
        self.documents_read += 1
        self.bytes_read += size
        if self.documents_read > MAX_DOCUMENTS_READ:
            raise LimitExceeded(
                "TooManyDocumentsRead",
                f"Too many documents read in a single function execution (limit: {MAX_DOCUMENTS_READ}). {READ_ADVICE}",
            )
        if self.bytes_read > MAX_BYTES_READ:
            raise LimitExceeded(
                "TooManyBytesRead",
                f"Too many bytes read in a single function execution (limit: {MAX_BYTES_READ} bytes). {READ_ADVICE}",
            )


def _merge(rows: list[Row], overlay: Overlay, low: bytes, high: bytes | None, reverse: bool) -> list[Row]:
    """Return `rows` with the overlay's entries of `[low, high)` in place."""
    own = overlay.between(low, high)
    if not own:
        return rows
    entries = overlay.entries
    merged = [row for row in rows if row[0] not in entries]
    merged.extend((key, value) for key in own if (value := entries[key]) is not None)
    merged.sort(key=_key_of, reverse=reverse)
    return merged


def _key_of(row: Row) -> bytes:
    return row[0]
