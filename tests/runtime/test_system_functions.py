"""What administrators ask for through `_system/cli/…`: tables, their documents, and the functions that are deployed."""

from pathlib import Path
from typing import Any

import pytest

from reactor.errors import FunctionNotFound, InvalidCursor
from reactor.limits import MAX_ADMIN_PAGE_ITEMS
from reactor.runtime.calls import Call
from tests.runtime.hosts import HEAD, SCHEMA, Bench, Watcher, open_bench, project_files, value_of, wire
from tests.runtime.test_components import app

pytestmark = pytest.mark.asyncio

FUNCTIONS = """
@query(returns=v.null())
async def look(ctx, name: str):
    return None

@internal_mutation
async def add(ctx, table: str, count: int):
    for number in range(count):
        await ctx.db.insert(table, {"name": f"{number:03}"})

@action
async def act(ctx):
    pass
"""
ROUTES = """
from reactor.runtime.decorators import http_action
from reactor.runtime.http.router import http_router
http = http_router()

@http_action
async def hello(ctx, request):
    pass

http.route(path="/hello", method="GET", handler=hello)
http.route(path_prefix="/files/", method="POST", handler=hello)
"""
RULES = """
from reactor.runtime.rules.declared import define_rules
rules = define_rules({"items": {"read": lambda ctx, document: False, "insert": lambda ctx, document: True}})
"""
FILES = project_files(app=FUNCTIONS)


async def ask(bench: Bench, path: str, component: str = "", **args: object) -> Any:
    return value_of(await bench.submit("query", f"_system/cli/{path}", args, internal=True, component=component))


async def pages(bench: Bench, table: str, size: int, order: str = "asc") -> list[dict[str, Any]]:
    """Return the documents of all pages."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        options = {"numItems": float(size), "cursor": cursor}
        page = await ask(bench, "tableData", table=table, order=order, paginationOpts=options)
        found += page["page"]
        if page["isDone"]:
            return found
        assert len(page["page"]) == size
        cursor = page["continueCursor"]


async def test_tables_are_those_of_the_application(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FILES) as bench:
        page = await ask(bench, "tables", paginationOpts={"cursor": None, "numItems": 10000.0})
        assert page == {
            "page": [{"name": "counters"}, {"name": "items"}, {"name": "others"}],
            "isDone": True,
            "continueCursor": "end",
        }


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("size", [1, 3, 10, 11])
async def test_pages_of_any_size_are_the_table(tmp_path: Path, order: str, size: int) -> None:
    async with open_bench(tmp_path, FILES) as bench:
        await bench.run(lambda ctx: ctx.run_mutation("app:add", table="items", count=10))
        found = await pages(bench, "items", size, order)
        names = [f"{number:03}" for number in range(10)]
        assert [document["name"] for document in found] == (names if order == "asc" else names[::-1])
        assert set(found[0]) == {"_id", "_creationTime", "name"}


async def test_a_page_is_bounded_whatever_is_asked_for(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FILES) as bench:
        for _ in range(4):
            await bench.run(lambda ctx: ctx.run_mutation("app:add", table="items", count=MAX_ADMIN_PAGE_ITEMS // 3))
        page = await ask(
            bench, "tableData", table="items", order="asc", paginationOpts={"numItems": 1e9, "cursor": None}
        )
        assert (len(page["page"]), page["isDone"]) == (MAX_ADMIN_PAGE_ITEMS, False)


async def test_a_cursor_is_good_for_its_table_and_order_only(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FILES) as bench:
        await bench.run(lambda ctx: ctx.run_mutation("app:add", table="items", count=3))
        await bench.run(lambda ctx: ctx.db.insert("others", {"x": 1}))
        first = await ask(
            bench, "tableData", table="items", order="asc", paginationOpts={"numItems": 1, "cursor": None}
        )
        options = {"numItems": 1, "cursor": first["continueCursor"]}
        for table, order in (("others", "asc"), ("items", "desc")):
            with pytest.raises(InvalidCursor):
                await ask(bench, "tableData", table=table, order=order, paginationOpts=options)


async def test_system_tables_show_what_is_documented_and_no_others_show(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FILES) as bench:
        await bench.run(lambda ctx: ctx.scheduler.run_after(1000, "app:add", {"table": "items", "count": 1}))
        (job,) = await pages(bench, "_scheduled_functions", 5)
        assert set(job) == {"_id", "_creationTime", "name", "args", "scheduledTime", "state"}
        for absent in ("_modules", "_environment_variables", "nothing"):
            assert await pages(bench, absent, 5) == []
            assert await ask(bench, "tableSize", tableName=absent) == 0


async def test_live_queries_follow_a_table_from_before_it_is_there(tmp_path: Path) -> None:
    schema = 'schema = define_schema({"items": define_table({"name": v.string()})}, strict_table_names=False)'
    files = {**FILES, "schema.py": HEAD + schema}
    async with open_bench(tmp_path, files) as bench:
        watcher = Watcher(bench.host)
        options = {"numItems": 5.0, "cursor": None}
        for path, args in (
            ("tables", {"paginationOpts": options}),
            ("tableData", {"table": "new", "order": "asc", "paginationOpts": options}),
            ("tableSize", {"tableName": "new"}),
            ("queryTable", {"tableName": "new"}),
        ):
            call = Call(f"_system/cli/{path}", wire(args), internal=True)
            watcher.handles.append(bench.host.live.subscribe(call, watcher))
        await bench.settle()
        seen = [watcher.values]
        for _ in range(2):
            await bench.run(lambda ctx: ctx.db.insert("new", {"x": 1}))
            await bench.settle()
            seen.append(watcher.values)
        assert [[entry["name"] for entry in values[0]["page"]] for values in seen] == [
            ["items"],
            ["items", "new"],
            ["items", "new"],
        ]
        assert [len(values[1]["page"]) for values in seen] == [0, 1, 2]
        assert [values[2] for values in seen] == [0, 1, 2]
        assert len({values[3] for values in seen}) == 3, "each change is another number"


async def test_documents_are_shown_past_row_rules_and_past_the_schema(tmp_path: Path) -> None:
    files = {**FILES, "schema.py": SCHEMA + RULES}
    async with open_bench(tmp_path, files) as bench:
        await bench.run(lambda ctx: ctx.run_mutation("app:add", table="items", count=2))
        assert len(await pages(bench, "items", 5)) == 2
        without = HEAD + 'schema = define_schema({"counters": define_table({"value": v.integer()})})'
        await bench.push({**FILES, "schema.py": without})
        assert len(await pages(bench, "items", 5)) == 2


async def test_functions_and_routes_as_the_official_command_line_lists_them(tmp_path: Path) -> None:
    async with open_bench(tmp_path, {**FILES, "functions/http.py": ROUTES}) as bench:
        entries = await ask(bench, "modules:apiSpec")
        functions = {entry["identifier"]: entry for entry in entries if "identifier" in entry}
        assert {name: (one["functionType"], one["visibility"]["kind"]) for name, one in functions.items()} == {
            "app.js:act": ("Action", "public"),
            "app.js:add": ("Mutation", "internal"),
            "app.js:look": ("Query", "public"),
        }
        assert functions["app.js:look"]["returns"] == {"type": "null"}
        assert functions["app.js:act"]["returns"] == {"type": "any"}, "never null, which the tools can't read"
        assert [entry for entry in entries if "identifier" not in entry] == [
            {"functionType": "HttpAction", "method": "GET", "path": "/hello"},
            {"functionType": "HttpAction", "method": "POST", "path": "/files/*"},
        ]
        assert await ask(bench, "convexUrl:cloudUrl") == "http://127.0.0.1:3210"
        assert await ask(bench, "convexUrl:siteUrl") == "http://127.0.0.1:3210/http"


async def test_a_push_is_a_change_of_the_functions(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FILES) as bench:
        before = await ask(bench, "modules:apiSpec", componentId=None)
        await bench.push(project_files(app=FUNCTIONS, more="@query\nasync def one(ctx):\n    return 1\n"))
        after = await ask(bench, "modules:apiSpec", componentId=None)
        assert [one["identifier"] for one in after if one not in before] == ["more.js:one"]


async def test_each_component_instance_has_its_own(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app()) as bench:
        await bench.submit("mutation", "marks:add", {"name": "a", "fails": False}, component="counter", internal=True)
        for component, count in (("counter", 1), ("other", 0)):
            page = await ask(bench, "tables", component, paginationOpts={})
            assert page["page"] == [{"name": "marks"}]
            assert await ask(bench, "tableSize", component, tableName="marks") == count
            rows = await ask(
                bench,
                "tableData",
                component,
                table="marks",
                order="asc",
                paginationOpts={"numItems": 5, "cursor": None},
            )
            assert len(rows["page"]) == count
        assert await ask(bench, "modules:apiSpec", "counter") == await ask(
            bench, "modules:apiSpec", componentId="other"
        )
        with pytest.raises(FunctionNotFound, match="Component path 'nope' not found"):
            await ask(bench, "tables", "nope", paginationOpts={})


@pytest.mark.parametrize("spelling", ["{}:default", "{}.js:default", "{}"])
async def test_names_in_every_spelling(tmp_path: Path, spelling: str) -> None:
    async with open_bench(tmp_path, FILES) as bench:
        assert await ask(bench, spelling.format("tableSize"), tableName="items") == 0


async def test_nobody_else_reaches_them(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FILES) as bench:
        with pytest.raises(FunctionNotFound):
            value_of(await bench.submit("query", "_system/cli/tableSize", {"tableName": "items"}))
