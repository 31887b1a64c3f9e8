"""Commits that did not reach the log are undone: memory, the log, sessions and whoever read them agree."""

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from reactor.engine import publisher as publisher_module
from reactor.engine.database import Database
from reactor.errors import OutcomeUnknown, WriteConflict
from reactor.limits import Limits
from reactor.storage.interface import Record
from reactor.storage.memory import MemoryPersistence
from tests.engine.work import BY_KIND, Tasks, Work, check_indexes, contents, opened, turns, with_index
from tests.sizes import size
from tests.storage.faults import Fault, FaultyPersistence

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_SECONDS", (0.0,))


class Bench:
    """An open database with one durable note, over storage that fails on request."""

    def __init__(self, storage: FaultyPersistence, database: Database, note: str) -> None:
        self.storage = storage
        self.database = database
        self.note = note
        self.durable = contents(database)

    async def lose(self) -> None:
        """Let the append that is due get lost, and wait until storage works again."""
        self.storage.faults.append(Fault.UNKNOWN_LOST)
        await self.database.publisher.drain()


@pytest_asyncio.fixture
async def b() -> AsyncIterator[Bench]:
    storage, tasks = FaultyPersistence(MemoryPersistence()), Tasks()
    database = await opened(storage, tasks=tasks)
    database.create_table("notes")
    with_index(database, "notes", BY_KIND)
    work = Work(database)
    note = work.insert("notes", {"kind": "first", "count": 1.0})
    work.commit()
    await database.publisher.drain()
    yield Bench(storage, database, note)
    await database.close()
    await tasks.join()


def change(database: Database, note: str, count: float) -> int:
    work = Work(database)
    work.patch("notes", note, {"count": count, "kind": "changed"})
    return work.commit()


async def test_lost_commits_leave_nothing_behind(b: Bench) -> None:
    change(b.database, b.note, 2.0)
    work = Work(b.database)
    lost_note = work.insert("notes", {"kind": "lost"})
    work.commit()
    work = Work(b.database)
    work.delete("notes", b.note)
    lost = work.commit()
    await b.lose()

    assert contents(b.database) == b.durable
    check_indexes(b.database)
    fence, undo = b.storage.appended[-1]
    assert (fence.kind, undo.kind) == ("fence", "undo")
    assert lost < fence.ts < undo.ts == b.database.durable_ts
    assert [(write.id, write.value is None) for write in undo.writes] == [(b.note, False), (lost_note, True)]


async def test_a_restart_reads_the_same_story(b: Bench) -> None:
    change(b.database, b.note, 2.0)
    await b.lose()
    change(b.database, b.note, 3.0)
    await b.database.publisher.drain()
    told = contents(b.database)
    await b.database.close()

    again = await opened(b.storage.inner)
    assert contents(again) == told
    await again.close()


async def test_who_reads_the_durable_state_never_sees_what_is_lost(b: Bench) -> None:
    """Before, while and after it is undone."""
    seen: list[object] = []

    def look(ts: int) -> None:
        transaction = b.database.begin_query()
        work = Work(b.database, transaction)
        document = work.get("notes", b.note)
        assert document is not None
        seen.append(document["count"])

    change(b.database, b.note, 2.0)
    look(0)
    b.database.on_publish.append(lambda ts, entries: look(ts))
    b.storage.failing.add("reopen")
    b.storage.faults.append(Fault.UNKNOWN_LOST)
    await turns(10)
    look(0)
    b.storage.failing.clear()
    await b.database.publisher.drain()
    look(0)

    assert len(seen) == 4
    assert set(seen) == {1.0}


async def test_a_mutation_that_read_an_undone_commit_conflicts(b: Bench) -> None:
    """#28. One that read something else does not."""
    change(b.database, b.note, 2.0)
    reader, other = Work(b.database), Work(b.database)
    document = reader.get("notes", b.note)
    assert document is not None
    assert document["count"] == 2.0
    reader.insert("notes", {"kind": "rests on it"})
    other.insert("notes", {"kind": "rests on nothing"})
    await b.lose()

    with pytest.raises(WriteConflict):
        reader.commit()
    other.commit()
    await b.database.publisher.drain()


async def test_a_fence_leaves_memory_like_a_commit(b: Bench) -> None:
    """Once the reader that is older than it is gone, also when nothing had to be undone behind it."""
    b.storage.faults.append(Fault.UNKNOWN_WRITTEN)
    change(b.database, b.note, 2.0)
    reader = Work(b.database)
    await b.database.publisher.drain()
    await turns()
    assert [entry.changes for entry in b.database.write_log.since(reader.begin_ts)] == [()]

    reader.drop()
    await turns()
    assert len(b.database.write_log) == 0


async def test_an_answer_that_rests_on_an_undone_commit_never_leaves(b: Bench) -> None:
    """#29. Whoever waits for the tail to be durable, with an error too, is told that the outcome is unknown."""
    lost = change(b.database, b.note, 2.0)
    told: list[object] = []
    b.database.publisher.when_durable(lost, lambda: told.append("answered"), told.append)
    await b.lose()

    (error,) = told
    assert isinstance(error, OutcomeUnknown)


async def test_the_request_of_an_undone_commit_may_run_again(b: Bench) -> None:
    work = Work(b.database)
    work.insert("notes", {"kind": "sent twice"})
    work.commit("session", 0, b"1")
    assert b.database.known_result("session", 0) is not None
    await b.lose()

    assert b.database.known_result("session", 0) is None


async def test_a_table_made_in_the_lost_tail_stays(b: Bench) -> None:
    """It exists in memory, so the log must know it: later commits write to it."""
    b.database.create_table("later")
    await b.lose()
    work = Work(b.database)
    work.insert("later", {})
    work.commit()
    told = contents(b.database)
    await b.database.close()

    again = await opened(b.storage.inner)
    assert contents(again) == told
    await again.close()


async def test_what_can_not_be_written_is_taken_back(b: Bench) -> None:
    """A request number that no log can hold; the commits before it stay, those behind it go."""
    kept = change(b.database, b.note, 2.0)
    work = Work(b.database)
    work.patch("notes", b.note, {"count": 3.0})
    work.commit("session", 1 << 70, b"1")
    change(b.database, b.note, 4.0)
    await b.database.publisher.drain()

    transaction = b.database.begin_query()
    document = Work(b.database, transaction).get("notes", b.note)
    assert document is not None
    assert document["count"] == 2.0
    assert b.database.durable_ts > kept


@pytest.mark.parametrize("seed", range(size(12, 400)))
async def test_whatever_the_disk_does_memory_and_log_agree(seed: int) -> None:
    """What was answered is there, what was not is there whole or not at all, and no timestamp is used twice."""
    rng = random.Random(seed)
    storage, tasks = FaultyPersistence(MemoryPersistence()), Tasks()
    database = await opened(storage, tasks=tasks, limits=Limits(batch_commits=3, fold_records=4))
    database.create_table("notes")
    with_index(database, "notes", BY_KIND)
    await database.publisher.drain()
    storage.faults += rng.choices(list(Fault), [6, 2, 2, 2], k=40)
    ids: list[str] = []
    answered: set[int] = set()
    stamps: list[int] = []
    for _ in range(60):
        work = Work(database)
        live = [note for note in ids if work.get("notes", note) is not None]
        if live and rng.random() < 0.6:
            note = rng.choice(live)
            if rng.random() < 0.3:
                work.delete("notes", note)
            else:
                work.patch("notes", note, {"count": rng.random()})
        else:
            ids.append(work.insert("notes", {"kind": rng.choice("ab"), "count": 0.0}))
        ts = work.commit()
        stamps.append(ts)
        database.publisher.when_durable(ts, lambda ts=ts: answered.add(ts), lambda error: None)  # type: ignore[misc]
        if rng.random() < 0.4:
            await turns(rng.randrange(6))
    await database.publisher.drain()
    await turns()

    log: list[Record] = [record for batch in storage.appended for record in batch]
    commits = {record.ts for record in log if record.kind == "commit"}
    assert answered <= commits
    assert commits & set(stamps) == answered
    assert len(set(stamps)) == len(stamps)
    assert [record.ts for record in log] == sorted({record.ts for record in log})
    check_indexes(database)
    told = contents(database)
    await database.close()
    await tasks.join()
    again = await opened(storage.inner)
    assert contents(again) == told
    await again.close()
