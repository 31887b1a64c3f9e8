"""The history map: what stood at an index key before recent commits.

An index holds the latest applied state only. For readers at an older snapshot, and for everything that reads at the
durable timestamp while later commits wait for the disk, each index keeps the values that recent commits replaced.
Promises that a lookup at a timestamp at or above `floor` is exact. Owned by an index; pruned by the database behind the
oldest snapshot in use (`design.md` §4, 7).
"""

from bisect import bisect_right
from operator import itemgetter
from typing import Final

from reactor.engine.sortedmap import SortedMap

LATEST: Final = object()

_commit_ts = itemgetter(0)


class History:
    """Replaced values by key, oldest first.

    `added` and `removed` hold the keys that stand in the latest state but not in some older one, and the other way
    round: a scan needs only these in order, since a key present on both sides is met in the index itself.
    """

    __slots__ = ("_has_moved", "added", "removed", "versions")

    def __init__(self) -> None:
        self.versions: dict[bytes, list[tuple[int, bytes | None]]] = {}  # empty: the latest state is the only one
        self.added: SortedMap[None] = SortedMap()
        self.removed: SortedMap[None] = SortedMap()
        self._has_moved = False  # whether `added` or `removed` may hold anything

    def record(self, key: bytes, commit_ts: int, before: bytes | None, after: bytes | None) -> None:
        """Remember that the commit at `commit_ts` replaced `before` by `after` at `key`; None means absent."""
        versions = self.versions.get(key)
        if versions is None:
            self.versions[key] = [(commit_ts, before)]
        else:
            versions.append((commit_ts, before))
        if after is None:
            self._has_moved = True
            self.added.pop(key, None)
            self.removed[key] = None
        elif before is None:
            self._has_moved = True
            self.removed.pop(key, None)
            self.added[key] = None

    def at(self, key: bytes, ts: int) -> bytes | object | None:
        """Return what stood at `key` at `ts`: a value, None for absent, or `LATEST` when nothing replaced it since."""
        versions = self.versions.get(key)
        if versions is None or versions[-1][0] <= ts:
            return LATEST
        if versions[0][0] > ts:
            return versions[0][1]
        return versions[bisect_right(versions, ts, key=_commit_ts)][1]

    def forget(self, key: bytes, through_ts: int) -> None:
        """Drop what commits up to `through_ts` replaced at `key`: no reader below them is left."""
        versions = self.versions.get(key)
        if versions is None or versions[0][0] > through_ts:
            return
        if versions[-1][0] > through_ts:
            del versions[: bisect_right(versions, through_ts, key=_commit_ts)]
        else:
            del self.versions[key]
            if self._has_moved:
                self.added.pop(key, None)
                self.removed.pop(key, None)
                self._has_moved = bool(self.versions)

    def __len__(self) -> int:
        return len(self.versions)
