"""A hot document: many mutations count it up at once, half of them suspended between reading and writing."""

import asyncio
from pathlib import Path

import pytest

from reactor.limits import Limits
from tests.runtime.hosts import open_bench, project_files, value_of
from tests.sizes import size

pytestmark = pytest.mark.asyncio

APP = project_files(
    hot="""
@mutation
async def make(ctx) -> str:
    return await ctx.db.insert("counters", {"value": 0})

@mutation
async def add(ctx, id: str) -> int:
    value = (await ctx.db.get(id))["value"] + 1
    await ctx.db.patch(id, {"value": value})
    return value

@mutation
async def add_gathering(ctx, id: str) -> int:
    value = (await ctx.db.get(id))["value"] + 1
    await asyncio.gather(ctx.db.query("items").count(), ctx.db.query("items").first())
    await ctx.db.patch(id, {"value": value})
    return value

@mutation
async def add_nested(ctx, id: str) -> int:
    before = (await ctx.db.get(id))["value"]
    try:
        await ctx.run_mutation(add_and_fail, id=id)
    except ValueError:
        pass
    await asyncio.gather(ctx.run_mutation(add, id=id), ctx.db.query("items").count())
    return before + 1

@mutation
async def add_and_fail(ctx, id: str):
    await ctx.db.patch(id, {"value": 1_000_000})
    raise ValueError("no")
"""
)
CALLS = size(300, 10_000)


@pytest.mark.parametrize("slow", ["hot:add_gathering", "hot:add_nested"])
@pytest.mark.parametrize("tick", [0.0, 1.0], ids=["one slice", "a slice per call"])
@pytest.mark.parametrize("attempts", [1, 5])
async def test_every_increment_counts_once_and_none_fails(
    tmp_path: Path, slow: str, tick: float, attempts: int
) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(max_commit_attempts=attempts)) as bench:
        counter = await bench.mutation("hot:make")
        bench.clock.tick = tick
        values: list[int] = []

        async def client(number: int) -> None:
            for at in range(CALLS // 50):
                path = slow if (number + at) % 2 else "hot:add"
                values.append(value_of(await bench.submit("mutation", path, {"id": counter})))

        await asyncio.gather(*(client(number) for number in range(50)))
        bench.clock.tick = 0.0

        assert sorted(values) == list(range(1, len(values) + 1))
        assert len(values) == CALLS
        assert (await bench.run(lambda ctx: ctx.db.get(counter)))["value"] == CALLS
        stats = bench.host.executor.stats
        assert attempts == 1 or stats.conflicts > 0, "they did get in each other's way"
