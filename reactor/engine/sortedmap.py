"""A map sorted by key bytes: the one place where an index's entries are kept.

Owns a dict for lookups and, for order, the same keys in a counted list of sorted blocks: half to a quarter of what
sortedcontainers costs for a short scan, the most frequent operation (`reference/performance.md` §1.3). Promises that no
iterator escapes: a scan copies a bounded chunk and is continued by key, because an iterator over something that changes
silently loses entries. Used by snapshots and by the history.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import ClassVar, Generic, TypeVar

V = TypeVar("V")


class SortedMap(Generic[V]):
    """Key bytes to values, in key order.

    A lookup is O(1). A change moves pointers within one block and searches the list of blocks; a count adds O(log n).
    """

    __slots__ = ("_blocks", "_counts", "_maxes", "_values")

    most: ClassVar[int] = 1024  # keys in a block before it is split
    least: ClassVar[int] = 128  # keys in a block before it joins a neighbour

    def __init__(self, items: Iterable[tuple[bytes, V]] = ()) -> None:
        self._values: dict[bytes, V] = {}
        self._blocks: list[list[bytes]] = []  # none empty
        self._maxes: list[bytes] = []  # the last key of each block
        # Fenwick tree over the lengths of the blocks. Empty until a count asks for it, and again when blocks come or
        # go: an index that nobody counts pays nothing.
        self._counts: list[int] = []
        self.bulk_load(items)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def __setitem__(self, key: bytes, value: V) -> None:
        if key not in self._values:
            self._insert(key)
        self._values[key] = value

    def get(self, key: bytes, default: V | None = None) -> V | None:
        """Return the value at `key`, or `default`."""
        return self._values.get(key, default)

    def pop(self, key: bytes, default: V | None = None) -> V | None:
        """Remove `key` and return its value, or `default` when it is not there."""
        if key not in self._values:
            return default
        at = bisect_left(self._maxes, key)
        block = self._blocks[at]
        del block[bisect_left(block, key)]
        if len(block) < self.least:
            self._join(at)
        else:
            self._maxes[at] = block[-1]
            if self._counts:
                self._recount(at, -1)
        return self._values.pop(key)

    def chunk(self, start: bytes, end: bytes | None, limit: int, reverse: bool = False) -> list[tuple[bytes, V]]:
        """Return up to `limit` entries of [start, end), from the low end or, with `reverse`, from the high end.

        `end` of `None` is unbounded. Continue forwards from the last key + `b"\\x00"`, backwards with the last key as
        `end`.
        """
        if end is not None and start >= end:
            return []
        keys = self._keys_down(start, end, limit) if reverse else self._keys_up(start, end, limit)
        values = self._values
        return [(key, values[key]) for key in keys]

    def count(self, start: bytes, end: bytes | None) -> int:
        """Return the number of entries in [start, end)."""
        if end is not None and start >= end:
            return 0
        blocks, maxes = self._blocks, self._maxes
        low = bisect_left(maxes, start)
        if low == len(maxes):
            return 0
        high = len(maxes) if end is None else bisect_left(maxes, end)
        found = bisect_left(blocks[high], end) if end is not None and high < len(maxes) else 0
        if low != high:
            found += self._keys_before(high) - self._keys_before(low)
        return found - bisect_left(blocks[low], start)

    def bulk_load(self, items: Iterable[tuple[bytes, V]]) -> None:
        """Add many entries at once, in any order; far cheaper than one by one."""
        added = dict(items)
        if len(added) * 8 < len(self._values):
            for key, value in added.items():
                self[key] = value
            return
        self._values.update(added)
        keys = sorted(self._values)
        length = max(1, self.most * 3 // 4)  # room to grow before the first split
        self._blocks = [keys[at : at + length] for at in range(0, len(keys), length)]
        self._maxes = [block[-1] for block in self._blocks]
        self._counts = []

    def _keys_up(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        blocks, maxes = self._blocks, self._maxes
        found: list[bytes] = []
        at = bisect_left(maxes, start)
        if at == len(maxes):
            return found
        low = bisect_left(blocks[at], start)
        while True:
            block = blocks[at]
            high = low + limit - len(found)
            if end is not None and maxes[at] >= end:
                return found + block[low : min(high, bisect_left(block, end, low))]
            found += block[low:high]
            at += 1
            low = 0
            if at == len(blocks) or len(found) >= limit:
                return found

    def _keys_down(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        blocks, maxes = self._blocks, self._maxes
        found: list[bytes] = []
        if not maxes:
            return found
        at = len(maxes) if end is None else bisect_left(maxes, end)
        if end is None or at == len(maxes):
            at = len(maxes) - 1
            high = len(blocks[at])
        else:
            high = bisect_left(blocks[at], end)
        while True:
            block = blocks[at]
            is_last = at == 0 or block[0] <= start
            low = bisect_left(block, start, 0, high) if block[0] < start else 0
            part = block[max(low, high - limit + len(found)) : high]
            part.reverse()
            found += part
            if is_last or len(found) >= limit:
                return found
            at -= 1
            high = len(blocks[at])

    def _insert(self, key: bytes) -> None:
        blocks, maxes = self._blocks, self._maxes
        at = bisect_left(maxes, key)
        if at < len(maxes):
            insort(blocks[at], key)
        elif maxes and len(blocks[-1]) < self.most:
            at -= 1
            blocks[at].append(key)
            maxes[at] = key
        else:
            # Keys that only grow, such as creation times, fill their blocks to the brim.
            blocks.append([key])
            maxes.append(key)
            self._counts = []
            return
        if len(blocks[at]) > self.most:
            self._split(at)
        elif self._counts:
            self._recount(at, 1)

    def _split(self, at: int) -> None:
        block = self._blocks[at]
        middle = len(block) // 2
        self._blocks[at : at + 1] = [block[:middle], block[middle:]]
        self._maxes.insert(at, block[middle - 1])
        self._counts = []

    def _join(self, at: int) -> None:
        """Give what is left of a short block to a neighbour."""
        blocks, maxes = self._blocks, self._maxes
        self._counts = []
        if len(blocks) > 1:
            at = max(at, 1)
            blocks[at - 1 : at + 1] = [blocks[at - 1] + blocks[at]]
            del maxes[at]
            at -= 1
        block = blocks[at]
        if not block:
            del blocks[at], maxes[at]
            return
        maxes[at] = block[-1]
        if len(block) > self.most:
            self._split(at)

    def _keys_before(self, at: int) -> int:
        """Return the number of keys in the blocks before `at`."""
        counts = self._counts
        if not counts:
            counts = self._counts = [0, *map(len, self._blocks)]
            for child in range(1, len(counts)):
                parent = child + (child & -child)
                if parent < len(counts):
                    counts[parent] += counts[child]
        total = 0
        while at:
            total += counts[at]
            at &= at - 1
        return total

    def _recount(self, at: int, change: int) -> None:
        counts = self._counts
        at += 1
        while at < len(counts):
            counts[at] += change
            at += at & -at
