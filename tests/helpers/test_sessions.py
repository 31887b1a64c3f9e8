"""Sessions: what is kept for one client, whoever has logged in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reactor import Error, ReactorError
from reactor.helpers.sessions import new_session_id
from reactor.testing.deployment import MemoryDeployment
from tests.projects import opened

pytestmark = pytest.mark.asyncio

SCHEMA = """
from reactor import define_schema, define_table, v
from reactor.helpers.sessions import session_fields

schema = define_schema({
    "sessions": define_table(session_fields).index("by_session", ["sessionId"]),
    "others": define_table({}),
})
"""
FUNCTIONS = """
from reactor import internal_mutation, mutation, query, v
from reactor.helpers.sessions import Sessions

sessions = Sessions()
session_query = sessions.extend(query)
session_mutation = sessions.extend(mutation)

@session_query
async def cart(ctx) -> list[str]:
    return (await ctx.session.load() or {}).get("cart", [])

@session_query
async def constant(ctx) -> int:
    return 1

@session_mutation
async def add(ctx, item: str) -> list[str]:
    cart = (await ctx.session.load() or {}).get("cart", [])
    return (await ctx.session.update(cart=[*cart, item]))["cart"]

@session_mutation
async def rename(ctx, session_id: str, name: str) -> str:
    await ctx.session.save({"name": name})
    return session_id

@session_mutation
async def log_out(ctx):
    await ctx.session.end()

@query(args={"id": v.string()})
async def by_hand(ctx, id):
    return await sessions.of(ctx, id).load()
"""


@pytest_asyncio.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[MemoryDeployment]:
    async with opened(tmp_path, {"schema.py": SCHEMA, "functions/shop.py": FUNCTIONS}) as one:
        yield one


async def test_each_session_has_its_own_data(deployment: MemoryDeployment) -> None:
    mine, yours = new_session_id(), new_session_id()
    assert await deployment.query("shop:cart", sessionId=mine) == []
    await deployment.mutation("shop:add", sessionId=mine, item="tea")
    assert await deployment.mutation("shop:add", sessionId=mine, item="milk") == ["tea", "milk"]
    await deployment.mutation("shop:add", sessionId=yours, item="salt")
    alice = deployment.with_identity({"name": "Alice"})
    assert await alice.query("shop:cart", sessionId=mine) == ["tea", "milk"], "whoever logs in keeps the session"
    assert await deployment.query("shop:cart", sessionId=yours) == ["salt"]
    assert await deployment.query("shop:by_hand", id=yours) == {"cart": ["salt"]}

    assert await deployment.mutation("shop:rename", sessionId=mine, name="n") == mine
    assert await deployment.query("shop:by_hand", id=mine) == {"name": "n"}, "saving replaces"
    await deployment.mutation("shop:log_out", sessionId=mine)
    await deployment.mutation("shop:log_out", sessionId=mine)
    assert await deployment.query("shop:by_hand", id=mine) is None
    assert await deployment.run(lambda ctx: ctx.db.query("sessions").count()) == 1


async def test_live_queries_follow_their_session_and_no_other(deployment: MemoryDeployment) -> None:
    mine, yours = new_session_id(), new_session_id()
    async with (
        deployment.subscribe("shop:cart", sessionId=mine) as live,
        deployment.subscribe("shop:constant", sessionId=mine) as untouched,
    ):
        assert (await live.next(), await untouched.next()) == ([], 1)
        runs = deployment._host.executor.stats.queries  # type: ignore[union-attr]
        await deployment.mutation("shop:add", sessionId=yours, item="salt")
        assert await live.is_unchanged()
        await deployment.mutation("shop:add", sessionId=mine, item="tea")
        assert await live.next() == ["tea"]
        assert deployment._host.executor.stats.queries == runs + 1, "what asks for no session depends on none"  # type: ignore[union-attr]


async def test_what_is_no_session_id_is_refused(deployment: MemoryDeployment) -> None:
    for wrong in ("", "guess-me", "x" * 129):
        with pytest.raises(ReactorError) as refused:
            await deployment.query("shop:cart", sessionId=wrong)
        assert isinstance(refused.value.data, dict)
        assert refused.value.data["code"] == "INVALID_SESSION_ID"
        assert f"not {len(wrong)}" in str(refused.value.data["message"])
    for missing in ({}, {"sessionId": 7}):
        with pytest.raises(Error):
            await deployment.query("shop:cart", missing)
