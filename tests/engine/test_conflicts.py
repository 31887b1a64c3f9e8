"""Conflict reports: what was read is shown as fields and values, whatever the range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.catalog import Catalog, Index
from reactor.engine.conflicts import SYSTEM_TEXT, show_range
from reactor.engine.database import Database
from reactor.engine.keyrange import EVERYTHING, KeyRange, point
from reactor.engine.query import Bound, compile_range
from reactor.errors import WriteConflict
from reactor.values.keys import encode_key
from reactor.values.types import Int64, undefined
from tests.engine.work import BY_KIND, Work, opened, with_index

FIELDS = ("channel", "kind", "_creationTime")


def index() -> Index:
    catalog = Catalog(data_bytes=1 << 30)
    return catalog.add_index(catalog.add_table(10_001, "notes"), FIELDS)


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ((), "every document"),
        ((Bound("eq", "channel", "c"),), 'channel = "c"'),
        ((Bound("eq", "channel", "c"), Bound("eq", "kind", 1.0)), 'channel = "c", kind = 1.0'),
        ((Bound("gt", "channel", "c"),), 'channel above "c"'),
        ((Bound("gte", "channel", "c"), Bound("lt", "channel", "d")), 'channel from "c", channel below "d"'),
        ((Bound("eq", "channel", "c"), Bound("lte", "kind", 2.0)), 'channel = "c", kind up to 2.0'),
        ((Bound("eq", "channel", undefined), Bound("gt", "kind", Int64(-5))), "channel = undefined, kind above -5n"),
        ((Bound("eq", "channel", "x" * 100),), 'channel = "' + "x" * 59 + "…"),
    ],
)
def test_a_range_is_shown_as_it_was_asked_for(bounds: tuple[Bound, ...], shown: str) -> None:
    assert show_range(index(), compile_range("notes.by", FIELDS, bounds)) == shown


def test_one_key_is_shown_whole() -> None:
    key = encode_key(["c", None, 5.0, "id0"])
    assert show_range(index(), point(key)) == 'channel = "c", kind = null, _creationTime = 5.0, _id = "id0"'


SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.binary()
INTEGERS = st.integers(-(2**63), 2**63 - 1).map(Int64)
VALUES = SCALARS | INTEGERS | st.just([1.0]) | st.just({"a": "b"})


@given(st.lists(VALUES, max_size=3), st.binary(max_size=4))
def test_any_bytes_are_shown_somehow(values: list[object], tail: bytes) -> None:
    start = encode_key(values)  # type: ignore[arg-type]
    for keys in (KeyRange(start, None), KeyRange(start + tail, start + tail + b"\x01"), point(start), EVERYTHING):
        assert show_range(index(), keys)


async def lose(database: Database, reader: str, writer: str) -> WriteConflict:
    """Let a transaction that reads kind 1 lose to one that inserts there."""
    loser = Work(database)
    loser.transaction.reader = reader
    loser.count("notes", BY_KIND, (Bound("eq", "kind", 1.0),))
    loser.insert("notes", {"kind": 5.0})
    winner = Work(database)
    winner.insert("notes", {"kind": 1.0})
    database.committer.commit(winner.transaction, source=writer)
    winner.drop()
    with pytest.raises(WriteConflict) as lost:
        loser.commit()
    return lost.value


@pytest.mark.asyncio
async def test_a_report_names_table_range_document_writer_and_reader() -> None:
    database = await opened()
    database.create_table("notes")
    with_index(database, "notes", BY_KIND)

    error = await lose(database, "notes:add", "notes:send")
    report = error.report
    assert (report.table, report.read, report.writer, report.reader) == (
        "notes",
        "kind = 1.0",
        "notes:send",
        "notes:add",
    )
    assert f'A call to "notes:send" changed the document with ID "{report.document}". See' in str(error)
    assert str(report) == (
        f"notes:add at {report.begin_ts} read notes [kind = 1.0], "
        f"where notes:send wrote document {report.document} at {report.commit_ts}"
    )
    assert list(database.committer.conflicts) == [report]

    again = await lose(database, "notes:add", "notes:add")
    assert f'Another call to this mutation changed the document with ID "{again.report.document}". See' in str(again)
    unknown = await lose(database, "notes:add", "")
    assert "on every subsequent retry. See https" in str(unknown)
    await database.close()


@pytest.mark.asyncio
async def test_a_conflict_in_a_system_table_names_no_table() -> None:
    database = await opened()
    database.create_table("notes")
    loser = Work(database)
    loser.transaction.reads.add_range(database.tables_index, EVERYTHING)
    loser.insert("notes", {})
    database.create_table("others")
    with pytest.raises(WriteConflict) as lost:
        loser.commit()
    assert str(lost.value) == SYSTEM_TEXT
    assert lost.value.report.table is None
    await database.close()


@pytest.mark.asyncio
async def test_recent_reports_are_kept_and_no_more() -> None:
    database = await opened()
    database.create_table("notes")
    with_index(database, "notes", BY_KIND)
    for _ in range(201):
        await lose(database, "a", "b")
    assert len(database.committer.conflicts) == 200
    await database.close()
