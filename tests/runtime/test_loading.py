"""Functions that first touch a table wait for it, whatever they are and however they touch it, and nobody else does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reactor.errors import PushError, StorageError
from reactor.limits import Limits
from reactor.storage.memory import MemoryPersistence
from tests.engine.loads import LoadingPersistence
from tests.engine.work import check_indexes
from tests.runtime.hosts import HEAD, SCHEMA, Bench, failure, open_bench, refusal, success, value_of

pytestmark = pytest.mark.asyncio

APP = """
@query
async def names(ctx):
    return [item["name"] for item in await ctx.db.query("items").collect()]

@query
def plain_names(ctx):
    return [item["name"] for item in ctx.db.query("items").with_index("by_name").collect()]

@query
async def count(ctx):
    return await ctx.db.query("items").count()

@query
async def get(ctx, id: str):
    item = await ctx.db.get(id)
    return item and item["name"]

@query
async def swallows(ctx):
    try:
        return len(await ctx.db.query("items").collect())
    except BaseException:
        return -1

@query
async def gathers(ctx):
    one, two = await asyncio.gather(ctx.db.query("items").count(), ctx.db.query("others").count())
    return [one, two]

@query
async def both(ctx):
    return [await ctx.db.query("others").count(), await ctx.db.query("items").count()]

@mutation
async def add(ctx, name: str):
    await ctx.db.insert("items", {"name": name})
    return await ctx.db.query("items").count()

@mutation
def plain_add(ctx, name: str):
    ctx.db.insert("items", {"name": name})
    return ctx.db.query("items").count()

@mutation
async def rename(ctx, id: str, name: str):
    await ctx.db.patch(id, {"name": name})
    return (await ctx.db.get(id))["name"]

@mutation
async def remove(ctx, id: str):
    await ctx.db.delete(id)
    return await ctx.db.query("items").count()

@mutation
async def new_id(ctx):
    return await ctx.db.insert("others", {"x": 1})

@query
async def counters(ctx):
    return [counter["value"] for counter in await ctx.db.query("counters").collect()]

@mutation
async def count_up(ctx):
    return await ctx.db.insert("counters", {"value": 1})
"""
FILES = {"schema.py": SCHEMA, "functions/app.py": HEAD + APP}


class Restarted:
    """A deployment that was closed and opened again, with what was stored in it."""

    def __init__(self, bench: Bench, storage: LoadingPersistence, items: list[str]) -> None:
        self.bench = bench
        self.storage = storage
        self.items = items

    def loads(self, name: str) -> int:
        return self.storage.loaded[self.bench.host.database.catalog.by_name[name].number]


@asynccontextmanager
async def restarted(root: Path, files: dict[str, str] = FILES) -> AsyncIterator[Restarted]:
    storage = LoadingPersistence(MemoryPersistence())
    limits = Limits(fold_records=3)
    async with open_bench(root, FILES, storage=storage, limits=limits) as bench:
        for name in "cab":
            await bench.mutation("app:add", name=name)
        await bench.mutation("app:new_id")
        await bench.mutation("app:count_up")
        keys = bench.host.database.catalog.by_name["items"].indexes[("_creationTime",)].keys.chunk(b"", None, 9)
        items = [key[-33:-1].decode() for key in keys]
    storage.loaded.clear()
    async with open_bench(root, storage=storage, limits=limits) as bench:
        await bench.push(files)
        yield Restarted(bench, storage, items)
        for table in bench.host.database.user_tables():
            await bench.host.database.loading.load(table)
        check_indexes(bench.host.database)
        assert not len(bench.host.database.retention)


async def test_a_restart_with_the_same_schema_loads_nothing(tmp_path: Path) -> None:
    async with restarted(tmp_path) as again:
        assert [again.loads(name) for name in ("items", "others", "counters")] == [0, 0, 0]
        assert await again.bench.query("app:counters") == [1]
        assert [again.loads(name) for name in ("items", "others", "counters")] == [0, 0, 1]


TOUCHES: list[tuple[str, str, dict[str, Any], Any]] = [
    ("query", "app:names", {}, ["c", "a", "b"]),
    ("query", "app:plain_names", {}, ["a", "b", "c"]),
    ("query", "app:count", {}, 3),
    ("query", "app:get", {"id": 0}, "c"),
    ("query", "app:swallows", {}, 3),
    ("query", "app:gathers", {}, [3, 1]),
    ("query", "app:both", {}, [1, 3]),
    ("mutation", "app:add", {"name": "d"}, 4),
    ("mutation", "app:plain_add", {"name": "d"}, 4),
    ("mutation", "app:rename", {"id": 1, "name": "z"}, "z"),
    ("mutation", "app:remove", {"id": 2}, 2),
    ("any", "app:count", {}, 3),
    ("any", "app:add", {"name": "d"}, 4),
]


@pytest.mark.parametrize(("kind", "path", "args", "expected"), TOUCHES)
async def test_a_call_that_touches_a_table_waits_and_others_do_not(
    tmp_path: Path, kind: str, path: str, args: dict[str, Any], expected: Any
) -> None:
    async with restarted(tmp_path) as again:
        bench = again.bench
        if "id" in args:
            args = args | {"id": again.items[args["id"]]}
        await bench.query("app:counters")
        again.storage.hold_loads()
        waiting = bench.submit(kind, path, args)
        await again.storage.load_held()
        assert await bench.query("app:counters") == [1]
        await bench.mutation("app:count_up")
        assert not waiting.done()
        again.storage.release_loads()
        assert value_of(await waiting) == expected
        assert again.loads("items") == 1
        assert bench.host.executor.stats.conflicts == 0


async def test_a_hundred_calls_wait_for_one_load(tmp_path: Path) -> None:
    async with restarted(tmp_path) as again:
        again.storage.hold_loads()
        calls = [again.bench.submit("query", "app:count") for _ in range(50)]
        calls += [again.bench.submit("mutation", "app:add", {"name": str(at)}) for at in range(50)]
        await again.storage.load_held()
        again.storage.release_loads()
        for call in calls:
            success(await call)
        assert again.loads("items") == 1
        assert await again.bench.query("app:count") == 53


async def test_other_live_queries_go_on_while_one_waits(tmp_path: Path) -> None:
    async with restarted(tmp_path) as again:
        bench = again.bench
        counters = bench.watch("app:counters")
        await counters.next()
        again.storage.hold_loads()
        names, gone = bench.watch("app:names", "app:counters"), bench.watch("app:plain_names")
        await again.storage.load_held()
        await bench.mutation("app:count_up")
        await counters.next()
        assert counters.value == [1, 1]
        assert not names.settled_at
        gone.unsubscribe(gone.handles[0])
        again.storage.release_loads()
        await names.next()
        assert names.values[0] == ["c", "a", "b"]
        await bench.mutation("app:add", name="d")
        await bench.settle()
        assert names.values == [["c", "a", "b", "d"], [1, 1]]
        assert again.loads("items") == 1


async def test_a_load_that_fails_fails_who_waits_and_the_next_touch_tries_again(tmp_path: Path) -> None:
    async with restarted(tmp_path) as again:
        bench = again.bench
        assert await bench.query("app:counters") == [1]
        again.storage.failing.add("load")
        text = 'Table "items" can\'t be loaded. load fails'
        watcher = bench.watch("app:names")
        for kind, path, args in (("query", "app:count", {}), ("mutation", "app:add", {"name": "x"})):
            failed = failure(await bench.submit(kind, path, args))
            assert isinstance(failed.error, StorageError)
            assert f"Uncaught StorageError: {text}" in failed.detail
        await bench.settle()
        assert text in watcher.value
        assert await bench.query("app:counters") == [1]

        again.storage.failing.clear()
        assert await bench.query("app:count") == 3
        assert await bench.mutation("app:add", name="d") == 4
        await bench.settle()
        assert watcher.value == ["c", "a", "b", "d"]


async def test_closing_refuses_who_waits(tmp_path: Path) -> None:
    async with restarted(tmp_path) as again:
        bench = again.bench
        again.storage.hold_loads()
        calls = [bench.submit("query", "app:count"), bench.submit("mutation", "app:add", {"name": "d"})]
        await again.storage.load_held()
        closing = asyncio.ensure_future(bench.host.database.close())
        await asyncio.sleep(0)
        again.storage.release_loads()
        await closing
        for call in calls:
            assert refusal(await call).error.code == "Unavailable"
        for table in bench.host.database.user_tables():
            bench.host.database.catalog.drop_table(table.number)  # nothing left to look at


async def test_a_new_index_and_a_stricter_schema_reach_tables_that_are_not_loaded(tmp_path: Path) -> None:
    more = {**FILES, "schema.py": SCHEMA.replace('.index("by_n", ["n"])', '.index("by_n", ["n", "name"])')}
    async with restarted(tmp_path, more) as again:
        assert again.loads("items") == 0, "an index alone needs no document yet"
        assert await again.bench.query("app:plain_names") == ["a", "b", "c"]

        strict = {**FILES, "schema.py": SCHEMA.replace('"x": v.any()', '"x": v.string()')}
        with pytest.raises(PushError, match='in table "others" does not match the schema'):
            await again.bench.push(strict)
        assert (again.loads("others"), again.loads("counters")) == (1, 0)


async def test_a_push_that_can_not_read_what_it_must_check_fails(tmp_path: Path) -> None:
    strict = {**FILES, "schema.py": SCHEMA.replace('"x": v.any()', '"x": v.number()')}
    async with restarted(tmp_path) as again:
        again.storage.failing.add("load")
        with pytest.raises(StorageError, match='Table "others" can\'t be loaded'):
            await again.bench.push(strict)
        again.storage.failing.clear()
        assert (await again.bench.push(strict)).checked_documents == 1


async def test_an_index_added_while_its_table_loads_is_whole(tmp_path: Path) -> None:
    more = {**FILES, "schema.py": SCHEMA.replace('.index("by_n", ["n"])', '.index("by_n", ["n", "name"])')}
    async with restarted(tmp_path) as again:
        again.storage.hold_loads()
        count = again.bench.submit("query", "app:count")
        await again.storage.load_held()
        pushing = asyncio.ensure_future(again.bench.push(more))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not pushing.done()
        again.storage.release_loads()
        report = await pushing
        assert report.built_indexes == ("items.by_n",)
        success(await count)
        assert again.loads("items") == 1
