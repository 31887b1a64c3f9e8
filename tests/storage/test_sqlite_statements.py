"""What a fold does costs what it writes, however many documents there are."""

import sqlite3

import pytest

from reactor.storage.fold import Folded
from reactor.storage.sqlite_connection import Statement
from reactor.storage.sqlite_format import migrations
from reactor.storage.sqlite_statements import FOLD_ROWS, fold_statements, standing_statements

LATEST = {
    **{(10_001, f"kept{number}"): Folded(number, b"x") for number in range(FOLD_ROWS + 3)},
    **{(table, f"gone{number}"): Folded(number, None) for table in (10_001, 10_002) for number in range(FOLD_ROWS + 3)},
}


@pytest.fixture
def raw() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for step in migrations():
        connection.executescript(step.script)
    return connection


def test_no_statement_of_a_fold_walks_over_the_documents(raw: sqlite3.Connection) -> None:
    statements: list[Statement] = [*standing_statements(LATEST), *fold_statements(LATEST, {10_001: (0, 0)})]

    plans = [row[3] for sql, parameters in statements for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]

    assert sum(plan.startswith("SEARCH documents USING PRIMARY KEY (table_id=? AND id=?)") for plan in plans) >= 6
    assert not [plan for plan in plans if plan.startswith("SCAN documents")]


def test_standing_documents_are_counted_by_table_and_deleted_ones_go(raw: sqlite3.Connection) -> None:
    for table, document_id in LATEST:
        raw.execute("INSERT INTO documents VALUES (?, ?, 1, x'00', 7)", (table, document_id))
    raw.execute("INSERT INTO documents VALUES (10002, 'other', 1, x'00', 7)")
    found: dict[int, list[int]] = {}
    for sql, parameters in standing_statements(LATEST):
        for table, count, checksums in raw.execute(sql, parameters):
            documents = found.setdefault(table, [0, 0])
            documents[0] += count
            documents[1] += checksums

    for sql, parameters in fold_statements(LATEST, {}):
        raw.execute(sql, parameters)

    in_first, in_second = 2 * (FOLD_ROWS + 3), FOLD_ROWS + 3
    assert found == {10_001: [in_first, 7 * in_first], 10_002: [in_second, 7 * in_second]}
    left = raw.execute("SELECT table_id, count(*) FROM documents GROUP BY table_id").fetchall()
    assert left == [(10_001, FOLD_ROWS + 3), (10_002, 1)]
