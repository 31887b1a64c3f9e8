"""Pushing while requests go on: tables, indexes, existing documents, code, and what reruns."""

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from reactor.engine.keyrange import EVERYTHING
from reactor.errors import PushError
from reactor.limits import Limits
from reactor.runtime.push import PushReport
from reactor.storage.memory import MemoryPersistence
from reactor.values.stored import decode_object
from tests.runtime.hosts import HEAD, SCHEMA, failure, open_bench, success, value_of
from tests.sizes import size
from tests.storage.faults import FaultyPersistence

pytestmark = pytest.mark.asyncio


def schema(tables: str, options: str = "") -> str:
    return HEAD + f"\nschema = define_schema({{{tables}}}{options})\n"


ITEMS = """
@mutation
async def add(ctx, name: str, n: float | None = None):
    return await ctx.db.insert("items", {"name": name, "n": n} if n is not None else {"name": name})

@query
async def names(ctx):
    return [item["name"] for item in await ctx.db.query("items").collect()]
"""
PLAIN = schema('"items": define_table({"name": v.string(), "n": v.optional(v.number())})')


def app(schema_text: str = PLAIN, **modules: str) -> dict[str, str]:
    return {"schema.py": schema_text} | {
        f"functions/{name}.py": HEAD + text for name, text in {"items": ITEMS, **modules}.items()
    }


async def test_a_push_reports_what_it_did(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        first = await bench.push(app())
        assert first == PushReport(
            version=1,
            ts=first.ts,
            created_tables=("items",),
            built_indexes=(),
            changed_modules=("items",),
            checked_documents=0,
        )
        assert first.ts <= bench.host.database.durable_ts

        second = await bench.push(app())
        assert (second.version, second.created_tables, second.changed_modules) == (2, (), ())

        third = await bench.push(
            app(
                schema(
                    '"items": define_table({"name": v.string()}).index("by_name", ["name"]), '
                    '"notes": define_table({"x": v.any()})'
                ),
                other="@query\nasync def one(ctx):\n    return 1\n",
            )
        )
        assert (third.created_tables, third.built_indexes) == (("notes",), ("items.by_name",))
        assert third.changed_modules == ("other",)


INDEXED = schema('"items": define_table({"name": v.string(), "n": v.optional(v.number())}).index("by_name", ["name"])')
BY_NAME = """
@query
async def sorted_names(ctx):
    return [item["name"] for item in await ctx.db.query("items").with_index("by_name").collect()]

@query
def how_many(ctx):
    return ctx.db.query("items").with_index("by_name").count()
"""


async def test_an_index_is_filled_while_mutations_run(tmp_path: Path) -> None:
    """Inserts, changes and deletions before, during and after; afterwards it equals a full scan."""
    churn = """
@mutation
async def rename(ctx, id: str, name: str):
    await ctx.db.patch(id, {"name": name})

@mutation
async def remove(ctx, id: str):
    await ctx.db.delete(id)
"""
    async with open_bench(tmp_path, app(churn=churn), limits=Limits(scan_check_entries=1)) as bench:
        ids = [await bench.mutation("items:add", name=f"n{at:02}") for at in range(40)]
        project = bench.load(app(INDEXED, churn=churn, sorting=BY_NAME))
        bench.clock.tick = 1.0
        push = asyncio.ensure_future(bench.host.push(project))
        pending = []
        for at, item in enumerate(ids):
            if at % 4 == 0:
                pending.append(bench.submit("mutation", "churn:rename", {"id": item, "name": f"r{at:02}"}))
            elif at % 4 == 1:
                pending.append(bench.submit("mutation", "churn:remove", {"id": item}))
            elif at % 4 == 2:
                pending.append(bench.submit("mutation", "items:add", {"name": f"x{at:02}"}))
            await asyncio.sleep(0)
            assert at > 20 or not push.done(), "the push was still going on"
        for future in pending:
            success(await future)
        report = await push
        bench.clock.tick = 0.0

        assert report.built_indexes == ("items.by_name",)
        names = await bench.query("sorting:sorted_names")
        assert names == sorted(await bench.query("items:names"))
        assert len(names) == await bench.query("sorting:how_many") == 40


async def test_a_new_index_is_not_there_before_the_switch(tmp_path: Path) -> None:
    early = """
@query
async def early(ctx):
    return len(await ctx.db.query("items").with_index("by_name").collect())
"""
    async with open_bench(tmp_path, app(early=early)) as bench:
        await bench.mutation("items:add", name="a")
        watcher = bench.watch("early:early")
        await bench.settle()
        assert "Index items.by_name not found." in watcher.value
        await bench.push(app(INDEXED, early=early))
        await bench.settle()
        assert watcher.value == 1
        await bench.push(app(early=early))
        await bench.settle()
        assert "Index items.by_name not found." in watcher.value
        assert len(bench.host.database.catalog.by_name["items"].indexes) == 2


STRICTER = schema('"items": define_table({"name": v.string(), "n": v.number()})')


async def test_a_document_that_breaks_the_new_schema_refuses_the_push(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app()) as bench:
        await bench.mutation("items:add", name="good", n=1)
        bad = await bench.mutation("items:add", name="bad")
        watcher = bench.watch("items:names")
        await bench.settle()
        runs = bench.host.executor.stats.queries

        with pytest.raises(PushError) as caught:
            await bench.push(app(STRICTER, items=ITEMS.replace("return [item", "return ['new', *[item") + "]\n"))

        assert str(caught.value).startswith(
            f'Schema validation failed. Document with ID "{bad}" in table "items" does not match the schema: '
            "Object is missing the required field `n`."
        )
        await bench.settle()
        assert bench.host.executor.stats.queries == runs
        await bench.mutation("items:add", name="still")
        await bench.settle()
        assert watcher.value == ["good", "bad", "still"]
        assert not len(bench.host.database.retention)

        await bench.mutation("items:add", name="other")
        again = await bench.push(app(PLAIN))
        assert again.version == 2


async def test_a_push_that_fails_leaves_no_index(tmp_path: Path) -> None:
    broken = schema('"items": define_table({"name": v.string(), "n": v.number()}).index("by_name", ["name"])')
    async with open_bench(tmp_path, app()) as bench:
        await bench.mutation("items:add", name="bad")
        with pytest.raises(PushError):
            await bench.push(app(broken))
        assert len(bench.host.database.catalog.by_name["items"].indexes) == 2

        report = await bench.push(app(INDEXED, sorting=BY_NAME))
        assert report.built_indexes == ("items.by_name",)
        assert await bench.query("sorting:sorted_names") == ["bad"]


@pytest.mark.parametrize("turns", range(1, 12, 2))
async def test_a_push_that_is_cancelled_leaves_no_half_filled_index(tmp_path: Path, turns: int) -> None:
    async with open_bench(tmp_path, app(), limits=Limits(scan_check_entries=2)) as bench:
        for at in range(10):
            await bench.mutation("items:add", name=f"n{at}")
        bench.clock.tick = 1.0
        push = asyncio.ensure_future(bench.host.push(bench.load(app(INDEXED, sorting=BY_NAME))))
        for _ in range(turns):
            await asyncio.sleep(0)
        push.cancel()
        await asyncio.wait([push])
        bench.clock.tick = 0.0
        await bench.push(app(INDEXED, sorting=BY_NAME))
        assert await bench.query("sorting:how_many") == 10
        assert len(await bench.query("sorting:sorted_names")) == 10


@pytest.mark.parametrize("turns", [2, 4, 6, 8, 10, 12])
async def test_a_write_during_the_walk_that_breaks_the_new_schema_refuses_the_push(tmp_path: Path, turns: int) -> None:
    """The write itself succeeds: it keeps the schema that is deployed. Who finds it, the walk or the last look, is one
    to who pushes."""
    async with open_bench(tmp_path, app(), limits=Limits(scan_check_entries=1)) as bench:
        for at in range(10):
            await bench.mutation("items:add", name=f"n{at}", n=at)
        bench.clock.tick = 1.0
        push = asyncio.ensure_future(bench.host.push(bench.load(app(STRICTER))))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not push.done()
        write = bench.submit("mutation", "items:add", {"name": "late"})
        success(await write)
        with pytest.raises(PushError) as caught:
            await push
        bench.clock.tick = 0.0
        assert str(caught.value).startswith(
            'Schema validation failed. New document in table "items" does not match the schema: '
            "Object is missing the required field `n`."
        )
        assert "late" in await bench.query("items:names")


async def test_writes_during_the_walk_that_keep_both_schemas_do_no_harm(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app(), limits=Limits(scan_check_entries=1)) as bench:
        for at in range(10):
            await bench.mutation("items:add", name=f"n{at}", n=at)
        bench.clock.tick = 1.0
        push = asyncio.ensure_future(bench.host.push(bench.load(app(STRICTER))))
        pending = []
        for at in range(150):
            pending.append(bench.submit("mutation", "items:add", {"name": f"x{at}", "n": at}))
            await asyncio.sleep(0)
        for future in pending:
            success(await future)
        report = await push
        bench.clock.tick = 0.0
        assert report.checked_documents >= 10
        assert "required field `n`" in failure(await bench.submit("mutation", "items:add", {"name": "x"})).detail


CHURN = """
@mutation
async def churn(ctx, at: int):
    items = await ctx.db.query("items").collect()
    if at % 3 == 0 or len(items) < 5:
        await ctx.db.insert("items", {"name": f"n{at * 7 % 10}", "n": float(at)})
    elif at % 3 == 1:
        await ctx.db.patch(items[at % len(items)]["_id"], {"name": f"m{at * 3 % 10}"})
    else:
        await ctx.db.delete(items[at % len(items)]["_id"])
"""


async def test_a_new_index_equals_a_full_scan_at_every_timestamp_from_the_switch_on(tmp_path: Path) -> None:
    """Writes go on before, during and after."""
    count = size(60, 2000)
    async with open_bench(tmp_path, app(churn=CHURN), limits=Limits(scan_check_entries=1)) as bench:
        database = bench.host.database
        for at in range(20):
            await bench.mutation("churn:churn", at=at)
        project = bench.load(app(INDEXED, churn=CHURN))
        bench.clock.tick = 1.0
        push = asyncio.ensure_future(bench.host.push(project))
        pending = []
        while not push.done():
            pending.append(bench.submit("mutation", "churn:churn", {"at": len(pending)}))
            await asyncio.sleep(0)
        report = await push
        bench.clock.tick = 0.0
        assert len(pending) > 10, "the push was going on for a while"
        for future in pending:
            await future
        pinned: list[int] = []
        for at in range(count):
            await bench.mutation("churn:churn", at=at)
            pinned.append(database.durable_ts)
            database.retention.pin(pinned[-1])
        table = database.catalog.by_name["items"]
        index = table.indexes[("name", "_creationTime")]
        for ts in pinned:
            assert ts >= report.ts
            by_name, full = (
                [row for chunk in database.begin_query(ts).scan(one, b"", None, False, 3) for row in chunk.rows]
                for one in (index, table.by_id)
            )
            expected = sorted((index.encoder(decode_object(data)), data) for _, data in full)
            assert by_name == expected
            assert database.begin_query(ts).count(index, EVERYTHING) == len(full)
            database.retention.unpin(ts)


async def test_an_index_may_change_its_fields_under_its_name(tmp_path: Path) -> None:
    """The old one answers until the switch; from then on the new one does, and the old one is gone."""
    ordered = """
@query
async def ordered(ctx):
    return [item["name"] for item in await ctx.db.query("items").with_index("by_order").collect()]
"""
    table = '"items": define_table({"name": v.string(), "n": v.optional(v.number())}).index("by_order", [%r])'
    before, after = (app(schema(table % field), ordered=ordered) for field in ("name", "n"))
    async with open_bench(tmp_path, before, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(8):
            await bench.mutation("items:add", name=f"n{at}", n=-at)
        names = [f"n{at}" for at in range(8)]
        watcher = bench.watch("ordered:ordered")
        await bench.settle()
        bench.clock.tick = 1.0
        push = asyncio.ensure_future(bench.host.push(bench.load(after)))
        seen = []
        while not push.done():
            seen.append(await bench.query("ordered:ordered"))
        await push
        bench.clock.tick = 0.0
        assert seen[0] == names
        assert all(one in (names, names[::-1]) for one in seen)
        assert await bench.query("ordered:ordered") == names[::-1]
        await bench.settle()
        assert watcher.value == names[::-1]
        assert set(bench.host.database.catalog.by_name["items"].indexes) == {
            (),
            ("_creationTime",),
            ("n", "_creationTime"),
        }


# What reruns.

HELPER = """
WORD = "one"
"""
USES = """
from functions._helper import WORD

@query
async def word(ctx):
    return WORD
"""
APART = """
@query
async def apart(ctx):
    return "apart"
"""


async def test_a_changed_helper_reruns_what_imports_it_and_nothing_else(tmp_path: Path) -> None:
    files = app(uses=USES, apart=APART) | {"functions/_helper.py": HELPER}
    async with open_bench(tmp_path, files) as bench:
        uses, apart, names = bench.watch("uses:word"), bench.watch("apart:apart"), bench.watch("items:names")
        await bench.settle()
        apart_before, names_before = apart.handles[0].query.result_ts, names.handles[0].query.result_ts

        report = await bench.push(files | {"functions/_helper.py": 'WORD = "two"\n'})
        await bench.settle()

        assert report.changed_modules == ("uses",)
        assert (uses.value, apart.value) == ("two", "apart")
        assert bench.host.live.stats.reruns == 1
        assert apart.handles[0].query.result_ts == apart_before
        assert names.handles[0].query.result_ts == names_before


async def test_a_push_of_the_same_reruns_nothing(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app(apart=APART)) as bench:
        bench.watch("apart:apart")
        bench.watch("items:names")
        await bench.settle()
        await bench.push(app(apart=APART))
        await bench.settle()
        assert bench.host.live.stats.reruns == 0


async def test_a_changed_table_reruns_who_reads_it(tmp_path: Path) -> None:
    tables = '"items": define_table({"name": v.string(), "n": v.optional(%s)}), "notes": define_table({"x": v.any()})'
    notes = '@query\nasync def first(ctx):\n    return await ctx.db.query("notes").first()\n'
    kinds = """
@query
async def kinds(ctx):
    return [type(item["n"]).__name__ for item in await ctx.db.query("items").collect()]
"""
    async with open_bench(tmp_path, app(schema(tables % "v.number()"), notes=notes, kinds=kinds)) as bench:
        await bench.mutation("items:add", name="a", n=1)
        items, others = bench.watch("kinds:kinds"), bench.watch("notes:first")
        await bench.settle()
        assert items.value == ["float"]
        before = others.handles[0].query.result_ts

        report = await bench.push(app(schema(tables % "v.integer()"), notes=notes, kinds=kinds))
        await bench.settle()

        assert report.changed_modules == ()
        assert items.value == ["int"]
        assert others.handles[0].query.result_ts == before
        assert bench.host.live.stats.reruns == 1


async def test_names_that_become_strict_rerun_who_used_others(tmp_path: Path) -> None:
    loose = '@query\nasync def notes(ctx):\n    return await ctx.db.query("notes").collect()\n'
    write = '@mutation\nasync def write(ctx):\n    await ctx.db.insert("notes", {})\n'
    items = '"items": define_table({"name": v.string()})'
    for with_table in (False, True):
        root = tmp_path / str(with_table)
        async with open_bench(root, app(schema(items, ", strict_table_names=False"), m=loose + write)) as bench:
            if with_table:
                await bench.mutation("m:write")
            watcher = bench.watch("m:notes")
            await bench.settle()
            assert len(watcher.value) == with_table
            await bench.push(app(schema(items), m=loose + write))
            await bench.settle()
            assert "The schema has no table 'notes'." in watcher.value
            await bench.push(app(schema(items + ', "notes": define_table({})'), m=loose + write))
            await bench.settle()
            assert len(watcher.value) == with_table


async def test_a_removed_function_fails_its_subscribers_and_a_new_one_heals_them(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app(apart=APART)) as bench:
        watcher, missing = bench.watch("apart:apart"), bench.watch("later:word")
        await bench.settle()
        assert watcher.value == "apart"
        assert missing.value == "Could not find public function for 'later:word'."

        await bench.push(app(apart="\n@query\nasync def other(ctx):\n    return 1\n"))
        await bench.settle()
        assert watcher.value == "Could not find public function for 'apart:apart'."

        (tmp_path / "functions/apart.py").unlink()
        await bench.push(app())
        await bench.settle()
        assert watcher.value == "Could not find public function for 'apart:apart'."

        await bench.push(app(apart=APART, later='\n@query\nasync def word(ctx):\n    return "here"\n'))
        await bench.settle()
        assert (watcher.value, missing.value) == ("apart", "here")


async def test_a_function_that_becomes_internal_is_gone_for_clients(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app(apart=APART)) as bench:
        watcher = bench.watch("apart:apart")
        await bench.settle()
        await bench.push(app(apart=APART.replace("@query", "@internal_query")))
        await bench.settle()
        assert watcher.value == "Could not find public function for 'apart:apart'."


SLOW = """
@mutation
async def slow(ctx):
    for _ in range(10):
        await ctx.db.query("items").count()
    return await ctx.db.insert("items", {"name": "VERSION"})
"""


async def test_a_mutation_suspended_across_a_push_runs_again_on_the_new_code(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app(slow=SLOW.replace("VERSION", "old"))) as bench:
        project = bench.load(app(slow=SLOW.replace("VERSION", "new")))
        bench.clock.tick = 1.0
        slow = bench.submit("mutation", "slow:slow")
        for _ in range(3):
            await asyncio.sleep(0)
        await bench.host.push(project)
        success(await slow)
        bench.clock.tick = 0.0
        assert bench.host.executor.stats.conflicts >= 1
        assert await bench.query("items:names") == ["new"]


async def test_queries_run_the_old_code_until_the_switch_is_durable(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app(m=APART)) as bench:
        watcher = bench.watch("m:apart")
        await bench.settle()
        project = bench.load(app(m=APART.replace('"apart"', '"new"')))
        bench.storage.hold()
        push = asyncio.ensure_future(bench.host.push(project))
        await bench.storage.held()

        assert await bench.query("m:apart") == "apart"
        await bench.settle()
        assert watcher.value == "apart"
        assert not push.done()

        bench.storage.release()
        await push
        assert await bench.query("m:apart") == "new"
        await bench.settle()
        assert watcher.value == "new"


async def test_pushes_come_one_after_the_other(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app(m=APART)) as bench:
        projects = [bench.load(app(m=APART.replace('"apart"', f'"{at}"'))) for at in range(5)]
        reports = await asyncio.gather(*map(bench.host.push, projects))
        assert [report.version for report in reports] == [2, 3, 4, 5, 6]
        assert await bench.query("m:apart") == "4"


async def test_many_pushes_leave_one_version_in_memory(tmp_path: Path) -> None:
    """Also with live queries, failures, and mutations running."""
    raising = """
@query
async def fails(ctx):
    raise ValueError("VERSION")
"""
    async with open_bench(tmp_path, app(m=APART, fails=raising)) as bench:
        watcher = bench.watch("m:apart", "fails:fails")
        modules: list[weakref.ref[Any]] = []
        for at in range(50):
            project = bench.load(app(m=APART.replace('"apart"', f'"{at}"'), fails=raising.replace("VERSION", str(at))))
            bench.projects.clear()  # the host owns it from here
            modules.extend(weakref.ref(module) for name, module in project.modules.items() if name.endswith(".m"))
            await bench.host.push(project)
            del project
            await bench.mutation("items:add", name=str(at))
            assert str(at) in failure(await bench.submit("query", "fails:fails")).detail
        await bench.settle()
        gc.collect()
        assert watcher.values[0] == "49"
        assert len([module for module in modules if module() is not None]) == 1


async def test_a_reopened_database_knows_what_is_deployed(tmp_path: Path) -> None:
    storage = FaultyPersistence(MemoryPersistence())
    async with open_bench(tmp_path, app(INDEXED, sorting=BY_NAME), storage=storage) as bench:
        for name in "cab":
            await bench.mutation("items:add", name=name)
    async with open_bench(tmp_path, storage=storage) as bench:
        report = await bench.push(app(INDEXED, sorting=BY_NAME))
        assert report.version == 2
        assert (report.created_tables, report.changed_modules, report.checked_documents) == ((), (), 0)
        assert await bench.query("sorting:sorted_names") == ["a", "b", "c"]
        assert await bench.query("items:names") == ["c", "a", "b"]


async def test_tables_keep_their_documents_when_the_schema_drops_them(tmp_path: Path) -> None:
    async with open_bench(tmp_path, {"schema.py": SCHEMA, "functions/items.py": HEAD + ITEMS}) as bench:
        await bench.mutation("items:add", name="a")
        await bench.push(app(schema('"other": define_table({})')))
        assert "no table 'items'" in failure(await bench.submit("query", "items:names")).detail
        await bench.push(app())
        assert value_of(await bench.submit("query", "items:names")) == ["a"]


LATE = """
@mutation
async def slow(ctx):
    for _ in range(10):
        await ctx.db.query("items").count()
    from functions.words import WORD
    return await ctx.db.insert("items", {"name": "VERSION " + WORD})
"""


async def test_a_late_import_of_a_mutation_suspended_across_a_push_is_of_the_new_code(tmp_path: Path) -> None:
    """Neither the old attempt nor the new one mixes the two versions."""
    async with open_bench(tmp_path, app(slow=LATE.replace("VERSION", "old"), words='WORD = "old"')) as bench:
        project = bench.load(app(slow=LATE.replace("VERSION", "new"), words='WORD = "new"'))
        bench.clock.tick = 1.0
        slow = bench.submit("mutation", "slow:slow")
        for _ in range(3):
            await asyncio.sleep(0)
        await bench.host.push(project)
        success(await slow)
        bench.clock.tick = 0.0
        assert bench.host.executor.stats.conflicts >= 1
        assert await bench.query("items:names") == ["new new"]
