"""The memory budget: counted exactly, and kept by refusing what grows, never what shrinks."""

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor.engine import committer
from reactor.engine.backfill import fill_index
from reactor.engine.database import Database
from reactor.errors import DataBytesExceeded
from reactor.limits import Limits
from reactor.values.types import undefined
from tests.engine.work import BY_KIND, Work, check_indexes, contents, counted_bytes, opened, with_index
from tests.sizes import size

MIB = 1 << 20


def documents(database: Database) -> list[str]:
    return sorted(contents(database)["notes"])


def insert(database: Database, text: str = "x") -> str:
    work = Work(database)
    document_id = work.insert("notes", {"kind": text})
    work.commit()
    return document_id


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["insert", "patch", "same key", "delete", "index", "fill", "drop"]),
        st.integers(0, 9),
        st.none() | st.text(max_size=40),
    ),
    max_size=40,
)


@settings(max_examples=size(100, 3000))
@given(CHANGES, st.integers(1, 4))
def test_the_count_equals_a_full_recount(changes: list[tuple[str, int, str | None]], chunk: int) -> None:
    """Also while an index is being filled, which may lack documents that commits change or remove."""

    async def check() -> None:
        database = await opened()
        table = database.create_table("notes")
        filling = None
        for action, which, text in changes:
            ids = documents(database)
            work = Work(database)
            some = ids[which % len(ids)] if ids else None
            if action == "insert" or (some is None and action not in ("index", "fill", "drop")):
                work.insert("notes", {} if text is None else {"kind": text})
            elif action == "patch" and some is not None:
                work.patch("notes", some, {"kind": undefined if text is None else text})
            elif action == "same key" and some is not None:
                work.patch("notes", some, {"other": text})
            elif action == "delete" and some is not None:
                work.delete("notes", some)
            elif action == "index" and BY_KIND not in table.indexes:
                filling = fill_index(database.catalog, database.catalog.add_index(table, BY_KIND), chunk)
                next(filling, None)
            elif action == "fill" and filling is not None:
                next(filling, None)
            elif action == "drop" and BY_KIND in table.indexes:
                filling = None
                database.catalog.drop_index(table, BY_KIND)
            work.commit()
            assert database.catalog.bytes == counted_bytes(database)
        for _ in filling or ():
            pass
        check_indexes(database)
        database.catalog.drop_table(table.number)
        assert database.catalog.bytes == counted_bytes(database)
        await database.close()

    asyncio.run(check())


@pytest.mark.asyncio
async def test_beyond_the_budget_only_what_grows_is_refused() -> None:
    database = await opened(limits=Limits(data_bytes=MIB))
    database.create_table("notes")
    with_index(database, "notes", BY_KIND)
    while database.catalog.bytes < MIB - 11_000:
        insert(database, "x" * 5000)
    with pytest.raises(DataBytesExceeded) as caught:
        insert(database, "x" * 5500)
    full = database.catalog.bytes
    assert MIB - 11_000 < full <= MIB
    assert "more than REACTOR_DATA_BYTES=1048576" in str(caught.value)
    ids = documents(database)
    before = contents(database)

    work = Work(database)
    work.patch("notes", ids[0], {"kind": "y" * 5000})  # no byte more
    work.commit()
    work = Work(database)
    work.patch("notes", ids[0], {"kind": "y" * 20_000})
    with pytest.raises(DataBytesExceeded):
        work.commit()
    assert contents(database)["notes"][ids[1]] == before["notes"][ids[1]]
    assert database.catalog.bytes == full

    work = Work(database)  # as a whole it shrinks
    work.insert("notes", {"kind": "z" * 4000})
    work.delete("notes", ids[1])
    work.commit()
    work = Work(database)
    assert work.count("notes") == len(ids)
    work.drop()
    for document_id in documents(database)[:5]:
        work = Work(database)
        work.delete("notes", document_id)
        work.commit()
    insert(database, "x" * 5000)
    check_indexes(database)
    database.create_table("more")  # a system document: a push may be what makes room
    await database.close()


@pytest.mark.asyncio
async def test_an_index_that_does_not_fit_is_not_filled() -> None:
    database = await opened(limits=Limits(data_bytes=MIB))
    table = database.create_table("notes")
    while database.catalog.bytes < MIB * 3 // 4:
        insert(database, "x" * 5000)
    index = database.catalog.add_index(table, BY_KIND)
    with pytest.raises(DataBytesExceeded):
        list(fill_index(database.catalog, index, 4))
    await database.close()


@pytest.mark.asyncio
async def test_no_transaction_grows_past_the_part_that_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from the budget nothing is computed; the reserve is what the largest transaction can add."""
    looked: list[int] = []
    monkeypatch.setattr(committer, "_check_room", lambda catalog, transaction, moves: looked.append(1))
    for limit, looks in ((committer.MOST_GROWTH * 2, 0), (committer.MOST_GROWTH, 3)):
        database = await opened(limits=msgspec.structs.replace(Limits(), data_bytes=limit))
        database.create_table("notes")
        looked.clear()
        for _ in range(3):
            insert(database)
        assert len(looked) == looks
        await database.close()
