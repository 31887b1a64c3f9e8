"""An index filled while commits go on, chunk by chunk, equals one that had been there from the start."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.backfill import changed_documents, fill_index, walk_table
from reactor.engine.catalog import Table
from reactor.engine.database import Database
from reactor.errors import SnapshotTooOld, WriteConflict
from reactor.values.types import Value, undefined
from tests.engine.work import BY_KIND, Work, check_indexes, contents, kept_history, opened, rows, turns

Change = tuple[str, int, int | None]
changes = st.tuples(st.sampled_from(["insert", "patch", "delete"]), st.integers(0, 30), st.none() | st.integers(0, 3))


def table_of(database: Database) -> Table:
    table = database.table("notes")
    assert table is not None
    return table


def do(database: Database, change: Change, work: Work | None = None) -> None:
    """Make one change, in a transaction of its own unless one is given."""
    action, which, kind = change
    mine = work if work is not None else Work(database)
    ids = sorted({*contents(database)["notes"], *mine.transaction.writes})
    some = ids[which % len(ids)] if ids else None
    if action == "insert" or some is None:
        mine.insert("notes", {} if kind is None else {"kind": kind})
    elif mine.get("notes", some) is not None:
        if action == "patch":
            mine.patch("notes", some, {"kind": undefined if kind is None else kind})
        else:
            mine.delete("notes", some)
    if work is None:
        mine.commit()


async def filled(size: int, chunk: int, meanwhile: list[list[Change]], early: list[Change]) -> Database:
    """A table with an index that was added while `meanwhile` went on; `early` was begun before, and commits after."""
    database = await opened()
    database.create_table("notes")
    for number in range(size):
        do(database, ("insert", 0, number % 4))
    table = table_of(database)
    work = Work(database)
    for change in early[:1]:
        do(database, change, work)
    index = database.catalog.add_index(table, BY_KIND)
    for change in early[1:]:
        do(database, change, work)
    steps = iter(meanwhile)
    for _ in fill_index(database.catalog, index, chunk):
        for change in next(steps, []):
            do(database, change)
    with contextlib.suppress(WriteConflict):
        work.commit()
    return database


@given(
    st.integers(0, 12),
    st.integers(1, 5),
    st.lists(st.lists(changes, max_size=3), max_size=6),
    st.lists(changes, max_size=4),
)
def test_an_index_filled_under_writes_equals_one_built_from_scratch(
    size: int, chunk: int, meanwhile: list[list[Change]], early: list[Change]
) -> None:
    async def check() -> None:
        database = await filled(size, chunk, meanwhile, early)
        check_indexes(database)
        for change in (("patch", 1, 3), ("delete", 2, None), ("insert", 0, 1)):
            do(database, change)
        check_indexes(database)
        await database.close()
        await turns()
        assert kept_history(database) == 0

    asyncio.run(check())


@pytest.mark.asyncio
async def test_a_snapshot_taken_after_the_switch_reads_the_new_index() -> None:
    database = await filled(10, 3, [[("patch", 1, 2)], [("delete", 5, None)], [("insert", 0, 1)]], [])
    table = table_of(database)
    index = table.indexes[BY_KIND]
    before = Work(database)
    do(database, ("insert", 0, 2))
    index.valid_from = database.applied_ts
    after = Work(database)
    expected = [data for _, data in rows(index)]

    for change in (("delete", 0, None), ("patch", 3, 0), ("insert", 0, 0)):
        do(database, change)

    assert len(after.scan("notes", BY_KIND, chunk=2)) == after.count("notes", BY_KIND) == len(expected)
    with pytest.raises(SnapshotTooOld):
        before.scan("notes", BY_KIND)
    with pytest.raises(SnapshotTooOld):
        before.count("notes", BY_KIND)
    before.drop()
    after.drop()
    await database.close()


@given(st.lists(changes, max_size=12), st.integers(0, 12))
def test_changed_documents_are_those_written_and_still_there(made: list[Change], since: int) -> None:
    async def check() -> None:
        database = await opened()
        database.create_table("notes")
        database.retention.pin(database.applied_ts)
        start = database.applied_ts
        for number, change in enumerate(made):
            if number == since:
                start = database.applied_ts
            do(database, change)
        then = {entry.commit_ts: entry for entry in database.write_log.since(start)}

        found = [document for _, document in changed_documents(list(then.values()))]

        standing = contents(database)["notes"]
        written = {change.key for entry in then.values() for change in entry.changes}
        expected = {document_id for document_id in standing if b"\x10" + document_id.encode() + b"\x00" in written}
        assert sorted(str(document["_id"]) for document in found) == sorted(expected)
        assert all(document == standing[str(document["_id"])] for document in found)
        await database.close()

    asyncio.run(check())


@pytest.mark.asyncio
async def test_a_walk_meets_every_document_that_stays() -> None:
    """What is inserted or changed behind it is found again in the write log."""
    database = await opened()
    database.create_table("notes")
    for number in range(10):
        do(database, ("insert", 0, number % 4))
    start = database.applied_ts
    database.retention.pin(start)
    stays = contents(database)["notes"]
    seen: set[str] = set()

    def check(table: Table, document: dict[str, Value]) -> None:
        assert table.name == "notes"
        seen.add(str(document["_id"]))

    counts = []
    for count in walk_table(table_of(database), check, 3):
        counts.append(count)
        do(database, ("insert", 0, 1))
        do(database, ("patch", count, None))
    seen |= {str(document["_id"]) for _, document in changed_documents([*database.write_log.since(start)])}

    assert counts == sorted(set(counts))
    assert seen >= {*stays, *contents(database)["notes"]}
    database.retention.unpin(start)
    await database.close()
