"""Subscriptions: which subscribers read a key that a commit wrote?

Owns the filing of live read sets. Promises exactly the subscribers whose read set touches a written key, at a cost per
key of O(log n + matches) however many are registered, and that a subscriber which leaves takes everything with it.
A range that fixes whole fields by equality, and nothing else, is found by a dict probe at a field boundary of the
written key; a point by one on the whole key; any other range in an interval tree filed under the fields it does fix.
Used by the publisher, once per commit that became durable, and by the cache, which registers what it ran.
"""

from collections.abc import Collection, Hashable, Iterable, Set
from random import Random
from typing import Any, Final, Generic, TypeVar

from reactor.engine.intervaltree import Interval, IntervalTree
from reactor.engine.keyrange import IndexId, KeyRange, RangeSet
from reactor.engine.readset import ReadSet
from reactor.engine.writelog import DocumentChange
from reactor.values.keys import AFTER, field_ends

S = TypeVar("S", bound=Hashable)
K = TypeVar("K")

FEW_LENGTHS: Final = 4
"""Up to so many different lengths of filed prefixes, trying each is cheaper than finding the key's field ends."""

_NOTHING: Final = ReadSet()
_NOBODY: Final[frozenset[Any]] = frozenset()


class _Group(set[S]):
    """Several subscribers of one filing. A lone one is filed as itself: most are, and a set costs 200 bytes."""


class Subscriptions(Generic[S]):
    """Live read sets by subscriber. Not thread-safe."""

    def __init__(self, seed: int = 0) -> None:
        """`seed` shapes the interval trees; vary it so that nobody can choose ranges that unbalance them."""
        self._registered: dict[S, ReadSet] = {}
        self._readers: dict[IndexId, _IndexReaders[S]] = {}
        self._random = Random(seed)
        self.visited = 0  # interval tree nodes looked at for all keys so far

    def __len__(self) -> int:
        return len(self._registered)

    def __contains__(self, subscriber: S) -> bool:
        return subscriber in self._registered

    def register(self, subscriber: S, reads: ReadSet) -> None:
        """Let `subscriber` depend on `reads`, and no longer on what it registered before.

        Only the difference is filed anew. The read set is not copied: it must not change from here on.
        """
        reads.compact()
        self._exchange(subscriber, self._registered.get(subscriber, _NOTHING), reads)
        self._registered[subscriber] = reads

    def unregister(self, subscriber: S) -> None:
        """Forget `subscriber`; one that is not registered is ignored."""
        reads = self._registered.pop(subscriber, None)
        if reads is not None:
            self._exchange(subscriber, reads, _NOTHING)

    def touched(self, index: IndexId, keys: Iterable[bytes]) -> Set[S]:
        """Return the subscribers that read any of `keys` of `index`. The set is not the caller's to change."""
        readers = self._readers.get(index)
        if readers is None:
            return _NOBODY
        found: set[S] = set()
        for key in keys:
            self.visited += readers.collect(key, found)
        return found

    def stale(self, changes: Iterable[DocumentChange]) -> set[S]:
        """Return the subscribers that read what any of `changes` touches."""
        found: set[S] = set()
        readers_of = self._readers
        for change in changes:
            for index in change.table.order:
                readers = readers_of.get(index.id)
                if readers is not None:
                    for key in change.keys(index):
                        self.visited += readers.collect(key, found)
        return found

    def _exchange(self, subscriber: S, old: ReadSet, new: ReadSet) -> None:
        """File what only `new` reads, then take away what only `old` read. Both are compact."""
        for index, keys in new.points.items():
            known = old.points.get(index)
            if keys != known:
                points = self._readers_of(index).points
                for key in keys - known if known else keys:
                    _file(points, key, subscriber)
        for index, ranges in new.ranges.items():
            for key_range in _beyond(ranges, old.ranges.get(index)):
                self._readers_of(index).file(key_range, subscriber)
        for index, keys in old.points.items():
            kept = new.points.get(index)
            if keys != kept:
                readers = self._readers[index]
                for key in keys - kept if kept else keys:
                    _unfile(readers.points, key, subscriber)
                self._drop_if_empty(index, readers)
        for index, ranges in old.ranges.items():
            left = _beyond(ranges, new.ranges.get(index))
            if left:
                readers = self._readers[index]
                for key_range in left:
                    readers.unfile(key_range, subscriber)
                self._drop_if_empty(index, readers)

    def _drop_if_empty(self, index: IndexId, readers: "_IndexReaders[S]") -> None:
        if not (readers.points or readers.prefixes or readers.intervals):
            del self._readers[index]

    def _readers_of(self, index: IndexId) -> "_IndexReaders[S]":
        readers = self._readers.get(index)
        if readers is None:
            readers = self._readers[index] = _IndexReaders(self._random)
        return readers


class _IndexReaders(Generic[S]):
    """Everybody who reads one index."""

    __slots__ = ("_random", "intervals", "lengths", "points", "prefixes", "trees")

    def __init__(self, random: Random) -> None:
        self._random = random
        self.points: dict[bytes, S | _Group[S]] = {}
        self.prefixes: dict[bytes, S | _Group[S]] = {}
        self.trees: dict[bytes, IntervalTree[S | _Group[S]]] = {}  # by the prefix that all their ranges share
        self.intervals: dict[KeyRange, Interval[S | _Group[S]]] = {}  # the handles of what is in the trees
        self.lengths: dict[int, int] = {}  # length of the keys of `prefixes` and `trees` -> how many have it

    def collect(self, key: bytes, found: set[S]) -> int:
        """Add everybody who read `key` to `found`; return the number of tree nodes looked at."""
        hit = self.points.get(key)
        if hit is not None:
            _add(found, hit)
        lengths: Iterable[int] = self.lengths
        if not lengths:
            return 0
        if len(self.lengths) > FEW_LENGTHS:
            lengths = (0, *field_ends(key))
        visited = 0
        for length in lengths:
            head = key[:length]
            hit = self.prefixes.get(head)
            if hit is not None:
                _add(found, hit)
            tree = self.trees.get(head)
            if tree is not None:
                before = tree.visited
                for hit in tree.stab(key):
                    _add(found, hit)
                visited += tree.visited - before
        return visited

    def file(self, key_range: KeyRange, subscriber: S) -> None:
        head = _filing_prefix(key_range)
        if _is_prefix(key_range, head):
            if _file(self.prefixes, head, subscriber):
                self._count(head, 1)
            return
        interval = self.intervals.get(key_range)
        if interval is not None:
            if isinstance(interval.item, _Group):
                interval.item.add(subscriber)
            else:
                interval.item = _Group((interval.item, subscriber))
            return
        tree = self.trees.get(head)
        if tree is None:
            tree = self.trees[head] = IntervalTree(self._random.random)
            self._count(head, 1)
        self.intervals[key_range] = tree.add(key_range.start, key_range.end, subscriber)

    def unfile(self, key_range: KeyRange, subscriber: S) -> None:
        head = _filing_prefix(key_range)
        if _is_prefix(key_range, head):
            if _unfile(self.prefixes, head, subscriber):
                self._count(head, -1)
            return
        interval = self.intervals[key_range]
        if isinstance(interval.item, _Group):
            interval.item.remove(subscriber)
            if len(interval.item) == 1:
                interval.item = interval.item.pop()
            return
        del self.intervals[key_range]
        tree = self.trees[head]
        tree.remove(interval)
        if not tree:
            del self.trees[head]
            self._count(head, -1)

    def _count(self, head: bytes, change: int) -> None:
        length = len(head)
        count = self.lengths.get(length, 0) + change
        if count:
            self.lengths[length] = count
        else:
            del self.lengths[length]


def _beyond(ranges: RangeSet, others: RangeSet | None) -> Collection[KeyRange]:
    """Return the ranges that are not among `others` in the same form."""
    these = ranges.ranges()
    if others is None:
        return these
    those = others.ranges()
    return () if these == those else set(these).difference(those)


def _filing_prefix(key_range: KeyRange) -> bytes:
    """Return the whole fields with which every key inside begins, as far as the range says."""
    head = key_range.start[: key_range.prefix_length]
    if key_range.end is None or key_range.end > head + AFTER:
        return b""
    return head


def _is_prefix(key_range: KeyRange, head: bytes) -> bool:
    """Return whether the range holds exactly the keys that begin with the whole fields `head`."""
    if key_range.start != head:
        return False
    # Without a head only one form may count: two ranges filed in one place would be taken out of it twice.
    return key_range.end == (head + AFTER if head else None)


def _add(found: set[S], hit: S | _Group[S]) -> None:
    if isinstance(hit, _Group):
        found |= hit
    else:
        found.add(hit)


def _file(filing: dict[K, S | _Group[S]], key: K, subscriber: S) -> bool:
    """File `subscriber` under `key`; return whether it is the first there."""
    there = filing.get(key)
    if there is None:
        filing[key] = subscriber
        return True
    if isinstance(there, _Group):
        there.add(subscriber)
    else:
        filing[key] = _Group((there, subscriber))
    return False


def _unfile(filing: dict[K, S | _Group[S]], key: K, subscriber: S) -> bool:
    """Take `subscriber` from under `key`; return whether it was the last there."""
    there = filing[key]
    if not isinstance(there, _Group):
        del filing[key]
        return True
    there.remove(subscriber)
    if len(there) == 1:
        filing[key] = there.pop()
    return False
