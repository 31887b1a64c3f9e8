"""`ctx.auth.is_admin`: every form of function, and results that it keeps from being shared."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reactor.errors import InvalidArgument
from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.runtime.projects import write

pytestmark = pytest.mark.asyncio

FUNCTIONS = """
from reactor import action, http_action, mutation, query

@query
async def asked(ctx) -> bool:
    return ctx.auth.is_admin

@query
def asked_blocking(ctx) -> bool:
    return ctx.auth.is_admin

@query
async def below(ctx) -> bool:
    return await ctx.run_query(asked)

@query
async def secrets(ctx) -> list[str]:
    mine = await ctx.db.query("messages").with_index("by_channel", channel="open").collect()
    if ctx.auth.is_admin:
        mine += await ctx.db.query("messages").with_index("by_channel", channel="secret").collect()
    return [message["body"] for message in mine]

@mutation
async def changed(ctx) -> bool:
    return ctx.auth.is_admin

@mutation
def changed_blocking(ctx) -> bool:
    return ctx.auth.is_admin

@mutation
async def later(ctx) -> None:
    await ctx.scheduler.run_after(0, noted)

@mutation
async def noted(ctx) -> None:
    await ctx.db.insert("messages", {"channel": "noted", "body": str(ctx.auth.is_admin)})

@mutation
async def send(ctx, channel: str, body: str) -> None:
    await ctx.db.insert("messages", {"channel": channel, "body": body})

@action
async def acted(ctx) -> list[bool]:
    return [ctx.auth.is_admin, await ctx.run_query(asked), await ctx.run_mutation(changed)]

@action
def acted_blocking(ctx) -> list[bool]:
    return [ctx.auth.is_admin, ctx.run_query(asked), ctx.run_mutation(changed)]
"""
HTTP = """
from reactor import Response, http_action, http_router

@http_action
async def tell(ctx, request):
    return Response(str(ctx.auth.is_admin))

@http_action
def tell_blocking(ctx, request):
    return Response(str(ctx.auth.is_admin))

http = http_router()
http.route(path="/tell", method="GET", handler=tell)
http.route(path="/blocking", method="GET", handler=tell_blocking)
"""
SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "messages": define_table({"channel": v.string(), "body": v.string()}).index("by_channel", ["channel"]),
})
"""
ALICE = {"issuer": "https://me", "subject": "1", "name": "Alice"}


@pytest_asyncio.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[MemoryDeployment]:
    files = {"schema.py": SCHEMA, "functions/admins.py": FUNCTIONS, "functions/http.py": HTTP}
    project = ProjectLoader(write(tmp_path, files)).load()
    async with MemoryDeployment(project, tmp_path) as opened:
        yield opened
    project.release()


async def test_every_form_of_function_can_ask(deployment: MemoryDeployment) -> None:
    for caller, is_admin in (
        (deployment, False),
        (deployment.with_identity(ALICE), False),
        (deployment.as_admin(), True),
        (deployment.as_admin(ALICE), True),
    ):
        for name in ("asked", "asked_blocking", "below"):
            assert await caller.query(f"admins:{name}") is is_admin
        for name in ("changed", "changed_blocking"):
            assert await caller.mutation(f"admins:{name}") is is_admin
        for name in ("acted", "acted_blocking"):
            assert await caller.action(f"admins:{name}") == [is_admin] * 3
        for path in ("/tell", "/blocking"):
            assert (await caller.fetch(path)).text == str(is_admin)


async def test_a_key_in_a_request_makes_an_admin(deployment: MemoryDeployment) -> None:
    headers = {"Authorization": f"Convex {deployment.admin_key}"}
    assert (await deployment.fetch("/tell", headers=headers)).text == "True"


async def test_what_an_admin_schedules_is_not_an_admins(deployment: MemoryDeployment) -> None:
    """Nobody is left to check the key when it runs."""
    await deployment.as_admin().mutation("admins:later")
    await deployment.finish_in_progress_scheduled_functions()
    noted = await deployment.run(lambda ctx: ctx.db.query("messages").first())
    assert isinstance(noted, dict)
    assert noted["body"] == "False"


@pytest.mark.parametrize("admin_first", [True, False])
async def test_a_kept_result_goes_to_nobody_of_the_other_kind(deployment: MemoryDeployment, admin_first: bool) -> None:
    for channel in ("open", "secret"):
        await deployment.mutation("admins:send", channel=channel, body=channel)
    admin, alice = deployment.as_admin(), deployment.with_identity(ALICE)
    callers = [(admin, ["open", "secret"]), (deployment, ["open"]), (alice, ["open"])]
    for _ in range(3):
        for caller, seen in callers if admin_first else callers[::-1]:
            assert await caller.query("admins:secrets") == seen


async def test_live_queries_of_admins_and_others_are_apart(deployment: MemoryDeployment) -> None:
    async with (
        deployment.subscribe("admins:secrets") as others,
        deployment.as_admin().subscribe("admins:secrets") as admins,
    ):
        assert (await others.settled(), await admins.settled()) == ([], [])
        await deployment.mutation("admins:send", channel="secret", body="hush")
        assert (await others.settled(), await admins.settled()) == ([], ["hush"])


async def test_an_admin_acts_as_a_user_who_has_a_name(deployment: MemoryDeployment) -> None:
    with pytest.raises(InvalidArgument, match="tokenIdentifier"):
        deployment.as_admin({"name": "who"})
    identity = await deployment.as_admin(ALICE).run(lambda ctx: ctx.auth.get_user_identity())
    assert isinstance(identity, dict)
    assert identity["name"] == "Alice"
