"""Interleaved transactions, a disk that waits and fails, and a model: every history equals the serial one.

Each committed transaction is replayed, read by read, against the state left by the commits before it. A conflict must
name a reason: a commit after the snapshot that wrote where the transaction had read. What the disk lost is undone, for
those who read it too. Snapshots do not move, and nothing that nobody needs stays in memory.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reactor.engine import publisher
from reactor.engine.writelog import LogEntry
from reactor.errors import WriteConflict
from reactor.storage.interface import Record
from reactor.storage.memory import MemoryPersistence
from reactor.values.types import undefined
from tests.engine.work import (
    BY_KIND,
    Document,
    HandClock,
    Tasks,
    Work,
    bound,
    check_indexes,
    contents,
    kept_history,
    opened,
    turns,
    with_index,
)
from tests.sizes import size
from tests.storage.faults import Fault, FaultyPersistence

T = TypeVar("T")
State = dict[str, Document]
KINDS = st.none() | st.integers(0, 3)  # None: the document has no such field


class Lookup(NamedTuple):
    """A `get`, by its result."""

    document_id: str
    result: Document | None

    def replay(self, state: State) -> object:
        return state.get(self.document_id)

    def saw(self, document: Document) -> bool:
        return document["_id"] == self.document_id


class Counting(NamedTuple):
    """A `count` of the kinds from `low` up to `high`."""

    low: int | None
    high: int | None
    result: int

    def replay(self, state: State) -> object:
        return len(in_range(state, self.low, self.high))

    def saw(self, document: Document) -> bool:
        return is_within(document, self.low, self.high)


class Scanning(NamedTuple):
    """A scan of the kinds from `low` up to `high`, stopped after `take` documents."""

    low: int | None
    high: int | None
    descending: bool
    take: int | None
    result: list[Document]

    def replay(self, state: State) -> object:
        return in_range(state, self.low, self.high, self.descending)[: self.take]

    def saw(self, document: Document) -> bool:
        if not is_within(document, self.low, self.high):
            return False
        if len(self.result) != self.take:
            return True
        last = position(self.result[-1])
        return position(document) >= last if self.descending else position(document) <= last


class Writing(NamedTuple):
    """A document after an insert, a patch or (None) a delete."""

    document_id: str
    after: Document | None


Step = Lookup | Counting | Scanning | Writing


def position(document: Document) -> tuple[Any, ...]:
    """Where a document stands in the index by kind: those without one come first."""
    return ("kind" in document, document.get("kind"), document["_creationTime"], document["_id"])


def is_within(document: Document, low: int | None, high: int | None) -> bool:
    kind = document.get("kind")
    assert kind is None or isinstance(kind, float)
    if low is not None and (kind is None or kind < low):
        return False
    return high is None or kind is None or kind < high


def in_range(state: State, low: int | None, high: int | None, descending: bool = False) -> list[Document]:
    return sorted(
        (document for document in state.values() if is_within(document, low, high)), key=position, reverse=descending
    )


class Attempt:
    """A transaction under way, what it did so far, and the state it should see."""

    def __init__(self, work: Work, seen: State) -> None:
        self.work = work
        self.seen = dict(seen)
        self.steps: list[Step] = []

    def read(self, step: Lookup | Counting | Scanning) -> None:
        """Check a read against the snapshot and the attempt's own writes."""
        assert step.result == step.replay(self.seen)
        self.steps.append(step)

    def wrote(self, document_id: str) -> None:
        after = self.work.get("notes", document_id)
        self.steps.append(Writing(document_id, after))
        if after is None:
            self.seen.pop(document_id, None)
        else:
            self.seen[document_id] = after

    @property
    def is_read_only(self) -> bool:
        return not any(isinstance(step, Writing) for step in self.steps)


class Committed(NamedTuple):
    """One commit of the model: its timestamp, the state after it, and each document before and after."""

    ts: int
    state: State
    changes: list[tuple[Document | None, Document | None]]

    def wrote_what(self, read: Lookup | Counting | Scanning) -> bool:
        """Whether a document that this commit changed was, or now is, part of what was read."""
        return any(document is not None and read.saw(document) for change in self.changes for document in change)


class TransactionMachine(RuleBasedStateMachine):
    """Up to four transactions at a time, on one table with one index."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(publisher, "RETRY_SECONDS", (0.0,))
        self.runner = asyncio.Runner()
        self.clock = HandClock()
        self.tasks = Tasks()
        self.storage = FaultyPersistence(MemoryPersistence())
        self.attempts: list[Attempt] = []
        self.published: list[int] = []
        self.run(self._open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def _open(self) -> None:
        self.database = await opened(self.storage, clock=self.clock, tasks=self.tasks)
        self.database.create_table("notes")
        with_index(self.database, "notes", BY_KIND)
        await self.database.publisher.drain()
        work = Work(self.database)
        for kind in (None, 0, 1, 1, 2):
            work.insert("notes", {} if kind is None else {"kind": kind})
        work.commit()
        await self.database.publisher.drain()
        self.commits = [Committed(self.database.applied_ts, contents(self.database)["notes"], [])]
        self.database.on_publish.append(self._on_publish)
        self.undo = self.database.publisher._undo
        self.patch.setattr(self.database.publisher, "_undo", self._on_undo)

    def _on_publish(self, ts: int, entries: Any) -> None:
        assert self.database.durable_ts == ts
        assert all(isinstance(entry, LogEntry) and entry.commit_ts <= ts for entry in entries)
        self.published += [entry.commit_ts for entry in entries]

    def _on_undo(self, end: int, lost: list[Record]) -> None:
        """The log ends at `end`: the latest state goes back to what was there, in a commit behind a fence."""
        applied, before = self.database.applied_ts, self.commits[-1].state
        self.undo(end, lost)
        fence, *undone = self.database.write_log.between(applied, self.database.applied_ts)
        assert not fence.changes
        self.commits.append(Committed(fence.commit_ts, before, []))
        written = {write.id for record in lost for write in record.writes}
        assert len(undone) == bool(written)
        if written:
            after = self.state_at(end)
            changes = [(before.get(each), after.get(each)) for each in written]
            self.commits.append(Committed(undone[0].commit_ts, after, changes))
        assert contents(self.database)["notes"] == self.commits[-1].state

    def state_at(self, ts: int) -> State:
        return next(commit.state for commit in reversed(self.commits) if commit.ts <= ts)

    def attempt(self, which: int) -> Attempt:
        return self.attempts[which % len(self.attempts)]

    def document(self, attempt: Attempt, which: int) -> str | None:
        """An id this attempt may find something under, or not any more."""
        ids = sorted({*attempt.seen, *self.commits[-1].state, *attempt.work.transaction.writes})
        return ids[which % len(ids)] if ids else None

    # Transactions.

    @precondition(lambda self: len(self.attempts) < 4)
    @rule(at_durable=st.booleans())
    def begin(self, at_durable: bool) -> None:
        database = self.database
        transaction = database.begin_query() if at_durable else database.begin_mutation()
        self.attempts.append(Attempt(Work(database, transaction), self.state_at(transaction.begin_ts)))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 3), document=st.integers(0, 30))
    def get(self, which: int, document: int) -> None:
        attempt = self.attempt(which)
        if (document_id := self.document(attempt, document)) is not None:
            attempt.read(Lookup(document_id, attempt.work.get("notes", document_id)))

    @precondition(lambda self: self.attempts)
    @rule(
        which=st.integers(0, 3),
        low=KINDS,
        high=KINDS,
        descending=st.booleans(),
        take=st.none() | st.integers(1, 3),
        chunk=st.integers(1, 4),
    )
    def scan(
        self, which: int, low: int | None, high: int | None, descending: bool, take: int | None, chunk: int
    ) -> None:
        attempt = self.attempt(which)
        found = attempt.work.scan("notes", BY_KIND, between(low, high), descending=descending, take=take, chunk=chunk)
        attempt.read(Scanning(low, high, descending, take, found))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 3), low=KINDS, high=KINDS)
    def count(self, which: int, low: int | None, high: int | None) -> None:
        attempt = self.attempt(which)
        attempt.read(Counting(low, high, attempt.work.count("notes", BY_KIND, between(low, high))))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 3), kind=KINDS)
    def insert(self, which: int, kind: int | None) -> None:
        attempt = self.attempt(which)
        attempt.wrote(attempt.work.insert("notes", {} if kind is None else {"kind": kind}))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 3), document=st.integers(0, 30), kind=KINDS, number=st.integers(0, 2))
    def change(self, which: int, document: int, kind: int | None, number: int) -> None:
        attempt = self.attempt(which)
        document_id = self.document(attempt, document)
        if document_id in attempt.seen:
            attempt.read(Lookup(document_id, attempt.work.get("notes", document_id)))
            attempt.work.patch("notes", document_id, {"kind": undefined if kind is None else kind, "number": number})
            attempt.wrote(document_id)

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 3), document=st.integers(0, 30))
    def delete(self, which: int, document: int) -> None:
        attempt = self.attempt(which)
        document_id = self.document(attempt, document)
        if document_id in attempt.seen:
            attempt.read(Lookup(document_id, attempt.work.get("notes", document_id)))
            attempt.work.delete("notes", document_id)
            attempt.wrote(document_id)

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 3), kind=st.none() | st.integers(-1, 3))
    def commit(self, which: int, kind: int | None) -> None:
        """Commit, mostly after an insert that makes the reads matter."""
        if kind != -1:
            self.insert(which, kind)
        attempt = self.attempts.pop(which % len(self.attempts))
        self.run(self._commit(attempt))

    @rule(document=st.integers(0, 30), action=st.sampled_from(["insert", "change", "delete"]), kind=KINDS)
    def interfere(self, document: int, action: str, kind: int | None) -> None:
        """A whole small transaction, in between the others."""
        self.attempts.append(Attempt(Work(self.database), self.commits[-1].state))
        if action == "insert":
            self.insert(-1, kind)
        elif action == "change":
            self.change(-1, document, kind, 0)
        else:
            self.delete(-1, document)
        self.run(self._commit(self.attempts.pop()))

    async def _commit(self, attempt: Attempt) -> None:
        begin_ts = attempt.work.begin_ts
        reads = [step for step in attempt.steps if not isinstance(step, Writing)]
        try:
            ts = attempt.work.commit()
        except WriteConflict:
            later = [commit for commit in self.commits if commit.ts > begin_ts]
            assert any(commit.wrote_what(read) for commit in later for read in reads), "a conflict without a reason"
            return
        if attempt.is_read_only:
            assert ts == begin_ts
            return
        assert ts > self.commits[-1].ts
        before = self.commits[-1].state
        state = dict(before)
        for step in attempt.steps:
            if isinstance(step, Writing):
                state.pop(step.document_id, None)
                if step.after is not None:
                    state[step.document_id] = step.after
            else:
                assert step.replay(state) == step.result, "no serial order gives this read"
        written = {step.document_id for step in attempt.steps if isinstance(step, Writing)}
        changes = [(before.get(each), state.get(each)) for each in written]
        self.commits.append(Committed(ts, state, changes))
        assert contents(self.database)["notes"] == state

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 3))
    def drop(self, which: int) -> None:
        self.run(self._drop(self.attempts.pop(which % len(self.attempts))))

    async def _drop(self, attempt: Attempt) -> None:
        attempt.work.drop()

    # The disk.

    @rule(
        step=st.sampled_from(["hold", "release", "turn", "settle"]),
        faults=st.lists(st.sampled_from(Fault), max_size=2),
        nanoseconds=st.integers(-1000, 10**6),
    )
    def elsewhere(self, step: str, faults: list[Fault], nanoseconds: int) -> None:
        """What the disk, the loop and the clock do meanwhile."""
        self.clock.ns += nanoseconds
        if step == "hold":
            self.storage.hold()
            return
        self.storage.faults += faults
        if step == "turn":
            self.run(turns(3))
            return
        self.storage.release()
        if step == "settle":
            self.run(self._settle())

    async def _settle(self) -> None:
        """Everything durable: only what open snapshots need is kept."""
        await self.database.publisher.drain()
        await turns()
        database = self.database
        assert database.durable_ts == database.applied_ts
        oldest = min((attempt.work.begin_ts for attempt in self.attempts), default=database.applied_ts)
        needed = [commit for commit in self.commits if commit.ts > oldest]
        assert len(database.write_log) == len(needed)
        if not any(before or after for commit in needed for before, after in commit.changes):
            assert kept_history(database) == 0

    @invariant()
    def publication_follows_the_commits(self) -> None:
        made = [commit.ts for commit in self.commits[1:]]
        assert self.published == [ts for ts in made if ts <= self.database.durable_ts]

    @invariant()
    def a_query_sees_the_durable_state(self) -> None:
        work = Work(self.database, self.database.begin_query())
        assert work.begin_ts == self.database.durable_ts
        state = self.state_at(work.begin_ts)
        assert work.scan("notes", BY_KIND, chunk=2) == in_range(state, None, None)
        assert work.count("notes", BY_KIND) == len(state)
        self.run(self._drop(Attempt(work, state)))

    def teardown(self) -> None:
        try:
            self.run(self._close())
        finally:
            self.runner.close()
            self.patch.undo()

    async def _close(self) -> None:
        for attempt in self.attempts:
            attempt.work.drop()
        self.attempts.clear()
        self.storage.release()
        await self._settle()
        check_indexes(self.database)
        assert kept_history(self.database) == 0
        assert contents(self.database)["notes"] == self.commits[-1].state
        expected = contents(self.database)
        await self.database.close()
        await self.tasks.join()
        stamps = [record.ts for batch in self.storage.appended for record in batch]
        assert stamps == sorted(set(stamps))

        again = await opened(self.storage, clock=self.clock, tasks=self.tasks)
        assert contents(again) == expected
        assert again.applied_ts > self.commits[-1].ts
        await again.close()
        await self.tasks.join()


def between(low: int | None, high: int | None) -> tuple[Any, ...]:
    return tuple(bounds(low, high))


def bounds(low: int | None, high: int | None) -> Iterator[Any]:
    if low is not None:
        yield bound("gte", "kind", low)
    if high is not None:
        yield bound("lt", "kind", high)


TestTransactionMachine = TransactionMachine.TestCase
TestTransactionMachine.settings = settings(
    max_examples=size(100, 2000), stateful_step_count=size(40, 100), deadline=None
)
