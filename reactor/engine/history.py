"""History: what stood at a key before recent commits.

Tables and indexes hold the latest applied state only. For readers at an older snapshot, and for everything that reads
at the durable timestamp while later commits wait for the disk, they keep what recent commits replaced. Promises that a
lookup at a timestamp at or above the floor is exact. Owned by the catalog's tables and indexes; pruned by retention
behind the oldest snapshot in use (`design.md` §4, 7).
"""

from bisect import bisect_right
from operator import itemgetter
from typing import Final, Generic, TypeVar, final

from reactor.engine.sortedkeys import SortedKeys

V = TypeVar("V")


@final
class Latest:
    """The type of `LATEST`."""


LATEST: Final = Latest()
"""Nothing replaced what stands there since the timestamp asked for: look at the latest state."""

_commit_ts = itemgetter(0)


class History(Generic[V]):
    """Replaced values by key, oldest first."""

    __slots__ = ("versions",)

    def __init__(self) -> None:
        self.versions: dict[bytes, list[tuple[int, V]]] = {}  # empty: the latest state is the only one

    def record(self, key: bytes, commit_ts: int, before: V) -> None:
        """Remember that the commit at `commit_ts` replaced `before` at `key`."""
        versions = self.versions.get(key)
        if versions is None:
            self.versions[key] = [(commit_ts, before)]
        else:
            versions.append((commit_ts, before))

    def at(self, key: bytes, ts: int) -> V | Latest:
        """Return what stood at `key` at `ts`, or `LATEST` when nothing replaced it since."""
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
            self._forget(key)

    def _forget(self, key: bytes) -> None:
        """Drop everything about `key`."""
        del self.versions[key]

    def __len__(self) -> int:
        return len(self.versions)


class Moves(History[bool]):
    """Which keys came to an index and left it; each replaced value says whether the key stood there.

    `added` and `removed` hold the keys that stand in the latest state but not in some older one, and the other way
    round: a scan needs only these in order, since a key present on both sides is met in the index itself.
    """

    __slots__ = ("added", "newest", "removed")

    def __init__(self) -> None:
        super().__init__()
        self.newest = 0  # the last commit that moved a key: a reader not before it sees the latest state
        self.added = SortedKeys()
        self.removed = SortedKeys()

    def record(self, key: bytes, commit_ts: int, before: bool) -> None:
        """Remember that at `commit_ts` a key left (`before`), or came."""
        super().record(key, commit_ts, before)
        self.newest = commit_ts
        if before:
            self.added.discard(key)
            self.removed.add(key)
        else:
            self.removed.discard(key)
            self.added.add(key)

    def _forget(self, key: bytes) -> None:
        del self.versions[key]
        self.added.discard(key)
        self.removed.discard(key)
