"""Kept results: who may have one, how long it is right, and how many there are."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.limits import Limits
from reactor.runtime.calls import Call, Failure, Outcome
from reactor.runtime.results import ENTRY_BYTES
from reactor.runtime.runs import QueryRun
from tests.runtime.hosts import Bench, Watcher, failure, open_bench, project_files, success, user, value_of, wire

pytestmark = pytest.mark.asyncio

APP = project_files(
    app="""
import random

@mutation
async def put(ctx, name: str, n: float):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    if item is None:
        return await ctx.db.insert("items", {"name": name, "n": n})
    await ctx.db.patch(item["_id"], {"n": n})

@query
async def number(ctx, name: str):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    return None if item is None else item["n"]

@query
async def noisy(ctx, name: str):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    print("n is", None if item is None else item["n"])
    return "always the same"

@query
async def fails(ctx):
    raise ReactorError("no")

@query
async def whoami(ctx):
    identity = await ctx.auth.get_user_identity()
    return None if identity is None else identity["name"]

@query
async def later(ctx):
    item = await ctx.db.query("items").with_index("by_name", name="private").first()
    if item is None:
        return "for everybody"
    identity = await ctx.auth.get_user_identity()
    return "for " + ("nobody" if identity is None else identity["name"])

@query
async def time_and(ctx, name: str):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    return [None if item is None else item["n"], ctx.now()]

@query
async def chance(ctx):
    return random.random()

@query
async def all_of_them(ctx):
    return [item["n"] async for item in ctx.db.query("items")]

@query
async def long(ctx, size: float):
    return "x" * int(size)
"""
)


def runs(bench: Bench) -> int:
    return bench.host.executor.stats.queries


async def ask(bench: Bench, path: str, identity: Identity = ANONYMOUS, **args: object) -> Any:
    return value_of(await bench.submit("query", path, args, identity=identity))


async def test_what_was_asked_before_is_not_run_again(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        await bench.mutation("app:put", name="a", n=1)
        assert [await ask(bench, "app:number", name="a") for _ in range(5)] == [1] * 5
        assert (runs(bench), bench.host.live.stats.hits) == (1, 4)


async def test_a_commit_that_touches_what_was_read_ends_a_result(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        for n in range(3):
            await bench.mutation("app:put", name="a", n=n)
            await bench.mutation("app:put", name="b", n=n)
            assert await ask(bench, "app:number", name="a") == n
            await bench.mutation("app:put", name="b", n=-n)
            assert await ask(bench, "app:number", name="a") == n
        assert runs(bench) == 3


async def test_a_deploy_ends_what_it_changes_and_nothing_else(tmp_path: Path) -> None:
    one = "@query\nasync def one(ctx):\n    return 1\n"
    async with open_bench(tmp_path, project_files(changes=one, stays=one)) as bench:
        assert (await ask(bench, "changes:one"), await ask(bench, "stays:one")) == (1, 1)
        await bench.push(project_files(changes=one.replace("return 1", "return 2"), stays=one))
        assert (await ask(bench, "changes:one"), await ask(bench, "stays:one")) == (2, 1)
        assert runs(bench) == 3


async def test_a_result_of_the_undurable_state_is_given_to_nobody(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        assert await ask(bench, "app:number", name="a") is None
        bench.storage.hold()
        pending = bench.submit("mutation", "app:put", {"name": "a", "n": 1})
        await bench.storage.held()
        assert await ask(bench, "app:number", name="a") is None
        bench.storage.release()
        success(await pending)
        assert await ask(bench, "app:number", name="a") == 1


async def test_live_queries_and_questions_share_results(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        assert await ask(bench, "app:number", name="a") is None
        watcher = bench.watch("app:number", name="a")
        assert await watcher.next() == [None]
        assert runs(bench) == 1

        await bench.mutation("app:put", name="a", n=1)
        await bench.settle()
        assert await ask(bench, "app:number", name="a") == 1
        assert runs(bench) == 2

        watcher.unsubscribe(watcher.handles[0])
        assert await ask(bench, "app:number", name="a") == 1
        assert await bench.watch("app:number", name="a").next() == [1]
        assert runs(bench) == 2


# Who may have it.


async def test_what_looks_at_nobody_is_run_once_for_a_hundred_users(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        for at in range(100):
            assert await ask(bench, "app:number", user(f"u{at}"), name="a") is None
        assert runs(bench) == 1


async def test_what_looks_is_run_once_for_each_identity(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        for _ in range(3):
            for name in ("ann", "bob"):
                assert await ask(bench, "app:whoami", user(name)) == name
            assert await ask(bench, "app:whoami") is None
        assert runs(bench) == 3
        watchers = {name: bench.watch("app:whoami", identity=user(name)) for name in ("ann", "bob", "cho")}
        await bench.settle()
        assert {name: watcher.value for name, watcher in watchers.items()} == {n: n for n in watchers}
        assert runs(bench) == 4


async def test_a_look_that_comes_with_the_data_shows_nobody_anothers_result(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        for name in ("ann", "bob"):
            assert await ask(bench, "app:later", user(name)) == "for everybody"
        assert runs(bench) == 1
        await bench.mutation("app:put", name="private", n=1)
        asked = {name: bench.submit("query", "app:later", identity=user(name)) for name in ("ann", "bob", "cho")}
        assert {name: value_of(await answer) for name, answer in asked.items()} == {
            name: f"for {name}" for name in asked
        }
        assert await ask(bench, "app:later") == "for nobody"


async def test_internal_callers_share_nothing_with_others(tmp_path: Path) -> None:
    files = project_files(app="@internal_query\nasync def secret(ctx):\n    return 'secret'\n")
    async with open_bench(tmp_path, files) as bench:
        assert value_of(await bench.submit("query", "app:secret", internal=True)) == "secret"
        assert "Could not find public function" in failure(await bench.submit("query", "app:secret")).detail


# Time, chance, failures.


async def test_a_result_that_shows_the_time_is_given_to_newcomers_for_17_seconds(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        begin = bench.clock.wall
        watcher = bench.watch("app:time_and", name="a")
        await bench.settle()
        (first,) = watcher.values

        bench.clock.wall = begin + 17_000_000_000
        assert await ask(bench, "app:time_and", name="a") == first
        assert await bench.watch("app:time_and", name="a").next() == [first]
        bench.clock.wall += 1
        late = bench.watch("app:time_and", name="a")
        await bench.settle()
        assert late.value[1] > first[1]
        assert await ask(bench, "app:time_and", name="a") == late.value
        assert watcher.values == [first], "a live query does not tick"
        assert runs(bench) == 2

        await bench.mutation("app:put", name="a", n=1)
        await bench.settle()
        assert watcher.value == late.value
        assert watcher.value[0] == 1
        assert runs(bench) == 3, "from its next run on it is one query again"
        assert len(bench.host.live) == 1


async def test_a_clock_that_went_back_ends_results_that_show_the_time(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        first = await ask(bench, "app:time_and", name="a")
        bench.clock.wall -= 1_000_000
        assert (await ask(bench, "app:time_and", name="a"))[1] < first[1]


async def test_chance_does_not_limit_a_result(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        first = await ask(bench, "app:chance")
        bench.clock.wall += 3600 * 1_000_000_000
        assert await ask(bench, "app:chance") == first


async def test_a_failure_is_not_kept_for_those_who_ask_once(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        for _ in range(3):
            outcome = failure(await bench.submit("query", "app:fails"))
            assert outcome.error is not None, "the caller in this process raises it"
        assert runs(bench) == 3
        assert len(bench.host.live.results) == 0
        bench.watch("app:fails")
        await bench.settle()
        failure(await bench.submit("query", "app:fails"))
        assert runs(bench) == 5


# Identical requests.


async def test_requests_that_come_while_the_same_runs_wait_for_it(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(5):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        bench.clock.tick = 1.0
        asked = [bench.submit("query", "app:all_of_them") for _ in range(10)]
        assert [value_of(await answer) for answer in asked] == [[0, 1, 2, 3, 4]] * 10
        bench.clock.tick = 0.0
        assert runs(bench) == 1
        assert bench.host.live.stats.joined > 0


async def test_who_waits_for_a_run_that_became_stale_is_answered_by_a_newer_one(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(20):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        bench.clock.tick = 1.0
        early = bench.submit("query", "app:all_of_them")
        for _ in range(3):
            await asyncio.sleep(0)
        await bench.mutation("app:put", name="n19", n=100)
        assert not early.done()
        late = bench.submit("query", "app:all_of_them")
        assert value_of(await late) == [*range(19), 100]
        assert value_of(await early) == list(range(20))
        bench.clock.tick = 0.0
        assert runs(bench) == 2


async def test_a_question_about_the_past_is_answered_from_there(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        await bench.mutation("app:put", name="a", n=1)
        then = bench.host.database.durable_ts
        bench.host.database.retention.pin(then)
        await bench.mutation("app:put", name="a", n=2)
        assert await ask(bench, "app:number", name="a") == 2
        outcomes: list[Outcome] = []
        bench.host.executor.submit_query(Call("app:number", wire({"name": "a"})), outcomes.append, then)
        await bench.settle()
        assert value_of(outcomes[0]) == 1
        assert await ask(bench, "app:number", name="a") == 2
        bench.host.database.retention.unpin(then)


# The budget.


async def test_what_was_not_asked_for_the_longest_time_leaves_first(tmp_path: Path) -> None:
    limits = Limits(result_cache_bytes=3 * (ENTRY_BYTES + 10_500))
    async with open_bench(tmp_path, APP, limits=limits) as bench:
        results = bench.host.live.results
        for at in range(3):
            await ask(bench, "app:long", size=10_000 + at)
        assert len(results) == 3
        await ask(bench, "app:long", size=10_000)
        await ask(bench, "app:long", size=10_003)
        assert len(results) == 3
        assert results.unused_bytes <= limits.result_cache_bytes
        before = runs(bench)
        await ask(bench, "app:long", size=10_000)
        assert runs(bench) == before
        await ask(bench, "app:long", size=10_001)
        assert runs(bench) == before + 1


async def test_without_a_budget_nothing_is_kept(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(result_cache_bytes=0)) as bench:
        for _ in range(2):
            await ask(bench, "app:number", name="a")
        results = bench.host.live.results
        assert (runs(bench), len(results), results.unused_bytes, len(results.subscriptions)) == (2, 0, 0, 0)
        assert not results._queries


async def test_a_thousand_different_questions_leave_only_what_is_counted(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(result_cache_bytes=20 * ENTRY_BYTES)) as bench:
        results = bench.host.live.results
        for at in range(200):
            await ask(bench, "app:number", name=f"n{at}")
        assert 0 < len(results) < 20
        assert len(results) == len(results._queries) == len(results.subscriptions)
        for at in range(200):
            await bench.mutation("app:put", name=f"n{at}", n=1)
        assert (len(results), results.unused_bytes, len(results._queries), len(results.subscriptions)) == (0, 0, 0, 0)


# Versions and journals.


async def test_another_log_line_is_a_new_version_of_an_equal_value(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watcher = bench.watch("app:noisy", name="a")
        await bench.settle()
        first = watcher.handles[0].result
        await bench.mutation("app:put", name="a", n=1)
        await bench.settle()
        second = watcher.handles[0].result
        assert first is not None
        assert second is not None
        assert second.value == first.value
        assert second.version == first.version + 1


async def test_versions_go_on_when_a_query_is_split(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watchers = [bench.watch("app:later", identity=user(name)) for name in ("ann", "bob")]
        await bench.settle()
        await bench.mutation("app:put", name="private", n=1)
        await bench.settle()
        for watcher in watchers:
            first, second = (seen[0] for seen in watcher.seen)
            assert second.version == first.version + 1


class Pages:
    """Stands in for paginated queries: a run without a journal ends its page at the second item and says so."""

    def __init__(self, bench: Bench) -> None:
        self.asked: list[str | None] = []
        executor = bench.host.executor
        run_query = executor.run_query

        def paged(call: Call, ts: int | None, finished: Callable[[QueryRun], None]) -> None:
            self.asked.append(call.journal)

            def ended(run: QueryRun) -> None:
                numbers = value_of(run.outcome)
                end = len(numbers) if call.journal is None else int(call.journal)
                numbers = [n for n in numbers if n < end]
                outcome = msgspec.structs.replace(success(run.outcome), value=wire(numbers))
                finished(msgspec.structs.replace(run, outcome=outcome, journal=str(end)))

            run_query(call, ts, ended)

        executor.run_query = paged  # type: ignore[method-assign]


def page(bench: Bench, journal: str | None = None) -> Watcher:
    watcher = Watcher(bench.host)
    watcher.handles.append(bench.host.live.subscribe(Call("app:all_of_them", b"{}"), watcher, journal))
    return watcher


async def test_a_page_ends_where_its_first_run_ended(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        pages = Pages(bench)
        for n in range(2):
            await bench.mutation("app:put", name=f"n{n}", n=n)
        first = page(bench)
        await bench.settle()
        assert first.handles[0].result is not None
        assert (first.value, first.handles[0].result.journal) == ([0, 1], "2")

        await bench.mutation("app:put", name="x", n=0)
        await bench.mutation("app:put", name="y", n=2)
        await bench.settle()
        assert first.value == [0, 1, 0]
        assert pages.asked[0] is None
        assert set(pages.asked[1:]) == {"2"}


async def test_pages_are_shared_by_those_who_know_their_end(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        pages = Pages(bench)
        for n in range(2):
            await bench.mutation("app:put", name=f"n{n}", n=n)
        first = page(bench)
        await bench.settle()
        same, known = page(bench), page(bench, "2")
        await bench.settle()
        assert pages.asked == [None], "until it changes, both journals give the same"
        assert len(bench.host.live) == 1

        await bench.mutation("app:put", name="n2", n=2)
        await bench.settle()
        new = page(bench)
        await bench.settle()
        assert [watcher.value for watcher in (first, same, known, new)] == [[0, 1]] * 3 + [[0, 1, 2]]
        assert len(bench.host.live) == 2
        assert pages.asked == [None, "2", None]


async def test_pages_that_turn_out_equal_are_one_query_from_the_next_run_on(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        pages = Pages(bench)
        for n in range(2):
            await bench.mutation("app:put", name=f"n{n}", n=n)
        watchers = []
        for turn in range(4):
            watchers.append(page(bench))
            await bench.settle()
            await bench.mutation("app:put", name="n0", n=-turn - 1)
            await bench.settle()
        assert [watcher.value for watcher in watchers] == [[-4, 1]] * 4
        assert len(bench.host.live) == 1
        assert pages.asked.count("2") == 4, "one rerun for each commit"


async def test_a_failure_is_told_to_everybody_who_waited(tmp_path: Path) -> None:
    files = project_files(
        app="""
@mutation
async def put(ctx, n: float):
    await ctx.db.insert("items", {"name": "a", "n": n})

@query
async def breaks(ctx):
    async for item in ctx.db.query("items"):
        pass
    raise ReactorError("no")
"""
    )
    async with open_bench(tmp_path, files, limits=Limits(scan_check_entries=1)) as bench:
        for n in range(5):
            await bench.mutation("app:put", n=n)
        bench.clock.tick = 1.0
        asked = [bench.submit("query", "app:breaks") for _ in range(5)]
        outcomes = [await answer for answer in asked]
        bench.clock.tick = 0.0
        assert all(isinstance(outcome, Failure) for outcome in outcomes)
        assert runs(bench) == 1
        assert not bench.host.live.results._queries


async def test_a_long_result_is_encoded_a_slice_at_a_time(tmp_path: Path) -> None:
    files = project_files(
        app="""
@query
async def many(ctx):
    return [{"n": n} for n in range(2000)]

@query
async def broken(ctx):
    return [*range(2000), object()]

@query
async def short(ctx):
    return 1
"""
    )
    async with open_bench(tmp_path, files) as bench:
        bench.clock.tick = 1.0
        order: list[str] = []
        for path in ("app:many", "app:short", "app:broken", "app:short"):
            bench.submit("query", path).add_done_callback(lambda _, path=path: order.append(path))
        many = bench.submit("query", "app:many")
        assert value_of(await many) == [{"n": n} for n in range(2000)]
        broken = failure(await bench.submit("query", "app:broken"))
        bench.clock.tick = 0.0
        assert order[:2] == ["app:short", "app:short"]
        assert "[2000]" in broken.detail
        assert not len(bench.host.database.retention)
