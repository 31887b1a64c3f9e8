"""Mutations that are suspended in the middle while a commit they have read is undone."""

from pathlib import Path

import pytest

from reactor.engine import publisher as publisher_module
from reactor.errors import OutcomeUnknown
from reactor.runtime.calls import Call
from reactor.testing.interleaving import HeldMutation
from tests.runtime.hosts import Bench, open_bench, project_files, refusal
from tests.storage.faults import Fault

pytestmark = pytest.mark.asyncio

APP = project_files(
    app="""
@mutation
async def make(ctx) -> str:
    return await ctx.db.insert("counters", {"value": 0})

@mutation
async def add(ctx, id: str) -> int:
    value = (await ctx.db.get(id))["value"] + 1
    await ctx.db.patch(id, {"value": value})
    return value

@mutation
async def add_where_others_do_not_look(ctx, id: str) -> int:
    await ctx.db.insert("others", {"x": None})
    await ctx.db.insert("others", {"x": None})
    return 1

@mutation
async def refuse_odd(ctx, id: str) -> int:
    value = (await ctx.db.get(id))["value"]
    await ctx.db.insert("others", {"x": value})
    if value % 2:
        raise ReactorError({"found": value})
    return value

@query
async def read(ctx, id: str) -> int:
    return (await ctx.db.get(id))["value"]
"""
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_SECONDS", (0.0,))


async def lose_an_increment_under(bench: Bench, function: str) -> HeldMutation:
    """Hold a call before its second `ctx` call, after an increment was applied, and lose that."""
    counter = await bench.mutation("app:make")
    bench.storage.hold()
    lost = bench.submit("mutation", "app:add", {"id": counter})
    await bench.storage.held()
    call = Call(f"app:{function}", b'{"id":"%s"}' % counter.encode())
    held = HeldMutation(bench.host.executor, call, 2)
    await held.reached()
    bench.storage.faults.append(Fault.UNKNOWN_LOST)
    bench.storage.release()
    assert isinstance(refusal(await lost).error, OutcomeUnknown)
    assert await bench.query("app:read", id=counter) == 0
    return held


async def test_who_has_read_it_runs_again(tmp_path: Path) -> None:
    """Conformance #28."""
    async with open_bench(tmp_path, APP) as bench:
        held = await lose_an_increment_under(bench, "add")
        assert await held.finish() == 1, "and not 2"
        assert held.attempts == 2


async def test_an_error_that_rests_on_it_is_never_told(tmp_path: Path) -> None:
    """Conformance #28, #29: the second attempt finds what there is."""
    async with open_bench(tmp_path, APP) as bench:
        held = await lose_an_increment_under(bench, "refuse_odd")
        assert await held.finish() == 0
        assert held.attempts == 2


async def test_who_has_read_something_else_goes_on(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        held = await lose_an_increment_under(bench, "add_where_others_do_not_look")
        assert await held.finish() == 1
        assert held.attempts == 1
