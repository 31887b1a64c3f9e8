"""Any sequence of calls, on every backend, equals a list of records and what a dict makes of them."""

import asyncio
import tempfile
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reactor.errors import SnapshotTooOld
from reactor.storage.interface import AppendOutcome, DocumentWrite, LogState, Persistence, Record
from reactor.storage.memory import MemoryPersistence
from reactor.storage.sqlite import SqlitePersistence
from tests.sizes import size
from tests.storage.faults import Fault, FaultyPersistence
from tests.storage.records import documents

T = TypeVar("T")

WRITES = st.builds(
    DocumentWrite,
    table=st.integers(1, 3),
    id=st.sampled_from("abcdef"),
    value=st.none() | st.binary(max_size=6000),
)
STEPS = st.lists(st.tuples(st.integers(1, 5), st.lists(WRITES, max_size=4)), min_size=1, max_size=6)


class PersistenceMachine(RuleBasedStateMachine):
    """Runs `persistence` and a model of it side by side."""

    def make(self) -> Persistence:
        return MemoryPersistence()

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.persistence = FaultyPersistence(self.make())
        self.log: list[Record] = []  # everything ever appended
        self.floor = self.folded = 0
        self.epoch = 1
        self.check(self.run(self.persistence.open()))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.persistence.close())
        self.runner.close()

    @property
    def end(self) -> int:
        return self.log[-1].ts if self.log else 0

    def check(self, state: LogState) -> None:
        assert state == LogState(self.end, self.floor, self.folded, self.epoch)

    def batch(self, steps: list[tuple[int, list[DocumentWrite]]]) -> list[Record]:
        ts, batch = self.end, []
        for step, writes in steps:
            ts += step
            batch.append(Record(ts, "commit", tuple(writes), source="é"))
        return batch

    @rule(steps=STEPS)
    def append(self, steps: list[tuple[int, list[DocumentWrite]]]) -> None:
        batch = self.batch(steps)
        assert self.run(self.persistence.append(batch, self.end)) is AppendOutcome.DONE
        self.log += batch

    @rule(steps=STEPS, off=st.integers(1, 5))
    def append_elsewhere(self, steps: list[tuple[int, list[DocumentWrite]]], off: int) -> None:
        if off <= self.end:
            assert self.run(self.persistence.append(self.batch(steps), self.end - off)) is AppendOutcome.REFUSED

    @rule(steps=STEPS, fault=st.sampled_from([Fault.UNKNOWN_LOST, Fault.UNKNOWN_WRITTEN]))
    def append_and_wonder(self, steps: list[tuple[int, list[DocumentWrite]]], fault: Fault) -> None:
        batch = self.batch(steps)
        self.persistence.faults.append(fault)
        assert self.run(self.persistence.append(batch, self.end)) is AppendOutcome.UNKNOWN
        assert self.run(self.persistence.append(batch, self.end)) is AppendOutcome.UNKNOWN
        if fault is Fault.UNKNOWN_WRITTEN:
            self.log += batch
        self.epoch += 1
        self.check(self.run(self.persistence.reopen()))

    @rule(limit=st.integers(1, 12))
    def fold(self, limit: int) -> None:
        todo = [record.ts for record in self.log if record.ts > self.folded][:limit]
        self.folded = todo[-1] if todo else self.folded
        self.check(self.run(self.persistence.fold(limit)))

    @rule(keep_after=st.integers(0, 120))
    def trim(self, keep_after: int) -> None:
        self.floor = max(self.floor, min(keep_after, self.folded))
        self.check(self.run(self.persistence.trim(keep_after)))

    @rule(after=st.integers(0, 120), limit=st.integers(1, 8))
    def read(self, after: int, limit: int) -> None:
        if after < self.floor:
            with pytest.raises(SnapshotTooOld):
                self.run(self.persistence.read(after, limit))
        else:
            expected = [record for record in self.log if record.ts > after][:limit]
            assert self.run(self.persistence.read(after, limit)) == expected

    @rule()
    def reopen(self) -> None:
        self.epoch += 1
        self.check(self.run(self.persistence.reopen()))

    @rule()
    def close_and_open(self) -> None:
        self.epoch += 1
        self.run(self.persistence.close())
        self.check(self.run(self.persistence.open()))

    @invariant()
    def documents_are_the_folded_log(self) -> None:
        expected: dict[tuple[int, str], tuple[int, bytes]] = {}
        for record in self.log:
            for change in record.writes if record.ts <= self.folded else ():
                if change.value is None:
                    expected.pop((change.table, change.id), None)
                else:
                    expected[change.table, change.id] = (record.ts, change.value)
        tables = self.run(self.persistence.tables())
        found = {(t, d.id): (d.ts, d.value) for t in tables for d in self.run(documents(self.persistence, t))}
        assert tables == sorted({table for table, _ in expected})
        assert found == expected


class SqliteMachine(PersistenceMachine):
    """The same on SQLite, checkpointing all the time."""

    def make(self) -> Persistence:
        self.directory = tempfile.TemporaryDirectory()
        return SqlitePersistence(self.directory.name, synchronous="OFF", wal_bytes=20_000)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


TestMemory = PersistenceMachine.TestCase
TestMemory.settings = settings(max_examples=size(25, 500), stateful_step_count=40, deadline=None)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(max_examples=size(15, 200), stateful_step_count=30, deadline=None)
