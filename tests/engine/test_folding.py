"""When the log is folded: at once while nobody waits for the disk, else late, and never too late."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.folding import IDLE_PART, Folding
from reactor.limits import Limits
from reactor.storage.interface import DocumentWrite, Record
from reactor.storage.memory import MemoryPersistence
from tests.engine.work import Tasks
from tests.storage.faults import FaultyPersistence

LIMITS = Limits(fold_records=100, fold_bytes=1 << 20, log_retention_records=0)


class Bench:
    """A folding beside a log that grows as the test says."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.inner = MemoryPersistence()
        self.persistence = FaultyPersistence(self.inner)
        self.tasks = Tasks()
        self.limits = limits
        self.folding = Folding(self.persistence, limits, self.tasks.spawn)
        self.end = 0

    async def publish(self, records: int, *, is_busy: bool, size: int = 0) -> None:
        batch = [
            Record(self.end + 1 + at, "commit", (DocumentWrite(10_001, f"{at % 7}", b"x"),)) for at in range(records)
        ]
        await self.persistence.append(batch, self.end)
        self.end = batch[-1].ts
        self.folding.published(self.end, records, size, is_busy)
        await self.tasks.join()

    async def unfolded(self) -> int:
        state = await self.inner.fold(0)
        return self.end - state.folded


@pytest.mark.asyncio
async def test_what_nobody_waits_beside_is_folded_soon() -> None:
    bench = Bench()
    await bench.persistence.open()
    await bench.publish(LIMITS.fold_records // IDLE_PART - 1, is_busy=False)
    assert await bench.unfolded() == LIMITS.fold_records // IDLE_PART - 1

    await bench.publish(1, is_busy=False)

    assert await bench.unfolded() == 0


@pytest.mark.asyncio
async def test_while_commits_keep_coming_it_waits_up_to_a_bound_of_records() -> None:
    bench = Bench()
    await bench.persistence.open()
    for _ in range(99):
        await bench.publish(1, is_busy=True)
    assert await bench.unfolded() == 99

    await bench.publish(1, is_busy=True)

    assert await bench.unfolded() == 0


@pytest.mark.asyncio
async def test_while_commits_keep_coming_it_waits_up_to_a_bound_of_bytes() -> None:
    """Start-up reads again what waits, and keeps it in memory."""
    bench = Bench()
    await bench.persistence.open()
    await bench.publish(10, is_busy=True, size=(1 << 20) - 1)
    assert await bench.unfolded() == 10

    await bench.publish(1, is_busy=True, size=1)

    assert await bench.unfolded() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("large", [False, True])
async def test_what_is_found_at_opening_counts(large: bool) -> None:
    bench = Bench()
    await bench.persistence.open()
    count, value = (2, b"x" * (1 << 19)) if large else (99, b"x")
    records = [Record(ts, "commit", (DocumentWrite(10_001, "a", value),)) for ts in range(1, count + 1)]
    await bench.persistence.append(records, 0)
    bench.end = count
    for record in records:
        bench.folding.found(record, is_folded=False)

    await bench.publish(1, is_busy=True)

    assert await bench.unfolded() == 0


@pytest.mark.asyncio
async def test_a_failure_only_postpones(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.persistence.open()
    bench.persistence.failing.add("fold")
    await bench.publish(100, is_busy=True)
    assert "could not be folded" in caplog.text
    bench.persistence.failing.clear()

    await bench.publish(1, is_busy=True)

    assert await bench.unfolded() < LIMITS.fold_records // IDLE_PART


@given(
    steps=st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.integers(0, 1 << 19)), max_size=40),
    fold_records=st.integers(1, 120),
    kept=st.integers(0, 50),
)
def test_the_log_stays_within_its_bounds(steps: list[tuple[int, bool, int]], fold_records: int, kept: int) -> None:
    """Also where a fold ends inside a batch; and what is kept for followers is kept."""

    async def check() -> None:
        bench = Bench(Limits(fold_records=fold_records, fold_bytes=1 << 20, log_retention_records=kept))
        await bench.persistence.open()
        for records, is_busy, size in steps:
            await bench.publish(records, is_busy=is_busy, size=size)
            assert await bench.unfolded() < fold_records
            in_log = await bench.inner.read((await bench.inner.fold(0)).floor, 10_000)
            assert len(in_log) >= min(bench.end, kept)
            assert len(in_log) <= kept + fold_records + 60
        await bench.folding.close()

    asyncio.run(check())
