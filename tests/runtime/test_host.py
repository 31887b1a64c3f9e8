"""The life of a host: open, close, open again."""

import asyncio
import logging
from pathlib import Path

import pytest

from reactor.errors import StorageError
from reactor.limits import Limits
from reactor.runtime.determinism import Ambient, ambient
from reactor.runtime.host import Host, TaskGroup
from reactor.runtime.logs import LogBuffer
from reactor.storage.memory import MemoryPersistence
from reactor.storage.sqlite import SqlitePersistence
from tests.runtime.hosts import SeededRng, TestClock, failure, open_bench, project_files, success
from tests.runtime.projects import inside
from tests.storage.faults import FaultyPersistence

pytestmark = pytest.mark.asyncio

APP = project_files(
    app="""
@mutation
async def add(ctx, value: int):
    return await ctx.db.insert("counters", {"value": value})

@query
async def values(ctx):
    return [counter["value"] for counter in await ctx.db.query("counters").collect()]
"""
)


async def test_what_was_answered_is_there_after_a_restart(tmp_path: Path) -> None:
    for at in range(3):
        storage = FaultyPersistence(SqlitePersistence(tmp_path / "data"))
        async with open_bench(tmp_path / "app", APP, storage=storage, seed=at + 1) as bench:
            assert await bench.query("app:values") == list(range(at))
            outcomes = [await bench.submit("mutation", "app:add", {"value": at})]
            for outcome in outcomes:
                success(outcome)


async def test_timestamps_go_on_rising_after_a_restart_with_a_clock_set_back(tmp_path: Path) -> None:
    storage = FaultyPersistence(MemoryPersistence())
    stamps: list[int] = []
    created: list[float] = []
    for step in (0, -3_600_000_000_000, -7_200_000_000_000):
        clock = TestClock()
        clock.wall += step
        host = await Host.open(storage, clock=clock, alarms=clock, rng=SeededRng(step), limits=Limits())
        stamps.append(host.database.applied_ts)
        table = host.database.create_table(f"counters{len(stamps)}")
        transaction = host.database.begin_mutation()
        created.append(host.database.creation_time(transaction))
        assert table.number > 10_000
        await host.close()
    assert stamps == sorted(set(stamps))
    assert created == sorted(set(created))


async def test_a_host_that_can_not_open_releases_its_storage(tmp_path: Path) -> None:
    storage = FaultyPersistence(MemoryPersistence())
    storage.failing.add("read")
    with pytest.raises(StorageError):
        await Host.open(storage, clock=TestClock(), alarms=TestClock(), rng=SeededRng(), limits=Limits())
    storage.failing.clear()
    host = await Host.open(storage, clock=TestClock(), alarms=TestClock(), rng=SeededRng(), limits=Limits())
    await host.close()


async def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        await bench.host.close()
        await bench.host.close()


async def test_redaction_is_a_choice_of_the_host(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, redact=True) as bench:
        assert "\n" not in failure(await bench.submit("query", "app:nope")).message


async def test_background_work_that_fails_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("in the background")

    tasks = TaskGroup()
    with caplog.at_level(logging.ERROR):
        tasks.spawn(fails(), name="unlucky")
        await tasks.join()
    assert "background task unlucky failed" in caplog.text
    assert "in the background" in caplog.text


async def test_background_work_is_never_part_of_the_function_that_caused_it() -> None:
    seen: list[object] = []

    async def looks() -> None:
        seen.append(ambient.get())

    tasks = TaskGroup()
    with inside(Ambient("mutation", 0, LogBuffer())):
        tasks.spawn(looks(), name="looks")
    await tasks.join()
    assert seen == [None]


@pytest.mark.parametrize("tick", [0.0, 1.0])
async def test_the_engine_never_works_in_the_context_of_a_function(tmp_path: Path, tick: float) -> None:
    """Whatever a mutation sets off runs outside of it: the publisher, the callbacks, the reruns."""
    async with open_bench(tmp_path, APP) as bench:
        seen: list[object] = []

        class Observer:
            def settled(self, ts: int) -> None:
                seen.append(ambient.get())

        observer = Observer()
        append = bench.storage.append

        async def looking(batch: object, after: int) -> object:
            seen.append(ambient.get())
            return await append(batch, after)  # type: ignore[arg-type]

        bench.storage.append = looking  # type: ignore[method-assign, assignment]
        bench.clock.tick = tick

        async def gathers(ctx: object) -> None:
            await asyncio.gather(ctx.db.insert("counters", {"value": 1}))  # type: ignore[attr-defined]

        futures = [bench.submit("mutation", "app:add", {"value": 1}), bench.start(gathers)]
        for future in futures:
            future.add_done_callback(lambda _: seen.append(ambient.get()))
        bench.host.live.request_settle(observer)
        for future in futures:
            success(await future)
        await bench.settle()
        bench.clock.tick = 0.0
        assert len(seen) >= 4
        assert set(seen) == {None}
