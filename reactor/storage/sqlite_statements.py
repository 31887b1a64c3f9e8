"""The SQL of the SQLite storage.

Owns every statement on the tables of `migrations/sqlite`, and how a fold becomes few of them. Used by `sqlite`.
"""

from typing import Final

from reactor.storage.fold import Folded
from reactor.storage.interface import SESSION_MARKS
from reactor.storage.sqlite_connection import Statement

FOLD_ROWS: Final = 512  # documents per statement of a fold

STATE: Final = "SELECT (SELECT coalesce(max(last_ts), 0) FROM log), floor, folded, epoch FROM meta"
APPEND: Final = (
    "INSERT INTO log (last_ts, prev_ts, first_ts, records, epoch, body) SELECT ?1, ?2, ?3, ?4, ?5, ?6"
    " WHERE (SELECT coalesce(max(last_ts), 0) FROM log) = ?2 AND (SELECT epoch FROM meta) = ?5"
)
EXTENT: Final = "SELECT last_ts, records, length(body) FROM log WHERE last_ts > ? ORDER BY last_ts LIMIT ?"
BODIES: Final = "SELECT prev_ts, last_ts, body FROM log WHERE last_ts > ? AND last_ts <= ? ORDER BY last_ts"
TABLES: Final = (  # hops from table to table: DISTINCT would walk every document
    "WITH RECURSIVE found(id) AS (SELECT min(table_id) FROM documents UNION ALL"
    " SELECT (SELECT min(table_id) FROM documents WHERE table_id > found.id) FROM found WHERE found.id IS NOT NULL)"
    " SELECT id FROM found WHERE id IS NOT NULL"
)
LOAD: Final = "SELECT id, ts, value FROM documents WHERE table_id = ? AND id > ? ORDER BY id LIMIT ?"
# The newest row stays whatever is trimmed: it tells where the log ends.
TRIM: Final = "DELETE FROM log WHERE last_ts <= ? AND last_ts < (SELECT max(last_ts) FROM log)"
_MARK: Final = (
    "INSERT INTO documents (table_id, id, ts, value) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (table_id, id) DO UPDATE"
    " SET ts = excluded.ts, value = excluded.value WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)"
)
DROP_MARKS: Final = f"DELETE FROM documents WHERE table_id = {SESSION_MARKS} AND ts < ?"


def mark_statements(marks: dict[str, tuple[int, int]]) -> list[Statement]:
    """Raise the marks of sessions whose records are about to go, given as (request, timestamp)."""
    return [
        (_MARK, (SESSION_MARKS, session, ts, str(request).encode())) for session, (request, ts) in sorted(marks.items())
    ]


def fold_statements(latest: dict[tuple[int, str], Folded]) -> list[Statement]:
    """Write `latest` in few statements: a step per document would fight for the interpreter lock each time."""
    written: list[tuple[int, str, int, bytes]] = []
    deleted: list[tuple[int, str]] = []
    for (table, id), (ts, value) in sorted(latest.items()):
        if value is None:
            deleted.append((table, id))
        else:
            written.append((table, id, ts, value))
    statements: list[Statement] = []
    for start in range(0, len(written), FOLD_ROWS):
        rows = written[start : start + FOLD_ROWS]
        statements.append(
            (
                f"INSERT INTO documents (table_id, id, ts, value) VALUES {', '.join(['(?, ?, ?, ?)'] * len(rows))}"
                " ON CONFLICT (table_id, id) DO UPDATE SET ts = excluded.ts, value = excluded.value",
                [column for row in rows for column in row],
            )
        )
    for start in range(0, len(deleted), FOLD_ROWS):
        keys = deleted[start : start + FOLD_ROWS]
        statements.append(
            (
                f"DELETE FROM documents WHERE (table_id, id) IN (VALUES {', '.join(['(?, ?)'] * len(keys))})",
                [column for key in keys for column in key],
            )
        )
    return statements
