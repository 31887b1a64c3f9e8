"""The publisher turns applied commits into durable ones: in order, in batches, and whatever the disk answers."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine import publisher as publisher_module
from reactor.engine.publisher import Publisher
from reactor.errors import OutcomeUnknown, StorageError
from reactor.limits import Limits
from reactor.storage.interface import Record
from reactor.storage.memory import MemoryPersistence
from tests.engine.work import Tasks, turns
from tests.storage.faults import Fault, FaultyPersistence
from tests.storage.records import commit, commits, write

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_SECONDS", (0.0, 0.0))


class Bench:
    """A publisher over storage that fails on request, and what it published."""

    def __init__(self, limits: Limits) -> None:
        self.storage = FaultyPersistence(MemoryPersistence())
        self.tasks = Tasks()
        self.published: list[int] = []
        self.publisher = Publisher(self.storage, 0, limits, self.tasks.spawn, self.published.append, self.undo)
        self.told: list[object] = []
        self.lost: list[int] = []
        self.newest = 0

    def enqueue(self, first: int, last: int) -> None:
        for record in commits(first, last):
            self.publisher.enqueue(record)
        self.newest = max(self.newest, last)

    def undo(self, end: int, lost: list[Record]) -> None:
        """As the database does, without documents: a fence and an undo, a hundred later."""
        assert all(record.ts > end for record in lost)
        self.lost += [record.ts for record in lost if record.kind == "commit"]
        self.newest += 100
        self.publisher.enqueue(Record(self.newest, "fence"))
        if lost:
            self.newest += 1
            self.publisher.enqueue(Record(self.newest, "undo"))

    def tells(self, what: object) -> Callable[[], None]:
        return lambda: self.told.append(what)

    def is_full(self) -> bool:
        return self.publisher.is_full

    @property
    def batches(self) -> list[list[int]]:
        return [[record.ts for record in batch] for batch in self.storage.appended]


async def bench(limits: Limits | None = None) -> Bench:
    made = Bench(limits if limits is not None else Limits())
    await made.storage.open()
    return made


@pytest_asyncio.fixture
async def b() -> AsyncIterator[Bench]:
    made = await bench()
    yield made
    await made.tasks.join()


# Batches.


async def test_the_commits_of_one_turn_make_one_batch(b: Bench) -> None:
    b.enqueue(1, 3)
    assert b.batches == []
    await b.publisher.drain()

    assert b.batches == [[1, 2, 3]]
    assert b.published == [3]
    assert b.publisher.durable_ts == 3


async def test_one_append_is_in_flight_and_the_next_takes_what_has_gathered(b: Bench) -> None:
    b.storage.hold()
    b.enqueue(1, 1)
    await b.storage.held()
    b.enqueue(2, 3)
    await turns()
    b.enqueue(4, 4)
    await turns()

    assert len(b.tasks.running) == 1
    assert b.publisher.durable_ts == 0
    b.storage.release()
    await b.publisher.drain()
    assert b.batches == [[1], [2, 3, 4]]
    assert b.published == [1, 4]
    assert (b.publisher.stats.commits, b.publisher.stats.batches) == (4, 2)


async def test_a_batch_is_bounded_in_commits() -> None:
    b = await bench(Limits(batch_commits=2))
    b.enqueue(1, 5)
    await b.publisher.drain()

    assert b.batches == [[1, 2], [3, 4], [5]]
    await b.tasks.join()


async def test_a_batch_is_bounded_in_bytes_but_takes_one_commit_of_any_size() -> None:
    b = await bench(Limits(batch_bytes=1000))
    for record in (commit(1), commit(2, write("large", b"x" * 5000)), *commits(3, 5)):
        b.publisher.enqueue(record)
    await b.publisher.drain()

    assert b.batches == [[1], [2], [3, 4, 5]]
    await b.tasks.join()


# Waiting for durability.


@given(st.lists(st.integers(0, 12), max_size=12), st.integers(1, 4))
async def test_callbacks_come_once_in_order_and_not_before_their_time(wanted: list[int], batch: int) -> None:
    b = await bench(Limits(batch_commits=batch))
    told: list[tuple[int, int]] = []
    b.enqueue(1, 5)
    for ts in wanted:
        b.publisher.when_durable(ts, lambda ts=ts: told.append((ts, b.publisher.durable_ts)))  # type: ignore[misc]
    assert told == []  # never from inside the call
    await b.publisher.drain()
    b.enqueue(6, 12)
    await b.publisher.drain()
    await turns()

    assert sorted(ts for ts, _ in told) == sorted(wanted)
    assert all(ts <= durable for ts, durable in told)
    waited = [ts for ts, _ in told if ts > 0]
    assert waited == sorted(waited)
    await b.tasks.join()


async def test_a_callback_for_what_is_durable_already_comes_soon_but_not_at_once(b: Bench) -> None:
    b.enqueue(1, 1)
    await b.publisher.drain()

    b.publisher.when_durable(1, b.tells("soon"))

    assert b.told == []
    await turns(1)
    assert b.told == ["soon"]


async def test_a_callback_may_wait_again(b: Bench) -> None:
    def again() -> None:
        b.publisher.when_durable(1, b.tells("inner"))
        b.publisher.when_durable(2, b.tells("later"))
        b.told.append("outer")

    b.publisher.when_durable(1, again)
    b.enqueue(1, 1)
    await b.publisher.drain()
    await turns()
    assert b.told == ["outer", "inner"]

    b.enqueue(2, 2)
    await b.publisher.drain()
    assert b.told == ["outer", "inner", "later"]


async def test_replies_leave_before_subscriptions_are_told() -> None:
    order: list[str] = []
    storage = FaultyPersistence(MemoryPersistence())
    await storage.open()
    tasks = Tasks()
    publisher = Publisher(storage, 0, Limits(), tasks.spawn, lambda ts: order.append("publish"), lambda end, lost: None)
    publisher.enqueue(commit(1))
    publisher.when_durable(1, lambda: order.append("reply"))
    await publisher.drain()

    assert order == ["reply", "publish"]
    await tasks.join()


async def test_a_commit_made_while_publishing_is_not_forgotten(b: Bench) -> None:
    b.enqueue(1, 1)
    b.publisher.when_durable(1, lambda: b.publisher.enqueue(commit(2)))
    await b.publisher.drain()

    assert b.batches == [[1], [2]]
    assert b.publisher.durable_ts == 2


async def test_a_callback_that_fails_keeps_nobody_else_from_being_told(
    b: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    b.storage.hold()
    b.enqueue(1, 1)
    await b.storage.held()
    b.enqueue(2, 2)
    b.publisher.when_durable(1, lambda: [][0])
    b.publisher.when_durable(1, b.tells("other"))
    b.storage.release()
    await b.publisher.drain()

    assert b.told == ["other"]
    assert b.published == [1, 2]
    assert "a callback failed" in caplog.text


# What the disk answers.


async def test_a_refused_append_is_tried_again(b: Bench) -> None:
    b.storage.faults += [Fault.REFUSED] * 5
    b.enqueue(1, 2)
    await b.publisher.drain()

    assert b.batches == [[1, 2]]
    assert b.publisher.stats.refused == 5
    assert b.published == [2]


async def test_an_unknown_append_that_was_written_is_not_written_again(b: Bench) -> None:
    b.storage.faults.append(Fault.UNKNOWN_WRITTEN)
    b.enqueue(1, 2)
    await b.publisher.drain()
    b.enqueue(103, 103)
    await b.publisher.drain()

    assert b.batches == [[1, 2], [102], [103]]  # 102 is a fence
    assert b.publisher.stats.unknown == b.storage.reopened == 1
    assert b.published == [2, 102, 103]
    assert b.lost == []


async def test_an_unknown_append_that_was_lost_is_undone_behind_a_fence(b: Bench) -> None:
    b.storage.faults.append(Fault.UNKNOWN_LOST)
    b.enqueue(1, 2)
    for ts in (0, 1, 2):
        b.publisher.when_durable(ts, b.tells(ts), b.told.append)
    await b.publisher.drain()

    assert b.batches == [[102, 103]]
    assert [record.kind for record in b.storage.appended[0]] == ["fence", "undo"]
    assert b.publisher.stats.unknown == b.storage.reopened == 1
    assert b.published == [103]
    assert b.lost == [1, 2]
    assert b.told[0] == 0
    assert [type(each) for each in b.told[1:]] == [OutcomeUnknown, OutcomeUnknown]


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_LOST, Fault.UNKNOWN_WRITTEN])
async def test_what_was_applied_behind_an_unknown_append_is_undone_too(b: Bench, fault: Fault) -> None:
    b.storage.faults.append(fault)
    b.storage.hold()
    b.enqueue(1, 2)
    await b.storage.held()
    b.enqueue(3, 4)
    b.storage.release()
    await b.publisher.drain()

    assert b.lost == ([3, 4] if fault is Fault.UNKNOWN_WRITTEN else [1, 2, 3, 4])
    assert b.batches[-1] == [104, 105]


async def test_the_fence_is_durable_before_any_new_commit(b: Bench) -> None:
    """New mutations wait; what is committed all the same, by one that was suspended, comes in a batch of its own."""
    b.storage.faults += [Fault.UNKNOWN_LOST, Fault.REFUSED]
    b.storage.failing.add("reopen")
    b.enqueue(1, 1)
    await turns(10)
    assert b.is_full()
    b.publisher.when_room(lambda: b.tells(("room", list(b.published)))())
    b.storage.hold()
    b.storage.failing.clear()
    await b.storage.held()
    assert b.is_full()
    b.enqueue(200, 200)
    b.storage.release()
    await b.publisher.drain()

    assert b.batches == [[101, 102], [200]]
    assert b.told == [("room", [102])]
    assert not b.is_full()


async def test_an_undo_that_is_lost_is_undone_under_new_timestamps(b: Bench) -> None:
    b.storage.faults += [Fault.UNKNOWN_LOST] * 3
    b.enqueue(1, 1)
    await b.publisher.drain()

    assert len(b.batches) == 1
    assert b.batches[0][0] > 200
    assert b.lost == [1]


# What can never be written.

UNWRITABLE = Record(3, "commit", request=1 << 70)


async def test_what_can_not_be_written_is_undone_and_its_caller_told(b: Bench) -> None:
    b.enqueue(1, 2)
    b.publisher.enqueue(UNWRITABLE)
    b.enqueue(4, 5)
    for ts in range(2, 6):
        b.publisher.when_durable(ts, b.tells(ts), lambda error, ts=ts: b.told.append((ts, type(error))))  # type: ignore[misc]
    await b.publisher.drain()

    assert b.batches == [[1, 2], [105, 106]]
    assert b.lost == [3, 4, 5]
    assert b.told == [2, (3, StorageError), (4, OutcomeUnknown), (5, OutcomeUnknown)]
    assert b.publisher.refusal() is None


# A disk that stays broken.


async def impatient() -> Bench:
    """A publisher that waits for nothing, over a disk that refuses everything."""
    b = await bench(Limits(storage_patience_seconds=0))
    b.storage.faults += [Fault.REFUSED] * 10_000
    b.enqueue(1, 2)
    b.publisher.when_durable(1, b.tells("durable"), b.told.append)
    await turns(20)
    return b


async def test_past_its_patience_storage_lets_nobody_wait() -> None:
    b = await impatient()
    b.publisher.when_durable(2, b.tells("durable"), b.told.append)
    b.publisher.when_room(b.tells("room"))
    await turns()

    refusal = b.publisher.refusal()
    assert isinstance(refusal, StorageError)
    assert "storage fails, as the test asked. Reads go on, and writes resume by themselves" in str(refusal)
    assert not b.is_full()
    assert [type(each) for each in b.told] == [OutcomeUnknown, OutcomeUnknown, str]
    with pytest.raises(StorageError, match="No writes are taken"):
        await b.publisher.drain()
    b.publisher.stop()
    await b.tasks.join()


async def test_writes_resume_by_themselves() -> None:
    b = await impatient()
    b.storage.faults.clear()
    while b.publisher.refusal() is not None:
        await turns()
    await b.publisher.drain()

    assert b.batches == [[1, 2]]
    assert b.published == [2]
    assert b.lost == []
    await b.tasks.join()


async def test_closing_does_not_wait_for_a_broken_disk() -> None:
    b = await impatient()
    b.publisher.stop()
    await b.tasks.join()

    assert "closed" in str(b.publisher.failure)


async def test_while_the_outcome_is_unknown_nobody_is_told_anything(b: Bench) -> None:
    b.storage.failing.add("reopen")
    b.storage.faults.append(Fault.UNKNOWN_WRITTEN)
    b.publisher.when_durable(1, b.tells("durable"))
    b.enqueue(1, 1)
    await turns(30)

    assert b.told == b.published == []
    assert b.publisher.durable_ts == 0
    b.storage.failing.clear()
    await b.publisher.drain()
    assert b.told == ["durable"]
    assert b.batches[0] == [1]


@given(st.lists(st.sampled_from(Fault), max_size=12), st.lists(st.integers(1, 3), min_size=1, max_size=5))
async def test_whatever_the_disk_answers_each_commit_is_in_the_log_once_or_undone(
    faults: list[Fault], sizes: list[int]
) -> None:
    b = await bench(Limits(batch_commits=2))
    b.storage.faults += faults
    made: list[int] = []
    for count in sizes:
        first = b.newest + 1
        b.enqueue(first, first + count - 1)
        made += range(first, first + count)
        for ts in range(first, first + count):
            b.publisher.when_durable(ts, b.tells(ts), lambda error, ts=ts: b.told.append(-ts))  # type: ignore[misc]
        await turns(2)
    await b.publisher.drain()

    log = await b.storage.read(0, 100)
    assert sorted([record.ts for record in log if record.kind == "commit"] + b.lost) == made
    assert sorted(b.told, key=lambda ts: abs(ts)) == [-ts if ts in b.lost else ts for ts in made]  # type: ignore[arg-type, call-overload]
    assert b.published == sorted(b.published)
    assert b.publisher.durable_ts == b.published[-1] == log[-1].ts
    await b.tasks.join()


# Somebody else has the data.


async def taken_over(b: Bench) -> None:
    """Make the log end where this process did not leave it, under an append that waits."""
    b.storage.hold()
    b.enqueue(1, 1)
    await b.storage.held()
    await b.storage.inner.append(commits(7, 7), 0)
    b.storage.release()


async def test_a_takeover_stops_this_process(b: Bench) -> None:
    await taken_over(b)

    with pytest.raises(StorageError, match="another process has taken over"):
        await b.publisher.drain()
    assert b.published == []
    assert isinstance(b.publisher.refusal(), StorageError)


async def test_after_a_takeover_nothing_is_appended_any_more(b: Bench) -> None:
    await taken_over(b)
    with pytest.raises(StorageError):
        await b.publisher.drain()

    b.enqueue(8, 8)
    await turns()

    assert [record.ts for record in await b.storage.read(0, 10)] == [7]
    assert b.publisher.durable_ts == 0
    with pytest.raises(StorageError):
        await b.publisher.drain()


async def test_whoever_waits_learns_that_storage_failed(b: Bench) -> None:
    b.publisher.when_durable(1, b.tells("durable"), b.told.append)
    b.publisher.when_room(b.tells("room"))
    await taken_over(b)
    with pytest.raises(StorageError):
        await b.publisher.drain()
    b.publisher.when_durable(1, b.tells("durable"), b.told.append)
    b.publisher.when_room(b.tells("more room"))
    await turns()

    assert "durable" not in b.told
    assert [type(each) for each in b.told] == [OutcomeUnknown, str, OutcomeUnknown, str]


async def test_a_publisher_that_is_cancelled_says_so(b: Bench) -> None:
    b.storage.hold()
    b.enqueue(1, 1)
    await b.storage.held()
    (task,) = b.tasks.running
    b.tasks.running.clear()
    task.cancel()

    with pytest.raises(StorageError, match="not durable yet"):
        await b.publisher.drain()


async def test_storage_that_works_is_no_reason_to_refuse(b: Bench) -> None:
    assert b.publisher.refusal() is None


# The undurable tail.


async def test_a_full_tail_says_so_until_there_is_room() -> None:
    b = await bench(Limits(tail_commits=3, batch_commits=2))
    b.storage.hold()
    b.enqueue(1, 2)
    assert not b.is_full()
    b.enqueue(3, 3)
    assert b.is_full()
    b.publisher.when_room(b.tells("first"))
    b.publisher.when_room(b.tells("second"))
    await b.storage.held()
    assert b.told == []

    b.storage.release()
    await b.publisher.drain()

    assert not b.is_full()
    assert b.told == ["first", "second"]
    await b.tasks.join()


async def test_room_is_given_away_only_while_there_is_some() -> None:
    """The first who is told fills the tail again; the second waits on."""
    b = await bench(Limits(tail_commits=1))
    b.storage.hold()
    b.enqueue(1, 1)

    def use() -> None:
        b.told.append("first")
        b.storage.hold()
        b.enqueue(2, 2)

    b.publisher.when_room(use)
    b.publisher.when_room(b.tells("second"))
    b.storage.release()
    await turns(20)

    assert b.told == ["first"]
    b.storage.release()
    await b.publisher.drain()
    assert b.told == ["first", "second"]
    await b.tasks.join()


@pytest.mark.parametrize(
    "record",
    [
        Record(1, "commit", result=b"x" * 70_000),
        Record(1, "commit", log_lines=("x" * 40_000, "y" * 40_000)),
        commit(1, write("large", b"x" * 70_000)),
    ],
    ids=["result", "log lines", "document"],
)
async def test_the_tail_is_bounded_in_bytes_whatever_they_are_made_of(record: Record) -> None:
    b = await bench(Limits(tail_bytes=1 << 16))
    b.publisher.enqueue(record)

    assert b.is_full()
    await b.publisher.drain()
    assert not b.is_full()
    await b.tasks.join()


async def test_draining_an_idle_publisher_returns_at_once(b: Bench) -> None:
    await asyncio.wait_for(b.publisher.drain(), 1)


async def test_a_disk_that_can_not_be_read_after_a_refusal_is_no_reason_to_stop(b: Bench) -> None:
    b.storage.faults.append(Fault.REFUSED)
    b.storage.failing.add("fold")
    b.enqueue(1, 1)
    await b.publisher.drain()
    assert b.published == [1]


async def test_who_asked_for_success_only_is_told_of_nothing_else(b: Bench) -> None:
    b.storage.faults.append(Fault.UNKNOWN_LOST)
    b.enqueue(1, 1)
    b.publisher.when_durable(1, b.tells(1))
    await b.publisher.drain()
    assert b.lost == [1]
    assert b.told == []

    await taken_over_now(b)
    b.publisher.when_durable(b.newest + 1, b.tells("never"))
    await turns()
    assert b.told == []


async def taken_over_now(b: Bench) -> None:
    """Make the publisher stop, since another process has written."""
    await b.storage.inner.append(commits(b.newest + 50, b.newest + 50), b.newest)
    b.storage.faults.append(Fault.REFUSED)
    b.enqueue(b.newest + 1, b.newest + 1)
    with pytest.raises(StorageError, match="another process"):
        await b.publisher.drain()


async def test_who_stops_waiting_for_the_tail_is_left_out(b: Bench) -> None:
    b.storage.hold()
    b.enqueue(1, 1)
    gone, stays = asyncio.ensure_future(b.publisher.drain()), asyncio.ensure_future(b.publisher.drain())
    await turns()
    gone.cancel()
    await turns()
    b.storage.release()
    await stays
    assert b.published == [1]
