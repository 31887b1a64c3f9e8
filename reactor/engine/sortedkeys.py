"""A sorted set of key bytes: the order in which an index holds its documents.

Owns that order as a counted list of sorted blocks: half to a quarter of what sortedcontainers costs for a short scan,
the most frequent operation (`reference/performance.md` §1.3). Promises that no iterator escapes: a scan copies a
bounded chunk and is continued by key, because an iterator over something that changes silently loses entries. Used by
the catalog and by the history.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Generator, Iterable
from itertools import islice
from typing import ClassVar, Final, Self

KEY_BYTES: Final = 56  # of memory that a key takes beside its own: object header, place in its block

_STEP_KEYS: Final = 1024  # keys looked at between two yields of a build
_MAX_PARTS: Final = 8192
_SAMPLES_PER_PART: Final = 4


class SortedKeys:
    """A set of key bytes, in order.

    A change or a question searches the list of blocks and one block; a change moves pointers within one block.
    """

    __slots__ = ("_blocks", "_counts", "_length", "_maxes", "bytes")

    most: ClassVar[int] = 1024  # keys in a block before it is split
    least: ClassVar[int] = 128  # keys in a block before it joins a neighbour

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._blocks: list[list[bytes]] = []  # none empty
        self._maxes: list[bytes] = []  # the last key of each block
        # Fenwick tree over the lengths of the blocks. Empty until a count asks for it, and again when blocks come or
        # go: an index that nobody counts pays nothing.
        self._counts: list[int] = []
        self._length = 0
        self.bytes = 0  # of memory that the keys take
        if keys != ():
            self.replace(keys)

    def __len__(self) -> int:
        return self._length

    def __contains__(self, key: bytes) -> bool:
        at = bisect_left(self._maxes, key)
        if at == len(self._maxes):
            return False
        block = self._blocks[at]
        return block[bisect_left(block, key)] == key

    def replace(self, keys: Iterable[bytes]) -> None:
        """Hold `keys` instead, given in any order, none twice; far cheaper than one by one."""
        ordered = sorted(keys)
        self._length = len(ordered)
        self.bytes = sum(map(len, ordered)) + KEY_BYTES * len(ordered)
        length = max(1, self.most * 3 // 4)  # room to grow before the first split
        self._blocks = [ordered[at : at + length] for at in range(0, len(ordered), length)]
        self._maxes = [block[-1] for block in self._blocks]
        self._counts = []

    def add(self, key: bytes) -> None:
        """Put `key` in, if it is not there."""
        blocks, maxes = self._blocks, self._maxes
        at = bisect_left(maxes, key)
        if at < len(maxes):
            block = blocks[at]
            position = bisect_left(block, key)
            if block[position] == key:
                return
            block.insert(position, key)
        elif maxes and len(blocks[-1]) < self.most:
            at -= 1
            blocks[at].append(key)
            maxes[at] = key
        else:
            # Keys that only grow, such as creation times, fill their blocks to the brim.
            blocks.append([key])
            maxes.append(key)
            self._counts = []
        self._length += 1
        self.bytes += KEY_BYTES + len(key)
        if len(blocks[at]) > self.most:
            self._split(at)
        elif self._counts:
            self._recount(at, 1)

    def discard(self, key: bytes) -> None:
        """Take `key` out, if it is there."""
        at = bisect_left(self._maxes, key)
        if at == len(self._maxes):
            return
        block = self._blocks[at]
        position = bisect_left(block, key)
        if block[position] != key:
            return
        del block[position]
        self._length -= 1
        self.bytes -= KEY_BYTES + len(key)
        if len(block) < self.least:
            self._join(at)
        else:
            self._maxes[at] = block[-1]
            if self._counts:
                self._recount(at, -1)

    def chunk(self, start: bytes, end: bytes | None, limit: int, reverse: bool = False) -> list[bytes]:
        """Return up to `limit` keys of [start, end), from the low end or, with `reverse`, from the high end.

        `end` of `None` is unbounded. Continue forwards from the last key + `b"\x00"`, backwards with the last key as
        `end`.
        """
        if end is not None and start >= end:
            return []
        return self._down(start, end, limit) if reverse else self._up(start, end, limit)

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

    @classmethod
    def built(cls, keys: Collection[bytes]) -> Generator[None, None, Self]:
        """Return `keys`, none twice, in order; yields often, since to sort a million keys takes a second.

        `keys` is gone through twice. A sample of it is sorted to know where to divide; then each part is sorted by
        itself. No step takes longer than to sort the sample.
        """
        made = cls()
        length = max(1, cls.most * 3 // 4)
        made._length = len(keys)
        parts = min(made._length // length, _MAX_PARTS) + 1
        stride = min(max(1, made._length // (parts * _SAMPLES_PER_PART)), _STEP_KEYS)
        sample: list[bytes] = []
        found = iter(keys)
        while some := list(islice(found, _STEP_KEYS)):
            sample += some[::stride]
            made.bytes += sum(map(len, some)) + KEY_BYTES * len(some)
            yield
        sample.sort()
        bounds = sample[:: max(1, len(sample) // parts)][1:]
        buckets: list[list[bytes]] = [[] for _ in range(len(bounds) + 1)]
        found = iter(keys)
        while some := list(islice(found, _STEP_KEYS)):
            for key in some:
                buckets[bisect_right(bounds, key)].append(key)
            yield
        rest: list[bytes] = []
        for bucket in buckets:
            bucket.sort()
            rest += bucket
            while len(rest) >= 2 * length:
                made._blocks.append(rest[:length])
                del rest[:length]
            yield
        made._blocks += [rest[at : at + cls.most] for at in range(0, len(rest), cls.most)]
        made._maxes = [block[-1] for block in made._blocks]
        return made

    def _up(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
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

    def _down(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
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
