"""One attempt: what is awaited, what is forgotten, what is foreign, and where it is suspended."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor.errors import DeterminismError, UnawaitedCallError
from reactor.runtime.determinism import ambient
from tests.runtime.hosts import NO_FUNCTIONS, Bench, failure, open_bench, project_files

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        yield bench


def line_of(function: Any, text: str) -> str:
    """Return `file:line` of the first source line of `function` that holds `text`."""
    lines, start = inspect.getsourcelines(function)
    at = next(at for at, line in enumerate(lines) if text in line)
    return f"{inspect.getsourcefile(function)}:{start + at}"


def count(bench: Bench, table: str = "items") -> int:
    return len(bench.host.database.catalog.by_name[table])


async def test_a_call_that_is_never_awaited_fails_the_function_at_its_line(bench: Bench) -> None:
    async def forgetful(ctx: Any) -> None:
        await ctx.db.insert("items", {"name": "a"})
        ctx.db.insert("items", {"name": "forgotten"})

    with pytest.raises(UnawaitedCallError) as caught:
        await bench.run(forgetful)

    assert str(caught.value) == (
        f"1 call(s) were made but never awaited: db.insert() at {line_of(forgetful, 'forgotten')}. "
        "Write `await` before each; nothing was committed."
    )
    assert count(bench) == 0


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("ctx.db.get('x')", "db.get()"),
        ("ctx.db.patch('x', {})", "db.patch()"),
        ("ctx.db.replace('x', {})", "db.replace()"),
        ("ctx.db.delete('x')", "db.delete()"),
        ("ctx.db.query('items').collect()", "query.collect()"),
        ("ctx.db.query('items').take(1)", "query.take()"),
        ("ctx.db.query('items').first()", "query.first()"),
        ("ctx.db.query('items').unique()", "query.unique()"),
        ("ctx.db.query('items').count()", "query.count()"),
        ("ctx.auth.get_user_identity()", "auth.get_user_identity()"),
    ],
)
async def test_every_call_is_missed_by_name_and_line(tmp_path: Path, call: str, name: str) -> None:
    files = project_files(items=f"@mutation\nasync def forgetful(ctx):\n    {call}\n")
    async with open_bench(tmp_path, files) as bench:
        told = failure(await bench.submit("mutation", "items:forgetful"))
    line = files["functions/items.py"].splitlines().index(f"    {call}") + 1
    assert f"{name} at {tmp_path / 'functions/items.py'}:{line}." in told.detail


async def test_what_is_missing_is_not_said_when_the_function_failed_anyway(bench: Bench) -> None:
    async def fails(ctx: Any) -> None:
        ctx.db.get("x")
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await bench.run(fails)


async def test_a_query_that_was_only_begun_is_no_call(bench: Bench) -> None:
    async def lazy(ctx: Any) -> int:
        ctx.db.query("items").with_index("by_name")
        return 1

    assert await bench.run(lazy) == 1


async def test_a_call_can_be_awaited_later_but_only_once(bench: Bench) -> None:
    async def later(ctx: Any) -> list[int]:
        first, second = ctx.db.query("items").count(), ctx.db.query("items").count()
        results = [await second, await first]
        with pytest.raises(RuntimeError, match=r"query.count\(\) was awaited twice"):
            await first
        return results

    assert await bench.run(later) == [0, 0]


async def test_a_call_that_failed_and_was_caught_is_awaited(bench: Bench) -> None:
    async def catches(ctx: Any) -> str:
        try:
            await ctx.db.get("no id")
        except Exception:
            return "caught"
        return "not"

    assert await bench.run(catches) == "caught"


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_ctx_is_of_no_use_after_its_function(bench: Bench, is_async: bool) -> None:
    kept: list[Any] = []

    async def keeps(ctx: Any) -> None:
        kept.append((ctx, ctx.db.query("items"), ctx.db.query("items")))

    def keeps_blocking(ctx: Any) -> None:
        kept.append((ctx, ctx.db.query("items"), ctx.db.query("items")))
        kept.append(iter(ctx.db.query("items")))

    await bench.run(keeps if is_async else keeps_blocking)
    ctx, query, other = kept[0]

    async def use(call: Any) -> None:
        result = call()
        if inspect.isawaitable(result):
            await result
        elif hasattr(result, "__anext__"):
            await anext(result)

    for call in (
        lambda: ctx.db.get("x"),
        lambda: ctx.db.insert("items", {"name": "late"}),
        lambda: ctx.db.patch("x", {}),
        lambda: ctx.db.replace("x", {}),
        lambda: ctx.db.delete("x"),
        lambda: ctx.db.normalize_id("items", "x"),
        lambda: ctx.db.query("items").count(),
        lambda: ctx.auth.get_user_identity(),
        lambda: query.collect(),
        lambda: other.__aiter__() if is_async else list(other),
    ):
        with pytest.raises(RuntimeError, match="This ctx belongs to a function that has ended"):
            await use(call)
    if not is_async:
        with pytest.raises(RuntimeError, match="has ended"):
            next(kept[1])
    assert count(bench) == 0


async def test_gather_over_calls_keeps_their_order(bench: Bench) -> None:
    async def gathers(ctx: Any) -> list[Any]:
        ids = await asyncio.gather(*[ctx.db.insert("items", {"name": str(at)}) for at in range(20)])
        documents = await asyncio.gather(*map(ctx.db.get, ids))
        return [document["name"] for document in documents]

    assert await bench.run(gathers) == [str(at) for at in range(20)]
    rows = bench.host.database.catalog.by_name["items"].documents
    assert len(rows) == 20


@pytest.mark.parametrize("tick", [0.0, 1.0], ids=["one slice", "a slice per call"])
async def test_gather_over_coroutines_is_deterministic(bench: Bench, tick: float) -> None:
    """The same interleaving on every run, however often the transaction is suspended."""

    async def part(ctx: Any, name: str) -> None:
        for at in range(3):
            await ctx.db.insert("items", {"name": f"{name}{at}"})

    async def gathers(ctx: Any) -> list[str]:
        before = await ctx.db.query("items").collect()
        await asyncio.gather(part(ctx, "a"), part(ctx, "b"))
        after = (await ctx.db.query("items").collect())[len(before) :]
        return [document["name"] for document in after]

    bench.clock.tick = tick
    runs = [await bench.run(gathers) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert sorted(runs[0]) == ["a0", "a1", "a2", "b0", "b1", "b2"]


async def test_a_failure_in_a_gather_fails_the_function_with_all_it_wrote(bench: Bench) -> None:
    async def gathers(ctx: Any) -> None:
        await asyncio.gather(ctx.db.insert("items", {"name": "a"}), ctx.db.insert("items", {"name": 5}))

    with pytest.raises(Exception, match="does not match the schema"):
        await bench.run(gathers)
    assert count(bench) == 0


@pytest.mark.parametrize("tick", [0.0, 1.0])
async def test_a_task_left_behind_is_an_unawaited_call(bench: Bench, tick: float) -> None:
    left: list[asyncio.Task[Any]] = []

    async def child(ctx: Any) -> None:
        for _ in range(10):
            await ctx.db.query("items").count()
        await ctx.db.insert("items", {"name": "left behind"})

    async def leaves(ctx: Any) -> None:
        left.append(asyncio.get_running_loop().create_task(child(ctx)))
        await asyncio.gather(ctx.db.insert("items", {"name": "a"}))

    bench.clock.tick = tick
    if tick:
        with pytest.raises(UnawaitedCallError, match=r"query.count\(\) at .*test_executions.py"):
            await bench.run(leaves)
        assert count(bench) == 0
    else:
        await bench.run(leaves)
    await asyncio.wait(left)
    if tick:
        assert "has ended" in str(left[0].exception())


@pytest.mark.parametrize("caught", [False, True])
async def test_waiting_for_anything_else_is_refused_and_commits_nothing(bench: Bench, caught: bool) -> None:
    foreign: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def waits(ctx: Any) -> str:
        await ctx.db.insert("items", {"name": "a"})
        try:
            await foreign
        except DeterminismError:
            if not caught:
                raise
        return (await ctx.db.query("items").first())["name"]  # type: ignore[no-any-return]

    if caught:
        assert await bench.run(waits) == "a"
        return
    with pytest.raises(DeterminismError) as failed:
        await bench.run(waits)
    assert str(failed.value) == (
        "Can't wait for anything but ctx calls in queries and mutations: real I/O and timers would make a second run "
        "differ. Use an action."
    )
    assert count(bench) == 0
    foreign.set_result(None)


async def test_an_awaitable_that_yields_nonsense_is_refused(bench: Bench) -> None:
    class Nonsense:
        def __await__(self) -> Any:
            yield "nonsense"

    async def waits(ctx: Any) -> None:
        await Nonsense()

    with pytest.raises(DeterminismError):
        await bench.run(waits)


async def test_sleeping_is_refused_by_name(bench: Bench) -> None:
    async def sleeps(ctx: Any) -> None:
        await asyncio.sleep(0)

    with pytest.raises(DeterminismError, match=r"asyncio.sleep\(\)"):
        await bench.run(sleeps)


async def test_the_first_slice_runs_without_task_and_in_a_context_of_its_own(bench: Bench) -> None:
    seen: list[Any] = []

    async def looks(ctx: Any) -> None:
        seen.extend([asyncio.current_task(), ambient.get()])

    await bench.run(looks)
    assert seen[0] is None
    assert seen[1] is not None
    assert ambient.get() is None


async def test_a_short_function_is_never_suspended(bench: Bench) -> None:
    async def short(ctx: Any) -> None:
        for at in range(50):
            await ctx.db.insert("counters", {"value": at})
        async for _ in ctx.db.query("counters"):
            pass

    await bench.run(short)
    assert bench.host.executor.stats.suspensions == 0


async def test_a_handler_that_cleans_up_sees_its_own_failure_only(bench: Bench) -> None:
    async def cleans(ctx: Any) -> None:
        try:
            raise ValueError("body")
        finally:
            await ctx.db.query("items").count()

    with pytest.raises(ValueError, match="body"):
        await bench.run(cleans)


async def test_sys_exit_is_a_failure_of_the_function(bench: Bench) -> None:
    async def exits(ctx: Any) -> None:
        raise SystemExit(3)

    assert failure(await bench.start(exits)).detail == "Uncaught SystemExit: 3"


async def test_cancelling_ones_own_task_is_a_failure_of_the_function(bench: Bench) -> None:
    async def cancels(ctx: Any) -> None:
        task = asyncio.ensure_future(asyncio.gather(ctx.db.query("items").count()))
        task.cancel()
        await task

    assert failure(await bench.start(cancels)).detail.startswith("Uncaught CancelledError")
