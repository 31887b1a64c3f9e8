"""The read set: everything one execution saw, absent documents and empty ranges included.

Owns the record of reads. Promises that a write which could change what was read touches it; only `add_point`,
`add_range` and `merge` may extend it. Used by transactions (recording), the committer and the write log (conflicts),
subscriptions and the cache (staleness).
"""

from typing import Protocol

from reactor.engine.keyrange import IndexId, KeyRange, RangeSet


class ReadKind(Protocol):
    """What was read of one index, in the terms in which that kind of index is asked.

    Key ranges are the first kind (`RangeSet`). A write puts two keys into the write log, the one the document had in
    the index before and the one it has after; leaving is as visible as entering, so each is asked about separately.
    Another kind of index (search) logs other bytes as its keys, and brings its own kind that understands them.
    """

    def contains(self, key: bytes) -> bool:
        """Return whether a document that has, or had, `key` in the index belongs to what was read."""


class ReadSet:
    """Points and key ranges read, by index. Not thread-safe."""

    __slots__ = ("points", "ranges", "recorded")

    def __init__(self) -> None:
        self.points: dict[IndexId, set[bytes]] = {}
        self.ranges: dict[IndexId, RangeSet] = {}
        self.recorded = 0  # reads noted since they were last counted: never less than `interval_count`

    def add_point(self, index: IndexId, key: bytes) -> None:
        """Record a look at one whole key, whether or not a document was there."""
        self.recorded += 1
        keys = self.points.get(index)
        if keys is None:
            self.points[index] = {key}
        else:
            keys.add(key)

    def add_range(self, index: IndexId, key_range: KeyRange) -> None:
        """Record a scan of `key_range`, whether or not it found anything."""
        self.recorded += 1
        ranges = self.ranges.get(index)
        if ranges is None:
            ranges = self.ranges[index] = RangeSet()
        ranges.add(key_range)

    def touches(self, index: IndexId, key: bytes) -> bool:
        """Return whether a write at `key` of `index` could change what was read."""
        keys = self.points.get(index)
        if keys is not None and key in keys:
            return True
        ranges = self.ranges.get(index)
        return ranges is not None and ranges.contains(key)

    def merge(self, other: "ReadSet") -> None:
        """Add everything `other` read; `other` stays as it is."""
        for index, keys in other.points.items():
            self.points.setdefault(index, set()).update(keys)
            self.recorded += len(keys)
        for index, ranges in other.ranges.items():
            for key_range in ranges:
                self.add_range(index, key_range)

    @property
    def interval_count(self) -> int:
        """The number of disjoint intervals read; what overlaps counts once. Compacts, so ask rarely."""
        self.compact()
        self.recorded = sum(map(len, self.points.values())) + sum(map(len, self.ranges.values()))
        return self.recorded

    def compact(self) -> None:
        """Bring the set into its canonical form: ranges merged, and no point inside a range.

        Two executions that read the same have equal points and ranges afterwards.
        """
        for index, ranges in [*self.ranges.items()]:
            merged = ranges.ranges()
            single = [this.start for this in merged if this.is_point]
            if single:
                self.points.setdefault(index, set()).update(single)
                ranges = self.ranges[index] = RangeSet()
                for this in merged:
                    if not this.is_point:
                        ranges.add(this)
                merged = ranges.ranges()
            if not merged:
                del self.ranges[index]
                continue
            keys = self.points.get(index)
            if keys is not None:
                keys.difference_update([key for key in keys if ranges.contains(key)])
                if not keys:
                    del self.points[index]
