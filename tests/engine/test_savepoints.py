"""Savepoints: whatever is staged, rolled back and kept, a transaction does what a stack of copies would."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reactor.engine.catalog import BY_CREATION_TIME
from reactor.engine.database import Database
from reactor.engine.transaction import Savepoint
from tests.engine.work import BY_KIND, Document, Work, check_indexes, contents, opened, with_index
from tests.sizes import size

KINDS = st.integers(0, 3).map(float)
STEPS = st.one_of(
    st.tuples(st.just("insert"), KINDS),
    st.tuples(st.just("patch"), st.integers(0, 9), KINDS),
    st.tuples(st.just("delete"), st.integers(0, 9)),
    st.tuples(st.just("begin")),
    st.tuples(st.just("end"), st.booleans()),
    st.tuples(st.just("read")),
)


class Nested:
    """One transaction with savepoints, and a model of it: one whole copy of the documents per open savepoint."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.work = Work(database)
        self.documents: dict[str, Document] = dict(contents(database)["notes"])
        self.open: list[tuple[Savepoint, dict[str, Document], tuple[int, int]]] = []

    def written(self) -> tuple[int, int]:
        return self.work.transaction.documents_written, self.work.transaction.bytes_written

    def pick(self, at: int) -> str | None:
        ids = sorted(self.documents)
        return ids[at % len(ids)] if ids else None

    def step(self, name: str, *args: Any) -> None:
        getattr(self, name)(*args)

    def insert(self, kind: float) -> None:
        new = self.work.insert("notes", {"kind": kind})
        document = self.work.get("notes", new)
        assert document is not None
        self.documents[new] = document

    def patch(self, at: int, kind: float) -> None:
        chosen = self.pick(at)
        if chosen is not None:
            self.work.patch("notes", chosen, {"kind": kind})
            self.documents[chosen] = {**self.documents[chosen], "kind": kind}

    def delete(self, at: int) -> None:
        chosen = self.pick(at)
        if chosen is not None:
            self.work.delete("notes", chosen)
            del self.documents[chosen]

    def begin(self) -> None:
        self.open.append((self.work.transaction.savepoint(), dict(self.documents), self.written()))

    def end(self, keep: bool) -> None:
        if not self.open:
            return
        savepoint, documents, written = self.open.pop()
        if keep:
            self.work.transaction.release(savepoint)
            return
        self.work.transaction.roll_back(savepoint)
        self.documents = documents
        assert self.written() == written

    def read(self) -> None:
        for index, field in ((BY_KIND, "kind"), (BY_CREATION_TIME, "_creationTime")):
            found = self.work.scan("notes", index)
            assert sorted(found, key=lambda note: str(note["_id"])) == [
                self.documents[id] for id in sorted(self.documents)
            ]
            assert [note[field] for note in found] == sorted(note[field] for note in found)  # type: ignore[type-var]
            assert self.work.count("notes", index) == len(self.documents)
        for id, document in self.documents.items():
            assert self.work.get("notes", id) == document


async def run(before: int, steps: list[tuple[Any, ...]], reads_always: bool) -> None:
    database = await opened()
    database.create_table("notes")
    with_index(database, "notes", BY_KIND)
    setup = Work(database)
    for kind in range(before):
        setup.insert("notes", {"kind": float(kind)})
    setup.commit()
    nested = Nested(database)
    for step in steps:
        nested.step(*step)
        if reads_always:
            nested.read()
    while nested.open:
        nested.end(keep=len(nested.open) % 2 == 0)
    nested.read()
    assert nested.work.transaction._undo is None, "outside of sub-transactions nothing is remembered to be undone"
    nested.work.commit()
    assert contents(database)["notes"] == nested.documents
    check_indexes(database)
    await database.close()


@settings(max_examples=size(150, 1500), deadline=None)
@given(st.integers(0, 4), st.lists(STEPS, min_size=3, max_size=30), st.booleans())
def test_a_transaction_equals_a_stack_of_copies(before: int, steps: list[tuple[Any, ...]], reads_always: bool) -> None:
    asyncio.run(run(before, steps, reads_always))
