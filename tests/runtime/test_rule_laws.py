"""Laws of row rules: whatever is asked, the answer is that of the same query without rules, filtered by the rule."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reactor.auth.identity import Identity
from reactor.runtime.calls import Call, Outcome
from reactor.runtime.project import Project
from reactor.testing.deployment import SharedProject
from tests.runtime.hosts import Bench, open_bench, value_of
from tests.runtime.projects import loaded
from tests.sizes import size

# Each is the rule of a table of its own, and what the law compares with.
RULES = {
    "owner": 'ctx.user is not None and doc["owner"] == ctx.user["name"]',
    "user_may_be_none": 'doc["owner"] == ctx.user["name"]',
    "both": '(doc["owner"] == ctx.user["name"]) & (doc["team"] == ctx.user["team"])',
    "rest": 'doc["owner"] == ctx.user["name"] and doc["n"] == 1',
    "admin": 'ctx.user["team"] == "t" or doc["owner"] == ctx.user["name"]',
    "missing": 'doc.get("team") == None',
    "null": 'doc["team"] == None',
    "contradiction": 'doc["owner"] == "a" and doc["owner"] == ctx.user["name"]',
    "predicate": 'doc["n"] % 2 == 0 or doc.get("team") is None',
    "nested": 'doc["deep"]["owner"] == ctx.user["name"]',
    "deny": "False",
    "allow": "True",
}
INDEXES = ["owner"], ["team"], ["owner", "team"], ["n"], ["owner", "n"], ["team", "n", "owner"], ["deep.owner", "n"]
SCHEMA = """
from reactor import define_rules, define_schema, define_table, v

def table():
    made = define_table({
        "owner": v.string(), "team": v.optional(v.nullable(v.string())), "n": v.integer(),
        "deep": v.optional(v.object({"owner": v.string()})),
    })
    for fields in INDEXES:
        made = made.index("by_" + "_".join(fields).replace(".", "_"), fields)
    return made

schema = define_schema({name: table() for name in NAMES} | {"joined": table(), "members": define_table(v.any())})

def is_member(ctx, doc):
    return any(member["team"] == doc["team"] for member in ctx.db.query("members"))

rules = define_rules({
RULES
    "joined": {"read": is_member},
})
"""
ALL = [*RULES, "joined"]


def rule_of(name: str, members: list[str]) -> Callable[[Any, Any], Any]:
    if name == "joined":
        return lambda ctx, doc: doc["team"] in members
    rule: Callable[[Any, Any], Any] = eval(f"lambda ctx, doc: {RULES[name]}")
    return rule


def allows(rule: Callable[[Any, Any], Any], user: dict[str, str] | None, document: dict[str, Any]) -> bool:
    try:
        return bool(rule(SimpleNamespace(user=user), document))
    except (KeyError, TypeError):
        return False


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    lines = "\n".join(f'    "{name}": {{"read": lambda ctx, doc: {rule}}},' for name, rule in RULES.items())
    schema = SCHEMA.replace("RULES", lines).replace("INDEXES", repr(INDEXES)).replace("NAMES", repr(list(RULES)))
    root = tmp_path_factory.mktemp("rules")
    with loaded(root, {"schema.py": schema, "functions/empty.py": ""}) as found:
        assert found.rules is not None
        recognised = {name for name, rules in found.rules.tables.items() if rules.read and rules.read.is_conjunction}
        assert recognised == set(RULES) - {"predicate"}
        yield found


names, teams, numbers = st.sampled_from("ab"), st.sampled_from("tu"), st.integers(0, 3)
bodies = st.lists(
    st.fixed_dictionaries(
        {"owner": names, "n": numbers},
        optional={"team": st.none() | teams, "deep": st.fixed_dictionaries({"owner": names})},
    ),
    max_size=12,
)
conditions = st.sampled_from(
    [
        [],
        [("index", "by_n", [])],
        [("index", "by_n", [("gte", "n", 1), ("lt", "n", 3)])],
        [("index", "by_n", [("eq", "n", 1)])],
        [("index", "by_owner", [("eq", "owner", "a")])],
        [("index", "by_owner", [("gt", "owner", "a")])],
        [("index", "by_team_n_owner", [("eq", "team", "t"), ("gt", "n", 0)])],
        [("index", "by_creation_time", [("gt", "_creationTime", 0)])],
        [("index", "by_id", [])],
        [("filter",)],
        [("index", "by_n", []), ("where",), ("filter",)],
    ]
)


def asked(db: Any, table: str, order: str, steps: list[Any]) -> Any:
    found = db.query(table).order(order)
    for name, *args in steps:
        if name == "filter":
            found = found.filter(lambda q: q.field("n") != 2)
        elif name == "where":
            found = found.where(lambda doc: doc["owner"] + "x" != "bx")
        else:
            index, bounds = args

            def build(q: Any, bounds: Any = bounds) -> Any:
                for operator, field, value in bounds:
                    q = getattr(q, operator)(field, value)
                return q

            found = found.with_index(index, build)
    return found


async def as_user(bench: Bench, identity: Identity, handler: Callable[[Any], Any]) -> Any:
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    bench.host.executor.submit_handler(handler, Call("run", b"{}", identity, internal=True), done.set_result)
    return value_of(await done)


@settings(max_examples=size(20, 500), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=bodies,
    own=bodies,
    order=st.sampled_from(["asc", "desc"]),
    steps=conditions,
    user=st.none() | st.fixed_dictionaries({"name": names, "team": teams}),
    members=st.lists(teams, max_size=1),
    count=st.integers(1, 4),
)
def test_the_answer_is_the_one_without_rules_filtered_by_the_rule(
    project: Project,
    tmp_path: Path,
    before: list[dict[str, Any]],
    own: list[dict[str, Any]],
    order: str,
    steps: list[Any],
    user: dict[str, str] | None,
    members: list[str],
    count: int,
) -> None:
    """For every rule; with documents of before, and some that the same transaction writes; also page by page."""
    identity = Identity() if user is None else Identity(kind="user", claims=user, key=str(user))

    def fill(ctx: Any) -> None:
        for team in members:
            ctx.db.insert("members", {"team": team})
        for table in ALL:
            for body in before:
                ctx.db.unsafe.insert(table, body)

    def answers(ctx: Any, table: str) -> dict[str, Any]:
        for body in own:
            ctx.db.unsafe.insert(table, body)
        wanted, results = asked(ctx.db.unsafe, table, order, steps).collect(), []

        def query() -> Any:
            return asked(ctx.db, table, order, steps)

        for document in ctx.db.unsafe.query(table):
            results.append([document, ctx.db.get(document["_id"])])
        return {
            "wanted": wanted,
            "collect": query().collect(),
            "each": list(query()),
            "take": query().take(count),
            "first": query().first(),
            "count": query().count(),
            "get": results,
        }

    def page(ctx: Any, table: str, cursor: str | None) -> Any:
        return asked(ctx.db, table, order, steps).paginate(num_items=count, cursor=cursor)

    async def pages_of(bench: Bench, table: str) -> list[list[Any]]:
        pages: list[list[Any]] = []
        cursor, is_done = None, False
        while not is_done:
            read = await as_user(bench, identity, partial(page, table=table, cursor=cursor))
            pages.append(read["page"])
            cursor, is_done = read["continueCursor"], read["isDone"]
        return pages

    async def scenario() -> None:
        async with open_bench(tmp_path) as bench:
            await bench.host.push(SharedProject(project))
            await bench.run(fill)
            for table in ALL:
                got = await as_user(bench, identity, partial(answers, table=table))
                check(rule_of(table, members), user, got, await pages_of(bench, table), count)

    asyncio.run(scenario())


def check(
    rule: Callable[[Any, Any], Any],
    user: dict[str, str] | None,
    got: dict[str, Any],
    pages: list[list[Any]],
    count: int,
) -> None:
    wanted = [document for document in got["wanted"] if allows(rule, user, document)]
    assert got["collect"] == got["each"] == wanted
    assert got["take"] == wanted[:count]
    assert got["first"] == (wanted[0] if wanted else None)
    assert got["count"] == len(wanted)
    assert [document for page in pages for document in page] == wanted
    assert all(len(page) == count for page in pages[:-1])
    for document, shown in got["get"]:
        assert shown == (document if allows(rule, user, document) else None)
