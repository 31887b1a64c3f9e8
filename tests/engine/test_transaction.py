"""A transaction sees its own writes over its snapshot, says what it read, and is bounded."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from reactor.engine import transaction as transaction_module
from reactor.engine.catalog import Table, id_key
from reactor.engine.database import Database
from reactor.engine.keyrange import KeyRange
from reactor.engine.systemdocs import put_system
from reactor.errors import LimitExceeded
from tests.engine.work import BY_KIND, Work, bound, check_indexes, contents, opened, turns, with_index

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def database() -> AsyncIterator[Database]:
    made = await opened()
    made.create_table("notes")
    with_index(made, "notes", BY_KIND)
    yield made
    await made.close()


def notes(database: Database) -> Table:
    table = database.table("notes")
    assert table is not None
    return table


async def test_own_writes_are_seen_in_every_kind_of_read(database: Database) -> None:
    work = Work(database)
    first, second, third = [work.insert("notes", {"kind": kind}) for kind in (1, 2, 3)]
    work.patch("notes", first, {"kind": 4})
    work.delete("notes", second)

    assert [note["_id"] for note in work.scan("notes", BY_KIND)] == [third, first]
    assert [note["_id"] for note in work.scan("notes", BY_KIND, descending=True, chunk=1)] == [first, third]
    assert work.count("notes", BY_KIND) == 2
    assert work.count("notes", BY_KIND, (bound("lt", "kind", 3),)) == 0
    assert work.get("notes", second) is None
    work.drop()


async def test_a_scan_sees_writes_made_ahead_of_it_and_none_behind(database: Database) -> None:
    """The transaction may write while it scans, as a loop over a query does."""
    work = Work(database)
    for kind in (1, 2, 3, 4):
        work.insert("notes", {"kind": kind})
    work.commit()
    work = Work(database)
    index = notes(database).indexes[BY_KIND]

    found: list[int] = []
    for chunk in work.transaction.scan(index, b"", None, False, 1):
        for key, _ in chunk.rows:
            found.append(key[1])
        if len(found) == 2:
            work.insert("notes", {"kind": 0})
            work.insert("notes", {"kind": 2.5})
    assert len(found) == 5
    work.drop()


async def test_a_document_that_came_and_went_leaves_nothing(database: Database) -> None:
    work = Work(database)
    work.delete("notes", work.insert("notes", {}))
    ts = work.commit()

    assert contents(database)["notes"] == {}
    assert database.write_log.since(ts - 1)[0].changes == ()


async def test_writes_staged_before_an_index_existed_are_in_it(database: Database) -> None:
    """Keys are made for the indexes there are at the commit."""
    setup = Work(database)
    old, other = [setup.insert("notes", {"kind": 1, "other": 1}) for _ in range(2)]
    setup.commit()
    work = Work(database)
    work.insert("notes", {"kind": 1, "other": 2})
    work.patch("notes", old, {"other": 3})
    work.delete("notes", other)
    index = database.catalog.add_index(notes(database), ("other", "_creationTime"))
    work.insert("notes", {"kind": 2, "other": 4})
    work.patch("notes", old, {"other": 5})
    work.commit()

    check_indexes(database)
    assert len(index.keys) == 3


async def test_writes_staged_before_an_index_was_dropped_are_applied(database: Database) -> None:
    work = Work(database)
    note = work.insert("notes", {"kind": 1})
    database.catalog.drop_index(notes(database), BY_KIND)
    work.commit()

    assert note in contents(database)["notes"]
    check_indexes(database)


async def test_a_read_is_recorded_though_nothing_was_there(database: Database) -> None:
    work = Work(database)
    absent = database.ids.next(notes(database).number)
    work.get("notes", absent)
    work.scan("notes", BY_KIND, (bound("eq", "kind", 1),))
    work.count("notes", BY_KIND, (bound("eq", "kind", 3),))
    index = notes(database).indexes[BY_KIND]
    reads = work.transaction.reads

    assert reads.touches(notes(database).by_id.id, b"\x10" + absent.encode() + b"\x00")
    assert [
        reads.touches(index.id, index.encoder({"kind": float(kind), "_creationTime": 1.0, "_id": "x"}))
        for kind in (1, 2, 3)
    ] == [True, False, True]
    work.drop()


@pytest.mark.parametrize(
    ("limit", "most", "rule"),
    [
        ("MAX_READS", 6, "TooManyReads"),
        ("MAX_DOCUMENTS_READ", 6, "TooManyDocumentsRead"),
        ("MAX_BYTES_READ", 1000, "TooManyBytesRead"),
    ],
)
async def test_reads_are_limited(
    database: Database, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, rule: str
) -> None:
    work = Work(database)
    ids = [work.insert("notes", {"text": "x" * 50}) for _ in range(12)]
    work.commit()
    monkeypatch.setattr(transaction_module, limit, most)
    reader = Work(database)
    for note in ids[:6]:
        assert reader.get("notes", note) is not None

    def read_on() -> None:
        for note in ids[6:]:
            reader.get("notes", note)

    with pytest.raises(LimitExceeded, match=f"in a single function execution .limit: {most}") as refused:
        read_on()

    assert refused.value.rule == rule
    reader.drop()


@pytest.mark.parametrize(
    ("limit", "most", "rule"),
    [("MAX_DOCUMENTS_WRITTEN", 6, "TooManyWrites"), ("MAX_BYTES_WRITTEN", 1000, "TooManyBytesWritten")],
)
async def test_writes_are_limited(
    database: Database, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, rule: str
) -> None:
    monkeypatch.setattr(transaction_module, limit, most)
    work = Work(database)

    def write(count: int) -> None:
        for _ in range(count):
            work.insert("notes", {"text": "x" * 50})

    write(6)
    with pytest.raises(LimitExceeded, match="in a single function execution") as refused:
        write(6)

    assert refused.value.rule == rule
    work.drop()


async def test_an_id_in_use_is_not_given_to_a_new_document(database: Database) -> None:
    """Caught where the mistake is made, and not in the middle of applying a commit."""
    work = Work(database)
    note = work.insert("notes", {})
    work.commit()
    await database.publisher.drain()
    document = contents(database)["notes"][note]
    again = Work(database)

    with pytest.raises(AssertionError, match="unused"):
        put_system(again.transaction, notes(database), None, document)
    again.drop()
    await turns()


async def test_a_limited_scan_records_what_it_consumed(database: Database) -> None:
    index = notes(database).indexes[BY_KIND]
    keys = KeyRange(b"b", b"y", 1)
    work = Work(database)
    work.transaction.record_scan(index, keys, False, b"m")

    assert [work.transaction.reads.touches(index.id, key) for key in (b"a", b"b", b"m", b"m\x00", b"n")] == [
        False,
        True,
        True,
        False,
        False,
    ]
    work.drop()
    work = Work(database)
    work.transaction.record_scan(index, keys, True, b"m")

    assert [work.transaction.reads.touches(index.id, key) for key in (b"l\xff", b"m", b"x", b"y")] == [
        False,
        True,
        True,
        False,
    ]
    work.drop()


async def test_exactly_the_limit_of_reads_is_allowed_whatever_reactor_reads_itself(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own reads are of system tables, and those with which an insert looks for its new id."""
    monkeypatch.setattr(transaction_module, "MAX_READS", 64)
    work = Work(database)
    reads = work.transaction.reads
    table = notes(database)
    ids = [database.ids.next(table.number) for _ in range(65)]
    for at, absent in enumerate(ids[:64]):
        reads.add_point(database.tables_index, bytes([at]))
        reads.add_range(database.deployment_index, KeyRange(bytes([at, 0]), bytes([at, 1])))
        work.transaction.expect_absent(table, database.ids.next(table.number))
        assert work.transaction.get(table, absent) is None

    for _ in range(2):
        with pytest.raises(LimitExceeded, match=r"limit: 64\)"):
            work.transaction.get(table, ids[64])
    work.drop()


async def test_reading_the_same_again_costs_nothing_or_a_sixteenth(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_module, "MAX_READS", 64)
    work = Work(database)
    table = notes(database)
    index = table.indexes[BY_KIND]
    for _ in range(50):
        for at in range(64):
            work.transaction.count(index, KeyRange(bytes([at, 0]), bytes([at, 1])))

    def read_on() -> None:
        for at in range(64, 64 + 6):
            work.transaction.count(index, KeyRange(bytes([at, 0]), bytes([at, 1])))

    with pytest.raises(LimitExceeded):
        read_on()
    work.drop()


async def test_a_system_document_is_looked_up_without_counting(database: Database) -> None:
    work = Work(database)
    (row,) = database.system_documents("_deployment")
    table = database.catalog.by_name["_deployment"]

    assert work.transaction.look_up(table, str(row["_id"])) is not None
    assert work.transaction.documents_read == 0
    assert work.transaction.reads.touches(table.by_id.id, id_key(str(row["_id"])))
    work.drop()


async def test_own_writes_to_one_table_are_not_seen_in_another(database: Database) -> None:
    """Both have the same index, and ids that differ in nothing but their table."""
    database.create_table("tags")
    with_index(database, "tags", BY_KIND)
    work = Work(database)
    note, tag = work.insert("notes", {"kind": 1}), work.insert("tags", {"kind": 1})
    for _ in range(2):
        assert [found["_id"] for found in work.scan("notes", BY_KIND)] == [note]
        assert [found["_id"] for found in work.scan("tags", BY_KIND)] == [tag]
        assert work.count("notes", BY_KIND) == work.count("tags", BY_KIND) == 1
        work.delete("tags", tag)
        tag = work.insert("tags", {"kind": 2})
    work.drop()


async def test_there_is_room_up_to_the_limits_of_what_may_be_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_module, "MAX_DOCUMENTS_READ", 2)
    monkeypatch.setattr(transaction_module, "MAX_BYTES_READ", 100)
    transaction = database.begin_mutation()
    assert transaction.has_room(100)
    assert not transaction.has_room(101)
    transaction.count_document(60)
    assert transaction.has_room(40)
    assert not transaction.has_room(41)
    transaction.count_document(0)
    assert not transaction.has_room(0)
    with pytest.raises(LimitExceeded):
        transaction.count_document(0)
