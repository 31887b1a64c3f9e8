"""A consistent view of the indexes at one timestamp.

Joins the latest state with the history map: whatever a later commit replaced is read from the history. Answers in
bounded copies; no iterator survives a suspension or a call to user code, and a scan continues by key (`design.md` §4,
7). Used by transactions.
"""

from typing import NamedTuple

from reactor.engine.catalog import Index
from reactor.engine.history import LATEST
from reactor.errors import SnapshotTooOld

Row = tuple[bytes, bytes]  # key, document bytes


class Chunk(NamedTuple):
    """A part of a scan. `resume` is the bound the rest starts from (or, descending, ends at); None when done."""

    rows: list[Row]
    resume: bytes | None


def read_at(index: Index, key: bytes, ts: int) -> bytes | None:
    """Return the document at `key` as of `ts`, or None."""
    if index.history.versions:
        value = index.history.at(key, ts)
        if value is not LATEST:
            return value  # type: ignore[return-value]  # LATEST is the only other object
    return index.entries.get(key)


def scan_at(index: Index, start: bytes, end: bytes | None, limit: int, reverse: bool, ts: int) -> Chunk:
    """Return the next entries of `[start, end)` as of `ts`, in order: at most twice `limit`, and maybe none.

    Raises:
        SnapshotTooOld: the index was built after `ts`.
    """
    if ts < index.valid_from:
        raise SnapshotTooOld(f"index {index.fields} exists since {index.valid_from}, read at {ts}")
    base = index.entries.chunk(start, end, limit, reverse)
    last = base[-1][0] if len(base) == limit else None
    history = index.history
    if not history.versions:
        return Chunk(base, _resume(last, reverse))
    removed = history.removed.chunk(start, end, limit, reverse)
    if len(removed) == limit:
        # Neither list may be followed past the end of the other one's part.
        stop = removed[-1][0]
        last = stop if last is None else max(last, stop) if reverse else min(last, stop)
    rows: list[Row] = []
    for key, latest in base:
        value = history.at(key, ts)
        if value is LATEST:
            rows.append((key, latest))
        elif value is not None:
            rows.append((key, value))  # type: ignore[arg-type]
    if removed:
        for key, _ in removed:
            value = history.at(key, ts)
            if value is not None and value is not LATEST:
                rows.append((key, value))  # type: ignore[arg-type]
        if last is not None:
            rows = [row for row in rows if (row[0] >= last if reverse else row[0] <= last)]
        rows.sort(reverse=reverse)
    return Chunk(rows, _resume(last, reverse))


def _resume(last: bytes | None, reverse: bool) -> bytes | None:
    return last if last is None or reverse else last + b"\x00"


def count_at(index: Index, start: bytes, end: bytes | None, ts: int) -> int:
    """Return how many entries `[start, end)` has as of `ts`: a bisect difference, corrected by the history in it.

    Raises:
        SnapshotTooOld: the index was built after `ts`.
    """
    if ts < index.valid_from:
        raise SnapshotTooOld(f"index {index.fields} exists since {index.valid_from}, read at {ts}")
    history = index.history
    count = index.entries.count(start, end)
    if history.versions:
        bound = len(history) + 1
        count -= sum(history.at(key, ts) is None for key, _ in history.added.chunk(start, end, bound, False))
        count += sum(
            history.at(key, ts) not in (None, LATEST) for key, _ in history.removed.chunk(start, end, bound, False)
        )
    return count
