"""Tables come into memory when they are touched: once, whole, and as an eager start would have them."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor.engine.catalog import BY_CREATION_TIME, Table
from reactor.engine.database import Database
from reactor.engine.unloaded import TableUnloaded
from reactor.errors import DataBytesExceeded, Error, StorageError, Unavailable
from reactor.limits import FIRST_USER_TABLE, Limits
from reactor.storage.interface import DocumentWrite, Record
from reactor.storage.memory import MemoryPersistence
from tests.engine.loads import LoadingPersistence
from tests.engine.work import BY_KIND, Tasks, Work, check_indexes, contents, counted_bytes, opened, turns
from tests.sizes import size

NAMES = ("notes", "tags", "rest")


def table_of(database: Database, name: str = "notes") -> Table:
    table = database.table(name)
    assert table is not None
    return table


def add(database: Database, name: str, count: int = 1) -> list[str]:
    work = Work(database)
    ids = [work.insert(name, {"kind": number % 3}) for number in range(count)]
    work.commit()
    return ids


async def stored(documents: int = 5, fold: bool = True) -> LoadingPersistence:
    """Storage with three tables of documents, and nobody in it."""
    persistence = LoadingPersistence(MemoryPersistence())
    database = await opened(persistence)
    for name in NAMES:
        database.create_table(name)
        add(database, name, documents)
    await database.publisher.drain()
    if fold:
        await persistence.fold(10_000)
    await database.close()
    persistence.loaded.clear()
    return persistence


async def close(database: Database) -> None:
    await database.close()
    await turns()


@pytest.mark.asyncio
async def test_a_table_that_is_never_touched_is_never_read() -> None:
    persistence = await stored(200)
    tasks = Tasks()
    database = await opened(persistence, is_lazy=True, tasks=tasks)
    bare = database.catalog.bytes
    assert bare == counted_bytes(database) < 5_000

    await database.loading.load(table_of(database, "tags"))

    assert persistence.loaded[table_of(database, "notes").number] == 0
    assert database.catalog.bytes == counted_bytes(database)
    assert len(table_of(database, "tags")) == 200
    assert table_of(database, "notes").unloaded is not None
    await close(database)
    await tasks.join()


@pytest.mark.asyncio
async def test_a_table_that_is_not_loaded_is_not_taken_for_an_empty_one() -> None:
    database = await opened(await stored(fold=False), is_lazy=True)
    table = table_of(database)
    index = table.indexes[BY_CREATION_TIME]
    work = Work(database)
    for touch in (
        lambda: work.insert("notes", {}),
        lambda: work.scan("notes"),
        lambda: work.count("notes"),
        lambda: work.get("notes", "j57000000000000000000000000000000"),
        lambda: len(table),
        lambda: table.documents[b""],
        lambda: table.documents.__setitem__(b"", b""),
        lambda: table.documents.__delitem__(b""),
        lambda: table.documents.pop(b"", None),
        lambda: list(table.documents),
        lambda: list(table.documents.values()),
        lambda: b"" in table.documents,
        lambda: len(index.keys),
        lambda: b"" in index.keys,
        lambda: index.keys.add(b""),
        lambda: index.keys.discard(b""),
        lambda: index.keys.replace([b""]),
        lambda: index.keys.chunk(b"", None, 1),
        lambda: index.keys.count(b"", None),
    ):
        with pytest.raises(TableUnloaded, match="'notes' is not loaded"):
            touch()
    assert not work.transaction.writes
    work.drop()
    await close(database)


@pytest.mark.asyncio
async def test_a_hundred_first_touches_cause_one_load() -> None:
    persistence = await stored()
    database = await opened(persistence, is_lazy=True)
    table = table_of(database)
    persistence.hold_loads()
    waiting = [asyncio.ensure_future(database.loading.load(table)) for _ in range(100)]
    await persistence.load_held()
    assert not any(future.done() for future in waiting)
    persistence.release_loads()
    await asyncio.gather(*waiting)
    await database.loading.load(table)
    assert persistence.loaded[table.number] == 1
    assert database.loading.loads == 1
    await close(database)


@pytest.mark.asyncio
@pytest.mark.parametrize("fold", [True, False])
async def test_a_load_that_fails_is_tried_again_by_the_next_touch(fold: bool) -> None:
    persistence = await stored(fold=fold)
    database = await opened(persistence, is_lazy=True)
    table = table_of(database)
    persistence.failing.add("load")
    for _ in range(2):
        with pytest.raises(StorageError, match=r'Table "notes" can\'t be loaded\. load fails'):
            await database.loading.load(table)
    assert table.unloaded is not None
    persistence.failing.clear()
    await database.loading.load(table)
    assert len(table) == 5
    check_loaded(database)
    await close(database)


@pytest.mark.asyncio
async def test_a_damaged_document_is_named() -> None:
    persistence = MemoryPersistence()
    database = await opened(persistence)
    number = database.create_table("notes").number
    await close(database)
    end = (await persistence.open()).end
    await persistence.append([Record(end + 1, "commit", (DocumentWrite(number, "broken", b"\xc1"),))], end)
    await persistence.fold(1000)
    await persistence.close()

    database = await opened(persistence, is_lazy=True)
    with pytest.raises(StorageError, match=r'Table "notes" can\'t be loaded\. document "broken" is damaged'):
        await database.loading.load(table_of(database))
    await close(database)


@pytest.mark.asyncio
async def test_a_table_beyond_the_budget_is_refused() -> None:
    persistence = await stored(4000)
    database = await opened(persistence, is_lazy=True, limits=Limits(data_bytes=1 << 20))
    with pytest.raises(DataBytesExceeded, match=r'^Table "notes" can\'t be loaded.*REACTOR_DATA_BYTES=1048576\b'):
        await database.loading.load(table_of(database))
    assert database.catalog.bytes == counted_bytes(database)
    await close(database)


@pytest.mark.asyncio
async def test_closing_ends_a_load_and_tells_who_waits() -> None:
    persistence = await stored()
    database = await opened(persistence, is_lazy=True)
    persistence.hold_loads()
    waiting = asyncio.ensure_future(database.loading.load(table_of(database)))
    await persistence.load_held()
    closing = asyncio.ensure_future(database.close())
    await turns()
    persistence.release_loads()
    await closing
    with pytest.raises(Unavailable):
        await waiting


@pytest.mark.asyncio
@pytest.mark.parametrize("is_folded", [True, False])
async def test_what_is_folded_while_a_table_loads_changes_nothing(is_folded: bool) -> None:
    """The log's end belongs to the table as it was when the database opened, folded meanwhile or not."""
    persistence = await stored(3, fold=True)
    first = await opened(persistence)
    work = Work(first)
    gone, changed, _ = sorted(contents(first)["notes"])
    work.delete("notes", gone)
    work.patch("notes", changed, {"kind": 9})
    work.insert("notes", {"kind": 8})
    work.commit()
    expected = contents(first)["notes"]
    await close(first)

    database = await opened(persistence, is_lazy=True)
    persistence.hold_loads()
    loading = asyncio.ensure_future(database.loading.load(table_of(database)))
    await persistence.load_held()
    if is_folded:
        await persistence.fold(1000)
    persistence.release_loads()
    await loading
    assert contents_of(database, "notes") == expected
    await close(database)


@pytest.mark.asyncio
async def test_an_index_added_before_the_load_is_filled_by_it() -> None:
    database = await opened(await stored(), is_lazy=True)
    table = table_of(database)
    index = database.catalog.add_index(table, BY_KIND)
    dropped = database.catalog.add_index(table, ("other", "_creationTime"))
    loading = asyncio.ensure_future(database.loading.load(table))
    await asyncio.sleep(0)
    database.catalog.drop_index(table, dropped.fields)
    await loading
    assert len(index.keys) == 5
    check_loaded(database)
    await close(database)


@pytest.mark.asyncio
async def test_settled_waits_for_a_load_but_asks_for_none() -> None:
    persistence = await stored()
    database = await opened(persistence, is_lazy=True)
    table = table_of(database)
    await database.loading.settled(table)
    assert table.unloaded is not None
    for fails in (True, False):
        persistence.hold_loads()
        errors: list[Error] = []
        database.loading.when_loaded(table, lambda: None, errors.append)
        settled = asyncio.ensure_future(database.loading.settled(table))
        await persistence.load_held()
        assert not settled.done()
        if fails:
            persistence.failing.add("load")
        persistence.release_loads()
        await settled
        await turns()
        persistence.failing.clear()
        assert (table.unloaded is not None, len(errors)) == (fails, fails)
    await close(database)


def contents_of(database: Database, name: str) -> dict[str, object]:
    work = Work(database)
    try:
        return {str(document["_id"]): document for document in work.scan(name)}
    finally:
        work.drop()


def check_loaded(database: Database) -> None:
    """What is loaded is whole, and counted."""
    for table in database.user_tables():
        if table.unloaded is None:
            lengths = {len(index.keys) for index in table.order}
            assert lengths == {len(table)}
    assert database.catalog.bytes == counted_bytes(database)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "patch", "delete", "touch", "restart", "drain", "index"]),
        st.sampled_from(NAMES),
        st.integers(0, 5),
    ),
    max_size=30,
)


@settings(max_examples=size(60, 2000))
@given(STEPS, st.integers(1, 40), st.integers(0, 12))
def test_random_touches_commits_and_restarts_equal_an_eager_model(
    steps: list[tuple[str, str, int]], fold_records: int, kept: int
) -> None:
    async def check() -> None:
        limits = Limits(fold_records=fold_records, log_retention_records=kept, batch_commits=2)
        persistence = LoadingPersistence(MemoryPersistence())
        tasks = Tasks()
        database = await opened(persistence, limits=limits, tasks=tasks, is_lazy=True)
        model: dict[str, dict[str, object]] = {}
        for name in NAMES:
            database.create_table(name)
            model[name] = {}
        touched, starts = set(NAMES), 0
        for action, name, number in steps:
            if action == "restart":
                await database.close()
                await tasks.join()
                persistence.loaded.clear()
                starts += 1
                database = await opened(persistence, limits=limits, tasks=tasks, is_lazy=True, seed=starts)
                touched = set()
                continue
            table = table_of(database, name)
            if action == "drain":
                await database.publisher.drain()
                continue
            if action == "index":
                if BY_KIND not in table.indexes and table.unloaded is not None:
                    database.catalog.add_index(table, BY_KIND)
                continue
            touched.add(name)
            await database.loading.load(table)
            work = Work(database)
            ids = sorted(model[name])
            if action == "insert" or not ids:
                new = work.insert(name, {"kind": number})
                model[name][new] = work.get(name, new)
            elif action == "patch":
                some = ids[number % len(ids)]
                work.patch(name, some, {"kind": number})
                model[name][some] = work.get(name, some)
            elif action == "delete":
                some = ids[number % len(ids)]
                work.delete(name, some)
                del model[name][some]
            else:
                assert contents_of(database, name) == model[name]
            work.commit()
            for other in NAMES:
                assert (table_of(database, other).unloaded is None) == (other in touched)
        check_loaded(database)
        assert persistence.loaded.keys() <= {table_of(database, name).number for name in touched} | {
            number for number in persistence.loaded if number < FIRST_USER_TABLE
        }
        for name in NAMES:
            await database.loading.load(table_of(database, name))
            assert contents_of(database, name) == model[name]
        check_indexes(database)
        await database.close()
        await tasks.join()

    asyncio.run(check())


@pytest.mark.asyncio
async def test_who_stops_waiting_for_a_table_is_left_out() -> None:
    """Waiting ends for each one alone, and a load that ends is not the end of another table's."""
    persistence = await stored()
    database = await opened(persistence, is_lazy=True)
    persistence.hold_loads()
    notes, tags = table_of(database), table_of(database, "tags")
    loads = [asyncio.ensure_future(database.loading.load(table)) for table in (notes, notes, tags)]
    await persistence.load_held()
    settled = [asyncio.ensure_future(database.loading.settled(notes)) for _ in range(2)]
    await turns()
    for gone in (loads[0], settled[0]):
        gone.cancel()
    persistence.release_loads()
    await asyncio.gather(*loads[1:], settled[1])
    assert notes.unloaded is None
    assert tags.unloaded is None
    assert all(gone.cancelled() for gone in (loads[0], settled[0]))
    check_loaded(database)
    await close(database)


@pytest.mark.asyncio
async def test_a_load_that_fails_for_one_who_left_disturbs_nobody() -> None:
    persistence = await stored()
    database = await opened(persistence, is_lazy=True)
    persistence.hold_loads()
    waiting = asyncio.ensure_future(database.loading.load(table_of(database)))
    await persistence.load_held()
    waiting.cancel()
    closing = asyncio.ensure_future(database.close())
    await turns()
    persistence.release_loads()
    await closing
    assert waiting.cancelled()
    assert table_of(database).unloaded is not None


@pytest.mark.asyncio
async def test_a_table_that_is_not_loaded_can_be_dropped() -> None:
    database = await opened(await stored(), is_lazy=True)
    table = table_of(database)
    before = database.catalog.bytes
    database.catalog.drop_table(table.number)
    assert database.table("notes") is None
    assert database.catalog.bytes == before == counted_bytes(database)
    await close(database)
