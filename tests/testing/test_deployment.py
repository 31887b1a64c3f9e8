"""What the fixture's deployment offers beyond an ordinary one: interleavings, forks, live assertions, identities."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor.errors import InvalidArgument, ReactorError, Unavailable
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment

SCHEMA = """
from reactor import define_schema, define_table, v
accounts = define_table({"owner": v.string(), "amount": v.number()}).index("by_owner", ["owner"])
schema = define_schema({"accounts": accounts})
"""
BANK = """
import asyncio
from reactor import ReactorError, mutation, query

async def account_of(ctx, owner):
    return await ctx.db.query("accounts").with_index("by_owner", owner=owner).unique()

@mutation
async def open_account(ctx, owner: str, amount: float):
    await ctx.db.insert("accounts", {"owner": owner, "amount": amount})

@mutation
async def add(ctx, owner: str, amount: float) -> float:
    account = await account_of(ctx, owner)
    if account is None:
        raise ReactorError("no account")
    total = account["amount"] + amount
    await ctx.db.patch(account["_id"], {"amount": total})
    return total

@mutation
async def add_in_tasks(ctx, owner: str, amount: float) -> float:
    account, _ = await asyncio.gather(account_of(ctx, owner), account_of(ctx, owner))
    total = account["amount"] + amount
    await ctx.db.patch(account["_id"], {"amount": total})
    return total

@mutation
def add_plainly(ctx, owner: str, amount: float) -> float:
    account = ctx.db.query("accounts").with_index("by_owner", owner=owner).unique()
    ctx.db.patch(account["_id"], {"amount": account["amount"] + amount})
    return amount

@query
async def balance(ctx, owner: str) -> float | None:
    account = await account_of(ctx, owner)
    return account and account["amount"]

@mutation
async def me(ctx) -> str | None:
    identity = await ctx.auth.get_user_identity()
    return identity and identity["subject"]
"""
ANN, BOB = {"owner": "ann"}, {"owner": "bob"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("bank")
    (folder / "functions").mkdir()
    (folder / "schema.py").write_text(SCHEMA)
    (folder / "functions" / "bank.py").write_text(BANK)
    project = ProjectLoader(folder).load()
    yield project
    project.release()


@pytest_asyncio.fixture
async def bank(project: Project) -> AsyncIterator[MemoryDeployment]:
    async with MemoryDeployment(project, Path()) as bank:
        await bank.mutation("bank:open_account", {**ANN, "amount": 10})
        await bank.mutation("bank:open_account", {**BOB, "amount": 10})
        yield bank


@pytest.mark.asyncio
@pytest.mark.parametrize("function", ["bank:add", "bank:add_in_tasks"])
@pytest.mark.parametrize("repetition", range(3))
async def test_who_read_what_another_wrote_meanwhile_runs_again(
    bank: MemoryDeployment, function: str, repetition: int
) -> None:
    at = 2 if function == "bank:add" else 3  # before the patch, with the account read
    async with bank.hold(function, {**ANN, "amount": 1}, at=at) as held:
        assert await bank.mutation("bank:add", {**ANN, "amount": 5}) == 15
        assert await held.finish() == 16
        assert held.attempts == 2
    assert await bank.query("bank:balance", ANN) == 16


@pytest.mark.asyncio
async def test_who_read_nothing_that_changed_commits_at_once(bank: MemoryDeployment) -> None:
    async with bank.hold("bank:add", {**ANN, "amount": 1}, at=2) as held:
        await bank.mutation("bank:add", {**BOB, "amount": 5})
        assert await bank.query("bank:balance", ANN) == 10, "it holds nobody up, and nobody sees what it has done"
        assert await held.finish() == 11
        assert held.attempts == 1


@pytest.mark.asyncio
async def test_a_snapshot_is_taken_before_the_first_call(bank: MemoryDeployment) -> None:
    async with bank.hold("bank:add", {**ANN, "amount": 1}, at=1) as held:
        await bank.mutation("bank:add", {**ANN, "amount": 5})
        assert await held.finish() == 16
        assert held.attempts == 2


@pytest.mark.asyncio
async def test_two_can_be_held_at_a_time(bank: MemoryDeployment) -> None:
    async with (
        bank.hold("bank:add", {**ANN, "amount": 1}, at=2) as first,
        bank.hold("bank:add", {**ANN, "amount": 2}, at=2) as second,
    ):
        assert await second.finish() == 12
        assert await first.finish() == 13
        assert (first.attempts, second.attempts) == (2, 1)


@pytest.mark.asyncio
async def test_the_end_of_the_block_lets_it_go(bank: MemoryDeployment) -> None:
    async with bank.hold("bank:add", {**ANN, "amount": 1}, at=2):
        pass
    async with bank.subscribe("bank:balance", ANN) as live:
        assert await live.settled() in (10, 11)
        while live.value != 11:
            await live.next()


@pytest.mark.asyncio
async def test_what_can_not_be_held_says_so(bank: MemoryDeployment) -> None:
    for function, at, part in (("bank:add", 3, "it made 2"), ("bank:add_plainly", 1, "plain `def`")):
        with pytest.raises(InvalidArgument, match=part):
            async with bank.hold(function, {**ANN, "amount": 1}, at=at):
                raise AssertionError
    with pytest.raises(ReactorError, match="no account"):
        async with bank.hold("bank:add", {"owner": "eve", "amount": 1}, at=2):
            raise AssertionError
    with pytest.raises(InvalidArgument, match="at=0"):
        async with bank.hold("bank:add", {**ANN, "amount": 1}, at=0):
            raise AssertionError


@pytest.mark.asyncio
async def test_identities(bank: MemoryDeployment) -> None:
    ann = bank.with_identity({"subject": "ann"})
    assert await ann.mutation("bank:me") == "ann"
    async with bank.hold("bank:me", at=1, by=ann) as held:
        assert await held.finish() == "ann"
    made_up = await bank.with_identity({"name": "Bob"}).mutation("bank:me")
    assert made_up == await bank.with_identity({"name": "Bob"}).mutation("bank:me") != "ann"


@pytest.mark.asyncio
async def test_a_fork_and_its_origin_see_nothing_of_each_other(bank: MemoryDeployment) -> None:
    bank.clock.advance(days=3)
    snapshot = bank.snapshot()
    await bank.mutation("bank:add", {**ANN, "amount": 1})
    async with snapshot.fork() as one, snapshot.fork() as two:
        assert one.clock.now_ns() == bank.clock.now_ns()
        await one.mutation("bank:add", {**ANN, "amount": 5})
        assert [await each.query("bank:balance", ANN) for each in (bank, one, two)] == [11, 15, 10]
        async with one.fork() as three:
            assert await three.query("bank:balance", ANN) == 15


@pytest.mark.asyncio
async def test_a_cursor_stays_good_in_a_fork(bank: MemoryDeployment) -> None:
    """As it does when a server is started again on its data."""
    await bank.mutation("bank:open_account", {**BOB, "amount": 1})

    async def page(deployment: MemoryDeployment, cursor: str | None) -> Any:
        return await deployment.query(lambda ctx: ctx.db.query("accounts").paginate(num_items=1, cursor=cursor))

    first = await page(bank, None)
    async with bank.fork() as fork, fork.fork() as again:
        for one in (fork, again):
            (account,) = (await page(one, first["continueCursor"]))["page"]
            assert account["owner"] == BOB["owner"]


@pytest.mark.asyncio
async def test_live_assertions(bank: MemoryDeployment) -> None:
    async with bank.subscribe("bank:balance", ANN) as live:
        assert await live.settled() == 10
        await bank.mutation("bank:add", {**BOB, "amount": 1})
        assert await live.is_unchanged()
        await bank.mutation("bank:add", {**ANN, "amount": 1})
        assert not await live.is_unchanged()
        assert await live.next() == 11
        assert await live.is_unchanged()
        await bank.mutation("bank:add", {**ANN, "amount": 1})
        await bank.mutation("bank:add", {**ANN, "amount": 1})
        assert await live.settled() == 13
        assert await live.is_unchanged(), "what `settled` returned is read"
    with pytest.raises(Unavailable):
        await live.settled()


def test_plain_tests(project: Project) -> None:
    with MemoryDeployment(project, Path()).blocking() as bank:
        bank.mutation("bank:open_account", {**ANN, "amount": 1})
        bank.clock.advance(minutes=1)
        snapshot = bank.snapshot()
        bank.mutation("bank:add", {**ANN, "amount": 1})
    with snapshot.fork().blocking() as fork:
        assert fork.query("bank:balance", ANN) == 1


def test_plain_tests_can_hold_a_mutation(project: Project) -> None:
    with MemoryDeployment(project, Path()).blocking() as bank:
        bank.mutation("bank:open_account", {**ANN, "amount": 10})
        with bank.hold("bank:add", {**ANN, "amount": 1}, at=2) as held:
            assert bank.mutation("bank:add", {**ANN, "amount": 5}) == 15
            assert held.finish(timeout=30) == 16
            assert held.attempts == 2
        with bank.hold("bank:me", at=1, by=bank.with_identity({"subject": "ann"})) as held:
            assert held.finish(timeout=30) == "ann"
        with pytest.raises(InvalidArgument, match="it made 2"), bank.hold("bank:add", {**ANN, "amount": 1}, at=3):
            raise AssertionError
        with pytest.raises(KeyError), bank.hold("bank:add", {**ANN, "amount": 1}, at=2):
            raise KeyError
        while bank.query("bank:balance", ANN) != 18:  # the end of the block has let it go
            pass
