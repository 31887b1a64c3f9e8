"""What a call leaves behind is freed when the call has ended, not by the next garbage collection.

Cycles cost more than the calls themselves: a collection walks over them all while nobody is answered.
"""

import gc
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from reactor.runtime.watchdog import watchdog
from tests.runtime.hosts import open_bench, project_files

pytestmark = pytest.mark.asyncio

APP = project_files(
    app="""
from reactor import env
@mutation
async def make(ctx) -> str:
    return await ctx.db.insert("counters", {"value": 0})

@mutation
async def add(ctx, id: str) -> int:
    value = (await ctx.db.get(id))["value"] + 1
    await ctx.db.patch(id, {"value": value})
    return value

@mutation
async def add_nested(ctx, id: str) -> int:
    return await ctx.run_mutation(add, id=id) + await ctx.run_query(read, id=id)

@mutation
def add_plainly(ctx, id: str) -> int:
    value = ctx.db.get(id)["value"] + 1
    ctx.db.patch(id, {"value": value})
    return value

@query
async def look(ctx, id: str) -> int:
    return len(ctx.env) + ("A" in env) + (await ctx.db.get(id))["value"]

@query
async def read(ctx, id: str) -> int:
    return (await ctx.db.get(id))["value"]

@query
async def scan(ctx, id: str) -> int:
    await ctx.db.query("counters").filter(lambda q: q.field("value") > 0).collect()
    await ctx.db.query("counters").paginate(num_items=1, cursor=None)
    return sum([counter["value"] async for counter in ctx.db.query("counters")])
"""
)


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """Keep what only a collection would free, and let none come by itself."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("name", ["add", "add_nested", "add_plainly", "read", "scan", "look"])
async def test_a_call_leaves_no_cycles(tmp_path: Path, garbage: list[object], name: str) -> None:
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        call = bench.query if name in ("read", "scan", "look") else bench.mutation
        live = bench.watch("app:read", id=counter)
        await call(f"app:{name}", id=counter)
        await bench.settle()
        gc.collect()
        garbage.clear()

        for _ in range(5):
            await call(f"app:{name}", id=counter)
            await bench.settle()
        gc.collect()

        ours = [found for found in garbage if type(found).__module__.startswith("reactor.")]
        assert not ours
        assert live


RULED = {
    "schema.py": """
        from reactor import define_rules, define_schema, define_table, v

        async def load_user(ctx):
            return await ctx.db.query("users").first()

        def may_see(ctx, doc):
            return doc["owner"] == ctx.user["name"] or doc["owner"] is None

        schema = define_schema({
            "users": define_table({"name": v.string()}),
            "notes": define_table({"owner": v.string()}),
        })
        rules = define_rules({"notes": {"read": may_see, "insert": lambda ctx, doc: True}}, user=load_user)
    """,
    "functions/app.py": """
        from reactor import mutation, query

        @mutation
        async def add(ctx):
            await ctx.db.unsafe.insert("users", {"name": "alice"})
            await ctx.db.insert("notes", {"owner": "alice"})
            await ctx.run_query(notes)

        @query
        async def notes(ctx):
            await ctx.db.unsafe.query("notes").paginate(num_items=1, cursor=None)
            return len([note async for note in ctx.db.query("notes")])
    """,
}


@pytest.mark.parametrize("name", ["add", "notes"])
async def test_nor_does_one_under_row_rules(tmp_path: Path, garbage: list[object], name: str) -> None:
    async with open_bench(tmp_path, RULED) as bench:
        await bench.mutation("app:add")
        gc.collect()
        garbage.clear()

        for _ in range(3):
            await (bench.query if name == "notes" else bench.mutation)(f"app:{name}")
            await bench.mutation("app:add")  # or the result would be a kept one
        gc.collect()

        ours = [found for found in garbage if type(found).__module__.startswith("reactor.")]
        assert not ours


async def test_looking_at_the_threads_keeps_none_of_their_frames(garbage: list[object]) -> None:
    gc.collect()
    garbage.clear()
    watchdog._look()
    gc.collect()
    assert not [found for found in garbage if isinstance(found, types.FrameType)]


ACTIONS = project_files(
    app="""
import anyio

@internal_mutation
async def add(ctx) -> str:
    return await ctx.db.insert("counters", {"value": 0})

@query
async def read(ctx) -> int:
    return await ctx.db.query("counters").count()

@action
async def calls(ctx) -> int:
    await asyncio.gather(ctx.run_mutation(add), asyncio.sleep(0))
    print(await ctx.auth.get_user_identity())
    return await ctx.run_query(read)

@action
def calls_plainly(ctx) -> int:
    ctx.run_mutation(add)
    return ctx.run_query(read)

@action
async def calls_actions(ctx) -> int:
    return await ctx.run_action(calls) + await ctx.run_action(calls_plainly)

@action
async def fails(ctx):
    await ctx.run_query("app:nothing")

@action
def fails_plainly(ctx):
    ctx.run_query("app:nothing")

class Part:
    pass

async def sends():
    part = Part()
    await asyncio.sleep(30)
    return part

@action
async def streams(ctx):  # as Starlette does for a client that goes away
    async with anyio.create_task_group() as group:
        group.start_soon(sends)
        await asyncio.sleep(0)
        group.cancel_scope.cancel()

@action
async def leaves_a_task(ctx):
    asyncio.create_task(asyncio.sleep(30))
"""
)


@pytest.mark.parametrize("name", ["calls", "calls_plainly", "calls_actions", "fails", "fails_plainly", "leaves_a_task"])
async def test_nor_does_an_action(tmp_path: Path, garbage: list[object], name: str) -> None:
    """Its log lines alone may be megabytes."""
    async with open_bench(tmp_path, ACTIONS) as bench:
        await bench.submit("action", f"app:{name}")
        await bench.settle()
        gc.collect()
        garbage.clear()

        for _ in range(5):
            await bench.submit("action", f"app:{name}")
            await bench.settle()
        gc.collect()

        ours = [found for found in garbage if type(found).__module__.startswith("reactor.")]
        assert not ours


async def test_a_stream_that_is_cut_off_leaves_nothing_of_its_parts(tmp_path: Path, garbage: list[object]) -> None:
    async with open_bench(tmp_path, ACTIONS) as bench:
        await bench.submit("action", "app:streams")
        gc.collect()
        assert not [found for found in garbage if type(found).__name__ == "Part"]
