"""Mounting: what a push makes of the components of a project, what stays when they go, and what is refused."""

import gc
import sys
import weakref
from pathlib import Path

import pytest

from reactor.errors import FunctionNotFound, ProtocolError, PushError
from reactor.runtime.determinism import PROJECT_PREFIX
from reactor.runtime.loader import ProjectLoader
from reactor.storage.memory import MemoryPersistence
from reactor.values.ids import encode_id
from tests.runtime.hosts import HEAD, Bench, open_bench, project_files
from tests.runtime.projects import write
from tests.runtime.test_components import COUNTER, app, call
from tests.storage.faults import FaultyPersistence

pytestmark = pytest.mark.asyncio

UNMOUNTED = """
from reactor.runtime.components.definitions import define_app
app = define_app()
"""
INDEXED = (
    HEAD
    + """
schema = define_schema({"marks": define_table({"name": v.string(), "of": v.optional(v.id("marks"))})
    .index("by_name", ["name"])})
"""
)
SORTED = """
@query
async def sorted_names(ctx) -> list[str]:
    return [mark["name"] async for mark in ctx.db.query("marks").with_index("by_name")]
"""


def tables(bench: Bench) -> set[str]:
    return {str(row["name"]) for row in bench.host.database.system_documents("_tables")}


async def test_a_push_makes_the_tables_and_indexes_of_every_instance(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        report = await bench.push(app())
        assert report.created_tables == ("counters", "items", "others", "counter/marks", "other/marks")
        assert report.changed_modules == ("counter/marks", "main", "other/marks")
        assert {"counter/_scheduled_functions", "counter/_storage", "other/_storage"} <= tables(bench)
        for name in ("b", "a"):
            await call(bench, "counter", "marks:add", "mutation", name=name)

        files = {**app(), "counter/schema.py": INDEXED}
        files["counter/functions/marks.py"] += SORTED
        report = await bench.push(files)

        assert report.built_indexes == ("counter/marks.by_name", "other/marks.by_name")
        assert report.changed_modules == ("counter/marks", "other/marks")
        assert await call(bench, "counter", "marks:sorted_names") == ["a", "b"]

        await bench.push(app())
        assert all(len(table.indexes) == 2 for table in bench.host.database.user_tables() if table.component)


async def test_documents_of_every_instance_are_checked(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app()) as bench:
        await call(bench, "other", "marks:add", "mutation", name="a")
        strict = HEAD + 'schema = define_schema({"marks": define_table({"name": v.string(), "n": v.number()})})\n'
        with pytest.raises(PushError, match=r'Document with ID ".*" in table "other/marks" does not match the schema'):
            await bench.push({**app(), "counter/schema.py": strict})
        assert await call(bench, "other", "marks:names") == ["a"]


async def test_data_outlives_the_mount(tmp_path: Path) -> None:
    """Also across a restart, and the schema that the data satisfied is remembered."""
    storage = MemoryPersistence()
    async with open_bench(tmp_path, app(), storage=FaultyPersistence(storage)) as bench:
        await call(bench, "counter", "marks:add", "mutation", name="a")
        number = bench.host.database.catalog.by_name["counter/marks"].number
        await bench.push({**app(), "functions/app.py": UNMOUNTED})
        with pytest.raises(FunctionNotFound, match=r"Component path 'counter' not found\. Mounted are: none\."):
            await call(bench, "counter", "marks:names")
        with pytest.raises(FunctionNotFound, match="Component path 'counter' not found"):
            await bench.query("main:marks")
    async with open_bench(tmp_path, app(), storage=FaultyPersistence(storage)) as bench:
        assert await call(bench, "counter", "marks:names") == ["a"]
        assert bench.host.database.catalog.by_name["counter/marks"].number == number
        changed = HEAD + 'schema = define_schema({"marks": define_table({"name": v.number()})})\n'
        with pytest.raises(PushError, match="does not match the schema"):
            await bench.push({**app(), "counter/schema.py": changed})


async def test_live_queries_follow_the_component_they_call(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app()) as bench:
        watcher = bench.watch("main:marks", "main:items")
        assert await watcher.next() == [[], []]
        await bench.mutation("main:both", name="a", fails=False)
        await bench.settle()
        assert watcher.values == [["a"], ["a"]]
        items = watcher.handles[1].result

        louder = app()
        louder["counter/functions/marks.py"] = louder["counter/functions/marks.py"].replace(
            'mark["name"] async', 'mark["name"] + "!" async'
        )
        before = bench.host.live.stats.reruns
        await bench.push(louder)
        await bench.settle()
        assert watcher.values == [["a!"], ["a"]]
        assert watcher.handles[1].result is items
        assert bench.host.live.stats.reruns == before + 1, "what does not call the component is not run again"

        await bench.push({**louder, "functions/app.py": UNMOUNTED})
        await bench.settle()
        assert "Component path 'counter' not found" in watcher.values[0]
        await bench.push(louder)
        await bench.settle()
        assert watcher.values[0] == ["a!"]


async def test_versions_of_components_are_released(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app()) as bench:
        refs = []
        for n in range(3):
            files = app()
            files["counter/functions/marks.py"] += f"\nVERSION = {n}\n"
            report = await bench.push(files)
            assert report.changed_modules[0] == "counter/marks"
            refs.append(
                weakref.ref(bench.host.versions.latest().scopes["counter"].registry.functions["marks:add"].function)
            )
        bench.projects.clear()
        gc.collect()
        assert [ref() is None for ref in refs] == [True, True, False]
        private = {name for name in sys.modules if name.startswith(PROJECT_PREFIX) and name.endswith("functions.marks")}
        assert len(private) == 1


# How a component's modules find each other.

LIBRARY = {
    "counter/config.py": "STEP = 2\n",
    "counter/functions/_helpers.py": "def twice(n): return 2 * n\n",
    "lib/own.py": "WORD = 'project'\n",
    "counter/functions/imports.py": HEAD
    + """
from schema import schema as by_name
from functions._helpers import twice
from counter.config import STEP
import counter.config
import counter
from .. import config, component
from ._helpers import twice as again
from counter.schema import schema as by_package
from lib.own import WORD

@query
async def look(ctx):
    from counter.late import LATE
    return [
        sorted(by_name.tables), by_name is by_package, twice is again, STEP, counter.config is config,
        counter.component is component, WORD, LATE,
    ]
""",
    "counter/late.py": "LATE = 'late'\n",
}


async def test_a_component_s_modules_are_its_own(tmp_path: Path) -> None:
    async with open_bench(tmp_path, {**app(), **LIBRARY}) as bench:
        for component in ("counter", "other"):
            assert await call(bench, component, "imports:look") == [
                ["marks"],
                True,
                True,
                2,
                True,
                True,
                "project",
                "late",
            ]
        changed = await bench.push({**app(), **LIBRARY, "lib/own.py": "WORD = 'changed'\n"})
        assert changed.changed_modules == ("counter/imports", "other/imports")
        assert (await call(bench, "counter", "imports:look"))[6] == "changed"


async def test_an_installed_component_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And read again at each push, though Python has imported the package once and for all."""
    site = tmp_path / "site"
    installed = {name.replace("counter/", "installed_counter/"): text for name, text in COUNTER.items()}
    installed["installed_counter/functions/marks.py"] += """
from installed_counter.words import WORD

@query
async def word(ctx):
    return WORD
"""
    write(site, {**installed, "installed_counter/words.py": "WORD = 'first'\n"})
    monkeypatch.syspath_prepend(str(site))
    mounted = """
from reactor.runtime.components.definitions import define_app
from installed_counter import component
app = define_app()
app.use(component)
app.use(component, name="again")
"""
    files = {**project_files(main=""), "functions/app.py": mounted}
    try:
        async with open_bench(tmp_path / "project", files) as bench:
            assert await call(bench, "installed_counter", "marks:word") == "first"
            assert any(site in file.parents for file in bench.projects[-1].files), "dev watches it"
            write(site, {"installed_counter/words.py": "WORD = 'second'\n"})
            report = await bench.push(files)
            assert report.changed_modules == ("again/marks", "installed_counter/marks")
            assert await call(bench, "again", "marks:word") == "second"
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "installed_counter"]:
            del sys.modules[name]


# What can't be mounted.

USE = "from reactor.runtime.components.definitions import define_app\nimport counter\napp = define_app()\n"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("app.use(5)", r"functions/app\.py:4: InvalidArgument: use\(\) takes a component"),
        (
            "app.use(counter, name='a/b')",
            r"functions/app\.py:4: InvalidArgument: A component can't be mounted as 'a/b'",
        ),
        ("app.use(counter, name='_')", r"functions/app\.py:4: InvalidArgument: A component can't be mounted as '_'"),
        ("app.use(counter); app.use(counter)", r"functions/app\.py:4: .* There is a component 'counter' here already"),
        ("app.use(counter, http_prefix='x')", r"functions/app\.py:4: .* An http_prefix begins and ends with a slash"),
        (
            "app.use(counter, env={'LIMIT': 5})",
            r"functions/app\.py:4: .* LIMIT is a text or env\.ref\(\.\.\.\), not int",
        ),
        (
            "app.use(counter, env={'LIMITS': 'x'})",
            r"functions/app\.py:4: component counter declares no environment variable 'LIMITS'; it has: LIMIT",
        ),
        ("del app; app = 5", r"functions/app\.py: app\.py must export `app`, made with define_app\(\)"),
        ("other = app; del app", r"functions/app\.py: app\.py must export `app`, made with define_app\(\)"),
    ],
)
async def test_a_mount_that_can_not_be_is_refused_at_its_line(tmp_path: Path, line: str, text: str) -> None:
    with pytest.raises(PushError, match=text):
        ProjectLoader(write(tmp_path, {**app(), "functions/app.py": USE + line + "\n"})).load()


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"counter/__init__.py": "component = 5"}, r"app\.py:5: InvalidArgument: use\(\) takes a component, or"),
        (
            {"counter/__init__.py": "from reactor import define_component\nx = define_component('x')"},
            r"counter/__init__\.py:2: InvalidArgument: define_component\(__name__\) belongs into the __init__\.py",
        ),
        ({"counter/functions/marks.py": "def f(:\n"}, r"counter/functions/marks\.py:1: SyntaxError"),
        (
            {"counter/functions/marks.py": "import functions.missing\n"},
            r"counter/functions/marks\.py:1: ModuleNotFoundError: No module named 'functions\.missing'",
        ),
        ({"counter/functions/marks.py": "1 / 0\n"}, r"counter/functions/marks\.py:1: ZeroDivisionError"),
        ({"counter/schema.py": "schema = 1\n"}, r"counter/schema\.py: a schema module must export `schema`"),
        (
            {"counter/__init__.py": COUNTER["counter/__init__.py"] + "component.use(component, name='me')\n"},
            r"counter/__init__\.py:\d+: component .* would be mounted inside itself, as counter/me",
        ),
        (
            {"counter/__init__.py": COUNTER["counter/__init__.py"].replace("v.optional(v.string())", "v.string()")},
            r"functions/app\.py:5: component 'counter' needs the environment variable LIMIT: give it in env=",
        ),
    ],
)
async def test_a_component_that_can_not_be_loaded_is_refused_at_its_line(
    tmp_path: Path, files: dict[str, str], text: str
) -> None:
    before = set(sys.modules)
    with pytest.raises(PushError, match=text):
        ProjectLoader(write(tmp_path, {**app(), **files})).load()
    assert not [name for name in set(sys.modules) - before if name.startswith(PROJECT_PREFIX)]


async def test_an_app_module_without_an_app_is_a_module_like_any_other(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(app="@query\nasync def one(ctx): return 1\n")) as bench:
        assert await bench.query("app:one") == 1


# Function handles.

HANDLES = """
from reactor.runtime.references import components, internal

@internal_mutation
async def note(ctx, name: str):
    return await ctx.db.insert("items", {"name": name})

@query
async def get(ctx):
    return await ctx.function_handle(internal.handles.note)

@query
def get_blocking(ctx):
    return ctx.function_handle("handles:note")

@query
async def of_child(ctx):
    return await ctx.function_handle(components.counter.marks.names)

@query
async def of_hidden(ctx):
    return await ctx.function_handle(components.counter.marks.hidden)

@mutation
async def call_back(ctx, handle: str):
    await ctx.run_mutation(components.counter.back.call, handle=handle)

@query
async def ask(ctx, handle: str):
    return await ctx.run_query(handle)
"""
BACK = (
    HEAD
    + """
@mutation
async def call(ctx, handle: str):
    await ctx.run_mutation(handle, name="called back")
    await ctx.run_mutation(handle, {"name": "again"})

@query
async def own(ctx):
    return await ctx.function_handle("marks:hidden")
"""
)
HANDLED = {**app(handles=HANDLES), "counter/functions/back.py": BACK}


async def test_a_handle_opens_what_it_was_made_for_from_anywhere(tmp_path: Path) -> None:
    async with open_bench(tmp_path, HANDLED) as bench:
        handle = await bench.query("handles:get")
        assert handle.startswith("function://")
        assert handle.endswith("#handles:note")
        assert await bench.query("handles:get_blocking") == handle
        await bench.mutation("handles:call_back", handle=handle)
        await bench.mutation("handles:call_back", handle=handle.partition("#")[0])
        assert await bench.query("main:items") == ["called back", "again"] * 2
        hidden = await call(bench, "counter", "back:own")
        assert await bench.query("handles:ask", handle=hidden) == "hidden"
        assert await bench.query("handles:ask", handle=await bench.query("handles:of_child")) == []
        with pytest.raises(FunctionNotFound, match="public function for 'marks:hidden' in component 'counter'"):
            await bench.query("handles:of_hidden")
        assert await call(bench, "", handle, "mutation", name="directly"), "an action calls a handle like this"
        with pytest.raises(ProtocolError):
            await bench.mutation(handle, name="from a client")


async def test_a_handle_lives_as_long_as_its_function(tmp_path: Path) -> None:
    storage = MemoryPersistence()
    async with open_bench(tmp_path, HANDLED, storage=FaultyPersistence(storage)) as bench:
        handle = await bench.query("handles:of_child")
        watcher = bench.watch("handles:ask", handle=handle)
        assert await watcher.next() == [[]]
        await bench.push({**HANDLED, "functions/more.py": "X = 1\n"})
        assert await bench.query("handles:of_child") == handle

        await bench.push({**HANDLED, "functions/app.py": UNMOUNTED})
        await bench.settle()
        expected = (
            f"The function 'marks:names' of component 'counter', which the handle '{handle}' is for, was deleted."
        )
        assert expected in watcher.value
    async with open_bench(tmp_path, HANDLED, storage=FaultyPersistence(storage)) as bench:
        assert await bench.query("handles:of_child") == handle
        assert await bench.query("handles:ask", handle=handle) == []


@pytest.mark.parametrize(
    "handle", ["function://", "function://x#main:items", "function://" + encode_id(519, bytes(16))]
)
async def test_a_forged_handle_opens_nothing(tmp_path: Path, handle: str) -> None:
    async with open_bench(tmp_path, HANDLED) as bench:
        item = await bench.run(lambda ctx: ctx.db.insert("items", {"name": "x"}))
        for forged in (handle, f"function://{item}"):
            with pytest.raises(FunctionNotFound, match="is no function handle of this deployment"):
                await bench.query("handles:ask", handle=forged)
