"""The SQL of the SQLite storage.

Owns every statement on the tables of `migrations/sqlite`, and how a fold becomes few of them. Used by `sqlite` and by
`sqlite_steps`.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final

from reactor.storage.checksum import document_checksum
from reactor.storage.fold import Folded
from reactor.storage.interface import SESSION_MARKS
from reactor.storage.sqlite_connection import Statement

FOLD_ROWS: Final = 512  # documents per statement of a fold

STATE: Final = (
    "SELECT (SELECT coalesce(max(last_ts), 0) FROM log), floor, folded, epoch, ended, seal = (SELECT seal FROM sealed)"
    " FROM meta"
)
APPEND: Final = (
    "INSERT INTO log (last_ts, prev_ts, first_ts, records, epoch, body, checksum) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7"
    " WHERE (SELECT coalesce(max(last_ts), 0) FROM log) = ?2 AND (SELECT epoch FROM meta) = ?5"
)
EXTENT: Final = "SELECT last_ts, length(body) FROM log ORDER BY last_ts LIMIT ?"
BATCHES: Final = (
    "SELECT last_ts, prev_ts, first_ts, records, epoch, body, checksum FROM log WHERE last_ts > ? ORDER BY last_ts"
)
END: Final = "UPDATE meta SET ended = (SELECT coalesce(max(last_ts), 0) FROM log)"
TABLES: Final = (  # hops from table to table: DISTINCT would walk every document
    "WITH RECURSIVE found(id) AS (SELECT min(table_id) FROM documents UNION ALL"
    " SELECT (SELECT min(table_id) FROM documents WHERE table_id > found.id) FROM found WHERE found.id IS NOT NULL)"
    " SELECT id FROM found WHERE id IS NOT NULL UNION SELECT table_id FROM totals WHERE documents > 0 ORDER BY id"
)
LOAD: Final = "SELECT id, ts, value, checksum FROM documents WHERE table_id = ? AND id > ? ORDER BY id LIMIT ?"
TOTAL: Final = "SELECT documents, checksums FROM totals WHERE table_id = ?"
COUNTED: Final = "SELECT count(*), coalesce(sum(checksum), 0) FROM documents WHERE table_id = ?"
HAS_DOCUMENTS: Final = "SELECT EXISTS (SELECT 1 FROM documents WHERE table_id = ?)"
_ADD_TO_TOTAL: Final = (
    "INSERT INTO totals (table_id, documents, checksums) VALUES (?, ?, ?) ON CONFLICT (table_id) DO UPDATE"
    " SET documents = documents + excluded.documents, checksums = checksums + excluded.checksums"
)
# The newest row stays whatever is trimmed: it tells where the log ends.
TRIM: Final = "DELETE FROM log WHERE last_ts <= ? AND last_ts < (SELECT max(last_ts) FROM log)"
_MARK: Final = (
    "INSERT INTO documents (table_id, id, ts, value, checksum) VALUES (?1, ?2, ?3, ?4, ?5)"
    " ON CONFLICT (table_id, id) DO UPDATE SET ts = excluded.ts, value = excluded.value, checksum = excluded.checksum"
    " WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)"
)
DROP_MARKS: Final = f"DELETE FROM documents WHERE table_id = {SESSION_MARKS} AND ts < ?"


def mark_statements(marks: dict[str, tuple[int, int]]) -> list[Statement]:
    """Raise the marks of sessions whose records are about to go, given as (request, timestamp)."""
    statements: list[Statement] = []
    for session, (request, ts) in sorted(marks.items()):
        value = str(request).encode()
        checksum = document_checksum(SESSION_MARKS, session, ts, value)
        statements.append((_MARK, (SESSION_MARKS, session, ts, value, checksum)))
    return statements


def standing_statements(latest: dict[tuple[int, str], Folded]) -> list[Statement]:
    """Ask for number and checksums, by table, of the documents that `latest` is going to replace or delete."""
    return [
        (
            f"SELECT table_id, count(*), sum(checksum) FROM documents WHERE {condition} GROUP BY table_id",
            parameters,
        )
        for condition, parameters in _selections(sorted(latest))
    ]


def _selections(keys: list[tuple[int, str]]) -> Iterator[tuple[str, list[int | str]]]:
    """Yield conditions that find sorted `keys` by the primary key, some at a time.

    Of one table each: SQLite looks pairs up in a list of pairs by walking over all documents there are.
    """
    for table, group in groupby(keys, key=itemgetter(0)):
        ids = [id for _, id in group]
        for start in range(0, len(ids), FOLD_ROWS):
            some = ids[start : start + FOLD_ROWS]
            yield f"table_id = ? AND id IN ({', '.join('?' * len(some))})", [table, *some]


def fold_statements(latest: dict[tuple[int, str], Folded], totals: dict[int, tuple[int, int]]) -> list[Statement]:
    """Write `latest` in few statements: a step per document would fight for the interpreter lock each time.

    `totals` are, by table, number and checksums of the documents that stand where `latest` writes. Tables whose totals
    are not kept are not in it.
    """
    written: list[tuple[int, str, int, bytes, int]] = []
    deleted: list[tuple[int, str]] = []
    change = {table: (-documents, -checksums) for table, (documents, checksums) in totals.items()}
    for (table, id), (ts, value) in sorted(latest.items()):
        if value is None:
            deleted.append((table, id))
        else:
            checksum = document_checksum(table, id, ts, value)
            written.append((table, id, ts, value, checksum))
            if table in change:
                documents, checksums = change[table]
                change[table] = (documents + 1, checksums + checksum)
    statements: list[Statement] = []
    for start in range(0, len(written), FOLD_ROWS):
        rows = written[start : start + FOLD_ROWS]
        statements.append(
            (
                "INSERT INTO documents (table_id, id, ts, value, checksum)"
                f" VALUES {', '.join(['(?, ?, ?, ?, ?)'] * len(rows))} ON CONFLICT (table_id, id) DO UPDATE"
                " SET ts = excluded.ts, value = excluded.value, checksum = excluded.checksum",
                [column for row in rows for column in row],
            )
        )
    for condition, parameters in _selections(deleted):
        statements.append((f"DELETE FROM documents WHERE {condition}", parameters))
    statements += [(_ADD_TO_TOTAL, (table, *changed)) for table, changed in sorted(change.items())]
    return statements
