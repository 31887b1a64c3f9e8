"""Triggers: when they run, in which order, what they see and may do, and what becomes of one that fails."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reactor.errors import AccessDenied, LimitExceeded, PushError, ReactorError
from reactor.limits import Limits
from reactor.runtime.calls import Call
from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from reactor.testing.interleaving import HeldMutation
from tests.runtime.hosts import Bench, failure, open_bench, success, user, value_of, wire
from tests.runtime.projects import write

pytestmark = pytest.mark.asyncio

SCHEMA = """
from reactor import Change, MutationCtx, ReactorError, define_schema, define_table, define_triggers, v

schema = define_schema({
    "users": define_table({"name": v.string(), "n": v.optional(v.integer()), "extra": v.optional(v.any())})
        .index("by_name", ["name"]),
    "tree": define_table({"depth": v.integer(), "name": v.string()}),
    "totals": define_table({"users": v.integer()}),
    "log": define_table({"text": v.string()}),
})

async def log_change(ctx: MutationCtx, change: Change) -> None:
    old, new = change.old and change.old["name"], change.new and change.new["name"]
    document = change.new or change.old
    assert change.id == document["_id"] and change.table == "users", change
    await ctx.db.insert("log", {"text": f"{change.operation} {old} -> {new}"})
    document["name"] = "changed by a trigger"  # a copy of its own

def count(ctx, change):
    assert "changed" not in str(change), change
    totals = ctx.db.query("totals").first()
    by = (change.new is not None) - (change.old is not None)
    if totals is None:
        ctx.db.insert("totals", {"users": by})
    elif by:
        ctx.db.patch(totals["_id"], {"users": totals["users"] + by})

async def refuse(ctx, change):
    name = change.new["name"] if change.new else ""
    if name == "bad":
        raise ReactorError({"code": "BAD"})
    if name == "odd":
        raise ValueError("odd")

async def check_types(ctx, change):
    if change.new is not None and "n" in change.new:
        assert type(change.new["n"]) is int, change.new

async def grow(ctx, change):
    if change.operation != "insert":
        return
    await ctx.db.insert("log", {"text": change.new["name"]})
    depth = change.new["depth"]
    if depth:
        for side in "lr":
            await ctx.db.insert("tree", {"depth": depth - 1, "name": change.new["name"] + side})

triggers = define_triggers({"users": [log_change, count, refuse, check_types], "tree": grow})
"""
FUNCTIONS = """
import asyncio
from reactor import ReactorError, action, mutation, query

@mutation
async def add(ctx, name: str, n: int = 0) -> str:
    return await ctx.db.insert("users", {"name": name, "n": n})

@mutation
def add_blocking(ctx, name: str) -> str:
    return ctx.db.insert("users", {"name": name})

@mutation
async def life(ctx):
    id = await ctx.db.insert("users", {"name": "a"})
    await ctx.db.patch(id, {"name": "b"})
    await ctx.db.patch(id, {"name": "b"})  # changes nothing
    await ctx.db.replace(id, {"name": "c"})
    await ctx.db.delete(id)

@mutation
def life_blocking(ctx):
    id = ctx.db.insert("users", {"name": "a"})
    ctx.db.patch("users", id, {"name": "b"})
    ctx.db.patch(id, {"name": "b"})
    ctx.db.replace("users", id, {"name": "c"})
    ctx.db.delete("users", id)

@mutation
async def seen(ctx):
    await ctx.db.insert("users", {"name": "a"})
    return [(await ctx.db.query("totals").first())["users"], await ctx.db.query("log").count()]

@mutation
async def together(ctx):
    names = [f"u{at}" for at in range(5)]
    await asyncio.gather(*[ctx.db.insert("users", {"name": name}) for name in names])

@mutation
async def plant(ctx, depth: int):
    await ctx.db.insert("tree", {"depth": depth, "name": "."})

@mutation
async def plant_bare(ctx):
    await ctx.db.without_triggers.insert("tree", {"depth": 3, "name": "."})
    await ctx.db.unsafe.without_triggers.insert("users", {"name": "bad"})
    await ctx.db.without_triggers.unsafe.insert("users", {"name": "bad"})

@mutation
def plant_bare_blocking(ctx):
    ctx.db.without_triggers.insert("tree", {"depth": 3, "name": "."})
    ctx.db.unsafe.without_triggers.insert("users", {"name": "bad"})

@mutation
async def past_rules(ctx):
    await ctx.db.unsafe.insert("users", {"name": "unsafe"})

@mutation
async def catches(ctx, name: str):
    try:
        await ctx.db.insert("users", {"name": name})
    except Exception as error:
        return type(error).__name__

@mutation
async def calls(ctx, name: str, path: str = "users:add"):
    try:
        await ctx.run_mutation(path, name=name)
    except ReactorError as error:
        return error.data

@mutation
async def schedule(ctx, name: str):
    await ctx.scheduler.run_after(0, add, name=name)

@action
async def act(ctx, name: str):
    await ctx.run_mutation(add, name=name)

@mutation
async def forgets(ctx):
    await ctx.run_mutation("users:add", name="kept")
    try:
        await ctx.run_mutation("users:add_and_fail")
    except ReactorError:
        pass

@mutation
async def add_and_fail(ctx):
    await ctx.db.insert("users", {"name": "undone"})
    raise ReactorError("after all")

@query
async def log(ctx) -> list[str]:
    return [line["text"] async for line in ctx.db.query("log")]

@query
async def total(ctx):
    totals = await ctx.db.query("totals").first()
    return totals and totals["users"]

@query
async def names(ctx) -> list[str]:
    return [user["name"] async for user in ctx.db.query("users")]
"""
APP = {"schema.py": SCHEMA, "functions/users.py": FUNCTIONS}


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, APP) as opened:
        yield opened


@pytest.mark.parametrize("path", ["users:life", "users:life_blocking"])
async def test_each_change_is_told_with_the_document_before_and_after(bench: Bench, path: str) -> None:
    await bench.mutation(path)
    assert await bench.query("users:log") == [
        "insert None -> a",
        "update a -> b",
        "update b -> c",
        "delete c -> None",
    ]
    assert await bench.query("users:total") == 0


async def test_they_have_run_when_the_write_returns(bench: Bench) -> None:
    assert await bench.mutation("users:seen") == [1, 1]


async def test_the_queue_is_served_in_breadth(bench: Bench) -> None:
    await bench.mutation("users:plant", depth=2)
    assert await bench.query("users:log") == [".", ".l", ".r", ".ll", ".lr", ".rl", ".rr"]


async def test_every_writer_meets_them(bench: Bench) -> None:
    """Clients, functions of both forms, nested calls, handlers of the host, and past the row rules."""
    await bench.mutation("users:add", name="a")
    await bench.mutation("users:add_blocking", name="b")
    await bench.mutation("users:calls", name="c")
    await bench.run(lambda ctx: ctx.db.insert("users", {"name": "d"}))
    await bench.mutation("users:past_rules")
    assert await bench.query("users:total") == 5
    assert len(await bench.query("users:log")) == 5


async def test_schedules_and_actions_meet_them(tmp_path: Path) -> None:
    project = ProjectLoader(write(tmp_path, APP)).load()
    async with MemoryDeployment(project, tmp_path) as deployment:
        await deployment.mutation("users:schedule", name="a")
        await deployment.finish_in_progress_scheduled_functions()
        await deployment.action("users:act", name="b")
        await deployment.as_admin().mutation("users:add", name="c")
        assert await deployment.query("users:total") == 3
    project.release()


async def test_what_is_gathered_triggers_one_after_the_other(bench: Bench) -> None:
    """A count that is read and written back would lose some otherwise."""
    await bench.mutation("users:together")
    assert await bench.query("users:total") == 5
    assert await bench.query("users:log") == [f"insert None -> u{at}" for at in range(5)]


async def test_without_triggers_none_run(bench: Bench) -> None:
    await bench.mutation("users:plant_bare")
    await bench.mutation("users:plant_bare_blocking")
    assert (await bench.query("users:log"), await bench.query("users:total")) == ([], None)
    assert await bench.query("users:names") == ["bad"] * 3


async def test_a_failure_fails_the_write(bench: Bench) -> None:
    for path in ("users:add", "users:add_blocking"):
        with pytest.raises(ReactorError) as refused:
            await bench.mutation(path, name="bad")
        assert refused.value.data == {"code": "BAD"}
    assert await bench.mutation("users:calls", name="bad") == {"code": "BAD"}
    assert (await bench.query("users:names"), await bench.query("users:total")) == ([], None)


async def test_a_handler_that_catches_it_commits_what_was_written(bench: Bench) -> None:
    """The write itself and what the other triggers did: they have all run."""
    assert await bench.mutation("users:catches", name="bad") == "ReactorError"
    assert await bench.mutation("users:catches", name="odd") == "ValueError"
    assert await bench.query("users:names") == ["bad", "odd"]
    assert await bench.query("users:total") == 2


async def test_what_a_failed_nested_mutation_wrote_is_undone_with_what_its_triggers_did(bench: Bench) -> None:
    await bench.mutation("users:forgets")
    assert await bench.query("users:names") == ["kept"]
    assert await bench.query("users:total") == 1
    assert await bench.query("users:log") == ["insert None -> kept"]


MORE = """
from reactor import ReactorError, define_schema, define_table, define_triggers, v

schema = define_schema({
    name: define_table({"x": v.any()}) 
    for name in "first queue endless calling inner waits who log".split()
})

async def fail(ctx, change):
    await ctx.db.insert("queue", {"x": 1})
    raise ReactorError("first")

async def fail_later(ctx, change):
    await ctx.db.insert("log", {"x": "still ran"})
    raise ReactorError("second")

async def again(ctx, change):
    await ctx.db.insert("endless", {"x": change.new["x"] + 1})

async def call(ctx, change):
    await ctx.db.insert("log", {"x": "before"})
    await ctx.run_mutation("app:inner", {"fails": change.new["x"]})
    await ctx.db.insert("log", {"x": "after"})

async def call_caught(ctx, change):
    try:
        await call(ctx, change)
    except ReactorError:
        await ctx.db.insert("log", {"x": "caught"})

def note(ctx, change):
    print("noting", change.new["x"])
    ctx.db.insert("log", {"x": change.new["x"]})

async def forget(ctx, change):
    ctx.db.insert("log", {"x": "never awaited"})

async def wait(ctx, change):
    import asyncio
    await asyncio.gather(*[ctx.db.insert("log", {"x": at}) for at in range(3)])

async def who(ctx, change):
    identity = await ctx.auth.get_user_identity()
    await ctx.db.insert("log", {"x": [identity and identity["name"], ctx.auth.is_admin, ctx.now() > 0]})

triggers = define_triggers({
    "first": fail, "queue": fail_later, "endless": again, "calling": call_caught, "inner": note, "who": who,
    "waits": [wait, forget],
})
"""
MORE_FUNCTIONS = """
from reactor import ReactorError, mutation, query

@mutation
async def put(ctx, table: str, x: bool = False):
    await ctx.db.insert(table, {"x": x})

@mutation
def put_blocking(ctx, table: str, x: bool = False):
    ctx.db.insert(table, {"x": x})

@mutation
async def caught(ctx, table: str):
    try:
        await ctx.db.insert(table, {"x": False})
    except ReactorError as error:
        return error.data

@mutation
async def inner(ctx, fails: bool):
    await ctx.db.insert("inner", {"x": "in"})
    await ctx.db.insert("log", {"x": "end"})
    if fails:
        raise ReactorError("inner")

@query
async def log(ctx) -> list:
    return [line["x"] async for line in ctx.db.query("log")]
"""
OTHER = {"schema.py": MORE, "functions/app.py": MORE_FUNCTIONS}


async def test_the_first_failure_is_raised_when_all_have_run(tmp_path: Path) -> None:
    async with open_bench(tmp_path, OTHER) as bench:
        answer = success(await bench.submit("mutation", "app:caught", {"table": "first"}))
        assert answer.value == b'"first"'
        assert answer.log_lines == (
            "[ERROR] [trigger of queue] 'after another trigger had failed: ReactorError: second'",
        )
        assert await bench.query("app:log") == ["still ran"]


async def test_triggers_without_end_meet_the_limit_of_writes(tmp_path: Path) -> None:
    async with open_bench(tmp_path, OTHER) as bench:
        with pytest.raises(LimitExceeded, match="Too many writes"):
            await bench.mutation("app:put", table="endless")


@pytest.mark.parametrize("path", ["app:put", "app:put_blocking"])
async def test_a_nested_mutation_of_a_trigger_is_whole_when_it_returns(tmp_path: Path, path: str) -> None:
    """It has a queue of its own, so that it can be undone with all that it has triggered."""
    async with open_bench(tmp_path, OTHER) as bench:
        answer = success(await bench.submit("mutation", path, {"table": "calling", "x": False}))
        assert await bench.query("app:log") == ["before", "in", "end", "after"]
        assert answer.log_lines == ("[LOG] [trigger of calling] [app:inner] [trigger of inner] 'noting in'",)
    async with open_bench(tmp_path, OTHER) as bench:
        await bench.mutation(path, table="calling", x=True)
        assert await bench.query("app:log") == ["before", "caught"]


async def test_a_call_that_a_trigger_forgets_is_an_error(tmp_path: Path) -> None:
    async with open_bench(tmp_path, OTHER) as bench:
        failed = failure(await bench.submit("mutation", "app:put", {"table": "waits"}))
        assert "db.insert() at" in failed.message
        assert "never awaited" in failed.message
        assert await bench.query("app:log") == []


async def test_a_trigger_may_gather(tmp_path: Path) -> None:
    files = {**OTHER, "schema.py": MORE.replace("[wait, forget]", "wait")}
    async with open_bench(tmp_path, files) as bench:
        await bench.mutation("app:put", table="waits")
        assert await bench.query("app:log") == [0, 1, 2]


async def test_a_trigger_sees_the_caller(tmp_path: Path) -> None:
    async with open_bench(tmp_path, OTHER) as bench:
        value_of(await bench.submit("mutation", "app:put", {"table": "who"}, identity=user("ann")))
        await bench.mutation("app:put", table="who")
        assert await bench.query("app:log") == [["ann", False, True], [None, False, True]]


async def test_what_triggers_read_makes_conflicts(tmp_path: Path) -> None:
    """Two writers whose triggers count: none is lost, also where one is suspended in the middle of its trigger."""
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        await bench.mutation("users:add", name="there")
        for at in (1, 2):
            held = HeldMutation(bench.host.executor, Call("users:add", wire({"name": "slow"})), at)
            await held.reached()
            await bench.mutation("users:add", name="fast")
            await held.finish()
            assert await bench.query("users:total") == 1 + 2 * at
        bench.clock.tick = 1.0
        await asyncio.gather(*[bench.mutation("users:add", name=f"n{at}") for at in range(8)])
        bench.clock.tick = 0.0
        assert await bench.query("users:total") == 13


RULED = """
from reactor import define_rules, define_schema, define_table, define_triggers, v

schema = define_schema({
    "notes": define_table({"owner": v.string()}), "counts": define_table({"owner": v.string(), "n": v.integer()}),
})

async def load_user(ctx):
    identity = await ctx.auth.get_user_identity()
    return None if identity is None else identity["name"]

def own(ctx, doc):
    return doc["owner"] == ctx.user

rules = define_rules(
    {"notes": {"read": own, "insert": own}, "counts": {"read": lambda ctx, doc: False}}, user=load_user
)

async def count(ctx, change):
    found = await ctx.db.query("counts").filter(lambda q: q.eq(q.field("owner"), change.new["owner"])).first()
    if found is None:
        await ctx.db.insert("counts", {"owner": change.new["owner"], "n": 1})
    else:
        await ctx.db.patch(found["_id"], {"n": found["n"] + 1})
    assert await ctx.run_query("notes:counts") == []

triggers = define_triggers({"notes": count})
"""
RULED_FUNCTIONS = """
from reactor import internal_query, mutation, query

@mutation
async def add(ctx, owner: str):
    await ctx.db.insert("notes", {"owner": owner})

@query
async def counts(ctx):
    return [[count["owner"], count["n"]] for count in await ctx.db.query("counts").collect()]

@internal_query
async def all_counts(ctx):
    return [[count["owner"], count["n"]] for count in await ctx.db.unsafe.query("counts").collect()]
"""


async def test_rules_are_outside_of_triggers(tmp_path: Path) -> None:
    """They are asked about the write first; a trigger belongs to the data, and is subject to none."""
    async with open_bench(tmp_path, {"schema.py": RULED, "functions/notes.py": RULED_FUNCTIONS}) as bench:
        for owner in ("ann", "bob", "ann"):
            value_of(await bench.submit("mutation", "notes:add", {"owner": owner}, identity=user(owner)))
        with pytest.raises(AccessDenied):
            value_of(await bench.submit("mutation", "notes:add", {"owner": "ann"}, identity=user("bob")))
        counted = value_of(await bench.submit("query", "notes:all_counts", internal=True))
        assert counted == [["ann", 2], ["bob", 1]]
        assert await bench.query("notes:counts") == []


COMPONENT = {
    "functions/app.py": "from reactor import define_app\nimport counter\napp = define_app()\n"
    'app.use(counter)\napp.use(counter, name="other")\n',
    "functions/main.py": """
from reactor import components, mutation

@mutation
async def both(ctx):
    await ctx.run_mutation(components.counter.items.add)
    return [await ctx.run_mutation(components.counter.items.add), await ctx.run_mutation(components.other.items.add)]
""",
    "counter/__init__.py": "from reactor import define_component\ncomponent = define_component(__name__)\n",
    "counter/schema.py": """
from reactor import define_schema, define_table, define_triggers, v

schema = define_schema({"items": define_table({}), "seen": define_table({"id": v.id("items")})})

async def see(ctx, change):
    await ctx.db.insert("seen", {"id": change.id})

triggers = define_triggers({"items": see})
""",
    "counter/functions/items.py": """
from reactor import mutation

@mutation
async def add(ctx) -> int:
    await ctx.db.insert("items", {})
    return await ctx.db.query("seen").count()
""",
}


async def test_components_have_triggers_of_their_own(tmp_path: Path) -> None:
    async with open_bench(tmp_path, COMPONENT) as bench:
        assert await bench.mutation("main:both") == [2, 1]


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ('define_triggers({"itms": one})', r"schema\.py:3: there are triggers for a table 'itms'.* 'items'"),
        ('define_triggers({"_storage": one})', r"schema\.py:3: .*not for the system table '_storage'"),
        ('define_triggers({"items": few})', r"schema\.py:5: a trigger of table 'items' is called with \(ctx, change\)"),
        ('define_triggers({"items": [one, 5]})', r"schema\.py:8: a trigger of table 'items' is a function .*not int"),
        ("define_triggers([one])", r"schema\.py:8: define_triggers takes a dict of tables"),
        ("[one]", r"schema\.py: `triggers` of a schema module must be made with define_triggers"),
    ],
)
async def test_a_mistake_is_a_push_error(tmp_path: Path, declared: str, problem: str) -> None:
    text = f"""from reactor import define_schema, define_table, define_triggers

def one(ctx, change): ...

def few(ctx): ...

schema = define_schema({{"items": define_table({{}})}})
triggers = {declared}
"""
    files = {"schema.py": text, "functions/empty.py": ""}
    with pytest.raises(PushError, match=problem):
        ProjectLoader(write(tmp_path, files)).load()


async def test_a_push_changes_what_runs(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        await bench.mutation("users:add", name="a")
        await bench.push(
            {**APP, "schema.py": SCHEMA.replace("[log_change, count, refuse, check_types]", "[log_change]")}
        )
        await bench.mutation("users:add", name="bad")
        assert (await bench.query("users:total"), len(await bench.query("users:log"))) == (1, 2)
        await bench.push({**APP, "schema.py": SCHEMA.replace("triggers = ", "no_triggers = ")})
        await bench.mutation("users:add", name="bad")
        assert (await bench.query("users:total"), len(await bench.query("users:log"))) == (1, 2)
