"""Documents of system tables: read at a snapshot, recorded, and free of the limits of functions."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from reactor.engine.catalog import BY_CRON, CRON_JOB_LOGS, STORED_FILES, Table, document_id
from reactor.engine.database import Database
from reactor.engine.systemdocs import find_system, insert_system, put_system, read_system
from reactor.errors import WriteConflict
from reactor.limits import MAX_DOCUMENTS_WRITTEN
from reactor.storage.memory import MemoryPersistence
from tests.engine.work import opened

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def database() -> AsyncIterator[Database]:
    made = await opened()
    yield made
    await made.close()


def logs(database: Database) -> Table:
    return database.catalog.by_name[CRON_JOB_LOGS]


def add(database: Database, name: str, ts: float = 0.0) -> str:
    transaction = database.begin_mutation()
    made = insert_system(database, transaction, logs(database), {"name": name, "ts": ts})
    database.committer.commit(transaction, source="")
    return made


async def test_a_document_is_read_as_the_transaction_sees_it(database: Database) -> None:
    old = database.begin_mutation()
    made = add(database, "a")
    assert read_system(old, logs(database), made) is None

    transaction = database.begin_mutation()
    before = read_system(transaction, logs(database), made)
    assert before is not None
    put_system(transaction, logs(database), before, {**before, "name": "b"})
    after = read_system(transaction, logs(database), made)
    assert after is not None
    assert (before["name"], after["name"]) == ("a", "b")
    put_system(transaction, logs(database), after, None)
    assert read_system(transaction, logs(database), made) is None


async def test_a_document_is_found_by_the_first_field_of_an_index(database: Database) -> None:
    later, earlier = add(database, "a", 2.0), add(database, "a", 1.0)
    add(database, "ab")
    transaction = database.begin_mutation()
    found = find_system(transaction, logs(database), BY_CRON, "a")
    assert found is not None
    assert found["_id"] == earlier != later
    assert find_system(transaction, logs(database), BY_CRON, "b") is None


@pytest.mark.parametrize("name", ["a", "b"])
async def test_what_was_looked_for_is_recorded(database: Database, name: str) -> None:
    """A document that comes is a conflict for who looked in vain, and none for who looked elsewhere."""
    transaction = database.begin_mutation()
    find_system(transaction, logs(database), BY_CRON, "a")
    insert_system(database, transaction, logs(database), {"name": "mine", "ts": 0.0})
    add(database, name)
    if name == "a":
        with pytest.raises(WriteConflict):
            database.committer.commit(transaction, source="")
    else:
        database.committer.commit(transaction, source="")


async def test_they_do_not_count_toward_the_limits_of_functions(database: Database) -> None:
    transaction = database.begin_mutation()
    transaction.documents_written = MAX_DOCUMENTS_WRITTEN
    insert_system(database, transaction, logs(database), {"name": "a", "ts": 0.0})
    assert (transaction.documents_written, transaction.bytes_written) == (MAX_DOCUMENTS_WRITTEN, 0)


async def test_what_a_transaction_inserts_is_counted_over_all_instances(database: Database) -> None:
    mounted = database.create_table(f"part/{STORED_FILES}")
    transaction = database.begin_mutation()
    kept = insert_system(database, transaction, database.catalog.by_name[STORED_FILES], {"size": 1.0})
    savepoint = transaction.savepoint()
    insert_system(database, transaction, mounted, {"size": 2.0})
    count = transaction.inserted(STORED_FILES)
    assert count.documents == 2
    assert count is transaction.inserted(STORED_FILES), "for its owner to keep"
    transaction.roll_back(savepoint)
    again = transaction.inserted(STORED_FILES)
    assert (again.documents, again.bytes) == (1, count.bytes // 2)
    assert transaction.inserted(CRON_JOB_LOGS).documents == 0
    assert list(transaction.writes) == [kept]


async def test_a_key_of_any_index_tells_its_document(database: Database) -> None:
    made = add(database, "a")
    table = logs(database)
    for index in table.order:
        (key,) = index.keys.chunk(b"", None, 2, False)
        assert document_id(key) == made


async def test_system_tables_of_components_are_in_memory_from_the_start() -> None:
    """Services look at them before anybody touches them."""
    persistence = MemoryPersistence()
    database = await opened(persistence)
    database.create_table(f"part/{STORED_FILES}")
    database.create_table("part/notes")
    await database.close()

    database = await opened(persistence, is_lazy=True)
    assert database.catalog.by_name[f"part/{STORED_FILES}"].unloaded is None
    assert database.catalog.by_name["part/notes"].unloaded is not None
    await database.close()
