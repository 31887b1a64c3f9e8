"""Components: what a mounted instance owns, what it can reach, and what its failure takes back."""

from pathlib import Path
from typing import Any

import pytest

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.errors import (
    ArgumentsInvalid,
    EnvironmentVariableMissing,
    FunctionNotFound,
    InvalidArgument,
    InvalidPage,
    InvalidStorageId,
    LimitExceeded,
    PushError,
    SchedulingError,
    UnknownTable,
)
from reactor.runtime.environment.documents import change_variables
from reactor.storage.memory import MemoryPersistence
from reactor.testing.clock import VirtualClock
from reactor.values.ids import encode_id, table_of
from tests.runtime.hosts import HEAD, Bench, open_bench, project_files, success, user, value_of
from tests.storage.faults import FaultyPersistence

pytestmark = pytest.mark.asyncio

COUNTER = {
    "counter/__init__.py": """
from reactor.runtime.components.definitions import define_component
from reactor.schema.validators import v
component = define_component(__name__, env={"LIMIT": v.optional(v.string())})
""",
    "counter/schema.py": HEAD
    + """
schema = define_schema({"marks": define_table({"name": v.string(), "of": v.optional(v.id("marks"))})})
""",
    "counter/functions/marks.py": HEAD
    + """
@mutation
async def add(ctx, name: str, fails: bool = False) -> str:
    print("marking", name)
    id = await ctx.db.insert("marks", {"name": name})
    if fails:
        raise ReactorError({"code": "NO", "name": name})
    return id

@query
async def names(ctx) -> list[str]:
    return [mark["name"] async for mark in ctx.db.query("marks")]

@internal_query
async def hidden(ctx) -> str:
    return "hidden"
""",
}
MOUNTED = """
from reactor.runtime.components.definitions import define_app
import counter
app = define_app()
app.use(counter)
app.use(counter, name="other")
"""
MAIN = """
from reactor.runtime.references import components

@mutation
async def both(ctx, name: str, fails: bool):
    await ctx.db.insert("items", {"name": name})
    try:
        await ctx.run_mutation(components.counter.marks.add, name=name, fails=fails)
    except ReactorError as error:
        await ctx.db.insert("items", {"name": error.data["code"]})

@query
async def marks(ctx):
    return await ctx.run_query(components.counter.marks.names)

@query
async def items(ctx):
    return [item["name"] async for item in ctx.db.query("items")]

@query
async def hidden(ctx):
    return await ctx.run_query(components.counter.marks.hidden)
"""


def app(mounted: str = MOUNTED, **modules: str) -> dict[str, str]:
    """Return a project that mounts the component `counter`, twice unless told otherwise."""
    return {**project_files(main=MAIN, **modules), "functions/app.py": mounted, **COUNTER}


async def test_a_caught_failure_takes_back_the_component_s_writes_alone(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app()) as bench:
        await bench.mutation("main:both", name="a", fails=False)
        await bench.mutation("main:both", name="b", fails=True)

        assert await bench.query("main:marks") == ["a"]
        assert await bench.query("main:items") == ["a", "b", "NO"]


NESTED = {
    **{
        f"level/{name}": text
        for name, text in {
            "__init__.py": """
from reactor.runtime.components.definitions import define_component
import counter
component = define_component(__name__)
component.use(counter, name="inner")
""",
            "schema.py": HEAD + 'schema = define_schema({"marks": define_table({"name": v.string()})})\n',
            "functions/run.py": HEAD
            + """
from reactor.runtime.references import components

@mutation
async def mark(ctx, name: str, inner_fails: bool, fails: bool):
    await ctx.db.insert("marks", {"name": name})
    try:
        await ctx.run_mutation(components.inner.marks.add, name=name, fails=inner_fails)
    except ReactorError:
        await ctx.db.insert("marks", {"name": name + " caught"})
    if fails:
        raise ReactorError("outer")

@query
async def names(ctx):
    own = [mark["name"] async for mark in ctx.db.query("marks")]
    return [own, await ctx.run_query(components.inner.marks.names)]
""",
        }.items()
    },
}
NESTING = """
from reactor.runtime.components.definitions import define_app
from level import component
app = define_app()
app.use(component)
"""
DEEP = """
from reactor.runtime.references import components

@mutation
async def go(ctx, name: str, inner_fails: bool, fails: bool):
    await ctx.db.insert("items", {"name": name})
    try:
        await ctx.run_mutation(components.level.run.mark, name=name, inner_fails=inner_fails, fails=fails)
    except ReactorError:
        await ctx.db.insert("items", {"name": name + " caught"})

@query
async def names(ctx):
    own = [item["name"] async for item in ctx.db.query("items")]
    return [own, *await ctx.run_query(components.level.run.names)]
"""


@pytest.mark.parametrize("inner_fails", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_three_deep_each_failure_takes_back_what_is_at_and_below_it(
    tmp_path: Path, inner_fails: bool, fails: bool
) -> None:
    files = {**project_files(deep=DEEP), "functions/app.py": NESTING, **COUNTER, **NESTED}
    async with open_bench(tmp_path, files) as bench:
        await bench.mutation("deep:go", name="a", inner_fails=inner_fails, fails=fails)

        assert await bench.query("deep:names") == [
            ["a", "a caught"] if fails else ["a"],
            [] if fails else ["a", "a caught"] if inner_fails else ["a"],
            [] if fails or inner_fails else ["a"],
        ]


async def test_instances_of_one_component_share_no_data(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app()) as bench:
        await bench.mutation("main:both", name="a", fails=False)

        assert await call(bench, "counter", "marks:names") == ["a"]
        assert await call(bench, "other", "marks:names") == []


async def call(bench: Bench, component: str, path: str, kind: str = "query", **args: object) -> Any:
    """Call a function of an instance as an administrator would."""
    return value_of(await bench.submit(kind, path, args, component=component, internal=True))


PROBE = """
import json

@mutation
async def insert(ctx, table: str):
    return await ctx.db.insert(table, {})

@query
async def rows(ctx, table: str):
    return await ctx.db.query(table).collect()

@query
async def system_rows(ctx, table: str):
    return await ctx.db.system.query(table).collect()

@query
async def get(ctx, id: str, table: str | None = None):
    return await (ctx.db.get(id) if table is None else ctx.db.get(table, id))

@query
async def system_get(ctx, id: str):
    return await ctx.db.system.get(id)

@query
async def normalize(ctx, table: str, id: str):
    return ctx.db.normalize_id(table, id)

@mutation
async def change(ctx, verb: str, id: str):
    await (ctx.db.delete(id) if verb == "delete" else getattr(ctx.db, verb)(id, {"name": "x"}))

@query(args={"id": v.id("marks")})
async def typed(ctx, id):
    return id

@query
async def page(ctx):
    return await ctx.db.query("marks").paginate(num_items=1, cursor=None)

@query
async def who(ctx):
    return await ctx.auth.get_user_identity()

@query
async def through(ctx, function: str):
    return await ctx.run_query(function)

@query
async def handle(ctx, function: str):
    return await ctx.function_handle(function)

@mutation
async def reach_up(ctx):
    await ctx.run_query(components.counter.marks.names)
"""
PROBED = {
    **COUNTER,
    "counter/functions/probe.py": HEAD + "from reactor.runtime.references import components\n" + PROBE,
}
PROBING = {**app(probe="from reactor.runtime.references import components\n" + PROBE), **PROBED}


async def test_a_component_names_only_its_own_tables(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROBING) as bench:
        for component, own, foreign in (
            ("counter", "marks", "items"),
            ("other", "marks", "items"),
            ("", "items", "marks"),
        ):
            assert await call(bench, component, "probe:rows", table=own) == []
            for name in (foreign, "counter/marks", "/items", "other/marks"):
                for kind, path in (("query", "probe:rows"), ("mutation", "probe:insert")):
                    with pytest.raises(UnknownTable, match=f"The schema has no table '{name}'"):
                        await call(bench, component, path, kind, table=name)
            with pytest.raises(UnknownTable, match="There is no system table '_tables'"):
                await call(bench, component, "probe:system_rows", table="_tables")


async def test_an_id_of_another_instance_is_no_id_here(tmp_path: Path) -> None:
    """A forged id is as good as a real one: neither opens anything, and neither tells what exists."""
    async with open_bench(tmp_path, PROBING) as bench:
        item = await bench.run(lambda ctx: ctx.db.insert("items", {"name": "secret"}))
        mark = await call(bench, "counter", "marks:add", "mutation", name="mark")
        forged = encode_id(table_of(item), bytes(16))
        for component, foreign in (("counter", (item, forged)), ("other", (item, mark, forged)), ("", (mark,))):
            for id in foreign:
                assert await call(bench, component, "probe:get", id=id) is None
                assert await call(bench, component, "probe:get", id=id, table="marks") is None
                assert await call(bench, component, "probe:system_get", id=id) is None
                assert await call(bench, component, "probe:normalize", id=id, table="marks") is None
                assert await call(bench, component, "probe:normalize", id=id, table="items") is None
                for verb in ("patch", "replace", "delete"):
                    with pytest.raises(InvalidArgument, match=f'Table for ID "{id}" not found'):
                        await call(bench, component, "probe:change", "mutation", verb=verb, id=id)
                with pytest.raises(ArgumentsInvalid):
                    await call(bench, component, "probe:typed", id=id)
        assert await call(bench, "counter", "probe:typed", id=mark) == mark
        assert (await call(bench, "counter", "probe:get", id=mark))["name"] == "mark"
        assert (await bench.run(lambda ctx: ctx.db.get(item)))["name"] == "secret"


async def test_system_tables_are_those_of_the_instance(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROBING) as bench:
        numbers = set()
        for path in ("", "counter", "other"):
            table = bench.host.database.catalog.namespace(path).by_name["_storage"]
            numbers.add(table.number)
            stored = encode_id(table.number, bytes(16))
            for component in ("", "counter", "other"):
                found = bench.host.database.catalog.namespace(component).table_name(table.number)
                assert found == ("_storage" if component == path else None)
                if component == path:
                    with pytest.raises(InvalidArgument, match=r"only be accessed with db\.system"):
                        await call(bench, component, "probe:get", id=stored)
                else:
                    assert await call(bench, component, "probe:get", id=stored) is None
            assert await call(bench, path, "probe:system_rows", table="_storage") == []
        assert len(numbers) == 3


async def test_there_are_no_pages_in_components(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROBING) as bench:
        with pytest.raises(InvalidPage, match="application only") as refused:
            await call(bench, "counter", "probe:page")
        assert refused.value.rule == "PaginationUnsupportedInComponents"


IDENTITY = """
from reactor.runtime.references import components

@query
async def who(ctx):
    return await ctx.auth.get_user_identity()

@query
async def own(ctx):
    return await ctx.run_query(who)

@query
async def below(ctx):
    return await ctx.run_query(components.counter.probe.who)

@query
async def there_and_back(ctx):
    return await ctx.run_query(components.counter.probe.through, function=await ctx.function_handle(who))
"""


async def test_identity_stays_in_the_application(tmp_path: Path) -> None:
    files = {**app(identity=IDENTITY), **PROBED}
    async with open_bench(tmp_path, files) as bench:

        async def seen(path: str, identity: Identity) -> Any:
            return value_of(await bench.submit("query", f"identity:{path}", identity=identity))

        alice = user("alice")
        for path, claims in (("who", alice.claims), ("own", alice.claims), ("below", None), ("there_and_back", None)):
            assert await seen(path, alice) == claims
            assert await seen(path, ANONYMOUS) is None
        admin = Identity(kind="admin", claims={"name": "root"}, key="admin root")
        for path in ("who", "own", "below", "there_and_back"):
            assert await seen(path, admin) == {"name": "root"}


async def test_only_public_functions_of_a_child_can_be_called(tmp_path: Path) -> None:
    files = {**PROBING, "functions/main.py": HEAD + MAIN + WRONG}
    async with open_bench(tmp_path, files) as bench:
        with pytest.raises(
            FunctionNotFound, match=r"^Could not find public function for 'marks:hidden' in component 'counter'\.$"
        ):
            await bench.query("main:hidden")
        with pytest.raises(FunctionNotFound, match=r"^Component path 'countr' not found\. Did you mean 'counter'\?$"):
            await bench.query("main:misspelt")
        with pytest.raises(
            InvalidArgument, match=r"components\.name\.module\.function, but this one is components\.counter"
        ):
            await bench.query("main:short")
        with pytest.raises(FunctionNotFound, match=r"Component path 'counter/counter' not found\. Mounted are: none\."):
            await call(bench, "counter", "probe:reach_up", "mutation")
        for path in ("main:marks", "items:list"):
            with pytest.raises(FunctionNotFound, match=f"Could not find function for '{path}' in component 'counter'"):
                await call(bench, "counter", "probe:through", function=path)


WRONG = """
@query
async def misspelt(ctx):
    return await ctx.run_query(components.countr.marks.names)

@query
async def short(ctx):
    return await ctx.run_query(components.counter.marks)
"""


async def test_log_lines_stand_under_the_path_of_their_instance(tmp_path: Path) -> None:
    async with open_bench(tmp_path, app()) as bench:
        outcome = success(await bench.submit("mutation", "main:both", {"name": "a", "fails": False}))
        assert outcome.log_lines == ("[LOG] [counter/marks:add] 'marking a'",)


async def test_calls_across_components_count_as_nested(tmp_path: Path) -> None:
    """Handles close the circle that references can't."""
    files = {**PROBING}
    files["functions/main.py"] += """
@query
async def down(ctx):
    return await ctx.run_query(components.counter.loop.round, up=await ctx.function_handle(down))
"""
    files["counter/functions/loop.py"] = (
        HEAD
        + """
@query
async def round(ctx, up: str):
    return await ctx.run_query(up)
"""
    )
    async with open_bench(tmp_path, files) as bench:
        with pytest.raises(LimitExceeded, match="Cross component call depth limit exceeded"):
            await bench.query("main:down")


# Environment.

ENVIRONMENT = {
    "counter/functions/vars.py": HEAD
    + """
from reactor.runtime.environment.mapping import env
@query
async def get(ctx, name: str):
    assert env.get(name) == ctx.env.get(name)
    return env.get(name)

@query
async def need(ctx, name: str):
    return env[name]

@query
async def all(ctx):
    return dict(env)

@action
async def act(ctx, name: str):
    return ctx.env.get(name)
""",
    "functions/app.py": """
from reactor.runtime.components.definitions import define_app
from reactor.runtime.environment.mapping import env
import counter
app = define_app()
app.use(counter, name="fixed", env={"LIMIT": "5"}, http_prefix="/fixed/")
app.use(counter, name="live", env={"LIMIT": env.ref("COUNTER_LIMIT")})
app.use(counter, name="none")
""",
    "functions/main.py": HEAD
    + """
from reactor.runtime.environment.mapping import env
from reactor.runtime.references import components
@query
async def both(ctx, name: str):
    inside = await ctx.run_query(components.live.vars.get, name=name)
    return [inside, env.get(name)]

@query
async def fixed(ctx):
    return await ctx.run_query(components.fixed.vars.get, name="LIMIT")
""",
}


async def test_a_component_sees_the_variables_it_declares_and_is_given(tmp_path: Path) -> None:
    async with open_bench(tmp_path, {**project_files(), **COUNTER, **ENVIRONMENT}) as bench:
        await set_variables(bench, LIMIT="the application's", SECRET="s", COUNTER_LIMIT="7")
        assert await bench.query("main:both", name="LIMIT") == ["7", "the application's"]
        assert await bench.query("main:both", name="SECRET") == [None, "s"]
        for instance, limit in (("fixed", "5"), ("live", "7"), ("none", None)):
            assert await call(bench, instance, "vars:get", name="LIMIT") == limit
            assert await call(bench, instance, "vars:act", "action", name="LIMIT") == limit
            assert await call(bench, instance, "vars:act", "action", name="SECRET") is None
            site = await call(bench, instance, "vars:get", name="CONVEX_SITE_URL")
            assert site.endswith("/fixed") == (instance == "fixed")
            found = await call(bench, instance, "vars:all")
            assert found.pop("LIMIT", None) == limit
            assert sorted(found) == ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"]

        for instance, name, text in (
            ("none", "LIMIT", "is not given to component 'none'"),
            ("live", "SECRET", "is not declared by component 'live'"),
        ):
            with pytest.raises(EnvironmentVariableMissing, match=text):
                await call(bench, instance, "vars:need", name=name)

        files = {**project_files(), **COUNTER, **ENVIRONMENT}
        watcher = bench.watch("main:fixed")
        assert await watcher.next() == ["5"]
        await bench.push({**files, "functions/app.py": files["functions/app.py"].replace('"5"', '"6"')})
        await bench.settle()
        assert watcher.values == ["6"], "what a mount binds is a part of what runs depend on"
        await bench.push(files)

        watcher = bench.watch("main:both", name="LIMIT")
        assert await watcher.next() == [["7", "the application's"]]
        await set_variables(bench, COUNTER_LIMIT="8")
        await bench.settle()
        assert watcher.value == ["8", "the application's"]
        await set_variables(bench, COUNTER_LIMIT=None)
        with pytest.raises(EnvironmentVariableMissing, match="reactor env set COUNTER_LIMIT="):
            await call(bench, "live", "vars:need", name="LIMIT")


async def test_a_variable_that_is_not_what_is_declared_is_refused_where_it_is_read(tmp_path: Path) -> None:
    files = {**project_files(), **COUNTER, **ENVIRONMENT}
    files["counter/__init__.py"] = files["counter/__init__.py"].replace(
        "v.optional(v.string())", "v.optional(v.union(v.literal('5'), v.literal('7')))"
    )
    async with open_bench(tmp_path, files) as bench:
        await set_variables(bench, COUNTER_LIMIT="many")
        with pytest.raises(
            InvalidArgument, match=r"LIMIT of component 'live', from COUNTER_LIMIT: Value does not match"
        ):
            await call(bench, "live", "vars:get", name="LIMIT")


async def set_variables(bench: Bench, **variables: str | None) -> None:
    def change(ctx: Any) -> None:
        documents = ctx._execution.documents
        change_variables(documents.database, documents.transaction, variables)

    await bench.run(change)


# Actions.

ACTIONS = """
from reactor.runtime.references import components

@action
async def run(ctx, name: str):
    await ctx.run_mutation(components.counter.marks.add, name=name)
    handle = await ctx.run_query("actions:handle")
    await ctx.run_mutation(handle, name=name + " by handle")
    return [await ctx.run_query(components.counter.marks.names), await ctx.run_action(components.counter.acts.who)]

@action
def run_blocking(ctx, name: str):
    return ctx.run_action(components.counter.acts.add_here, name=name)

@action
async def own_handles(ctx):
    inside = await ctx.run_action(components.counter.acts.handle)
    return [await ctx.run_query(await ctx.function_handle(components.counter.marks.names)), await ctx.run_query(inside)]

@action
def own_handles_blocking(ctx):
    return ctx.run_query(ctx.function_handle(components.counter.marks.names))

@query
async def handle(ctx):
    return await ctx.function_handle(components.counter.marks.add)

@action
async def hidden(ctx):
    return await ctx.run_query(components.counter.marks.hidden)

@action
async def missing(ctx):
    return await ctx.run_query(components.nothing.marks.names)
"""
ACTS = (
    HEAD
    + """
from reactor.runtime.references import internal

@action
async def who(ctx):
    return await ctx.auth.get_user_identity()

@action
async def add_here(ctx, name: str):
    await ctx.run_mutation("marks:add", name=name)
    return [await ctx.run_query(internal.marks.names), await ctx.run_query(internal.marks.hidden)]

@action
async def handle(ctx):
    return await ctx.function_handle(internal.marks.hidden)
"""
)


async def test_actions_cross_the_border_like_mutations(tmp_path: Path) -> None:
    files = {**app(actions=ACTIONS), "counter/functions/acts.py": ACTS}
    async with open_bench(tmp_path, files) as bench:
        ran = await bench.submit("action", "actions:run", {"name": "a"}, identity=user("alice"))
        assert value_of(ran) == [["a", "a by handle"], None]
        assert success(ran).log_lines == tuple(
            f"[LOG] [counter/marks:add] 'marking {name}'" for name in ("a", "a by handle")
        )
        ran = await bench.submit("action", "actions:run_blocking", {"name": "b"})
        assert value_of(ran) == [["a", "a by handle", "b"], "hidden"]
        handle = await bench.query("actions:handle")
        assert await call(bench, "", handle, "mutation", name="c")
        names = await call(bench, "counter", "marks:names")
        assert value_of(await bench.submit("action", "actions:own_handles")) == [names, "hidden"]
        assert value_of(await bench.submit("action", "actions:own_handles_blocking")) == names
        for path, text in (
            ("hidden", "Could not find public function for 'marks:hidden' in component 'counter'"),
            ("missing", "Component path 'nothing' not found"),
        ):
            with pytest.raises(FunctionNotFound, match=text):
                value_of(await bench.submit("action", f"actions:{path}"))


# Scheduling.

JOBS = """
from reactor.runtime.references import components, internal

@mutation
async def later(ctx, name: str, ms: float):
    return await ctx.run_mutation(components.counter.jobs.later, name=name, ms=ms, then=None)

@mutation
async def child_later(ctx, name: str):
    return await ctx.scheduler.run_after(0, components.counter.marks.add, name=name)

@mutation
async def hidden_later(ctx):
    return await ctx.scheduler.run_after(0, components.counter.marks.hidden)

@internal_mutation
async def note(ctx, name: str):
    await ctx.db.insert("items", {"name": name})

@mutation
async def call_back_later(ctx, name: str):
    handle = await ctx.function_handle(internal.jobs.note)
    await ctx.run_mutation(components.counter.jobs.later, name=name, ms=0, then=handle)

@mutation
async def undone(ctx):
    try:
        await ctx.run_mutation(components.counter.jobs.later, name="undone", ms=0, then=None, fails=True)
    except ReactorError:
        pass

@mutation
async def cancel(ctx, id: str):
    await ctx.scheduler.cancel(id)

@query
async def jobs(ctx):
    return [[job["name"], job["state"]["kind"]] async for job in ctx.db.system.query("_scheduled_functions")]
"""
COMPONENT_JOBS = (
    HEAD
    + """
@mutation
async def later(ctx, name: str, ms: float, then: str | None, fails: bool = False):
    id = await ctx.scheduler.run_after(ms, "marks:add" if then is None else then, name=name)
    if fails:
        raise ReactorError("no")
    return id

@mutation
async def cancel(ctx, id: str):
    await ctx.scheduler.cancel(id)

@query
async def jobs(ctx):
    return [[job["name"], job["state"]["kind"]] async for job in ctx.db.system.query("_scheduled_functions")]

@query
async def get(ctx, id: str):
    job = await ctx.db.system.get(id)
    return job and sorted(job)
"""
)
SCHEDULING = {**app(jobs=JOBS), "counter/functions/jobs.py": COMPONENT_JOBS}


async def test_each_instance_schedules_by_itself(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_bench(tmp_path, SCHEDULING, clock=clock) as bench:
        settled = bench.host.scheduler.settled
        id = await bench.mutation("jobs:later", name="late", ms=1000)
        await bench.mutation("jobs:undone")
        await settled()
        assert await call(bench, "counter", "jobs:jobs") == [["marks.js:add", "pending"]]
        assert await bench.query("jobs:jobs") == await call(bench, "other", "jobs:jobs") == []
        assert bench.host.scheduler.next_due_ns is not None

        for component in ("", "other"):
            with pytest.raises(InvalidArgument, match="Invalid scheduled function ID"):
                await call(bench, component, "jobs:cancel", "mutation", id=id)
            if component:
                assert await call(bench, component, "jobs:get", id=id) is None
        assert "nextTime" not in await call(bench, "counter", "jobs:get", id=id)

        clock.advance(seconds=1)
        await settled()
        assert await call(bench, "counter", "marks:names") == ["late"]
        assert await call(bench, "counter", "jobs:jobs") == [["marks.js:add", "success"]]

        await bench.mutation("jobs:call_back_later", name="called back")
        await settled()
        assert await bench.query("main:items") == ["called back"]
        assert (await call(bench, "counter", "jobs:jobs"))[1] == ["jobs.js:note", "success"]

        await bench.mutation("jobs:child_later", name="from above")
        await settled()
        assert await call(bench, "counter", "marks:names") == ["late", "from above"]
        assert await bench.query("jobs:jobs") == [["marks.js:add", "success"]]
        with pytest.raises(SchedulingError, match="Could not find public function for 'marks:hidden'"):
            await bench.mutation("jobs:hidden_later")

        id = await bench.mutation("jobs:later", name="never", ms=1000)
        await call(bench, "counter", "jobs:cancel", "mutation", id=id)
        clock.advance(seconds=2)
        await settled()
        assert await call(bench, "counter", "marks:names") == ["late", "from above"]


async def test_what_a_mutation_schedules_is_counted_in_all_instances_together(tmp_path: Path) -> None:
    many = """
from reactor.runtime.references import components
@mutation
async def many(ctx):
    for _ in range(500):
        await ctx.scheduler.run_after(1000, components.counter.marks.add, name="x")
    for number in range(500):
        child = components.counter if number % 2 else components.other
        await ctx.run_mutation(child.jobs.later, name="x", ms=1000, then=None)
    await ctx.run_mutation(components.other.jobs.later, name="x", ms=1000, then=None)
"""
    files = {**app(many=many), "counter/functions/jobs.py": COMPONENT_JOBS}
    async with open_bench(tmp_path, files, clock=VirtualClock()) as bench:
        with pytest.raises(LimitExceeded, match=r"Too many functions scheduled by this mutation \(limit: 1000\)"):
            await bench.mutation("many:many")
        await bench.push({**files, "functions/many.py": HEAD + many.replace(many.splitlines()[-1], "")})
        await bench.mutation("many:many")


async def test_what_an_instance_has_scheduled_waits_while_it_is_not_mounted(tmp_path: Path) -> None:
    """Across a restart, too."""
    clock, storage = VirtualClock(), MemoryPersistence()
    unmounted = {**SCHEDULING, "functions/app.py": MOUNTED.replace("app.use(counter)\n", "")}
    async with open_bench(tmp_path, SCHEDULING, clock=clock, storage=FaultyPersistence(storage)) as bench:
        await bench.mutation("jobs:later", name="late", ms=1000)
        await bench.push(unmounted)
        clock.advance(seconds=2)
        await bench.host.scheduler.settled()
        await bench.push(SCHEDULING)
        await bench.host.scheduler.settled()
        assert await call(bench, "counter", "marks:names") == ["late"]
        await bench.mutation("jobs:later", name="later", ms=1000)
        await bench.push(unmounted)
    clock.advance(seconds=2)
    async with open_bench(tmp_path, unmounted, clock=clock, storage=FaultyPersistence(storage)) as bench:
        await bench.host.scheduler.settled()
        await bench.push(SCHEDULING)
        await bench.host.scheduler.settled()
        assert await call(bench, "counter", "marks:names") == ["late", "later"]


# Files.

FILES = """
@action
async def store(ctx, text: str):
    return await ctx.storage.store(text.encode())

@action
async def read(ctx, id: str):
    file = await ctx.storage.get(id)
    return None if file is None else (await file.read()).decode()

@query
async def url(ctx, id: str):
    return await ctx.storage.get_url(id)

@query
async def files(ctx):
    return [file["_id"] async for file in ctx.db.system.query("_storage")]

@mutation
async def delete(ctx, id: str):
    await ctx.storage.delete(id)
"""


async def test_each_instance_has_files_of_its_own(tmp_path: Path) -> None:
    files = {**app(files=FILES), "counter/functions/files.py": HEAD + FILES}
    async with open_bench(tmp_path, files) as bench:
        stored = {
            path: await call(bench, path, "files:store", "action", text=path) for path in ("", "counter", "other")
        }
        for path, id in stored.items():
            assert await call(bench, path, "files:files") == [id]
            assert await call(bench, path, "files:read", "action", id=id) == path
            for other in stored.keys() - {path}:
                for function, kind in (("url", "query"), ("read", "action"), ("delete", "mutation")):
                    with pytest.raises(InvalidStorageId):
                        await call(bench, other, f"files:{function}", kind, id=id)
        await call(bench, "counter", "files:delete", "mutation", id=stored["counter"])
        assert await call(bench, "counter", "files:files") == []
        assert await call(bench, "other", "files:files") == [stored["other"]]


# Row rules.

RULED = """
from reactor.runtime.rules.declared import define_rules
rules = define_rules({"items": {"read": lambda ctx, doc: doc["name"] == "open"}})
"""


async def test_row_rules_hold_on_the_way_back_from_a_component(tmp_path: Path) -> None:
    files = {**app(identity=IDENTITY), **PROBED}
    files["schema.py"] += RULED
    files["functions/main.py"] += """
@query
async def around(ctx):
    return await ctx.run_query(components.counter.probe.through, function=await ctx.function_handle(items))
"""
    async with open_bench(tmp_path, files) as bench:
        for name in ("open", "hidden"):
            await bench.run(lambda ctx, name=name: ctx.db.unsafe.insert("items", {"name": name}))
        await call(bench, "counter", "marks:add", "mutation", name="free")
        assert await bench.query("main:items") == ["open"]
        assert await bench.query("main:around") == ["open"]
        assert await bench.query("main:marks") == ["free"]


async def test_a_component_has_no_row_rules(tmp_path: Path) -> None:
    files = app()
    files["counter/schema.py"] += RULED.replace("items", "marks")
    with pytest.raises(PushError, match=r"counter/schema\.py: a component has no row rules"):
        async with open_bench(tmp_path, files):
            pass
