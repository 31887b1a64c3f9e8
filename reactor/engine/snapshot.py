"""A consistent view of tables and indexes at one timestamp.

Joins the latest state with the history: whatever a later commit replaced is read from there. Answers in bounded
copies; no iterator survives a suspension or a call to user code, and a scan continues by key (`design.md` §4, 7). Used
by transactions.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from reactor.engine.catalog import Index, Table
from reactor.engine.history import LATEST, Latest
from reactor.engine.sortedkeys import SortedKeys
from reactor.errors import SnapshotTooOld
from reactor.values.keys import ID_TAG

COUNT_CHUNK: Final = 1024  # moved keys that a count holds at a time

Row = tuple[bytes, bytes]  # key, document bytes


class Chunk(msgspec.Struct, frozen=True):
    """A part of a scan. `resume` is the bound the rest starts from (or, descending, ends at); None when done."""

    rows: list[Row]
    resume: bytes | None


def read_at(table: Table, key: bytes, ts: int) -> bytes | None:
    """Return the document with the id of `key` as of `ts`, or None.

    Raises:
        SnapshotTooOld: the documents were replaced as a whole after `ts`, and what stood there is forgotten.
    """
    by_id = table.by_id
    if ts < by_id.valid_from:
        return read_at(_before(by_id, ts).table, key, ts)
    if table.history.versions:
        value = table.history.at(key, ts)
        if not isinstance(value, Latest):
            return value
    return table.documents.get(key)


def stands_at(index: Index, key: bytes, ts: int) -> bool:
    """Return whether the index had an entry at `key` as of `ts`."""
    if ts < index.valid_from:
        return stands_at(_before(index, ts), key, ts)
    stood = index.moves.at(key, ts)
    return key in index.keys if isinstance(stood, Latest) else stood


def scan_at(index: Index, start: bytes, end: bytes | None, limit: int, reverse: bool, ts: int) -> Chunk:
    """Return the next entries of `[start, end)` as of `ts`, in order: at most twice `limit`, and maybe none.

    Raises:
        SnapshotTooOld: the index was built after `ts`.
    """
    if ts < index.valid_from:
        return scan_at(_before(index, ts), start, end, limit, reverse, ts)
    keys = index.keys.chunk(start, end, limit, reverse)
    last = keys[-1] if len(keys) == limit else None
    moves = index.moves
    if moves.versions:
        removed = moves.removed.chunk(start, end, limit, reverse)
        if len(removed) == limit:
            # Neither list may be followed past the end of the other one's part.
            stop = removed[-1]
            last = stop if last is None else max(last, stop) if reverse else min(last, stop)
        stood = moves.at
        keys = [key for key in keys if stood(key, ts) is not False]
        if removed:
            keys += [key for key in removed if stood(key, ts) is True]
            if last is not None:
                keys = [key for key in keys if (key >= last if reverse else key <= last)]
            keys.sort(reverse=reverse)
    table = index.table
    documents, history = table.documents, table.history
    rows: list[Row] = []
    if history.versions:
        for key in keys:
            at = key[key.rindex(ID_TAG) :]
            value = history.at(at, ts)
            # What stands in an index stands in its table, at every timestamp.
            rows.append((key, documents[at] if value is LATEST else value))  # type: ignore[arg-type]
    else:
        for key in keys:
            rows.append((key, documents[key[key.rindex(ID_TAG) :]]))
    return Chunk(rows, last if last is None or reverse else last + b"\x00")


def count_at(index: Index, start: bytes, end: bytes | None, ts: int) -> int:
    """Return how many entries `[start, end)` has as of `ts`: a bisect difference, corrected by the moves in it.

    Without a commit that moved a key after `ts` there is nothing to correct, however many moves are kept.

    Raises:
        SnapshotTooOld: the index was built after `ts`.
    """
    if ts < index.valid_from:
        return count_at(_before(index, ts), start, end, ts)
    moves = index.moves
    count = index.keys.count(start, end)
    if moves.versions and ts < moves.newest:
        count -= sum(moves.at(key, ts) is False for key in _each(moves.added, start, end))
        count += sum(moves.at(key, ts) is True for key in _each(moves.removed, start, end))
    return count


def _before(index: Index, ts: int) -> Index:
    """Return the index that holds what stood there at `ts`, before the documents were replaced as a whole."""
    if index.before is None:
        raise SnapshotTooOld(f"index {index.fields} exists since {index.valid_from}, read at {ts}")
    return index.before


def _each(keys: SortedKeys, start: bytes, end: bytes | None) -> Iterator[bytes]:
    """Yield the keys of a range without ever holding all of them."""
    while True:
        part = keys.chunk(start, end, COUNT_CHUNK)
        yield from part
        if len(part) < COUNT_CHUNK:
            return
        start = part[-1] + b"\x00"
