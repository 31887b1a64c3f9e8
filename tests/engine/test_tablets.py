"""Tables that are replaced as a whole: what memory, the log and a restart say of them, also when the disk fails."""

import pytest

from reactor.engine import publisher as publisher_module
from reactor.engine.catalog import TABLES, Table, id_key
from reactor.engine.database import Database
from reactor.engine.systemdocs import put_system
from reactor.engine.tablets import Unseen
from reactor.storage.memory import MemoryPersistence
from reactor.values.stored import decode_object, encode_stored
from reactor.values.types import Int64, Value
from tests.engine.work import BY_KIND, Tasks, Work, check_indexes, contents, opened, with_index
from tests.storage.faults import Fault, FaultyPersistence

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_SECONDS", (0.0,))


async def prepared(database: Database, count: int) -> tuple[Unseen, list[str]]:
    """Return the next documents of `notes`."""
    table = database.catalog.by_name["notes"]
    unseen = Unseen(database, "notes", table.indexes)
    ids = [database.ids.next(table.number) for _ in range(count)]
    for at, name in enumerate(ids):
        document: dict[str, Value] = {"_creationTime": float(at), "_id": name, "kind": "new"}
        unseen.add(id_key(name), document, bytes(encode_stored(document)))
    await unseen.finish()
    return unseen, ids


def switch(database: Database, unseen: Unseen) -> Table:
    """Let `notes` have them, in one commit."""
    table = database.catalog.by_name["notes"]
    (row,) = [row for row in database.system_documents(TABLES) if row["name"] == "notes"]
    transaction = database.begin_mutation()
    changed = {**row, "tablet": Int64(unseen.content.tablet)}
    put_system(transaction, database.catalog.by_name[TABLES], row, changed)
    ts = database.committer.commit(transaction, source="")
    database.catalog.replace_content(table, unseen.content, ts)
    database.tablets.discard_replaced(unseen.content, table, ts)
    return table


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_switch_that_is_lost_with_the_disk_is_made_again(is_lost: bool) -> None:
    """What was written to the old and to the new documents behind it is undone; a restart finds the same."""
    inner, tasks = MemoryPersistence(), Tasks()
    storage = FaultyPersistence(inner)
    database = await opened(storage, tasks=tasks)
    database.create_table("notes")
    with_index(database, "notes", BY_KIND)
    work = Work(database)
    old = work.insert("notes", {"kind": "old"})
    work.commit()
    unseen, ids = await prepared(database, 1000)
    assert set(kinds(database)) == {"old"}, "nobody sees them"
    await database.publisher.drain()

    if is_lost:
        storage.faults.append(Fault.UNKNOWN_LOST)
    work = Work(database)
    work.patch("notes", old, {"kind": "changed"})
    work.commit()
    table = switch(database, unseen)
    work = Work(database)
    work.patch("notes", ids[0], {"kind": "changed"})
    work.commit()
    await database.publisher.drain()
    wanted = ["new"] * 1000 if is_lost else ["changed", *["new"] * 999]
    assert sorted(kinds(database)) == sorted(wanted)
    await database.tablets.settled()
    check_indexes(database)
    assert table.by_id.before is None
    await database.publisher.drain()
    found = contents(database)
    await database.close()
    await tasks.join()

    tasks = Tasks()
    database = await opened(inner, tasks=tasks)
    await database.loading.load(database.catalog.by_name["notes"])
    assert sorted(kinds(database)) == sorted(wanted)
    assert contents(database) == found
    await database.tablets.settled()
    await database.close()
    await tasks.join()


async def test_what_never_came_to_be_seen_is_gone_after_a_restart() -> None:
    inner, tasks = MemoryPersistence(), Tasks()
    database = await opened(inner, tasks=tasks)
    database.create_table("notes")
    unseen, _ = await prepared(database, 300)
    tablet = unseen.content.tablet
    await database.close()
    await tasks.join()
    tasks = Tasks()
    database = await opened(inner, tasks=tasks)
    assert tablet in database.tablets.leaving
    await database.tablets.settled()
    await inner.fold(100_000)
    assert tablet not in await inner.tables()
    await database.close()
    await tasks.join()


def kinds(database: Database) -> list[object]:
    documents = database.catalog.by_name["notes"].documents
    return [decode_object(data)["kind"] for data in documents.values()]
