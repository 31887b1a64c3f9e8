"""Key ranges: half-open intervals of index keys, and unions of them.

Owns what "inside" means. Promises that bounds compare as plain bytes and that a union answers exactly as its members
would together. Used by read sets, scans, the write log and subscriptions.
"""

from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Final, NewType

import msgspec

from reactor.values.keys import AFTER

IndexId = NewType("IndexId", int)
"""Names one index of one table for the life of the process."""

AT: Final = b"\x00"
"""A key followed by this is the key's immediate successor."""


class KeyRange(msgspec.Struct, frozen=True, gc=False):
    """The keys from `start` up to, but without, `end`; all of them from `start` on when `end` is `None`.

    `prefix_length` counts the bytes of `start` that every key inside begins with because the query fixed those fields
    by equality. It ends at a field boundary and is 0 when nothing is fixed: with it, subscriptions find a range by a
    dict probe instead of a search.
    """

    start: bytes
    end: bytes | None
    prefix_length: int = 0

    def contains(self, key: bytes) -> bool:
        """Return whether `key` lies inside."""
        return self.start <= key and (self.end is None or key < self.end)

    @property
    def is_empty(self) -> bool:
        """Whether no key at all can lie inside."""
        return self.end is not None and self.end <= self.start

    @property
    def is_point(self) -> bool:
        """Whether exactly one key, `start`, lies inside."""
        return self.end is not None and len(self.end) == len(self.start) + 1 and self.end == self.start + AT


_start = attrgetter("start")

EVERYTHING: Final = KeyRange(b"", None, 0)


def point(key: bytes) -> KeyRange:
    """Return the range that holds only `key`."""
    return KeyRange(key, key + AT, len(key))


def prefix(head: bytes) -> KeyRange:
    """Return the range of every key that begins with the whole fields `head`."""
    return KeyRange(head, head + AFTER, len(head))


class RangeSet:
    """A union of key ranges. Adding only notes the range; the first question sorts and merges what was added."""

    __slots__ = ("_added", "_merged", "_starts")

    def __init__(self) -> None:
        self._added: list[KeyRange] = []
        self._merged: list[KeyRange] = []  # sorted, disjoint, not touching, none empty
        self._starts: list[bytes] = []

    def __len__(self) -> int:
        return len(self.ranges())

    def __iter__(self) -> Iterator[KeyRange]:
        return iter(self.ranges())

    def add(self, key_range: KeyRange) -> None:
        """Add every key of `key_range`."""
        self._added.append(key_range)

    def contains(self, key: bytes) -> bool:
        """Return whether `key` lies in any of the ranges."""
        if self._added:
            self._merge()
        at = bisect_right(self._starts, key)
        if not at:
            return False
        end = self._merged[at - 1].end
        return end is None or key < end

    def ranges(self) -> list[KeyRange]:
        """Return the same keys as sorted ranges that neither overlap nor touch. The list is not the caller's."""
        if self._added:
            self._merge()
        return self._merged

    def _merge(self) -> None:
        waiting, self._added = self._added, []
        if self._merged:
            waiting = self._merged + waiting
        elif len(waiting) == 1 and not waiting[0].is_empty:  # by far the most frequent case
            self._merged, self._starts = waiting, [waiting[0].start]
            return
        waiting.sort(key=_start)
        merged: list[KeyRange] = []
        for this in waiting:
            if this.end is not None and this.end <= this.start:
                continue
            if merged:
                last = merged[-1]
                if last.end is None or this.start <= last.end:
                    merged[-1] = _joined(last, this)
                    continue
            merged.append(this)
        self._merged = merged
        self._starts = [this.start for this in merged]


def _joined(low: KeyRange, high: KeyRange) -> KeyRange:
    """Return the union of two ranges that overlap or touch, `low` starting first."""
    end = None if low.end is None or high.end is None else max(low.end, high.end)
    shared = min(low.prefix_length, high.prefix_length)
    if shared and low.start[:shared] != high.start[:shared]:
        shared = 0  # a shorter common prefix may exist, but only the caller knows where fields end
    return KeyRange(low.start, end, shared)
