"""Crons: what can be declared, when it runs, what is remembered, and what a push changes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.catalog import CRON_JOB_LOGS, CRON_JOBS
from reactor.errors import PushError
from reactor.limits import Limits
from reactor.runtime.jobs.crons import EPOCH, cron_jobs, following, interval, next_occurrence
from reactor.storage.memory import MemoryPersistence
from reactor.testing.clock import START, VirtualClock
from reactor.values.types import Int64
from tests.runtime.hosts import Bench, as_coroutine, open_bench, project_files
from tests.storage.faults import FaultyPersistence

EXACT = Limits(cron_splay_seconds=0)
MODULES = {
    "jobs": """
@internal_mutation
async def add(ctx, name: str = "x"):
    print("adding", name)
    await ctx.db.insert("items", {"name": name})
    return "r" * 3000

@mutation
async def fail(ctx):
    await ctx.db.insert("items", {"name": "undone"})
    raise ReactorError("no " + "x" * 3000)

@query
async def look(ctx):
    return None
""",
    "acts": """
import threading
calls = []
go_on = threading.Event()

@action
async def act(ctx):
    calls.append(ctx.now())
    await ctx.run_mutation("jobs:add", name="by an action")

@action
async def lasting(ctx):
    await asyncio.to_thread(go_on.wait, 20)
""",
}


def files(*crons: str) -> dict[str, str]:
    lines = "\n".join(f"crons.{cron}" for cron in crons)
    return project_files(**MODULES) | {
        "functions/crons.py": f"from reactor.runtime.jobs.crons import cron_jobs\ncrons = cron_jobs()\n{lines}\n"
    }


class Running:
    """A bench with crons, whose time passes when told."""

    def __init__(self, bench: Bench, clock: VirtualClock) -> None:
        self.bench = bench
        self.clock = clock

    async def pass_time(self, **units: float) -> None:
        self.clock.advance(**units)
        await self.bench.host.crons.settled()

    async def step(self, seconds: int, times: int) -> None:
        for _ in range(times):
            await self.pass_time(seconds=seconds)

    async def count(self) -> int:
        items = await self.bench.run(as_coroutine(lambda ctx: (yield ctx.db.query("items").collect())))
        return len(items)

    def crons(self) -> list[dict[str, Any]]:
        return [dict(cron) for cron in self.bench.host.database.system_documents(CRON_JOBS)]

    def cron(self) -> dict[str, Any]:
        (cron,) = self.crons()
        return cron

    def log(self) -> list[dict[str, Any]]:
        entries = self.bench.host.database.system_documents(CRON_JOB_LOGS)
        return sorted((dict(entry) for entry in entries), key=lambda entry: entry["_creationTime"])

    def statuses(self) -> list[str]:
        return [entry["status"]["type"] for entry in self.log()]


@asynccontextmanager
async def crons(
    tmp_path: Path, *declared: str, clock: VirtualClock | None = None, limits: Limits = EXACT, **options: Any
) -> AsyncIterator[Running]:
    clock = clock or VirtualClock()
    async with open_bench(tmp_path, files(*declared), clock=clock, limits=limits, **options) as bench:
        running = Running(bench, clock)
        await bench.host.crons.settled()
        yield running


def at(ms: float) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


@pytest.mark.asyncio
async def test_an_interval_runs_at_once_and_then_again_and_again(tmp_path: Path) -> None:
    async with crons(tmp_path, 'interval("tick", "jobs:add", {"name": "tick"}, seconds=30)') as c:
        assert await c.count() == 1
        await c.pass_time(seconds=29)
        assert await c.count() == 1
        await c.pass_time(seconds=1)
        assert await c.count() == 2
        await c.step(30, 4)
        assert await c.count() == 6
        assert c.statuses() == ["success"] * 5, "the last five"
        entry = c.log()[-1]
        assert entry["name"] == "tick"
        assert entry["path"] == "jobs:add"
        assert entry["args"] == b'{"name":"tick"}'
        assert at(entry["ts"]) == START + timedelta(seconds=150)
        assert len(entry["status"]["result"]) == 1000
        assert entry["logLines"] == {"logLines": ["[LOG] 'adding tick'"], "isTruncated": False}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("declared", "first", "second"),
    [
        ('hourly("x", "jobs:add", minute_utc=17)', datetime(2026, 1, 1, 0, 17), datetime(2026, 1, 1, 1, 17)),
        (
            'daily("x", "jobs:add", hour_utc=17, minute_utc=30)',
            datetime(2026, 1, 1, 17, 30),
            datetime(2026, 1, 2, 17, 30),
        ),
        (
            'weekly("x", "jobs:add", day_of_week="tuesday", hour_utc=5, minute_utc=0)',
            datetime(2026, 1, 6, 5),
            datetime(2026, 1, 13, 5),
        ),
        (
            'monthly("x", "jobs:add", day=31, hour_utc=0, minute_utc=1)',
            datetime(2026, 1, 31, 0, 1),
            datetime(2026, 3, 31, 0, 1),
        ),
        ('cron("x", "0 16 1 * *", "jobs:add", {"name": "ops"})', datetime(2026, 1, 1, 16), datetime(2026, 2, 1, 16)),
    ],
)
async def test_a_clock_schedule_runs_at_its_times(
    tmp_path: Path, declared: str, first: datetime, second: datetime
) -> None:
    async with crons(tmp_path, declared) as c:
        for count, moment in enumerate((first, second)):
            moment = moment.replace(tzinfo=UTC)
            assert at(c.cron()["nextTime"]) == moment
            await c.pass_time(milliseconds=(moment - at(c.clock.now_ms)).total_seconds() * 1000 - 1)
            assert await c.count() == count
            await c.pass_time(milliseconds=1)
            assert await c.count() == count + 1


@pytest.mark.asyncio
async def test_random_offsets_are_drawn_once(tmp_path: Path) -> None:
    """Pinned minutes by seconds, omitted ones within the hour; later occurrences keep what the first one had."""
    declared = ('daily("pinned", "jobs:add", hour_utc=1, minute_utc=0)', 'hourly("free", "jobs:add")')
    async with crons(tmp_path, *declared, limits=Limits(), seed=5) as c:
        offsets = {cron["name"]: cron["offsetMs"] for cron in c.crons()}
        assert 0 < offsets["pinned"] < 60_000 < offsets["free"] < 3_600_000
        await c.pass_time(days=1)
        for cron in c.crons():
            assert cron["prevTime"] % 3_600_000 == cron["nextTime"] % 3_600_000 == cron["offsetMs"]


@pytest.mark.asyncio
async def test_a_function_that_raises_is_written_down_and_not_repeated(tmp_path: Path) -> None:
    async with crons(tmp_path, 'interval("x", "jobs:fail", seconds=10)', redact=True) as c:
        await c.pass_time(seconds=9)
        assert await c.count() == 0
        (entry,) = c.log()
        assert entry["status"]["type"] == "err"
        assert entry["status"]["error"].startswith("Uncaught ConvexError: no x")
        assert len(entry["status"]["error"]) == 1000
        await c.pass_time(seconds=1)
        assert c.statuses() == ["err", "err"]


@pytest.mark.asyncio
@pytest.mark.parametrize("function", ["jobs:add", "acts:act"])
async def test_after_missed_periods_there_is_one_run(tmp_path: Path, function: str) -> None:
    """Conformance 16, also across a restart: what was missed is counted, and the rhythm is kept."""
    memory, clock = MemoryPersistence(), VirtualClock()
    declared = f'interval("x", "{function}", seconds=60)'
    async with crons(tmp_path, declared, clock=clock, storage=FaultyPersistence(memory)) as c:
        assert await c.count() == 1
    clock.advance(seconds=630)
    async with crons(tmp_path, declared, clock=clock, storage=FaultyPersistence(memory.fork())) as c:
        assert await c.count() == 2
        assert c.statuses() == ["success", "success", "canceled"]
        assert c.log()[-1]["status"] == {"type": "canceled", "num_canceled": Int64(9)}
        assert at(c.cron()["nextTime"]) == START + timedelta(seconds=660)


@pytest.mark.asyncio
async def test_a_clock_schedule_drops_what_it_missed(tmp_path: Path) -> None:
    async with crons(tmp_path, 'hourly("x", "jobs:add", minute_utc=0)') as c:
        await c.pass_time(hours=10, minutes=30)
        assert await c.count() == 1
        assert c.statuses() == ["success"]
        assert at(c.cron()["nextTime"]) == START + timedelta(hours=11)


@pytest.mark.asyncio
async def test_a_slow_run_does_not_overlap_with_the_next(tmp_path: Path) -> None:
    """Conformance 16: its later occurrences are counted when it has ended."""
    async with crons_of_lasting(tmp_path) as c:
        for _ in range(5):
            c.clock.advance(seconds=60)
            await c.count()
        assert c.cron()["state"] == {"type": "inProgress"}
        assert c.log() == []
        acts = c.bench.projects[-1].namespace("acts")
        assert acts is not None
        acts.go_on.set()
        await c.bench.host.crons.settled()
        assert c.statuses() == ["success", "canceled", "success"], "the one that is due right now runs"
        assert c.log()[1]["status"]["num_canceled"] == 4


@asynccontextmanager
async def crons_of_lasting(tmp_path: Path) -> AsyncIterator[Running]:
    clock = VirtualClock()
    async with open_bench(
        tmp_path, files('interval("x", "acts:lasting", seconds=60)'), clock=clock, limits=EXACT
    ) as bench:
        running = Running(bench, clock)
        while not running.crons() or running.cron()["state"]["type"] == "pending":
            await running.count()
        await bench.host.database.durable(bench.host.database.applied_ts)
        yield running


@pytest.mark.asyncio
async def test_a_push_that_changes_nothing_leaves_the_schedule_alone(tmp_path: Path) -> None:
    declared = 'interval("x", "jobs:add", seconds=60)'
    async with crons(tmp_path, declared) as c:
        before = c.cron()
        c.clock.advance(seconds=10)
        await c.bench.push(files(declared))
        assert c.cron() == before


@pytest.mark.asyncio
async def test_a_changed_schedule_begins_anew_unless_it_is_about_to_run(tmp_path: Path) -> None:
    async with crons(tmp_path, 'daily("x", "jobs:add", hour_utc=12, minute_utc=0)') as c:
        await c.bench.push(files('daily("x", "jobs:add", hour_utc=13, minute_utc=0)'))
        assert at(c.cron()["nextTime"]) == START + timedelta(hours=13)
        await c.bench.push(files('interval("x", "jobs:add", seconds=20)'))
        await c.bench.host.crons.settled()
        due = c.cron()["nextTime"]
        assert at(due) == START + timedelta(seconds=20)
        await c.pass_time(seconds=15)
        await c.bench.push(files('interval("x", "jobs:add", {"name": "new"}, seconds=7200)'))
        assert c.cron()["nextTime"] == due, "the run after the next is less than 30 s away"
        await c.pass_time(seconds=5)
        assert at(c.cron()["nextTime"]) == START + timedelta(seconds=7220)


@pytest.mark.asyncio
async def test_a_cron_that_is_removed_leaves_nothing(tmp_path: Path) -> None:
    async with crons(tmp_path, 'interval("x", "jobs:add", seconds=60)', 'interval("y", "jobs:add", seconds=60)') as c:
        await c.bench.push(files('interval("y", "jobs:add", seconds=60)'))
        assert [cron["name"] for cron in c.crons()] == ["y"]
        assert [entry["name"] for entry in c.log()] == ["y"]
        await c.pass_time(seconds=60)
        assert await c.count() == 3


@pytest.mark.asyncio
async def test_a_cron_that_is_removed_while_it_runs(tmp_path: Path) -> None:
    async with crons_of_lasting(tmp_path) as c:
        acts = c.bench.projects[-1].namespace("acts")
        assert acts is not None
        await c.bench.push(files())
        acts.go_on.set()
        await c.bench.host.crons.settled()
        assert c.crons() == c.log() == []


@pytest.mark.asyncio
async def test_an_action_of_a_process_that_died_is_not_repeated(tmp_path: Path) -> None:
    memory = MemoryPersistence()
    async with crons_of_lasting(tmp_path) as c:
        memory = c.bench.storage.inner.fork()  # type: ignore[attr-defined]
        acts = c.bench.projects[-1].namespace("acts")
        assert acts is not None
        acts.go_on.set()
    async with crons(tmp_path, 'interval("x", "acts:lasting", seconds=60)', storage=FaultyPersistence(memory)) as again:
        assert again.log()[0]["status"] == {"type": "err", "error": "Transient error while executing action"}
        assert again.cron()["state"] == {"type": "pending"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ('interval("x", "nowhere:f", seconds=1)', "functions/crons.py:3: cron 'x': there is no function 'nowhere:f'"),
        ('interval("x", "jobs:look", seconds=1)', "jobs:look is a query; a cron runs a mutation or an action"),
        ('interval("x", "jobs:add", {"name": object()}, seconds=1)', "Invalid arguments for jobs.js:add"),
        ('interval("x!", "jobs:add", seconds=1)', "functions/crons.py:3: ValueError: the name of a cron is made of"),
        ('interval("x", "jobs:add")', "takes one of seconds=, minutes= and hours="),
        ('interval("x", "jobs:add", seconds=1, hours=1)', "takes one of"),
        ('interval("x", "jobs:add", seconds=0)', "a whole number from 1"),
        ('interval("x", "jobs:add", seconds=0.5)', "a whole number from 1"),
        ('daily("x", "jobs:add", hour_utc=24)', "hour_utc is a whole number from 0 to 23, not 24"),
        ('hourly("x", "jobs:add", minute_utc=-1)', "minute_utc is a whole number from 0 to 59"),
        ('monthly("x", "jobs:add", day=32, hour_utc=1)', "day is a whole number from 1 to 31"),
        ('weekly("x", "jobs:add", day_of_week="Tue", hour_utc=1)', "day_of_week is one of sunday, "),
        ('cron("x", "* * * * * *", "jobs:add")', "a cron string has five fields"),
        ('cron("x", "99 * * * *", "jobs:add")', "'99 * * * *' is no cron string"),
        ('cron("x", "0 0 30 2 *", "jobs:add")', "is no cron string"),
    ],
)
async def test_what_can_not_be_declared(tmp_path: Path, declared: str, text: str) -> None:
    async with open_bench(tmp_path) as bench:
        with pytest.raises(PushError) as failure:
            bench.load(files(declared))
        assert text in str(failure.value)


@pytest.mark.asyncio
async def test_whole_numbers_may_be_floats(tmp_path: Path) -> None:
    async with crons(tmp_path, 'daily("x", "jobs:add", hour_utc=7.0, minute_utc=0.0)') as c:
        assert c.cron()["schedule"] == {"type": "daily", "hourUTC": Int64(7), "minuteUTC": Int64(0)}


def test_each_cron_has_a_name_of_its_own() -> None:
    jobs = cron_jobs()
    jobs.interval("x", "jobs:add", seconds=1)
    with pytest.raises(ValueError, match="there is a cron 'x' already"):
        jobs.hourly("x", "jobs:add")


@pytest.mark.asyncio
async def test_a_crons_module_must_export_crons(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        with pytest.raises(PushError, match=r"crons.py must export `crons`, made with cron_jobs\(\)"):
            bench.load(project_files(**MODULES) | {"functions/crons.py": "x = 1\n"})


@given(
    period=st.integers(1, 10**6),
    due=st.integers(0, 10**12).map(float),
    late=st.integers(0, 10**9).map(float),
)
def test_an_interval_keeps_its_rhythm_and_counts_what_it_leaves_out(period: int, due: float, late: float) -> None:
    now = due + late
    next_ms, skipped = following(interval(period), 0.0, due, now)
    assert next_ms == due + (skipped + 1) * period * 1000
    assert next_ms >= now
    assert skipped == 0 or next_ms - period * 1000 < now


@given(
    minute=st.integers(0, 59),
    offset=st.integers(0, 59).map(lambda seconds: seconds * 1000.0),
    now=st.integers(1_700_000_000_000, 1_800_000_000_000).map(float),
)
def test_an_hourly_cron_is_next_due_within_the_hour(minute: int, offset: float, now: float) -> None:
    schedule = {"type": "hourly", "minuteUTC": Int64(minute)}
    next_ms = next_occurrence(schedule, offset, now)
    assert now < next_ms <= now + 3_600_000
    assert (next_ms - offset) % 3_600_000 == minute * 60_000
