"""Actions on the engine: every form, what they may call, how they end."""

from pathlib import Path

import pytest

from tests.runtime.hosts import open_bench, project_files, value_of

pytestmark = pytest.mark.asyncio

FUNCTIONS = project_files(
    items="""
@query
async def names(ctx) -> list[str]:
    return [item["name"] for item in await ctx.db.query("items").collect()]

@mutation
async def add(ctx, name: str) -> str:
    print("adding", name)
    return await ctx.db.insert("items", {"name": name})

@action
async def add_two(ctx, first: str, second: str) -> list[str]:
    print("begin")
    await asyncio.gather(ctx.run_mutation(add, name=first), ctx.run_mutation("items:add", {"name": second}))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        found = group.create_task(ctx.run_query(names))
    return sorted(found.result())

@action
def add_two_blocking(ctx, first: str, second: str) -> list[str]:
    ctx.run_mutation(add, name=first)
    ctx.run_mutation(add, {"name": second})
    return sorted(ctx.run_query(names))

@action
async def outer(ctx) -> list[str]:
    await ctx.run_action(add_two_blocking, first="x", second="y")
    return await ctx.run_action(add_two, first="a", second="b")

@action
def outer_blocking(ctx) -> list[str]:
    ctx.run_action(add_two_blocking, first="x", second="y")
    return ctx.run_action(add_two, first="a", second="b")
"""
)


async def test_both_forms_run_queries_mutations_and_actions(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        outcome = await bench.submit("action", "items:add_two", {"first": "b", "second": "a"})
        assert value_of(outcome) == ["a", "b"]
        print(outcome.log_lines)
        assert value_of(await bench.submit("action", "items:add_two_blocking", {"first": "c", "second": "d"})) == list(
            "abcd"
        )
        assert len(value_of(await bench.submit("action", "items:outer"))) == 8
        outcome = await bench.submit("any", "items:outer_blocking")
        assert len(value_of(outcome)) == 12
        print(outcome.log_lines)
