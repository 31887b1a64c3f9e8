"""Custom functions: what `extend` adds to a function, in every form, and what of it goes wrong where."""

from pathlib import Path
from typing import Any

import pytest

from reactor.errors import ArgumentsInvalid, PushError, ReactorError
from reactor.runtime.context import MutationCtx, QueryCtx
from reactor.runtime.decorators import action, http_action, internal_mutation, internal_query, mutation, query
from reactor.runtime.loader import ProjectLoader
from reactor.schema.validators import v
from reactor.testing.deployment import MemoryDeployment
from tests.runtime.hosts import open_bench, project_files, user, value_of
from tests.runtime.projects import loaded, write

CUSTOM = """
from reactor.runtime.context import MutationCtx, QueryCtx

class UserCtx(QueryCtx):
    user: str
    greeting = "hello"

    @property
    def shout(self):
        return self.user.upper()

    async def named(self):
        return await self.db.query("items").with_index("by_name", name=self.user).count()

async def load_user(ctx):
    identity = await ctx.auth.get_user_identity()
    if identity is None:
        raise ReactorError("log in first")
    return {"user": identity["name"]}

def load_user_plainly(ctx):
    identity = ctx.auth.get_user_identity()
    if identity is None:
        raise ReactorError("log in first")
    return {"user": identity["name"]}

async def first_item(ctx):
    return await ctx.db.query("items").first()

async def record(ctx, args, result):
    await ctx.db.insert("others", {"x": [ctx.user, args, result]})

def record_plainly(ctx, args, result):
    ctx.db.insert("others", {"x": [ctx.user, args, result]})

def admin_only(ctx, api_key):
    if api_key != "k":
        raise ReactorError("no")
    return {"key": api_key}

user_query = query.extend(ctx=UserCtx, context=load_user)
plain_query = query.extend(ctx=UserCtx, context=load_user_plainly)
by_lambda = query.extend(context=lambda ctx: {"item": first_item(ctx), "one": 1})
user_mutation = mutation.extend(context=load_user, on_success=record)
plain_mutation = mutation.extend(context=load_user_plainly, on_success=record_plainly)
keyed = query.extend(context=admin_only, args={"apiKey": v.string()})
chained = keyed.extend(context=lambda ctx, times=2: {"twice": ctx.key * times}, args={"times": v.optional(v.integer())})
internal_keyed = internal_query.extend(context=admin_only, args={"apiKey": v.string()})
"""
FUNCTIONS = """
from functions._custom import *
from functions._custom import UserCtx

@user_query
async def who(ctx, suffix: str = "") -> str:
    return ctx.user + suffix

@plain_query
def who_plainly(ctx, suffix: str = "") -> str:
    return ctx.user + suffix

@user_query
async def methods(ctx):
    assert isinstance(ctx, UserCtx)
    return [ctx.greeting, ctx.shout, await ctx.named(), ctx.now() > 0]

@plain_query
def plain_methods(ctx):
    assert isinstance(ctx, UserCtx)
    return [ctx.greeting, ctx.shout, ctx.db.query("items").count(), ctx.now() > 0]

@by_lambda
async def from_lambda(ctx):
    return [ctx.item and ctx.item["name"], ctx.one]

@user_mutation(args={"name": v.string(), "fails": v.optional(v.boolean())})
async def add(ctx, name, fails=False):
    await ctx.db.insert("items", {"name": name})
    if fails:
        raise ValueError("after all")
    return name + ctx.user

@plain_mutation
def add_plainly(ctx, name: str):
    ctx.db.insert("items", {"name": name})
    return name + ctx.user
"""
ACTIONS = """
from functions._custom import *

async def ask(ctx):
    await ctx.run_mutation("app:add", name="asked")
    return {"user": await ctx.run_query("app:who")}

def ask_plainly(ctx):
    return {"user": ctx.run_query("app:who")}

@action.extend(context=ask, on_success=lambda ctx, args, result: ctx.run_mutation("app:add", name=result))
async def in_action(ctx, end: str) -> str:
    return ctx.user + end

@action.extend(context=ask_plainly, on_success=lambda ctx, args, result: ctx.run_mutation("app:add", name=result))
def in_plain_action(ctx, end: str) -> str:
    return ctx.user + end
"""
KEYED = """
from functions._custom import *

@keyed
async def consumed(ctx, name: str) -> list[str]:
    return [ctx.key, name]

@keyed(args={"userName": v.string(), "n": v.integer()})
def declared(ctx, user_name, n):
    return [ctx.key, user_name, n * [1]]

@keyed
async def wanted(ctx, api_key: str, name: str = "none") -> list[str]:
    return [api_key, name]

@chained
async def twice(ctx, name: str) -> list[str]:
    return [ctx.key, ctx.twice, name]

@internal_keyed(name="hidden_one")
async def hidden(ctx) -> str:
    return ctx.key

@query
async def calls(ctx):
    return [
        await ctx.run_query(consumed, {"apiKey": "k", "name": "a"}),
        await ctx.run_query("keyed:consumed", api_key="k", name="b"),
        await consumed(ctx, name="c", apiKey="k"),
        await consumed(ctx, "d", api_key="k"),
        declared_value(ctx),
        await wanted(ctx, apiKey="k"),
        await twice(ctx, "e", apiKey="k", times=3),
    ]

def declared_value(ctx):
    return declared(ctx, "x", 1, apiKey="k")
"""


@pytest.fixture
def files() -> dict[str, str]:
    return project_files(_custom=CUSTOM, app=FUNCTIONS, keyed=KEYED, acts=ACTIONS)


@pytest.mark.asyncio
async def test_members_reach_the_handler_in_every_form(tmp_path: Path, files: dict[str, str]) -> None:
    async with open_bench(tmp_path, files) as bench:
        ann = user("ann")
        await bench.run(lambda ctx: ctx.db.insert("items", {"name": "ann"}))
        for path in ("app:who", "app:who_plainly"):
            assert value_of(await bench.submit("query", path, {"suffix": "!"}, identity=ann)) == "ann!"
            with pytest.raises(ReactorError, match="log in first"):
                await bench.query(path)
            with pytest.raises(ArgumentsInvalid):
                await bench.query(path, user="bob")
        for path in ("app:methods", "app:plain_methods"):
            assert value_of(await bench.submit("query", path, identity=ann)) == ["hello", "ANN", 1, True]
        assert await bench.query("app:from_lambda") == ["ann", 1]


@pytest.mark.asyncio
async def test_what_it_reads_is_read_by_the_function(tmp_path: Path, files: dict[str, str]) -> None:
    async with open_bench(tmp_path, files) as bench:
        live = bench.watch("app:from_lambda")
        assert await live.next() == [[None, 1]]
        await bench.run(lambda ctx: ctx.db.insert("items", {"name": "new"}))
        await bench.settle()
        assert live.value == ["new", 1]


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["app:add", "app:add_plainly"])
async def test_a_step_after_success_is_a_part_of_the_mutation(tmp_path: Path, files: dict[str, str], path: str) -> None:
    async with open_bench(tmp_path, files) as bench:
        ann = user("ann")
        assert value_of(await bench.submit("mutation", path, {"name": "a"}, identity=ann)) == "aann"
        others = await bench.run(lambda ctx: ctx.db.query("others").collect())
        assert [other["x"] for other in others] == [["ann", {"name": "a"}, "aann"]]
        if path == "app:add":
            with pytest.raises(ValueError, match="after all"):
                value_of(await bench.submit("mutation", path, {"name": "b", "fails": True}, identity=ann))
        with pytest.raises(ReactorError, match="log in first"):
            await bench.mutation(path, name="c")
        assert await bench.run(lambda ctx: ctx.db.query("items").count()) == 1
        assert await bench.run(lambda ctx: ctx.db.query("others").count()) == 1


@pytest.mark.asyncio
async def test_actions_are_extended_alike(tmp_path: Path, files: dict[str, str]) -> None:
    async with open_bench(tmp_path, files) as bench:
        for path, added in (("acts:in_action", ["asked", "ann!"]), ("acts:in_plain_action", ["ann!"])):
            assert value_of(await bench.submit("action", path, {"end": "!"}, identity=user("ann"))) == "ann!"
            items = await bench.run(lambda ctx: ctx.db.query("items").collect())
            assert [item["name"] for item in items][-len(added) :] == added
            with pytest.raises(ReactorError, match="log in first"):
                value_of(await bench.submit("action", path, {"end": "!"}))


@pytest.mark.asyncio
async def test_arguments_that_the_decorator_takes(tmp_path: Path, files: dict[str, str]) -> None:
    async with open_bench(tmp_path, files) as bench:
        assert await bench.query("keyed:consumed", apiKey="k", name="n") == ["k", "n"]
        assert await bench.query("keyed:declared", apiKey="k", userName="u", n=2.0) == ["k", "u", [1, 1]]
        assert await bench.query("keyed:wanted", apiKey="k") == ["k", "none"]
        assert await bench.query("keyed:twice", apiKey="k", times=3, name="n") == ["k", "kkk", "n"]
        assert await bench.query("keyed:twice", apiKey="k", name="n") == ["k", "kk", "n"]
        assert value_of(await bench.submit("query", "keyed:hiddenOne", {"apiKey": "k"}, internal=True)) == "k"
        with pytest.raises(ReactorError, match="no"):
            await bench.query("keyed:consumed", apiKey="x", name="n")
        for wrong in ({"name": "n"}, {"apiKey": 1, "name": "n"}, {"apiKey": "k", "name": "n", "more": 1}):
            with pytest.raises(ArgumentsInvalid):
                await bench.query("keyed:consumed", **wrong)
        assert await bench.query("keyed:calls") == [
            ["k", "a"],
            ["k", "b"],
            ["k", "c"],
            ["k", "d"],
            ["k", "x", [1]],
            ["k", "none"],
            ["k", "kkk", "e"],
        ]


def test_the_function_spec_shows_all_arguments(tmp_path: Path, files: dict[str, str]) -> None:
    with loaded(tmp_path, files) as project:
        spec = {entry["identifier"]: entry for entry in project.registry.spec()}
        assert {name: field["optional"] for name, field in spec["keyed.js:twice"]["args"]["value"].items()} == {
            "name": False,
            "apiKey": False,
            "times": True,
        }
        assert list(spec["keyed.js:wanted"]["args"]["value"]) == ["name", "apiKey"]
        assert spec["keyed.js:hidden_one"]["visibility"] == {"kind": "internal"}
        registered = project.registry.functions["keyed:wanted"]
        assert registered.file == str(tmp_path / "functions" / "keyed.py")
        assert registered.line == (tmp_path / "functions" / "keyed.py").read_text().splitlines().index(
            'async def wanted(ctx, api_key: str, name: str = "none") -> list[str]:'
        )


@pytest.mark.asyncio
async def test_an_error_points_to_the_line_of_the_extension(tmp_path: Path) -> None:
    text = """
    bad = query.extend(
        context=lambda ctx: {"user": 1 / 0},
    )

    @bad
    async def broken(ctx):
        return None
    """
    async with open_bench(tmp_path, project_files(app=text.replace("\n    ", "\n"))) as bench:
        outcome = await bench.submit("query", "app:broken")
        lines = (tmp_path / "functions" / "app.py").read_text().splitlines()
        line = lines.index('    context=lambda ctx: {"user": 1 / 0},') + 1
        assert f"at <lambda> ({tmp_path / 'functions' / 'app.py'}:{line})" in str(outcome)


@pytest.mark.asyncio
async def test_a_retry_makes_the_members_again(tmp_path: Path) -> None:
    text = """
counted = mutation.extend(context=lambda ctx: {"count": ctx.db.query("items").count()})

@counted
async def add(ctx) -> int:
    await ctx.db.insert("items", {"name": "x"})
    await ctx.db.query("others").first()
    return ctx.count
"""
    folder = write(tmp_path, project_files(app=text))
    project = ProjectLoader(folder).load()
    async with MemoryDeployment(project, folder) as deployment:
        async with deployment.hold("app:add", at=3) as held:
            await deployment.mutation("app:add")
            assert await held.finish() == 1


OPTIONS = """
async def require(ctx, api_key, role, *, level=1):
    if api_key != role:
        raise ReactorError([role, level])
    return {"role": role, "level": level}

keyed = query.extend(context=require, args={"apiKey": v.string()}, options=["role", "level"])
loud = keyed.extend(context=lambda ctx, **options: {"options": options}, options=["shout"])

@keyed(role="admin", level=2)
async def of_admins(ctx, n: int) -> list:
    return [ctx.role, ctx.level, n]

@keyed(role="user", args={"n": v.integer()}, returns=v.array(v.any()))
async def of_users(ctx, n, role=None):
    return [ctx.role, ctx.level, n, role]

@loud(role="user", shout=True)
async def with_both(ctx) -> list:
    return [ctx.role, ctx.options]

@loud(role="user")
async def with_one(ctx) -> list:
    return [ctx.role, ctx.options]
"""


@pytest.mark.asyncio
async def test_each_function_chooses_the_options_of_its_decorator(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(app=OPTIONS)) as bench:
        assert await bench.query("app:of_admins", apiKey="admin", n=3) == ["admin", 2, 3]
        assert await bench.query("app:of_users", apiKey="user", n=3) == ["user", 1, 3, None]
        assert await bench.query("app:with_both", apiKey="user") == ["user", {"shout": True}]
        assert await bench.query("app:with_one", apiKey="user") == ["user", {}]
        with pytest.raises(ReactorError) as refused:
            await bench.query("app:of_admins", apiKey="user", n=3)
        assert refused.value.data == ["admin", 2]
        with pytest.raises(ArgumentsInvalid):
            await bench.query("app:of_users", apiKey="user", n=3, role="admin")


BAD = {
    "the name of a member": 'query.extend(context=lambda ctx: {"_execution": 1})',
    "must return a dict of members of ctx, or None, not int": "query.extend(context=lambda ctx: 3)",
    "gives no 'user', which Wanted declares": "query.extend(ctx=Wanted, context=lambda ctx: {})",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("problem", sorted(BAD))
async def test_what_is_no_member_is_told_with_the_line(tmp_path: Path, problem: str) -> None:
    text = f"""
class Wanted:
    user: str

bad = {BAD[problem]}

@bad
async def broken(ctx):
    return None
"""
    async with open_bench(tmp_path, project_files(app=text)) as bench:
        line = (tmp_path / "functions" / "app.py").read_text().splitlines().index(f"bad = {BAD[problem]}") + 1
        with pytest.raises(TypeError, match=problem) as refused:
            await bench.query("app:broken")
        assert f"app.py:{line})" in str(refused.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("giving", ['{"user": later()}', "later()"])
async def test_a_plain_function_can_not_wait_for_its_members(tmp_path: Path, giving: str) -> None:
    text = f"""
async def later(): ...

bad = query.extend(context=lambda ctx: {giving})

@bad
def broken(ctx):
    return None
"""
    async with open_bench(tmp_path, project_files(app=text)) as bench:
        with pytest.raises(TypeError, match="a plain `def`, which can't wait"):
            await bench.query("app:broken")


async def later(ctx: Any, token: str = "") -> None: ...


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        (lambda: query.extend(context=3), "takes a function, not 3"),  # type: ignore[call-overload]
        (lambda: query.extend(on_success="x"), "takes a function, not 'x'"),  # type: ignore[call-overload]
        (lambda: query.extend(ctx=3), "takes a class, not 3"),  # type: ignore[call-overload]
        (lambda: query.extend(args={"a": v.string()}), "for context=, which is missing"),
        (lambda: query.extend(context=later, args=v.any()), "takes a dict of validators"),  # type: ignore[call-overload]
        (lambda: query.extend(context=later, args={"token": str}), "'token' needs a validator"),
        (lambda: query.extend(context=later, args={"other": v.string()}), "'other' has no parameter in context="),
        (lambda: query.extend(context=lambda ctx, a: None), "'a' has no argument in args="),
        (
            lambda: query.extend(context=lambda ctx, a: None, args={"a": v.optional(v.string())}),
            "'a' is optional, so its parameter needs a default value",
        ),
        (
            lambda: query.extend(context=later, args={"token": v.string()}).extend(
                context=later, args={"token": v.string()}
            ),
            "'token' is declared by the decorator that is extended",
        ),
        (lambda: http_action.extend(context=later, args={"token": v.string()}), "a request has none"),
        (lambda: query.extend(context=later)(lambda ctx: None), "so it needs an `async def` function"),
        (lambda: query.extend(options=["role"]), "names options for context=, which is missing"),  # type: ignore[call-overload]
        (lambda: query.extend(context=later, options=["role"]), "option 'role' has no parameter in context="),
        (lambda: query.extend(context=later, options="token"), "takes a list of names, not 'token'"),
        (lambda: query.extend(context=later, options=["name"]), "has an option 'name' already"),
        (
            lambda: query.extend(context=later, options=["token"]).extend(context=later, options=["token"]),
            "has an option 'token' already",
        ),
        (lambda: query.extend(context=lambda ctx, a: None, options=["a"])(later), "'a' of extend(context=...)"),
        (
            lambda: query.extend(context=lambda ctx, a: None, options=["a"])(b=1),
            "no option 'b'; it has a, args, returns",
        ),
        (lambda: query(role="admin"), "@query has no option 'role'; it has args, returns, name"),  # type: ignore[call-overload]
    ],
)
def test_a_wrong_use_is_refused_at_once(use: Any, problem: str) -> None:
    with pytest.raises(TypeError) as refused:
        use()
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ('@keyed(args={"apiKey": v.string()})\nasync def f(ctx, apiKey): ...', "declared by extend(args=) already"),
        ("@keyed(args=v.any())\nasync def f(ctx, **args): ...", "must list all others, not be v.any()"),
        ("@keyed\nasync def f(ctx, **args): ...", "give args= in place of **kwargs"),
        ("@optional\nasync def f(ctx, api_key): ...", "`apiKey` is optional, so parameter `api_key` needs a default"),
    ],
)
def test_arguments_that_do_not_fit_are_a_push_error_at_the_function(
    tmp_path: Path, function: str, problem: str
) -> None:
    text = (
        'keyed = query.extend(context=lambda ctx, apiKey: None, args={"apiKey": v.string()})\n'
        'optional = query.extend(context=lambda ctx, apiKey="": None, args={"apiKey": v.optional(v.string())})\n'
    )
    with pytest.raises(PushError) as refused, loaded(tmp_path, project_files(app=text + function)):
        pass
    assert problem in str(refused.value)
    assert (
        refused.value.line
        == (tmp_path / "functions" / "app.py").read_text().splitlines().index(function.splitlines()[0]) + 1
    )


def test_every_decorator_can_be_extended_and_stays_what_it_is() -> None:
    for decorator in (query, mutation, action, internal_query, internal_mutation, http_action):
        extended = decorator.extend(context=lambda ctx: {"extra": 1})
        assert (extended.kind, extended.visibility, repr(extended)) == (
            decorator.kind,
            decorator.visibility,
            repr(decorator),
        )
        seen = []

        class Ctx:
            __slots__ = ("own",)

        @extended
        def handler(ctx: Any, *rest: Any) -> None:
            seen.append((ctx.own, ctx.extra, rest))  # noqa: B023

        ctx = Ctx()
        ctx.own = "own"  # type: ignore[attr-defined]
        handler(ctx, "request")
        assert seen == [("own", 1, ("request",))]


def test_a_member_may_take_the_place_of_one_that_ctx_has() -> None:
    class Db:
        pass

    mine, theirs = Db(), Db()
    wrap = query.extend(context=lambda ctx: {"db": mine, "now": lambda: 7.0}).extend(
        context=lambda ctx: {"seen": ctx.db}
    )

    @wrap
    def handler(ctx: Any) -> list[Any]:
        return [ctx.db, ctx.now(), ctx.seen, ctx.auth, isinstance(ctx, MutationCtx)]

    ctx = MutationCtx(None, theirs, "auth")  # type: ignore[arg-type]
    assert handler(ctx) == [mine, 7.0, mine, "auth", True]
    assert (ctx.db, type(ctx)) == (theirs, MutationCtx)
    assert not hasattr(QueryCtx, "seen")
