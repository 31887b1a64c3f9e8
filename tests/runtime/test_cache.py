"""Live queries: computed once, shared, exact, and all at one timestamp."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reactor.engine.readset import ReadSet
from reactor.errors import Error, Overloaded, SnapshotTooOld
from reactor.limits import Limits
from reactor.runtime.calls import Call, Refused
from reactor.runtime.runs import QueryRun
from tests.runtime.hosts import Bench, Watcher, open_bench, project_files, success, user, value_of, wire
from tests.sizes import size

pytestmark = pytest.mark.asyncio

APP = project_files(
    app="""
@mutation
async def put(ctx, name: str, n: float):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    if item is None:
        return await ctx.db.insert("items", {"name": name, "n": n})
    await ctx.db.patch(item["_id"], {"n": n})

@mutation
async def transfer(ctx, source: str, target: str, amount: float):
    for name, change in ((source, -amount), (target, amount)):
        item = await ctx.db.query("items").with_index("by_name", name=name).unique()
        await ctx.db.patch(item["_id"], {"n": item["n"] + change})

@query
async def number(ctx, name: str):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    return None if item is None else item["n"]

@query
def positive(ctx, name: str):
    item = ctx.db.query("items").with_index("by_name", name=name).first()
    print("looked at", name)
    if item is None or item["n"] < 0:
        raise ReactorError({"name": name})
    return item["n"]

@query
async def is_big(ctx, name: str):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    return item is not None and item["n"] > 100

@query
async def whoami(ctx):
    identity = await ctx.auth.get_user_identity()
    return None if identity is None else identity["name"]

@query
async def sometimes(ctx):
    item = await ctx.db.query("items").with_index("by_name", name="private").first()
    if item is None:
        return "for everybody"
    identity = await ctx.auth.get_user_identity()
    return "for nobody" if identity is None else "for " + identity["name"]

@query
async def all_of_them(ctx):
    return [item["n"] async for item in ctx.db.query("items")]

@query
async def also(ctx, name: str, k: int):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    return None if item is None else item["n"]

@internal_query
async def secret(ctx):
    return "secret"
"""
)


async def test_a_live_query_follows_what_it_read(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watcher = bench.watch("app:number", name="a")
        assert await watcher.next() == [None]
        ts = success(await bench.submit("mutation", "app:put", {"name": "a", "n": 1})).ts
        assert await watcher.next() == [1]
        assert watcher.settled_at[-1] >= ts


async def test_equal_calls_are_one_query_however_they_are_written(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        live = bench.host.live
        watchers = [Watcher(bench.host) for _ in range(100)]
        for at, watcher in enumerate(watchers):
            args = (b'{"name":"a"}', b' { "name" : "a" } ')[at % 2]
            path = ("app:number", "app:Number", "app.js:number")[at % 3]
            watcher.handles.append(live.subscribe(Call(path, args, user(f"u{at}")), watcher))
        await bench.settle()
        assert len(live) == 1
        assert (live.stats.first_runs, bench.host.executor.stats.queries) == (1, 1)

        await bench.mutation("app:put", name="a", n=5)
        await bench.settle()
        assert live.stats.reruns == 1
        assert [watcher.value for watcher in watchers] == [5] * 100


async def test_numbers_that_are_equal_make_equal_calls(tmp_path: Path) -> None:
    files = project_files(app="@query\nasync def same(ctx, n: float):\n    return n\n")
    async with open_bench(tmp_path, files) as bench:
        watcher = Watcher(bench.host)
        for args in (b'{"n":1}', b'{"n":1.0}', b'{"n":1e0}'):
            watcher.handles.append(bench.host.live.subscribe(Call("app:same", args), watcher))
        await bench.settle()
        assert len(bench.host.live) == 1


async def test_a_commit_reruns_what_it_touched_and_nothing_else(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        live = bench.host.live
        watcher = Watcher(bench.host)
        for at in range(1000):
            watcher.subscribe("app:number", {"name": f"n{at}"})
        await bench.settle()
        assert (len(live), live.stats.first_runs, live.stats.reruns) == (1000, 1000, 0)

        await bench.mutation("app:put", name="n500", n=7)
        await bench.settle()

        assert live.stats.reruns == 1
        assert watcher.values[500] == 7
        assert set(watcher.values[:500] + watcher.values[501:]) == {None}


async def test_an_equal_result_is_no_new_version(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watcher = bench.watch("app:is_big", name="a")
        await bench.settle()
        (handle,) = watcher.handles
        first = handle.result
        assert first is not None
        await bench.mutation("app:put", name="a", n=1)
        await bench.settle()
        assert bench.host.live.stats.reruns == 1
        assert handle.result is first
        assert watcher.settled_at[-1] == bench.host.database.durable_ts

        await bench.mutation("app:put", name="a", n=1000)
        await bench.settle()
        assert handle.result is not first
        assert handle.result is not None
        assert handle.result.version == first.version + 1


async def test_a_failing_query_stays_subscribed_and_recovers(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watcher = bench.watch("app:positive", name="a")
        await bench.settle()
        result = watcher.handles[0].result
        assert result is not None
        assert result.error is not None
        assert result.error.data == b'{"name":"a"}'
        assert result.error.error is None, "an exception would keep an old version alive"
        assert result.log_lines == ("[LOG] 'looked at a'",)

        await bench.mutation("app:put", name="a", n=1)
        await bench.settle()
        assert watcher.value == 1
        await bench.mutation("app:put", name="a", n=-1)
        await bench.settle()
        assert "ConvexError" in watcher.value


@pytest.mark.parametrize("path", ["app:nope", "app:put", "app:secret", "not a path"])
async def test_a_query_that_can_not_run_has_an_error_as_its_result(tmp_path: Path, path: str) -> None:
    async with open_bench(tmp_path, APP) as bench:
        good, bad = bench.watch("app:number", name="a"), bench.watch(path, name="a")
        both = bench.watch("app:number", path, name="a")
        await bench.settle()
        assert good.settled_at
        assert bad.settled_at
        assert both.settled_at
        assert both.values[0] is None
        assert bad.handles[0].result is not None
        assert bad.handles[0].result.error is not None


async def test_subscribers_of_the_time_before_the_first_push_are_served_after_it(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        watcher = bench.watch("app:number", name="a")
        await bench.settle()
        assert "No project has been pushed" in watcher.value
        await bench.push(APP)
        await bench.settle()
        assert watcher.value is None


# Identity.


async def test_what_looks_at_the_caller_is_computed_for_each(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watchers = {name: bench.watch("app:whoami", identity=user(name)) for name in ("ann", "bob", "cho")}
        again = bench.watch("app:whoami", identity=user("ann"))
        nobody = bench.watch("app:whoami")
        await bench.settle()
        assert {name: watcher.value for name, watcher in watchers.items()} == {n: n for n in watchers}
        assert (again.value, nobody.value) == ("ann", None)
        assert len(bench.host.live) == 4
        for watcher in (*watchers.values(), again, nobody):
            assert [seen[0].value for seen in watcher.seen] == [wire(watcher.value)], "nothing else was ever delivered"


async def test_a_shared_query_that_starts_to_look_is_split(tmp_path: Path) -> None:
    """What was computed with no identity, or for the first subscriber, must reach nobody else."""
    async with open_bench(tmp_path, APP) as bench:
        watchers = {name: bench.watch("app:sometimes", identity=user(name)) for name in ("ann", "bob")}
        await bench.settle()
        assert len(bench.host.live) == 1
        assert [watcher.value for watcher in watchers.values()] == ["for everybody"] * 2

        await bench.mutation("app:put", name="private", n=1)
        late = bench.watch("app:sometimes", identity=user("cho"))
        await bench.settle()

        assert {name: watcher.value for name, watcher in watchers.items()} == {"ann": "for ann", "bob": "for bob"}
        assert late.value == "for cho"
        assert len(bench.host.live) == 3
        for name, watcher in (*watchers.items(), ("cho", late)):
            assert {seen[0].value for seen in watcher.seen} <= {b'"for everybody"', wire(f"for {name}")}


async def test_internal_callers_share_nothing_with_others(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        inside, outside = Watcher(bench.host), bench.watch("app:secret")
        inside.handles.append(bench.host.live.subscribe(Call("app:secret", b"{}", internal=True), inside))
        await bench.settle()
        assert inside.value == "secret"
        assert outside.value == "Could not find public function for 'app:secret'."


# One timestamp.


async def test_all_queries_of_an_observer_are_at_one_timestamp(tmp_path: Path) -> None:
    """A transfer between two documents never shows a wrong sum, with three queries and a slow disk."""
    async with open_bench(tmp_path, APP) as bench:
        for name in ("a", "b"):
            await bench.mutation("app:put", name=name, n=100)
        watcher = bench.watch("app:all_of_them")
        for name in ("a", "b"):
            watcher.subscribe("app:number", {"name": name})
        await bench.settle()
        for amount in range(1, 30):
            if amount % 3 == 0:
                bench.storage.hold()
            bench.submit("mutation", "app:transfer", {"source": "a", "target": "b", "amount": amount})
            for _ in range(amount % 5):
                await asyncio.sleep(0)
            bench.storage.release()
        await bench.mutation("app:put", name="c", n=0)
        await bench.settle()

        assert len(watcher.seen) > 3
        for together in watcher.seen:
            everything, a, b = (result.value for result in together)
            assert everything is not None
            assert a is not None
            assert b is not None
            assert float(a) + float(b) == 200
            assert everything.startswith(b"[" + a + b"," + b)


async def test_queries_that_take_many_slices_stay_at_one_timestamp(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for name in ("a", "b"):
            await bench.mutation("app:put", name=name, n=100)
        watcher = bench.watch("app:all_of_them")
        for name in ("a", "b"):
            watcher.subscribe("app:number", {"name": name})
        bench.clock.tick = 1.0
        pending = []
        for amount in range(10):
            args = {"source": "a", "target": "b", "amount": amount}
            pending.append(bench.submit("mutation", "app:transfer", args))
            await asyncio.sleep(0)
        for future in pending:
            success(await future)
        await bench.mutation("app:put", name="c", n=0)
        await bench.settle()
        bench.clock.tick = 0.0
        for together in watcher.seen:
            everything, a, b = (result.value for result in together)
            assert everything is not None
            assert a is not None
            assert b is not None
            assert float(a) + float(b) == 200
            assert everything.startswith(b"[" + a + b"," + b)
        assert watcher.values == [[55, 145, 0], 55, 145]


async def test_a_commit_between_run_and_registration_is_not_lost(tmp_path: Path) -> None:
    """The run is suspended in the middle; what it reads changes and becomes durable before it ends."""
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(50):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        bench.clock.tick = 1.0
        watcher = bench.watch("app:all_of_them")
        for _ in range(3):
            await asyncio.sleep(0)
        change = success(await bench.submit("mutation", "app:put", {"name": "n0", "n": 100}))
        assert bench.host.database.durable_ts >= change.ts
        assert watcher.handles[0].result is None, "it is still running"
        await bench.settle()
        bench.clock.tick = 0.0
        assert watcher.value == [100, *range(1, 50)]
        assert bench.host.live.stats.reruns == 1


async def test_undurable_commits_are_seen_by_nobody_who_watches(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watcher = bench.watch("app:number", name="a")
        await bench.settle()
        bench.storage.hold()
        pending = bench.submit("mutation", "app:put", {"name": "a", "n": 1})
        await bench.storage.held()
        late = bench.watch("app:number", name="a")
        await bench.settle()
        assert (watcher.value, late.value) == (None, None)

        bench.storage.release()
        await pending
        await bench.settle()
        assert (watcher.value, late.value) == (1, 1)


async def test_who_wants_to_settle_is_settled_even_without_a_query(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watcher = Watcher(bench.host)
        ts = success(await bench.submit("mutation", "app:put", {"name": "a", "n": 1})).ts
        bench.host.live.request_settle(watcher)
        assert watcher.settled_at == [], "never from inside the call"
        await watcher.next()
        assert watcher.settled_at[0] >= ts
        await bench.settle()
        assert len(watcher.settled_at) == 1


async def test_an_observer_with_nothing_new_is_left_alone(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watcher = bench.watch("app:number", name="a")
        await bench.settle()
        before = len(watcher.settled_at)
        for n in range(5):
            await bench.mutation("app:put", name="b", n=n)
        await bench.settle()
        assert len(watcher.settled_at) == before


# Leaving.


def left(bench: Bench) -> dict[str, int]:
    live = bench.host.live
    return {
        "queries": len(live.results._queries) - len(live.results),
        "subscriptions": len(live.results.subscriptions) - len(live.results),
        "touched": len(live._touched),
        "wanting": len(live._wanting) + len(live._newcomers),
        "handles": len(live._handles),
        "pins": len(bench.host.database.retention),
    }


async def test_unsubscribing_leaves_nothing_behind(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        empty = left(bench)
        watcher, other = bench.watch("app:number", "app:is_big", name="a"), bench.watch("app:number", name="a")
        looking = bench.watch("app:whoami", identity=user("ann"))
        await bench.settle()
        other.unsubscribe(other.handles[0])
        assert len(bench.host.live) == 3, "somebody else still reads it"
        for one in (watcher, looking):
            for handle in list(one.handles):
                one.unsubscribe(handle)
                bench.host.live.unsubscribe(handle)  # twice is harmless
        await bench.settle()
        assert left(bench) == empty == dict.fromkeys(empty, 0)

        runs = bench.host.executor.stats.queries
        await bench.mutation("app:put", name="a", n=1)
        await bench.settle()
        assert bench.host.executor.stats.queries == runs


@pytest.mark.parametrize("turns", range(6))
async def test_leaving_at_any_moment_of_a_round_leaves_nothing_behind(tmp_path: Path, turns: int) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(4):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        bench.clock.tick = 1.0
        watcher = bench.watch("app:all_of_them", "app:whoami", identity=user("ann"))
        stays = bench.watch("app:all_of_them")
        for _ in range(turns):
            await asyncio.sleep(0)
        bench.host.live.forget(watcher)
        await bench.settle()
        assert stays.value == [0, 1, 2, 3]
        bench.host.live.forget(stays)
        await bench.settle()
        bench.clock.tick = 0.0
        assert set(left(bench).values()) == {0}
        assert not bench.host.live._places


async def test_leaving_and_coming_back_during_a_run_gives_the_new_state(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(4):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        bench.clock.tick = 1.0
        watcher = bench.watch("app:all_of_them")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        watcher.unsubscribe(watcher.handles[0])
        watcher.subscribe("app:all_of_them")
        await bench.settle()
        bench.clock.tick = 0.0
        assert watcher.value == [0, 1, 2, 3]
        assert len(bench.host.live) == 1


async def test_an_observer_may_end_others_while_it_is_settled(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        live = bench.host.live
        settled: list[str] = []

        class Ending:
            def __init__(self, name: str) -> None:
                self.name = name
                self.others: list[Any] = []

            def settled(self, ts: int) -> None:
                settled.append(self.name)
                for other in self.others:
                    live.forget(other)

        first, second = Ending("first"), Ending("second")
        first.others, second.others = [second], [first]
        for observer in (first, second):
            live.subscribe(Call("app:number", b'{"name":"a"}'), observer)
        await bench.settle()
        assert settled == ["first"]


async def test_an_observer_may_subscribe_while_it_is_settled(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:

        class Growing(Watcher):
            def settled(self, ts: int) -> None:
                super().settled(ts)
                if len(self.handles) < 4:
                    self.subscribe("app:number", {"name": f"n{len(self.handles)}"})

        watcher = Growing(bench.host)
        watcher.subscribe("app:number", {"name": "n0"})
        await bench.settle()
        assert len(watcher.handles) == 4
        assert all(handle.result is not None for handle in watcher.handles)


async def test_more_commits_than_are_remembered_only_cost_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write log is bounded; a run that was suspended for too long can't be certified and is done again."""
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(20):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        log = type(bench.host.database.write_log)
        original = log.first_conflict
        forgot = 0

        def forgetful(self: Any, reads: Any, since: int) -> Any:
            nonlocal forgot
            if reads is watched.query.reads:
                forgot += 1
                if forgot == 1:
                    raise SnapshotTooOld("forgotten")
            return original(self, reads, since)

        monkeypatch.setattr(log, "first_conflict", forgetful)
        bench.clock.tick = 1.0
        watcher = bench.watch("app:all_of_them")
        (watched,) = watcher.handles
        for _ in range(5):
            await asyncio.sleep(0)
        await bench.mutation("app:put", name="n0", n=100)
        assert watched.result is None, "it is still running"
        await bench.settle()
        bench.clock.tick = 0.0
        assert forgot == 2
        assert watcher.value == [100, *range(1, 20)]


# Many.


async def test_who_is_new_does_not_wait_for_a_long_round(tmp_path: Path) -> None:
    """One observer has many stale queries, each of many slices; another comes in the middle of their reruns."""
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(5):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        busy = Watcher(bench.host)
        for k in range(30):
            busy.subscribe("app:also", {"name": "n0", "k": k})
        await bench.settle()
        bench.clock.tick = 1.0
        await bench.mutation("app:put", name="n0", n=100)
        for _ in range(20):
            await asyncio.sleep(0)
        assert 0 < bench.host.live.stats.reruns < 30
        new = bench.watch("app:number", name="n0")
        assert await new.next() == [100]
        assert len(busy.seen) == 1, "its round is still under way"
        await bench.mutation("app:put", name="n1", n=100)
        await bench.settle()
        bench.clock.tick = 0.0
        assert busy.values == [100] * 30


async def test_a_commit_that_makes_thousands_stale_keeps_no_mutation_waiting(tmp_path: Path) -> None:
    """Counted in looks at a clock that ticks: nothing that follows from a commit works on without looking."""
    async with open_bench(tmp_path, APP) as bench:
        watchers = [bench.watch("app:is_big", name="a") for _ in range(size(300, 5000))]
        busy = Watcher(bench.host)
        for at in range(size(200, 2000)):
            busy.subscribe("app:also", {"name": "a", "k": at})
        await bench.settle()
        bench.clock.tick = 1.0
        await bench.mutation("app:put", name="a", n=1000)
        turns = 0
        pending = bench.submit("mutation", "app:put", {"name": "b", "n": 1})
        while not pending.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns < 20
        assert not watchers[-1].values[0], "most have not been told yet"
        bench.clock.tick = 0.0
        await bench.settle()
        assert {watcher.value for watcher in watchers} == {True}


async def test_a_mistake_of_one_observer_is_not_the_others_business(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:

        class Broken:
            def settled(self, ts: int) -> None:
                raise RuntimeError("a mistake")

        loop = asyncio.get_running_loop()
        reported: list[Any] = []
        loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))
        broken = Broken()
        bench.host.live.subscribe(Call("app:number", b'{"name":"a"}'), broken)
        others = [bench.watch("app:number", name="a") for _ in range(3)]
        await bench.settle()
        assert [len(other.seen) for other in others] == [1, 1, 1]
        assert [str(problem) for problem in reported] == ["a mistake"]


async def test_who_keeps_asking_is_settled_all_the_same(tmp_path: Path) -> None:
    """Commits and requests to be settled come faster than rounds end."""
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(10):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        watcher = bench.watch("app:all_of_them")
        await bench.settle()
        bench.clock.tick = 1.0
        seen = len(watcher.seen)
        for n in range(60):
            await bench.mutation("app:put", name="n0", n=n)
            bench.host.live.request_settle(watcher)
        assert len(watcher.seen) > seen + 5
        await bench.settle()
        bench.clock.tick = 0.0
        assert watcher.value == [59, *range(1, 10)]


async def test_what_is_subscribed_to_during_a_round_is_not_older_than_that(tmp_path: Path) -> None:
    """Who has seen a write acknowledged, and then subscribes, must find it: also while a round of before goes on."""
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for at in range(30):
            await bench.mutation("app:put", name=f"n{at}", n=at)
        bench.clock.tick = 1.0
        watcher = bench.watch("app:all_of_them")
        for _ in range(5):
            await asyncio.sleep(0)
        await bench.mutation("app:put", name="n0", n=100)
        assert watcher.seen == [], "the round is under way"
        watcher.subscribe("app:number", {"name": "n0"})
        await bench.settle()
        bench.clock.tick = 0.0
        assert [together[1].value for together in watcher.seen] == [b"100.0"]


async def many_to_tell(bench: Bench) -> None:
    """Keep the live queries busy with telling observers that something changed."""
    for _ in range(60):
        bench.watch("app:number", name="filler")
    await bench.settle()


async def test_queries_that_become_one_lose_nobody(tmp_path: Path) -> None:
    """Two results of one query, of different times, become one again before most observers know of the change."""
    files = project_files(
        app=APP["functions/app.py"]
        + """
@query
async def by_time(ctx):
    name = "a" if ctx.now() < 1_750_000_010_000 else "b"
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    return [name, None if item is None else item["n"]]
"""
    )
    async with open_bench(tmp_path, files) as bench:
        watchers = [bench.watch("app:by_time") for _ in range(5)]
        await bench.settle()
        bench.clock.wall += 20_000_000_000
        late = bench.watch("app:by_time")
        await many_to_tell(bench)
        assert (len(bench.host.live), late.value) == (3, ["b", None])
        bench.clock.tick = 1.0
        await bench.mutation("app:put", name="filler", n=1)
        await bench.mutation("app:put", name="a", n=1)
        bench.host.live.request_settle(watchers[0])
        assert await watchers[0].next() == [["b", None]]
        assert len(bench.host.live) == 2
        assert watchers[4].value == ["a", None], "it has not been told yet"
        await bench.settle()
        bench.clock.tick = 0.0
        assert [watcher.value for watcher in watchers] == [["b", None]] * 5


async def test_a_query_that_is_split_loses_nobody(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        watchers = {name: bench.watch("app:sometimes", identity=user(name)) for name in ("ann", "bob", "cho")}
        await many_to_tell(bench)
        bench.clock.tick = 1.0
        await bench.mutation("app:put", name="filler", n=1)
        await bench.mutation("app:put", name="private", n=1)
        bench.host.live.request_settle(watchers["ann"])
        assert await watchers["ann"].next() == ["for ann"]
        assert watchers["cho"].value == "for everybody", "it has not been told yet"
        await bench.settle()
        bench.clock.tick = 0.0
        assert {name: watcher.value for name, watcher in watchers.items()} == {n: f"for {n}" for n in watchers}


@pytest.mark.parametrize("error", [SnapshotTooOld("gone"), Overloaded("TooBusy", "Try again.")])
async def test_what_is_refused_is_no_result_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Error
) -> None:
    monkeypatch.setattr("reactor.runtime.cache.OVERLOAD_RETRY_SECONDS", 0.0)
    async with open_bench(tmp_path, APP) as bench:
        await bench.mutation("app:put", name="a", n=1)
        executor = bench.host.executor
        run_query, refusals = executor.run_query, 3

        def refusing(call: Call, ts: int | None, finished: Callable[[QueryRun], None]) -> None:
            nonlocal refusals
            if refusals:
                refusals -= 1
                finished(QueryRun(Refused(error), ReadSet(), False))
            else:
                run_query(call, ts, finished)

        monkeypatch.setattr(executor, "run_query", refusing)
        watcher = bench.watch("app:number", "app:is_big", name="a")
        assert await watcher.next() == [1, False]
        assert len(watcher.seen) == 1
        assert refusals == 0
        await bench.settle()

        refusals = 1
        outcome = await bench.submit("query", "app:number", {"name": "b"})
        assert isinstance(outcome, Refused), "who asks once is told"
        assert value_of(await bench.submit("query", "app:number", {"name": "b"})) is None
