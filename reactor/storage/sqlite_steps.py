"""The steps of the SQLite storage that run in the thread of its background connection, each as a whole.

Owns reading the log and the documents, with every check that finds damage, and the first half of a fold: what to write.
Promises that decoding stays off the event loop, and that no more than one batch and what the step returns is in memory.
Nothing here writes. Used by `sqlite`.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing
from typing import Any, Final, NamedTuple

from reactor.storage.batch import LOG_PAGE_BYTES, decode_batch, decode_changes, decode_requests
from reactor.storage.checksum import Damaged, batch_checksum, document_checksum
from reactor.storage.fold import Folded, fold_records, session_marks
from reactor.storage.interface import LogState, Record, StoredDocument
from reactor.storage.sqlite_connection import Statement
from reactor.storage.sqlite_statements import (
    BATCHES,
    COUNTED,
    EXTENT,
    HAS_DOCUMENTS,
    LOAD,
    STATE,
    TOTAL,
    fold_statements,
    mark_statements,
    standing_statements,
)

FOLD_DOCUMENTS: Final = 256  # what one transaction of a fold writes at most: appends wait meanwhile
FOLD_BYTES: Final = 4 << 20
STRETCH_BYTES: Final = 8 << 20  # of documents in one fold: they are in memory meanwhile
PAGE_BYTES: Final = 4096
_TRIM_ROWS: Final = 256
_FREE_PAGES: Final = 256  # kept for reuse, or an eighth of the file where that is more
_VACUUM_PAGES: Final = 256  # given back in one step, between two appends


class Stretch(NamedTuple):
    """The oldest part of the log that is not folded: its last timestamp, 0 if there is none, and what it leaves.

    The portions are in order of their keys: a page of the file that holds several of the documents is written once.
    """

    last: int
    portions: list[dict[tuple[int, str], Folded]]


class Fold(NamedTuple):
    """One transaction of a fold."""

    statements: list[Statement]
    pages: int  # that it changes, estimated


class Batch(NamedTuple):
    """A row of the log that is as it was written."""

    last_ts: int
    body: bytes


def read_state(raw: sqlite3.Connection) -> LogState:
    """Return where the log stands.

    Raises:
        Damaged: that contradicts itself.
    """
    row = raw.execute(STATE).fetchone()
    if row is None:
        raise Damaged("it does not say how far the log is folded")
    end, floor, folded, epoch, ended, is_sealed = row
    if not is_sealed or not floor <= folded <= end:
        raise Damaged("what it says about how far the log is folded was changed")
    if end < ended:
        raise Damaged(f"the log ends at {end}, but went to {ended}")
    return LogState(end, floor, folded, epoch)


def read_records(raw: sqlite3.Connection, after: int, limit: int) -> list[Record]:
    """Return at most `limit` records newer than `after`.

    Raises:
        Damaged: the log is not as it was written.
    """
    found: list[Record] = []
    if limit > 0:
        with closing(_batches(raw, after)) as batches:
            for batch in batches:
                found += [record for record in decode_batch(batch.body) if record.ts > after]
                if len(found) >= limit:
                    break
    return found[:limit]


def read_documents(raw: sqlite3.Connection, table: int, last: str, rows: int) -> tuple[list[StoredDocument], int]:
    """Return the next documents of `table` behind the id `last`, and the sum of their checksums.

    Raises:
        Damaged: one is not as it was written.
    """
    found, checksums = [], 0
    for id, ts, value, checksum in raw.execute(LOAD, (table, last, rows)):
        try:
            is_whole = checksum is None or checksum == document_checksum(table, id, ts, value)
        except (TypeError, AttributeError):  # not even of the right type
            is_whole = False
        if not is_whole:
            raise Damaged(f"a document of table {table} is not as it was written (id {id!r})")
        found.append(StoredDocument(id, ts, value))
        checksums += checksum or 0
    return found, checksums


def read_total(raw: sqlite3.Connection, table: int) -> tuple[int, int] | None:
    """Return how many documents `table` has and the sum of their checksums, or None where that is not kept."""
    total: tuple[int, int] | None = raw.execute(TOTAL, (table,)).fetchone()
    return total


def check_total(raw: sqlite3.Connection, table: int, before: tuple[int, int] | None, loaded: tuple[int, int]) -> None:
    """Check that a load which found `loaded` of `table`, and began when its total was `before`, found all of it.

    Raises:
        Damaged: it did not.
    """
    total = read_total(raw, table)
    if total is not None and total != before:  # a fold went on meanwhile
        loaded = raw.execute(COUNTED, (table,)).fetchone()
    if total is not None and total != loaded:
        raise Damaged(f"table {table} should have {total[0]} documents, and not the {loaded[0]} that are found")


def read_stretch(raw: sqlite3.Connection, limit: int) -> Stretch:
    """Return what the oldest records that are not folded leave of the documents they wrote.

    Takes at most `limit` records, and fewer when they wrote many bytes: as long as they write the same documents again,
    a longer stretch costs no more.

    Raises:
        Damaged: the log is not as it was written.
    """
    after = read_state(raw).folded
    latest: dict[tuple[int, str], Folded] = {}
    left, last, unmeasured, size = limit, 0, 0, 0
    with closing(_batches(raw, after)) as batches:
        for batch in batches:
            if left <= 0:
                break
            changes = [change for change in decode_changes(batch.body) if change.ts > after][:left]
            fold_records(changes, latest)
            left -= len(changes)
            last = changes[-1].ts
            unmeasured += len(batch.body)
            if unmeasured >= STRETCH_BYTES:
                unmeasured = size = sum(len(value or b"") for _, value in latest.values())
            if size >= STRETCH_BYTES:
                break
    return Stretch(last, _portions(latest))


def _portions(latest: dict[tuple[int, str], Folded]) -> list[dict[tuple[int, str], Folded]]:
    """Divide documents, in order of their keys, into what one transaction may write."""
    portions: list[dict[tuple[int, str], Folded]] = []
    size = FOLD_BYTES
    for key, folded in sorted(latest.items()):
        if size >= FOLD_BYTES or len(portions[-1]) >= FOLD_DOCUMENTS:
            portions.append({})
            size = 0
        portions[-1][key] = folded
        size += len(folded.value or b"")
    return portions


def make_fold(raw: sqlite3.Connection, portion: dict[tuple[int, str], Folded], last: int | None) -> Fold:
    """Return how a portion of a stretch becomes documents; with `last`, all records through that one then have."""
    statements = fold_statements(portion, _standing(raw, portion))
    if last is not None:
        statements.append(("UPDATE meta SET folded = ?, ended = (SELECT max(last_ts) FROM log)", (last,)))
    return Fold(statements, sum(2 + len(value or b"") // PAGE_BYTES for _, value in portion.values()))


def make_trim(raw: sqlite3.Connection, through: int) -> tuple[int, list[Statement]] | None:
    """Return up to where the log may be deleted in one go, of what lies at or below `through`, and the marks that stay.

    Raises:
        Damaged: the log is not as it was written.
    """
    size, last = 0, None
    for last_ts, length in raw.execute(EXTENT, (_TRIM_ROWS,)).fetchall():
        if last_ts > through or (last is not None and size + length > LOG_PAGE_BYTES):
            break
        last, size = last_ts, size + length
    if last is None:
        return None
    marks: dict[str, tuple[int, int]] = {}
    with closing(_batches(raw, -1)) as batches:
        for batch in batches:
            if batch.last_ts > last:
                break
            for session, (request, ts) in session_marks(decode_requests(batch.body)).items():
                marks[session] = (max(request, marks.get(session, (0, 0))[0]), ts)
    return last, mark_statements(marks)


def spare_pages(raw: sqlite3.Connection) -> int:
    """Return how many pages that nothing uses any more may go back to the file system now."""
    free: int = raw.execute("PRAGMA freelist_count").fetchone()[0]
    if free <= _FREE_PAGES:
        return 0
    pages: int = raw.execute("PRAGMA page_count").fetchone()[0]
    return max(0, min(free - max(_FREE_PAGES, pages // 8), _VACUUM_PAGES))


def _batches(raw: sqlite3.Connection, after: int) -> Generator[Batch, None, None]:
    """Yield the rows of the log with records newer than `after`, oldest first; to be closed."""
    previous = None
    with closing(raw.execute(BATCHES, (after,))) as rows:
        for last_ts, prev_ts, first_ts, records, epoch, body, checksum in rows:
            if prev_ts != previous and (previous is not None or prev_ts > after >= 0):
                raise Damaged(f"the log has a gap before {last_ts}")
            previous = last_ts
            try:
                seen = batch_checksum(last_ts, prev_ts, first_ts, records, epoch, body)
            except TypeError:  # not even of the right type
                seen = -1
            if checksum is not None and checksum != seen:
                raise Damaged(f"the batch of the log that ends at {last_ts} is not as it was written")
            yield Batch(last_ts, body)


def _standing(raw: sqlite3.Connection, latest: dict[tuple[int, str], Folded]) -> dict[int, tuple[int, int]]:
    """Return number and checksums of the documents that stand where `latest` writes, by table."""
    totals: dict[int, tuple[int, int]] = {}
    for table in {table for table, _ in latest}:
        if read_total(raw, table) is not None or not _has_documents(raw, table):
            totals[table] = (0, 0)
    for sql, keys in standing_statements(latest):
        for table, documents, checksums in raw.execute(sql, keys).fetchall():
            if table in totals:
                totals[table] = (totals[table][0] + documents, totals[table][1] + checksums)
    return totals


def _has_documents(raw: sqlite3.Connection, table: int) -> Any:
    return raw.execute(HAS_DOCUMENTS, (table,)).fetchone()[0]
