"""What a query or mutation may wait for: its own calls and tasks, and nothing else, however deep it hides."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor.errors import DeterminismError
from tests.runtime.hosts import NO_FUNCTIONS, Bench, failure, open_bench

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        yield bench


class Yields:
    def __init__(self, what: Any) -> None:
        self.what = what

    def __await__(self) -> Any:
        yield self.what


async def sleep() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(0, done.set_result, None)
    await done


async def through_a_task() -> None:
    await asyncio.create_task(sleep())


async def deep() -> None:
    await asyncio.gather(asyncio.gather(sleep()))


WAITS: dict[str, Callable[[], Any]] = {
    "a future": sleep,
    "a task that waits": through_a_task,
    "a gather of gathers": deep,
    "a task of the loop": lambda: asyncio.get_running_loop().create_task(sleep()),
    "a shielded wait": lambda: asyncio.shield(sleep()),
    "nonsense": lambda: Yields("nonsense"),
    "a bare yield": lambda: Yields(None),
    "a bare future": lambda: asyncio.get_running_loop().create_future(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("tick", [0.0, 1.0])
async def test_no_other_wait_is_possible(bench: Bench, wait: Callable[[], Any], gathered: bool, tick: float) -> None:
    async def waits(ctx: Any) -> None:
        await ctx.db.insert("items", {"name": "a"})
        await asyncio.gather(ctx.db.query("items").count(), wait()) if gathered else await wait()

    if wait is WAITS["a bare yield"] and not gathered:
        return  # which is how an operation gives up its slice, and nothing else happens
    bench.clock.tick = tick
    error = failure(await bench.start(waits)).error
    bench.clock.tick = 0.0
    assert isinstance(error, DeterminismError), error
    assert len(bench.host.database.catalog.by_name["items"]) == 0
    for task in asyncio.all_tasks() - {asyncio.current_task()}:  # what was refused has ended, or ends by itself
        await asyncio.wait([task])


async def test_own_tasks_can_be_awaited_one_by_one(bench: Bench) -> None:
    async def counts(ctx: Any) -> list[int]:
        await ctx.db.insert("items", {"name": "a"})
        tasks = [asyncio.create_task(part(ctx)), asyncio.ensure_future(part(ctx))]
        return [await task for task in tasks]

    async def part(ctx: Any) -> int:
        return await ctx.db.query("items").count()  # type: ignore[no-any-return]

    assert await bench.run(counts) == [1, 1]


@pytest.mark.parametrize("tick", [0.0, 1.0])
async def test_a_scan_and_a_write_side_by_side_do_not_mix(bench: Bench, tick: float) -> None:
    """A scan that is suspended in the middle still ends before the write that was issued after it begins."""
    for at in range(300):
        await bench.run(lambda ctx, at=at: ctx.db.insert("items", {"name": str(at)}))

    async def scan(ctx: Any) -> int:
        return len([item async for item in ctx.db.query("items")])

    async def gathers(ctx: Any) -> list[int]:
        found = await asyncio.gather(
            ctx.db.query("items").collect(), ctx.db.insert("items", {"name": "new"}), ctx.db.query("items").count()
        )
        return [len(found[0]), found[2], *await asyncio.gather(scan(ctx), scan(ctx))]

    bench.clock.tick = tick
    seen = await bench.run(gathers)
    bench.clock.tick = 0.0
    assert seen == [300, 301, 301, 301]


async def test_sys_exit_in_a_task_fails_the_function_only(bench: Bench) -> None:
    async def exits() -> None:
        raise SystemExit(3)

    async def gathers(ctx: Any) -> None:
        await asyncio.gather(exits())

    assert failure(await bench.start(gathers)).detail == (
        "Uncaught RuntimeError: sys.exit(3) was called in a task of a query or mutation"
    )


async def test_a_task_group_is_refused(bench: Bench) -> None:
    async def groups(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.db.query("items").count())

    assert isinstance(failure(await bench.start(groups)).error, DeterminismError)


async def test_outside_of_functions_tasks_are_what_they_were(bench: Bench) -> None:
    task = asyncio.create_task(sleep(), name="named")
    assert task.get_name() == "named"
    assert type(task) is asyncio.Task
    assert asyncio.ensure_future(task) is task
    await asyncio.gather(task, sleep())
