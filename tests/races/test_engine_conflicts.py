"""Two transactions, forced to interleave: what must conflict does, what need not does not, and the retry is right.

Every scenario returns how often it lost and whether what it left behind is the work of some serial order. The last
tests run the same scenarios without validation, and see them go wrong: so these tests can fail.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import pytest

from reactor.engine.committer import Committer
from reactor.engine.database import Database
from reactor.engine.query import Bound
from reactor.engine.systemdocs import put_system
from reactor.engine.transaction import Transaction
from reactor.errors import SnapshotTooOld, WriteConflict
from reactor.limits import Limits
from reactor.storage.memory import MemoryPersistence
from tests.engine.work import BY_KIND, Document, Work, bound, contents, opened, rows, with_index
from tests.storage.faults import FaultyPersistence

Body = Callable[[Work], object]


class Outcome(NamedTuple):
    """What came of a scenario."""

    conflicts: int
    is_serial: bool


Scenario = Callable[[Database], Outcome]


async def database() -> Database:
    """An empty database with a table `notes`, indexed by kind, and a table `seals`."""
    made = await opened()
    made.create_table("notes")
    made.create_table("seals")
    with_index(made, "notes", BY_KIND)
    return made


def do(database: Database, body: Body) -> None:
    """Run `body` in a transaction that nothing interferes with."""
    work = Work(database)
    body(work)
    work.commit()


def interleave(database: Database, body: Body, rival: Body) -> int:
    """Run `rival` between the end of `body` and its commit; run `body` again if it lost. Return how often it did."""
    attempt = Work(database)
    body(attempt)
    do(database, rival)
    try:
        attempt.commit()
    except WriteConflict:
        do(database, body)
        return 1
    return 0


def notes(database: Database) -> list[Document]:
    return list(contents(database)["notes"].values())


def add(database: Database, *kinds: int) -> list[str]:
    work = Work(database)
    ids = [work.insert("notes", {"kind": kind}) for kind in kinds]
    work.commit()
    return ids


def seal(database: Database, read: Callable[[Work], object], change: Callable[[Work], object]) -> Outcome:
    """One transaction writes down what it reads; its rival changes that, unless it finds it written down.

    In every serial order, what was written down stays true.
    """

    def writer(work: Work) -> None:
        work.insert("seals", {"seen": read(work)})

    def rival(work: Work) -> None:
        if not work.scan("seals"):
            change(work)

    conflicts = interleave(database, writer, rival)
    (sealed,) = contents(database)["seals"].values()
    judge = Work(database)
    is_true = read(judge) == sealed["seen"]
    judge.drop()
    return Outcome(conflicts, is_true)


def kinds_between(low: int, high: int, **how: int | bool) -> Callable[[Work], list[object]]:
    bounds: tuple[Bound, ...] = (bound("gte", "kind", low), bound("lte", "kind", high))
    return lambda work: [
        [document["_id"], document["kind"]]
        for document in work.scan("notes", BY_KIND, bounds, **how)  # type: ignore[arg-type]
    ]


# Scenarios that must conflict.


def two_increments(database: Database) -> Outcome:
    (counter,) = add(database, 0)

    def increment(work: Work) -> None:
        document = work.get("notes", counter)
        assert document is not None
        assert isinstance(document["kind"], float)
        work.patch("notes", counter, {"kind": document["kind"] + 1})

    conflicts = interleave(database, increment, increment)
    return Outcome(conflicts, notes(database)[0]["kind"] == 2)


def two_claims_of_nothing(database: Database) -> Outcome:
    """Phantoms: finding nothing is a fact that a later insert falsifies."""

    def claim(work: Work) -> None:
        if not work.scan("notes", BY_KIND, (bound("eq", "kind", 1),)):
            work.insert("notes", {"kind": 1})

    conflicts = interleave(database, claim, claim)
    return Outcome(conflicts, len(notes(database)) == 1)


def two_claims_by_count(database: Database) -> Outcome:
    def claim(work: Work) -> None:
        if not work.count("notes", BY_KIND, (bound("eq", "kind", 1),)):
            work.insert("notes", {"kind": 1})

    conflicts = interleave(database, claim, claim)
    return Outcome(conflicts, len(notes(database)) == 1)


def two_blind_writes(database: Database) -> Outcome:
    """Each changes a field of its own without looking; a document is written whole, so one would undo the other."""
    (note,) = add(database, 0)
    conflicts = interleave(
        database,
        lambda work: work.patch("notes", note, {"left": 1}),
        lambda work: work.patch("notes", note, {"right": 1}),
    )
    (document,) = notes(database)
    return Outcome(conflicts, "left" in document and "right" in document)


def two_doctors_on_call(database: Database) -> Outcome:
    """Write skew: each may leave while the other one stays, and they write different documents."""
    first, second = add(database, 1, 1)

    def leave(doctor: str) -> Body:
        def body(work: Work) -> None:
            if work.count("notes", BY_KIND, (bound("eq", "kind", 1),)) > 1:
                work.patch("notes", doctor, {"kind": 0})

        return body

    conflicts = interleave(database, leave(first), leave(second))
    return Outcome(conflicts, sum(note["kind"] == 1 for note in notes(database)) == 1)


def a_document_leaves_the_range(database: Database) -> Outcome:
    _, note = add(database, 1, 2)
    return seal(database, kinds_between(1, 3), lambda work: work.patch("notes", note, {"kind": 9}))


def a_document_enters_the_range(database: Database) -> Outcome:
    _, note = add(database, 1, 9)
    return seal(database, kinds_between(1, 3), lambda work: work.patch("notes", note, {"kind": 2}))


def a_document_moves_within_the_range(database: Database) -> Outcome:
    note, _ = add(database, 1, 2)
    return seal(database, kinds_between(1, 3), lambda work: work.patch("notes", note, {"kind": 3}))


def a_document_in_the_range_changes_in_place(database: Database) -> Outcome:
    (note,) = add(database, 1)
    return seal(
        database,
        lambda work: [note.get("text") for note in work.scan("notes", BY_KIND, (bound("eq", "kind", 1),))],
        lambda work: work.patch("notes", note, {"text": "new"}),
    )


def a_document_in_the_range_is_deleted(database: Database) -> Outcome:
    note, _ = add(database, 1, 2)
    return seal(database, kinds_between(1, 3), lambda work: work.delete("notes", note))


def an_absent_document_comes_back(database: Database) -> Outcome:
    """An id that was looked up in vain is a fact too; it can be met again when a delete is undone."""
    (note,) = add(database, 1)
    before = notes(database)[0]
    do(database, lambda work: work.delete("notes", note))

    def restore(work: Work) -> None:
        table = database.table("notes")
        assert table is not None
        work.get("notes", note)
        put_system(work.transaction, table, None, before)

    return seal(database, lambda work: work.get("notes", note) is None, restore)


def an_insert_before_where_a_limited_scan_stopped(database: Database) -> Outcome:
    add(database, 1, 2, 4, 5)
    return seal(database, kinds_between(1, 9, take=3), lambda work: work.insert("notes", {"kind": 3}))


def an_insert_after_where_a_limited_descending_scan_stopped(database: Database) -> Outcome:
    add(database, 1, 2, 4, 5)
    return seal(database, kinds_between(1, 9, take=3, descending=True), lambda work: work.insert("notes", {"kind": 3}))


def the_last_document_of_a_limited_scan_goes(database: Database) -> Outcome:
    *_, last, _ = add(database, 1, 2, 4, 5)
    return seal(database, kinds_between(1, 9, take=3), lambda work: work.delete("notes", last))


def the_last_document_of_a_limited_descending_scan_goes(database: Database) -> Outcome:
    _, last, *_ = add(database, 1, 2, 4, 5)
    return seal(database, kinds_between(1, 9, take=3, descending=True), lambda work: work.delete("notes", last))


def a_limited_scan_reaches_the_end(database: Database) -> Outcome:
    """It asked for more than there is, so it has seen that nothing follows."""
    add(database, 1, 2)
    return seal(database, kinds_between(1, 9, take=3), lambda work: work.insert("notes", {"kind": 9}))


def what_own_writes_hide_is_still_read(database: Database) -> Outcome:
    """The scan meets the attempt's own document first, and stops there; what lies before it counts as seen."""
    add(database, 5)

    def read(work: Work) -> object:
        if not work.scan("seals"):
            work.insert("notes", {"kind": 4})
        return kinds_between(1, 9, take=1)(work)[0][1:]  # type: ignore[index]

    return seal(database, read, lambda work: work.insert("notes", {"kind": 3}))


CONFLICTING: list[Scenario] = [
    two_increments,
    two_claims_of_nothing,
    two_claims_by_count,
    two_blind_writes,
    two_doctors_on_call,
    a_document_leaves_the_range,
    a_document_enters_the_range,
    a_document_moves_within_the_range,
    a_document_in_the_range_changes_in_place,
    a_document_in_the_range_is_deleted,
    an_absent_document_comes_back,
    an_insert_before_where_a_limited_scan_stopped,
    an_insert_after_where_a_limited_descending_scan_stopped,
    the_last_document_of_a_limited_scan_goes,
    the_last_document_of_a_limited_descending_scan_goes,
    a_limited_scan_reaches_the_end,
    what_own_writes_hide_is_still_read,
]


# Scenarios that must not.


def an_insert_behind_where_a_limited_scan_stopped(database: Database) -> Outcome:
    add(database, 1, 2, 4, 5)
    return seal(database, kinds_between(1, 9, take=3), lambda work: work.insert("notes", {"kind": 4}))


def an_insert_behind_where_a_limited_descending_scan_stopped(database: Database) -> Outcome:
    add(database, 1, 2, 4, 5)
    return seal(database, kinds_between(1, 9, take=3, descending=True), lambda work: work.insert("notes", {"kind": 1}))


def a_document_outside_the_range_changes(database: Database) -> Outcome:
    _, note = add(database, 1, 9)
    return seal(database, kinds_between(1, 3), lambda work: work.patch("notes", note, {"kind": 8}))


def two_inserts(database: Database) -> Outcome:
    conflicts = interleave(
        database, lambda work: work.insert("notes", {"kind": 1}), lambda work: work.insert("notes", {"kind": 1})
    )
    return Outcome(conflicts, len(notes(database)) == 2)


def two_documents_changed(database: Database) -> Outcome:
    first, second = add(database, 1, 1)
    conflicts = interleave(
        database,
        lambda work: work.patch("notes", first, {"kind": 2}),
        lambda work: work.patch("notes", second, {"kind": 2}),
    )
    return Outcome(conflicts, [note["kind"] for note in notes(database)] == [2, 2])


def an_insert_that_was_taken_back(database: Database) -> Outcome:
    """The rival inserts into the range and deletes again: nothing has changed, so nobody has lost."""
    add(database, 1)

    def come_and_go(work: Work) -> None:
        work.delete("notes", work.insert("notes", {"kind": 2}))

    return seal(database, kinds_between(1, 3), come_and_go)


COMPATIBLE: list[Scenario] = [
    an_insert_behind_where_a_limited_scan_stopped,
    an_insert_behind_where_a_limited_descending_scan_stopped,
    a_document_outside_the_range_changes,
    two_inserts,
    two_documents_changed,
    an_insert_that_was_taken_back,
]


def title(scenario: Scenario) -> str:
    return scenario.__name__


async def ran(scenario: Scenario) -> Outcome:
    """Run a scenario on a database of its own."""
    made = await database()
    try:
        return scenario(made)
    finally:
        await made.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("scenario", CONFLICTING, ids=title)
async def test_what_changed_under_a_transaction_makes_it_run_again(scenario: Scenario) -> None:
    assert await ran(scenario) == Outcome(conflicts=1, is_serial=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("scenario", COMPATIBLE, ids=title)
async def test_what_a_transaction_did_not_see_is_no_conflict(scenario: Scenario) -> None:
    assert await ran(scenario) == Outcome(conflicts=0, is_serial=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("scenario", CONFLICTING, ids=title)
async def test_without_validation_the_same_scenario_goes_wrong(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def anything_goes(self: Committer, transaction: Transaction) -> None:
        return None

    monkeypatch.setattr(Committer, "validate", anything_goes)

    assert await ran(scenario) == Outcome(conflicts=0, is_serial=False)


@pytest.mark.asyncio
@pytest.mark.parametrize("scenario", COMPATIBLE, ids=title)
async def test_with_whole_ranges_as_read_set_limited_scans_would_conflict(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other half of the check: the compatible scenarios notice a read set that is too wide."""
    record_scan = Transaction.record_scan
    monkeypatch.setattr(
        Transaction,
        "record_scan",
        lambda self, index, keys, reverse, last: record_scan(self, index, keys, reverse, None),
    )

    assert (await ran(scenario)).conflicts == ("limited" in scenario.__name__)


@pytest.mark.asyncio
async def test_a_read_only_transaction_never_conflicts() -> None:
    made = await database()
    (note,) = add(made, 1)
    reader = Work(made)
    before = reader.scan("notes", BY_KIND)

    do(made, lambda work: work.delete("notes", note))
    add(made, 2, 3)

    assert reader.scan("notes", BY_KIND) == before
    assert reader.count("notes", BY_KIND) == 1
    assert reader.commit() == reader.begin_ts
    await made.close()


@pytest.mark.asyncio
async def test_a_conflict_names_table_and_writer() -> None:
    made = await database()
    (note,) = add(made, 1)
    loser = Work(made)
    loser.patch("notes", note, {"kind": 2})
    do(made, lambda work: work.patch("notes", note, {"kind": 3}))

    with pytest.raises(WriteConflict) as lost:
        loser.commit()

    assert str(lost.value) == (
        'Documents read from or written to the "notes" table changed while this mutation was being run and on every '
        f'subsequent retry. A call to "tests:work" changed the document with ID "{note}". '
        "See https://docs.convex.dev/error#1"
    )
    await made.close()


@pytest.mark.asyncio
async def test_a_lost_attempt_leaves_no_trace() -> None:
    made = await database()
    (note,) = add(made, 1)
    loser = Work(made)
    loser.patch("notes", note, {"kind": 2})
    loser.insert("notes", {"kind": 2})
    do(made, lambda work: work.patch("notes", note, {"kind": 3}))
    before, applied_ts = contents(made), made.applied_ts

    with pytest.raises(WriteConflict):
        loser.commit("session", 1, b"null")

    assert contents(made) == before
    assert made.applied_ts == applied_ts
    assert made.known_result("session", 1) is None
    await made.close()


@pytest.mark.asyncio
async def test_a_mutation_sees_what_is_applied_and_a_query_what_is_durable() -> None:
    storage = FaultyPersistence(MemoryPersistence())
    made = await opened(storage)
    made.create_table("notes")
    await made.publisher.drain()
    storage.hold()

    add(made, 1)
    mutation, query = Work(made), Work(made, made.begin_query())

    assert len(mutation.scan("notes")) == mutation.count("notes") == 1
    assert len(query.scan("notes")) == query.count("notes") == 0
    storage.release()
    await made.publisher.drain()
    assert query.scan("notes") == []
    assert len(Work(made, made.begin_query()).scan("notes")) == 1
    await made.close()


@pytest.mark.asyncio
async def test_a_suspended_scan_returns_exactly_its_snapshot() -> None:
    """Its range is rewritten between every two chunks; the conflict comes at the commit, not in the middle."""
    made = await database()
    ids = add(made, *range(10))
    reader = Work(made)
    index = made.catalog.by_name["notes"].indexes[BY_KIND]
    expected = [data for _, data in rows(index)]

    found: list[bytes] = []
    for number, chunk in enumerate(reader.transaction.scan(index, b"", None, False, 2)):
        found += [data for _, data in chunk.rows]
        rival = Work(made)
        rival.delete("notes", ids[number])
        rival.patch("notes", ids[-1 - number], {"kind": -number})
        rival.insert("notes", {"kind": number})
        rival.commit()

    assert found == expected
    reader.drop()
    await made.close()


@pytest.mark.asyncio
async def test_a_snapshot_beyond_the_write_log_is_refused_as_retriable() -> None:
    """The write log is bounded, however long somebody holds a snapshot."""
    made = await opened(limits=Limits(write_log_commits=4, tail_commits=2))
    made.create_table("notes")
    (note,) = add(made, 1)
    slow = Work(made)
    slow.patch("notes", note, {"kind": 2})

    for kind in range(5):
        add(made, kind)
        await made.publisher.drain()

    with pytest.raises(SnapshotTooOld):
        slow.commit()
    await made.close()


def test_every_scenario_is_run() -> None:
    """A scenario that nobody listed would be no test; `seal` and `ran` are what the others are made of."""
    listed = {*CONFLICTING, *COMPATIBLE}
    here = [
        function
        for function in globals().values()
        if inspect.isfunction(function) and inspect.signature(function).return_annotation is Outcome
    ]

    assert {function.__name__ for function in here if function not in listed} == {"seal", "ran"}
