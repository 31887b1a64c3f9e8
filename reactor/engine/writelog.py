"""The write log: what recent commits changed, in commit order.

Owns the window of history newer than `floor`. Promises strictly increasing timestamps, and never to answer from a
truncated window. Used by the committer (is this transaction still valid?), by registration of live queries (did
anything happen since the run?) and by whatever follows commits.
"""

from bisect import bisect_right
from collections.abc import Container, Sequence
from typing import Final

import msgspec

from reactor.engine.catalog import Index, Table
from reactor.engine.keyrange import IndexId
from reactor.engine.readset import ReadSet
from reactor.errors import SnapshotTooOld
from reactor.limits import Limits
from reactor.values.stored import decode_object

DEFAULT_CAPACITY: Final = Limits().write_log_commits


class DocumentChange:
    """What one commit did to one document, and which keys of which index that touches.

    A document that moves within an index touches it twice, at its old and at its new key: leaving a range is as visible
    as entering it. One that changed in place touches it once. The keys are made when somebody asks, since most commits
    are never held against a reader of most indexes.
    """

    __slots__ = ("_keys", "after", "before", "key", "table")

    def __init__(self, table: Table, key: bytes, before: bytes | None, after: bytes | None) -> None:
        self.table = table
        self.key = key  # see `catalog.id_key`
        self.before = before
        self.after = after
        self._keys: dict[IndexId, tuple[bytes, ...]] = {table.by_id.id: (key,)}

    def keys(self, index: Index) -> tuple[bytes, ...]:
        """Return the keys of `index`, which is of this table, where an entry came, left, or has another document."""
        keys = self._keys.get(index.id)
        if keys is None:
            both = [index.encoder(decode_object(data)) for data in (self.before, self.after) if data is not None]
            keys = self._keys[index.id] = tuple(dict.fromkeys(both))
        return keys


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """All changes of one commit, and the function that made them."""

    commit_ts: int
    changes: tuple[DocumentChange, ...]
    source: str


class WriteLog:
    """Commits since `floor`, oldest first. Not thread-safe: the committer owns it."""

    __slots__ = ("_capacity", "_entries", "_head", "_stamps", "floor", "newest", "published")

    def __init__(self, floor: int, capacity: int = DEFAULT_CAPACITY) -> None:
        """Start after `floor`, keeping at most `capacity` commits (`limits.write_log_commits`).

        More is forgotten however old the snapshots in use are: that bounds memory, and they fail as retriable. What is
        newer than `published` stays in any case, since it is still to be published from here; the tail has a bound of
        its own, which only suspended transactions can pass.
        """
        assert capacity > 0
        self.floor = floor
        self.newest = floor  # timestamp of the last commit
        self.published = floor  # up to here everybody has been told
        self._capacity = capacity
        self._entries: list[LogEntry] = []
        self._head = 0  # so many entries at the front are forgotten already
        self._stamps: list[int] = []  # commit_ts of each entry, for bisection

    def __len__(self) -> int:
        return len(self._entries) - self._head

    def append(self, entry: LogEntry) -> None:
        """Record a commit in the step that applies it."""
        assert entry.commit_ts > self.newest, "commit timestamps must increase"
        self.newest = entry.commit_ts
        self._entries.append(entry)
        self._stamps.append(entry.commit_ts)
        if len(self) > self._capacity:
            known = bisect_right(self._stamps, self.published, self._head) - self._head
            if known:
                self._drop(min(known, len(self) - self._capacity))

    def first_conflict(self, reads: ReadSet, since: int, own: Container[int] = ()) -> LogEntry | None:
        """Return the oldest commit after `since` that wrote inside `reads`, those at the timestamps `own` aside.

        An empty range is still a read; that is what stops phantoms.

        Raises:
            SnapshotTooOld: `since` is before `floor`, so the answer is unknowable.
        """
        if since >= self.newest:
            return None
        points, ranges = reads.points, reads.ranges
        for entry in self._entries[self._position(since) :]:
            if own and entry.commit_ts in own:
                continue
            for change in entry.changes:
                for index in change.table.order:
                    keys, spans = points.get(index.id), ranges.get(index.id)
                    if keys is None and spans is None:
                        continue
                    for key in change.keys(index):
                        if (keys is not None and key in keys) or (spans is not None and spans.contains(key)):
                            return entry
        return None

    def since(self, ts: int) -> Sequence[LogEntry]:
        """Return the commits after `ts`, oldest first.

        Raises:
            SnapshotTooOld: `ts` is before `floor`, so some may be missing.
        """
        if ts >= self.newest:
            return ()
        return self._entries[self._position(ts) :]

    def between(self, after: int, through: int) -> list[LogEntry]:
        """Return the commits later than `after` and up to and including `through`, oldest first.

        Raises:
            SnapshotTooOld: `after` is before `floor`, so some may be missing.
        """
        start = self._position(after)
        return self._entries[start : bisect_right(self._stamps, through, start)]

    def truncate(self, floor: int) -> None:
        """Forget the commits up to and including `floor`; a floor behind the present one changes nothing."""
        assert floor <= self.newest, "the log can't forget what has not happened"
        if floor > self.floor:
            count = bisect_right(self._stamps, floor, self._head) - self._head
            if count:
                self._drop(count)
            self.floor = floor

    def _position(self, ts: int) -> int:
        if ts < self.floor:
            raise SnapshotTooOld(f"changes since {ts} are asked for, but those up to {self.floor} are forgotten")
        return bisect_right(self._stamps, ts, self._head)

    def _drop(self, count: int) -> None:
        self._head += count
        self.floor = self._stamps[self._head - 1]
        # Deleting from the front moves everything behind it: one move of n entries for n/8 dropped ones is constant.
        if self._head * 8 > len(self._entries):
            del self._entries[: self._head]
            del self._stamps[: self._head]
            self._head = 0
