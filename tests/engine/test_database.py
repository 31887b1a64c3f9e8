"""Opening, closing and opening again: the same documents, later timestamps, and no request run twice."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor.engine import publisher as publisher_module
from reactor.engine.catalog import DEPLOYMENT, MODULES, TABLES, VISIBLE_SYSTEM_TABLES
from reactor.engine.database import Database
from reactor.engine.keyrange import EVERYTHING
from reactor.engine.systemdocs import insert_system, put_system
from reactor.errors import LimitExceeded, OutcomeUnknown, SnapshotTooOld, StorageError, Unavailable, WriteConflict
from reactor.limits import FIRST_USER_TABLE, Limits
from reactor.storage.interface import Persistence
from reactor.storage.memory import MemoryPersistence
from reactor.storage.sqlite import SqlitePersistence
from tests.engine.work import (
    HandClock,
    Tasks,
    Work,
    check_indexes,
    contents,
    kept_history,
    opened,
    turns,
)
from tests.sizes import size
from tests.storage.faults import Fault, FaultyPersistence
from tests.storage.records import commits

Backend = Callable[[], Persistence]


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Gives the same data each time, as a restarted process would find it."""
    memory = MemoryPersistence()
    if request.param == "memory":
        return lambda: memory
    return lambda: SqlitePersistence(tmp_path, synchronous="OFF")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_SECONDS", (0.0,))


def add(database: Database, count: int = 1, table: str = "notes") -> list[str]:
    work = Work(database)
    ids = [work.insert(table, {"number": number}) for number in range(count)]
    work.commit()
    return ids


# Opening again.

STEPS = st.lists(
    st.tuples(st.sampled_from(["insert", "patch", "delete", "table", "reopen", "drain"]), st.integers(0, 5)),
    max_size=25,
)
LIMITS = st.builds(
    Limits,
    fold_records=st.integers(1, 4),
    log_retention_records=st.integers(0, 12),
    batch_commits=st.integers(1, 3),
)


class History:
    """A database that is closed and opened again in between, and a model of what it holds."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self.backend = backend
        self.limits = limits
        self.clock = HandClock()
        self.tasks = Tasks()
        self.model: dict[str, dict[str, Any]] = {}
        self.creation_times: list[float] = []
        self.stamps: list[int] = []
        self.opened = 0

    async def open(self) -> None:
        self.opened += 1
        self.database = await opened(
            self.backend(), clock=self.clock, limits=self.limits, tasks=self.tasks, seed=self.opened
        )
        self.stamps.append(self.database.durable_ts)

    async def close(self) -> None:
        await self.database.close()
        await self.tasks.join()

    async def step(self, action: str, number: int) -> None:
        database, model = self.database, self.model
        self.clock.ns += [0, 0, 1, 10**6, -(10**9), -(10**12)][number]
        if action == "drain":
            await database.publisher.drain()
            await turns()
            return
        if action == "reopen":
            await self.close()
            await self.open()
            self.check()
            return
        name = f"table{number % 3}"
        if database.table(name) is None:
            database.create_table(name)
            self.stamps.append(database.applied_ts)
            model.setdefault(name, {})
        if action == "table":
            return
        work = Work(database)
        documents = model[name]
        some = sorted(documents)[number % len(documents)] if documents else None
        if action == "insert" or some is None:
            some = work.insert(name, {"number": number})
            self.creation_times.append(work.get(name, some)["_creationTime"])  # type: ignore[index, arg-type]
        elif action == "patch":
            work.patch(name, some, {"number": number + 0.5})
        else:
            work.delete(name, some)
        after = work.get(name, some)
        self.stamps.append(work.commit())
        if after is None:
            del documents[some]
        else:
            documents[some] = after

    def check(self) -> None:
        found = contents(self.database)
        assert {name: found[name] for name in self.model} == self.model
        assert {row["name"] for row in found[TABLES].values()} == set(self.model)
        check_indexes(self.database)
        assert len(found[DEPLOYMENT]) == 1


async def live(backend: Backend, limits: Limits, steps: list[tuple[str, int]]) -> None:
    history = History(backend, limits)
    await history.open()
    for step in steps:
        await history.step(*step)
    history.check()
    await history.step("reopen", 0)
    await history.close()
    assert history.stamps == sorted(set(history.stamps))
    assert history.creation_times == sorted(set(history.creation_times))


@given(LIMITS, STEPS)
def test_opening_again_gives_the_same_state_in_memory(limits: Limits, steps: list[tuple[str, int]]) -> None:
    """Whatever of the log is folded and trimmed; time goes on in it, though the clock stands still or falls back."""
    memory = MemoryPersistence()
    asyncio.run(live(lambda: memory, limits, steps))


@settings(max_examples=size(10, 200))
@given(LIMITS, STEPS)
def test_opening_again_gives_the_same_state_on_disk(limits: Limits, steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(live(lambda: SqlitePersistence(directory, synchronous="OFF"), limits, steps))


@pytest.mark.asyncio
async def test_tables_keep_their_numbers(backend: Backend) -> None:
    database = await opened(backend())
    numbers = [database.create_table(name).number for name in "cab"]
    rows = {table.name: table.row_key for table in database.user_tables()}
    await database.close()

    again = await opened(backend())

    assert numbers == [FIRST_USER_TABLE, FIRST_USER_TABLE + 1, FIRST_USER_TABLE + 2]
    assert [again.catalog.by_name[name].number for name in "cab"] == numbers
    assert {table.name: table.row_key for table in again.user_tables()} == rows
    assert again.create_table("d").number == FIRST_USER_TABLE + 3
    await again.close()


@pytest.mark.asyncio
async def test_the_deployment_row_is_made_once(backend: Backend) -> None:
    first = await opened(backend())
    (row,) = first.system_documents(DEPLOYMENT)
    key = first.deployment_key
    await first.close()

    again = await opened(backend())

    assert row["version"] == 0
    assert again.system_documents(DEPLOYMENT) == [row]
    assert again.deployment_key == key
    assert key in again.catalog.by_name[DEPLOYMENT].documents
    await again.close()


@pytest.mark.asyncio
async def test_opening_is_durable_before_it_returns(backend: Backend) -> None:
    database = await opened(backend())

    assert database.durable_ts == database.applied_ts
    assert kept_history(database) == 0
    await database.close()


@pytest.mark.asyncio
async def test_opening_and_closing_often_leaves_a_bounded_log() -> None:
    """Each run makes fewer commits than are folded at a time; together they must be folded and trimmed all the same."""
    storage = MemoryPersistence()
    limits = Limits(fold_records=10, log_retention_records=20)
    tasks = Tasks()
    for seed in range(40):
        database = await opened(storage, limits=limits, tasks=tasks, seed=seed)
        if database.table("notes") is None:
            database.create_table("notes")
        for _ in range(3):
            add(database)
            await database.publisher.drain()
        await database.close()
        await tasks.join()

    state = await storage.open()
    kept = await storage.read(state.floor, 1000)
    assert len([record for record in kept if record.ts > state.folded]) < 20
    assert len(kept) <= 20 + 2 * 20
    await storage.close()


@pytest.mark.asyncio
async def test_a_long_run_leaves_a_bounded_log() -> None:
    storage = MemoryPersistence()
    tasks = Tasks()
    database = await opened(storage, limits=Limits(fold_records=5, log_retention_records=15), tasks=tasks)
    database.create_table("notes")
    for _ in range(100):
        add(database)
        await database.publisher.drain()
        await turns()

    kept = await storage.read((await storage.reopen()).floor, 1000)
    assert 15 <= len(kept) <= 25
    expected = contents(database)
    await database.close()
    await tasks.join()
    again = await opened(storage)
    assert contents(again) == expected
    await again.close()


@pytest.mark.asyncio
async def test_closing_waits_for_folding(tmp_path: Path) -> None:
    storage = SqlitePersistence(tmp_path, synchronous="OFF")
    tasks = Tasks()
    database = await opened(storage, limits=Limits(fold_records=1, log_retention_records=0), tasks=tasks)
    database.create_table("notes")
    add(database, 100)

    await database.close()

    assert all(task.done() for task in tasks.running)
    await tasks.join()


@pytest.mark.asyncio
async def test_folding_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    storage = FaultyPersistence(MemoryPersistence())
    tasks = Tasks()
    database = await opened(storage, limits=Limits(fold_records=1), tasks=tasks)
    database.create_table("notes")
    storage.failing.add("fold")
    add(database)
    await database.publisher.drain()
    await tasks.join()
    assert (await storage.reopen()).folded < database.durable_ts
    assert "could not be folded" in caplog.text

    storage.failing.clear()
    add(database)
    await database.publisher.drain()
    await tasks.join()

    assert (await storage.reopen()).folded == database.durable_ts
    await database.close()


# Time.


@pytest.mark.asyncio
async def test_timestamps_go_on_when_the_clock_steps_back_over_a_restart(backend: Backend) -> None:
    clock = HandClock()
    database = await opened(backend(), clock=clock)
    database.create_table("notes")
    add(database)
    (before,) = contents(database)["notes"].values()
    last = database.applied_ts
    await database.close()

    clock.ns -= 3600 * 10**9
    again = await opened(backend(), clock=clock, seed=1)
    opened_at = again.durable_ts
    add(again)

    *_, after = sorted(contents(again)["notes"].values(), key=lambda note: note["_creationTime"])  # type: ignore[arg-type, return-value]
    assert last < opened_at < again.applied_ts
    assert after["_creationTime"] > before["_creationTime"]  # type: ignore[operator]
    assert len(contents(again)["notes"]) == 2
    await again.close()


@pytest.mark.asyncio
async def test_creation_order_is_call_order_under_a_frozen_clock() -> None:
    """Across transactions, in the order of the calls and not of the commits."""
    database = await opened()
    database.create_table("notes")
    first, second = Work(database), Work(database)
    ids = [work.insert("notes", {}) for _ in range(50) for work in (first, second)]
    second.commit()
    first.commit()

    assert [note["_id"] for note in Work(database).scan("notes")] == ids
    assert all(note["_creationTime"] * 1e6 <= database.applied_ts for note in contents(database)["notes"].values())  # type: ignore[operator]
    await database.close()


@pytest.mark.asyncio
async def test_a_timestamp_beyond_the_clock_is_kept_up_with() -> None:
    """A database written by a machine whose clock was ahead."""
    storage = MemoryPersistence()
    ahead = await opened(storage, clock=HandClock(HandClock().ns + 10**15))
    last = ahead.applied_ts
    await ahead.close()

    database = await opened(storage, clock=HandClock())

    assert database.applied_ts > last
    await database.close()


# Sessions.


@pytest.mark.asyncio
@pytest.mark.parametrize("limits", [Limits(), Limits(fold_records=1)], ids=["in the log", "folded"])
async def test_results_survive_opening_again(backend: Backend, limits: Limits) -> None:
    tasks = Tasks()
    database = await opened(backend(), limits=limits, tasks=tasks)
    database.create_table("notes")
    work = Work(database)
    work.insert("notes", {})
    ts = work.commit("session", 3, b'"done"')
    await database.close()
    await tasks.join()

    again = await opened(backend(), limits=limits, tasks=tasks)

    known = again.known_result("session", 3)
    assert known is not None
    assert (known.value, known.commit_ts) == (b'"done"', ts)
    assert again.known_result("session", 4) is None
    assert again.known_result("other", 3) is None
    assert again.known_result(None, None) is None
    await again.close()
    await tasks.join()


@pytest.mark.asyncio
async def test_a_forgotten_result_is_refused_also_after_opening_again(backend: Backend) -> None:
    limits = Limits(session_results=2)
    database = await opened(backend(), limits=limits)
    database.create_table("notes")
    for request in range(4):
        work = Work(database)
        work.insert("notes", {})
        work.commit("session", request, b"null")
    await database.close()
    again = await opened(backend(), limits=limits)

    for current in (database, again):
        assert current.known_result("session", 2) is not None
        assert current.known_result("session", 3) is not None
        for request in (0, 1):
            with pytest.raises(OutcomeUnknown, match="not run again"):
                current.known_result("session", request)
        assert current.known_result("session", 4) is None
    await again.close()


@pytest.mark.asyncio
async def test_a_request_whose_record_was_trimmed_is_refused_after_opening_again(backend: Backend) -> None:
    """#33: marks outlive the log they were read from. One that failed in between may run."""
    limits = Limits(fold_records=2, log_retention_records=0)
    tasks = Tasks()
    database = await opened(backend(), limits=limits, tasks=tasks)
    database.create_table("notes")
    for request in (0, 1, 2, 4):
        work = Work(database)
        work.insert("notes", {})
        work.commit("session", request, b"null")
        await database.publisher.drain()
        await tasks.join()
    add(database, 1)
    await database.publisher.drain()
    await tasks.join()
    assert await database.persistence.trim(database.durable_ts)
    await database.close()
    again = await opened(backend(), limits=limits)

    for request in (0, 1):
        with pytest.raises(OutcomeUnknown, match="not run again"):
            again.known_result("session", request)
    assert again.known_result("session", 5) is None
    assert again.known_result("other", 0) is None
    await again.close()


# Snapshots.


@pytest.mark.asyncio
async def test_old_values_go_when_the_last_snapshot_is_given_back() -> None:
    """Also when nothing is committed any more that would clean up."""
    database = await opened()
    database.create_table("notes")
    (note,) = add(database)
    await database.publisher.drain()
    first, second = Work(database), Work(database)
    for number in range(5):
        work = Work(database)
        work.patch("notes", note, {"number": number})
        work.commit()
        await database.publisher.drain()
    assert kept_history(database) > 0

    first.drop()
    await turns()
    assert kept_history(database) > 0
    second.drop()
    await turns()

    assert kept_history(database) == len(database.write_log) == 0
    await database.close()


@pytest.mark.asyncio
async def test_a_snapshot_may_be_given_back_just_before_its_commit() -> None:
    """What it needs for validation is still there in the same step."""
    database = await opened()
    database.create_table("notes")
    (note,) = add(database)
    await database.publisher.drain()
    work = Work(database)
    work.patch("notes", note, {"number": 1})
    add(database)
    await database.publisher.drain()

    work.drop()
    work.commit()

    assert contents(database)["notes"][note]["number"] == 1
    await database.close()


@pytest.mark.asyncio
async def test_a_snapshot_nobody_kept_is_refused() -> None:
    """Reading it would silently mix what it was with what came later."""
    database = await opened()
    database.create_table("notes")
    await database.publisher.drain()
    old = database.durable_ts
    add(database)
    await database.publisher.drain()

    with pytest.raises(SnapshotTooOld):
        database.begin_query(old)
    assert database.begin_query(database.durable_ts).begin_ts == database.durable_ts
    await database.close()


@pytest.mark.asyncio
async def test_waiting_for_older_readers_ends_with_the_last_of_them() -> None:
    storage = FaultyPersistence(MemoryPersistence())
    database = await opened(storage)
    database.create_table("notes")
    await database.publisher.drain()
    reader = Work(database)
    storage.hold()
    add(database)
    waiting = asyncio.ensure_future(database.retention.no_reader_before(database.applied_ts))

    reader.drop()
    await turns()
    assert not waiting.done()  # readers at the durable timestamp still begin
    storage.release()
    await asyncio.wait_for(waiting, 5)
    await database.close()


@pytest.mark.asyncio
async def test_waiting_for_durability_ends_when_storage_fails() -> None:
    storage = FaultyPersistence(MemoryPersistence())
    database = await opened(storage)
    storage.hold()
    database.create_table("notes")
    waiting = asyncio.ensure_future(database.durable(database.applied_ts))
    await storage.held()
    after = database.durable_ts
    await storage.inner.append(commits(after + 10**6, after + 10**6), after)
    storage.release()

    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(database.durable(database.applied_ts), 5)
    with pytest.raises(StorageError):
        await database.close()


# Life.


@pytest.mark.asyncio
async def test_a_closed_database_begins_nothing(backend: Backend) -> None:
    database = await opened(backend())
    await database.close()
    await database.close()

    with pytest.raises(Unavailable):
        database.begin_mutation()
    with pytest.raises(Unavailable):
        database.begin_query()


@pytest.mark.asyncio
async def test_closing_makes_everything_applied_durable(backend: Backend) -> None:
    database = await opened(backend())
    database.create_table("notes")
    ids = add(database, 3)
    await database.close()

    again = await opened(backend())

    assert sorted(contents(again)["notes"]) == sorted(ids)
    await again.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["read", "load", "tables"])
async def test_storage_is_given_back_when_opening_fails(method: str) -> None:
    storage = FaultyPersistence(MemoryPersistence())
    storage.failing.add(method)
    with pytest.raises(StorageError):
        await opened(storage)

    storage.failing.clear()
    database = await opened(storage)  # would be refused while it is held
    await database.close()


@pytest.mark.asyncio
async def test_opening_survives_a_disk_that_stutters() -> None:
    storage = FaultyPersistence(MemoryPersistence())
    storage.faults += [Fault.REFUSED, Fault.UNKNOWN_LOST, Fault.UNKNOWN_WRITTEN]
    database = await opened(storage)

    assert database.durable_ts == database.applied_ts
    await database.close()


@pytest.mark.asyncio
async def test_the_number_of_tables_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reactor.engine.catalog.MAX_TABLES", 2)
    database = await opened()
    database.create_table("a")
    database.create_table("b")

    with pytest.raises(LimitExceeded, match="cannot exceed 2"):
        database.create_table("c")
    assert database.table("c") is None
    await database.close()


@pytest.mark.asyncio
async def test_history_is_bounded_and_the_oldest_snapshot_gives_way() -> None:
    """A reader that never ends must not keep every version of a hot document alive."""
    database = await opened(limits=Limits(history_bytes=5_000))
    database.create_table("notes")
    (note,) = add(database)
    await database.publisher.drain()
    old = database.durable_ts
    database.retention.pin(old)
    for number in range(100):
        work = Work(database)
        work.patch("notes", note, {"number": number})
        work.commit()
        await database.publisher.drain()
    assert database.retention.bytes <= 5_000
    with pytest.raises(SnapshotTooOld, match="REACTOR_HISTORY_BYTES=5000"):
        database.retention.check(old)
    database.retention.check(database.durable_ts)
    database.retention.unpin(old)
    await database.close()


@pytest.mark.asyncio
async def test_only_tables_that_applications_know_have_a_name() -> None:
    database = await opened()
    notes = database.create_table("notes")
    catalog = database.catalog
    names = {number: catalog.namespace("").table_name(number) for number in (*catalog.by_number, notes.number + 1)}
    assert {name for name in names.values() if name is not None} == {"notes", *VISIBLE_SYSTEM_TABLES}
    assert names[notes.number] == "notes"
    assert names[catalog.by_name[TABLES].number] is None
    await database.close()


@pytest.mark.asyncio
async def test_a_table_made_on_behalf_of_a_transaction_is_no_conflict_for_it() -> None:
    """It looked for the table first, and found none; others who did conflict."""
    database = await opened()
    tables = database.catalog.by_name[TABLES]
    first, second = Work(database), Work(database)
    for work in (first, second):
        work.transaction.reads.add_range(tables.by_id.id, EVERYTHING)
    database.create_table("notes", asked_by=first.transaction)

    for work in (first, second):
        work.insert("notes", {})
    first.commit()
    with pytest.raises(WriteConflict):
        second.commit()
    await database.close()


@pytest.mark.asyncio
async def test_system_documents_change_and_go(backend: Backend) -> None:
    """At once, and after opening again, folded or not."""
    storage = backend()
    database = await opened(storage)
    modules = database.catalog.by_name[MODULES]
    made = database.begin_mutation()
    kept = insert_system(database, made, modules, {"path": "kept", "hash": "1"})
    insert_system(database, made, modules, {"path": "gone", "hash": "1"})
    database.committer.commit(made, source="")
    await database.publisher.drain()
    await storage.fold(1000)

    changed = database.begin_mutation()
    for document in database.system_documents(MODULES):
        if document["_id"] == kept:
            put_system(changed, modules, document, {**document, "hash": "2"})
        else:
            put_system(changed, modules, document, None)
    database.committer.commit(changed, source="")

    for _ in range(2):
        assert [(row["path"], row["hash"]) for row in database.system_documents(MODULES)] == [("kept", "2")]
        check_indexes(database)
        await database.close()
        database = await opened(backend())
    await database.close()


@pytest.mark.asyncio
async def test_who_stops_waiting_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    storage = FaultyPersistence(MemoryPersistence())
    database = await opened(storage)
    database.create_table("notes")
    await database.publisher.drain()
    storage.hold()
    old = Work(database, database.begin_query())
    ts = writing(database).commit()
    waits = [asyncio.ensure_future(database.durable(ts)) for _ in range(2)]
    waits += [asyncio.ensure_future(database.retention.no_reader_before(ts)) for _ in range(2)]
    await turns()
    waits[0].cancel()
    waits[2].cancel()
    await turns()
    storage.release()
    await waits[1]
    old.drop()
    await waits[3]
    assert waits[0].cancelled()
    assert waits[2].cancelled()

    storage.hold()
    lost = writing(database).commit()
    storage.faults.append(Fault.UNKNOWN_LOST)
    gone = asyncio.ensure_future(database.durable(lost))
    await turns()
    gone.cancel()
    storage.release()
    await database.publisher.drain()
    assert gone.cancelled()
    assert "a callback failed" not in caplog.text
    await database.close()


def writing(database: Database) -> Work:
    work = Work(database)
    work.insert("notes", {})
    return work


@pytest.mark.asyncio
async def test_a_table_whose_row_is_written_again_is_the_same_table(backend: Backend) -> None:
    """An undo does so with the rows of tables that came in the lost tail (`engine/undo`)."""
    database = await opened(backend())
    notes = database.create_table("notes")
    add(database, 3)
    rewriting = database.begin_mutation()
    (row,) = database.system_documents(TABLES)
    put_system(rewriting, database.catalog.by_name[TABLES], row, dict(row))
    database.committer.commit(rewriting, source="")
    add(database, 2)
    expected = contents(database)
    await database.close()

    again = await opened(backend())
    assert contents(again) == expected
    assert [table.number for table in again.user_tables()] == [notes.number]
    check_indexes(again)
    await again.close()
