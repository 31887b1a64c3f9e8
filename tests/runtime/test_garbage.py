"""What a call leaves behind is freed when the call has ended, not by the next garbage collection.

Cycles cost more than the calls themselves: a collection walks over them all while nobody is answered.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reactor.runtime.calls import Call, Failure, Outcome
from reactor.runtime.watchdog import watchdog
from reactor.testing.clock import VirtualClock
from tests.garbage import kept_garbage
from tests.runtime.hosts import Bench, open_bench, project_files, value_of
from tests.runtime.test_components import COUNTER, MOUNTED

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


@pytest.mark.parametrize("name", ["add", "add_nested", "add_plainly", "read", "scan", "look"])
async def test_a_call_leaves_no_cycles(tmp_path: Path, name: str) -> None:
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        call = bench.query if name in ("read", "scan", "look") else bench.mutation
        live = bench.watch("app:read", id=counter)
        await call(f"app:{name}", id=counter)
        await bench.settle()

        with kept_garbage() as garbage:
            for _ in range(5):
                await call(f"app:{name}", id=counter)
                await bench.settle()
            assert not garbage()
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
async def test_nor_does_one_under_row_rules(tmp_path: Path, name: str) -> None:
    async with open_bench(tmp_path, RULED) as bench:
        await bench.mutation("app:add")

        with kept_garbage() as garbage:
            for _ in range(3):
                await (bench.query if name == "notes" else bench.mutation)(f"app:{name}")
                await bench.mutation("app:add")  # or the result would be a kept one
            assert not garbage()


TRIGGERING = {
    "schema.py": """
        from reactor import define_schema, define_table, define_triggers, v

        schema = define_schema({"notes": define_table({"fails": v.boolean()}), "log": define_table({})})

        async def log(ctx, change):
            await ctx.db.insert("log", {})

        def fail(ctx, change):
            if change.new["fails"]:
                raise ValueError("as it shall")

        triggers = define_triggers({"notes": [log, fail, fail]})
    """,
    "functions/app.py": """
        from reactor import mutation, query

        @mutation
        async def add(ctx, fails: bool):
            try:
                await ctx.db.insert("notes", {"fails": fails})
            except ValueError as error:
                print(error)
            await ctx.stale.run_query(notes)

        @mutation
        def add_plainly(ctx, fails: bool):
            try:
                ctx.db.insert("notes", {"fails": fails})
            except ValueError as error:
                print(error)
            ctx.stale.run_query(notes)

        @query
        async def notes(ctx):
            return await ctx.db.query("notes").count()
    """,
}


@pytest.mark.parametrize("name", ["add", "add_plainly"])
@pytest.mark.parametrize("fails", [True, False])
async def test_nor_do_triggers_and_stale_reads(tmp_path: Path, name: str, fails: bool) -> None:
    async with open_bench(tmp_path, TRIGGERING) as bench:
        await bench.mutation("app:add", fails=fails)

        with kept_garbage() as garbage:
            for _ in range(3):
                await bench.mutation(f"app:{name}", fails=fails)
            assert not garbage()


BY_ITSELF = project_files(
    runs="""
from reactor.runtime.references import components

async def load_user(ctx):
    return {"user": "alice"}

async def record(ctx, args, result):
    await ctx.db.insert("others", {"x": [ctx.user, args, result]})

extended_mutation = mutation.extend(context=load_user, on_success=record)

@mutation
async def schedule(ctx, name: str) -> str:
    return await ctx.scheduler.run_after(0, f"runs:{name}")

@mutation
async def schedule_and_cancel(ctx) -> None:
    await ctx.scheduler.cancel(await ctx.scheduler.run_after(0, "runs:effect"))

@mutation
async def effect(ctx) -> None:
    await ctx.db.insert("items", {"name": "x"})

@mutation
async def fail(ctx) -> None:
    await ctx.db.insert("items", {"name": "x"})
    raise ReactorError("no")

@mutation
def fail_plainly(ctx) -> None:
    raise ReactorError("no")

@mutation
async def catch(ctx) -> None:
    try:
        await ctx.run_mutation(fail)
    except ReactorError:
        pass

@mutation
async def gather(ctx) -> None:
    await asyncio.gather(ctx.run_mutation(effect), ctx.db.query("items").first())

@mutation
async def gather_and_fail(ctx) -> None:
    await asyncio.gather(ctx.db.query("items").first(), ctx.run_mutation(fail))

@extended_mutation
async def extended(ctx) -> None:
    await ctx.db.insert("items", {"name": ctx.user})

@mutation
async def mount(ctx) -> None:
    await ctx.run_mutation(components.counter.marks.add, name="x")

@action
async def act(ctx) -> None:
    await ctx.run_mutation("runs:effect")
    await ctx.run_query("runs:look")
    await ctx.run_action("runs:act_plainly")
    await ctx.scheduler.run_after(0, "runs:effect")
    await asyncio.gather(ctx.run_query("runs:look"), asyncio.sleep(0))

@action
def act_plainly(ctx) -> None:
    ctx.run_mutation("runs:effect")
    file = ctx.storage.store(b"content")
    ctx.storage.get(file).read()
    ctx.storage.delete(file)

@action
async def keep_file(ctx) -> None:
    file = await ctx.storage.store(b"content")
    await (await ctx.storage.get(file)).read()
    await ctx.storage.delete(file)

@action
async def fail_in_action(ctx) -> None:
    await ctx.run_mutation("runs:fail")

@action
def fail_in_plain_action(ctx) -> None:
    ctx.run_mutation("runs:fail")

@query
async def look(ctx) -> int:
    return len(await ctx.db.query("items").take(3))
""",
) | {
    "functions/app.py": MOUNTED,
    **COUNTER,
}
CALLED = ["effect", "fail", "fail_plainly", "catch", "gather", "gather_and_fail", "extended", "mount"]
ACTIONS = ["act", "act_plainly", "keep_file", "fail_in_action", "fail_in_plain_action"]


async def end_of(bench: Bench, kind: str, name: str) -> None:
    """Run a function; forget what has come of it, as a server does once it is sent."""
    ended = asyncio.Event()

    def done(outcome: Outcome) -> None:
        if not (isinstance(outcome, Failure) and "fail" in name):
            value_of(outcome)
        ended.set()

    getattr(bench.host.executor, f"submit_{kind}")(Call(f"runs:{name}", b"{}"), done)
    await ended.wait()


def scheduled(name: str) -> Callable[[Bench], Awaitable[Any]]:
    async def run(bench: Bench) -> None:
        await bench.mutation("runs:schedule", name=name)
        await bench.host.scheduler.settled()

    return run


async def cron_runs(bench: Bench) -> None:
    bench.clock.advance(seconds=60)
    await asyncio.sleep(0)  # the alarm rings
    await bench.host.crons.settled()


async def cancelled(bench: Bench) -> None:
    await bench.mutation("runs:schedule_and_cancel")
    await bench.host.scheduler.settled()


CRONS = project_files(
    crons="""
from reactor import cron_jobs
crons = cron_jobs()
crons.interval("mutation", "runs:effect", seconds=60)
crons.interval("failing", "runs:fail", seconds=60)
crons.interval("action", "runs:act", seconds=60)
""",
)["functions/crons.py"]
RUNS: dict[str, dict[str, Callable[[Bench], Awaitable[Any]]]] = {
    "mutations": {name: lambda bench, name=name: end_of(bench, "mutation", name) for name in CALLED},
    "actions": {name: lambda bench, name=name: end_of(bench, "action", name) for name in ACTIONS},
    "scheduled mutations": {name: scheduled(name) for name in CALLED} | {"cancelled": cancelled},
    "scheduled actions": {name: scheduled(name) for name in ACTIONS},
    "crons": {"crons": cron_runs},
}


@pytest.mark.parametrize("group", RUNS)
async def test_nor_does_what_runs_by_itself(tmp_path: Path, group: str) -> None:
    files = BY_ITSELF | ({"functions/crons.py": CRONS} if group == "crons" else {})
    left: dict[str, list[object]] = {}
    async with open_bench(tmp_path, files, clock=VirtualClock()) as bench:
        for name, run in RUNS[group].items():
            await run(bench)
            await bench.host.scheduler.settled()

            with kept_garbage() as garbage:
                for _ in range(3):
                    await run(bench)
                await bench.host.scheduler.settled()
                left[name] = garbage()
    assert not any(left.values()), left


async def test_nor_does_a_look_of_the_watchdog(tmp_path: Path) -> None:
    """It sees the frames of all threads, with everything that is in them: its own frame among them is a cycle."""
    async with open_bench(tmp_path, APP):
        with kept_garbage() as garbage:
            watchdog._look()
            assert not garbage()


ACTING = project_files(
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
async def test_nor_does_an_action(tmp_path: Path, name: str) -> None:
    """Its log lines alone may be megabytes."""
    async with open_bench(tmp_path, ACTING) as bench:
        await bench.submit("action", f"app:{name}")
        await bench.settle()

        with kept_garbage() as garbage:
            for _ in range(5):
                await bench.submit("action", f"app:{name}")
                await bench.settle()
            assert not garbage()


async def test_a_stream_that_is_cut_off_leaves_nothing_of_its_parts(tmp_path: Path) -> None:
    async with open_bench(tmp_path, ACTING) as bench:
        with kept_garbage() as garbage:
            await bench.submit("action", "app:streams")
            garbage()  # anyio leaves a small cycle, which is not ours to break
            assert not [found for found in gc.garbage if type(found).__name__ == "Part"]
