"""Folding: from records to the latest version of each document they wrote.

Pure. Promises that folding a log in one go, in any number of portions, or a portion twice gives the same documents.
Used by the backends.
"""

from collections.abc import Iterable
from typing import NamedTuple

from reactor.storage.batch import Change, Request
from reactor.storage.interface import Record


class Folded(NamedTuple):
    """What a stretch of log leaves of one document."""

    ts: int
    value: bytes | None  # None is a tombstone: the document goes


def session_marks(records: Iterable[Record | Request]) -> dict[str, tuple[int, int]]:
    """Return the highest request of every session in `records`, and the timestamp of the last of its records."""
    marks: dict[str, tuple[int, int]] = {}
    for record in records:
        if record.session is not None and record.request is not None and record.result is not None:
            request, _ = marks.get(record.session, (record.request, 0))
            marks[record.session] = (max(request, record.request), record.ts)
    return marks


def fold_records(
    records: Iterable[Record | Change], latest: dict[tuple[int, str], Folded] | None = None
) -> dict[tuple[int, str], Folded]:
    """Return the last write of every document written in `records`, which come oldest first, by (table, id).

    With `latest`, what older records left, it goes on from there, in place.
    """
    if latest is None:
        latest = {}
    for record in records:
        ts = record.ts
        for write in record.writes:
            latest[write.table, write.id] = Folded(ts, write.value)
    return latest
