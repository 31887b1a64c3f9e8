"""`ctx.stale`: what a mutation reads without depending on it."""

import logging
from pathlib import Path
from typing import Any

import pytest

from reactor.engine import transaction as engine_transaction
from reactor.errors import InvalidFunctionCall, LimitExceeded
from reactor.limits import Limits
from reactor.runtime.calls import Call
from reactor.testing.interleaving import HeldMutation
from tests.runtime.hosts import failure, open_bench, project_files, user, value_of, wire

pytestmark = pytest.mark.asyncio

APP = project_files(
    app="""
@query
async def names(ctx) -> list[str]:
    return [item["name"] async for item in ctx.db.query("items")]

@query
def names_blocking(ctx) -> list[str]:
    return [item["name"] for item in ctx.db.query("items")]

@query
async def names_below(ctx) -> list[str]:
    return await ctx.run_query(names)

@query
async def refuses(ctx, after: float):
    await ctx.db.query("items").take(int(after))
    raise ReactorError("no")

@mutation
async def add(ctx, name: str) -> None:
    await ctx.db.insert("items", {"name": name})

@mutation
async def note(ctx, query: str, stale: bool) -> list[str]:
    seen = await (ctx.stale if stale else ctx).run_query(query)
    await ctx.db.insert("others", {"x": seen})
    return seen

@mutation
def note_blocking(ctx, query: str, stale: bool) -> list[str]:
    seen = (ctx.stale if stale else ctx).run_query(query)
    ctx.db.insert("others", {"x": seen})
    return seen

@mutation
async def own(ctx, query: str) -> list[list[str]]:
    item = await ctx.db.query("items").first()
    await ctx.db.patch(item["_id"], {"name": "renamed"})
    await ctx.db.insert("items", {"name": "own"})
    stale = await ctx.stale.run_query(query)
    return [stale, await ctx.run_query(query), await ctx.stale.run_query(query)]

@mutation
async def reads(ctx, times: int) -> None:
    for _ in range(times):
        try:
            await ctx.stale.run_query(refuses, after=2)
        except ReactorError:
            pass

@mutation
async def forgets(ctx) -> None:
    ctx.stale.run_query(names)  # forgotten

@query
async def looks(ctx) -> None:
    await ctx.stale.run_query(names)

@mutation
async def below(ctx) -> list[str]:
    return await ctx.stale.run_query("app:looks")

@mutation
async def writes(ctx) -> None:
    await ctx.stale.run_query(add, name="a")
"""
)


CALLS = {"app:names": 2, "app:names_blocking": 2, "app:names_below": 3}  # up to the write that comes after them


@pytest.mark.parametrize("query", CALLS)
async def test_a_concurrent_writer_is_no_conflict(tmp_path: Path, query: str) -> None:
    async with open_bench(tmp_path, APP) as bench:
        await bench.mutation("app:add", name="early")

        async def overtaken(by: str, *, stale: bool) -> tuple[Any, int]:
            call = Call("app:note", wire({"query": query, "stale": stale}))
            held = HeldMutation(bench.host.executor, call, CALLS[query])
            await held.reached()
            await bench.mutation("app:add", name=by)
            return await held.finish(), held.attempts

        assert await overtaken("late", stale=True) == (["early"], 1)
        assert await overtaken("later", stale=False) == (["early", "late", "later"], 2), "without `stale` it is one"


@pytest.mark.parametrize("query", CALLS)
async def test_own_writes_are_not_seen(tmp_path: Path, query: str) -> None:
    async with open_bench(tmp_path, APP) as bench:
        await bench.mutation("app:add", name="there")
        before, now = ["there"], ["renamed", "own"]
        assert await bench.mutation("app:own", query=query) == [before, now, before]


async def test_a_plain_mutation_can_use_it(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        await bench.mutation("app:add", name="there")
        for query in ("app:names", "app:names_blocking"):
            assert await bench.mutation("app:note_blocking", query=query, stale=True) == ["there"]


async def test_what_it_reads_counts_towards_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the query has failed: reading is what costs."""
    monkeypatch.setattr(engine_transaction, "MAX_DOCUMENTS_READ", 6)
    async with open_bench(tmp_path, APP) as bench:
        for name in ("a", "b", "c"):
            await bench.mutation("app:add", name=name)
        await bench.mutation("app:reads", times=3)
        with pytest.raises(LimitExceeded, match="Too many documents read"):
            await bench.mutation("app:reads", times=4)


async def test_a_mutation_repeated_on_its_snapshot_sees_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(determinism_sample=1)) as bench:
        await bench.mutation("app:add", name="there")
        with caplog.at_level(logging.WARNING):
            await bench.mutation("app:own", query="app:names")
            await bench.settle()
        assert "not deterministic" not in caplog.text


async def test_it_is_for_mutations_and_for_queries(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        with pytest.raises(InvalidFunctionCall, match=r"A query can't use ctx\.stale"):
            await bench.query("app:looks")
        with pytest.raises(InvalidFunctionCall, match=r"A query can't use ctx\.stale"):
            await bench.mutation("app:below")
        with pytest.raises(InvalidFunctionCall):
            await bench.mutation("app:writes")
        assert await bench.query("app:names") == []


RULES = """
from reactor import define_rules, define_schema, define_table, v

async def load_user(ctx):
    identity = await ctx.auth.get_user_identity()
    return None if identity is None else identity["name"]

schema = define_schema({"notes": define_table({"owner": v.string()}).index("by_owner", ["owner"])})
rules = define_rules(
    {"notes": {"read": lambda ctx, doc: doc["owner"] == ctx.user, "insert": lambda ctx, doc: True}}, user=load_user
)
"""
RULED = {
    "schema.py": RULES,
    "functions/notes.py": """
from reactor import mutation, query

@query
async def mine(ctx):
    return [note["owner"] async for note in ctx.db.query("notes")]

@mutation
async def add(ctx):
    for owner in ("ann", "bob"):
        await ctx.db.insert("notes", {"owner": owner})

@mutation
async def look(ctx):
    await ctx.db.insert("notes", {"owner": "ann"})
    return await ctx.stale.run_query(mine)
""",
}


async def test_row_rules_hold_there_too(tmp_path: Path) -> None:
    async with open_bench(tmp_path, RULED) as bench:
        await bench.mutation("notes:add")
        assert value_of(await bench.submit("mutation", "notes:look", identity=user("ann"))) == ["ann"]
        assert value_of(await bench.submit("mutation", "notes:look", identity=user("bob"))) == ["bob"]
        assert value_of(await bench.submit("mutation", "notes:look")) == []


async def test_a_forgotten_await_is_told_at_the_line_of_the_call(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        failed = failure(await bench.submit("mutation", "app:forgets", {}))

        line = 1 + APP["functions/app.py"].split("# forgotten")[0].count("\n")
        assert "never awaited: ctx.stale.run_query() at " in failed.message
        assert f"functions/app.py:{line}." in failed.message
