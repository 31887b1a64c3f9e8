"""A law of live queries: at every timestamp an observer is told, each of its results is that of a fresh run there.

Mutations, subscriptions and their ends, questions asked once, deploys and moves of the clock come in any order, the
disk is slow at times, and slices end anywhere. What is asked once obeys the same law, whoever asked before.
"""

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.errors import SnapshotTooOld
from reactor.limits import Limits
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.runtime.rounds import LiveHandle
from reactor.runtime.runs import QueryRun
from reactor.values.json import decode_json
from tests.runtime.hosts import Bench, Watcher, open_bench, project_files, success, user, wire
from tests.sizes import size

APP = project_files(
    app="""
@mutation
async def put(ctx, name: str, n: float):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    if item is None:
        await ctx.db.insert("items", {"name": name, "n": n})
    else:
        await ctx.db.patch(item["_id"], {"n": n})

@mutation
async def add(ctx, name: str, n: float):
    await ctx.db.insert("items", {"name": name, "n": n})

@mutation
def remove(ctx, name: str):
    for item in ctx.db.query("items").with_index("by_name", name=name).take(2):
        ctx.db.delete(item["_id"])

@mutation
async def transfer(ctx, amount: float):
    first, second = await ctx.db.query("counters").take(2)
    await ctx.db.patch(first["_id"], {"value": first["value"] - amount})
    await ctx.db.patch(second["_id"], {"value": second["value"] + amount})

@mutation
def open_accounts(ctx):
    for _ in range(2):
        ctx.db.insert("counters", {"value": 100})

@query
async def total(ctx):
    return sum([counter["value"] async for counter in ctx.db.query("counters")])

@query
async def account(ctx, at: int):
    return [counter["value"] async for counter in ctx.db.query("counters")][at]

@query
async def named(ctx, name: str):
    return [item["n"] for item in await ctx.db.query("items").with_index("by_name", name=name).collect()]

@query
async def between(ctx, low: float, high: float):
    found = ctx.db.query("items").with_index("by_n", lambda q: q.gte("n", low).lt("n", high))
    return [[item["n"], item["name"]] async for item in found]

@query
def top(ctx, k: int):
    return [item["n"] for item in ctx.db.query("items").with_index("by_n").order("desc").take(k)]

@query
async def until(ctx, n: float):
    seen = []
    async for item in ctx.db.query("items"):
        seen.append(item["n"])
        if item["n"] == n:
            break
    return seen

@query
def count(ctx, low: float):
    return ctx.db.query("items").with_index("by_n", lambda q: q.gte("n", low)).count()

@query
async def mine(ctx):
    secret = await ctx.db.query("items").with_index("by_name", name="c").first()
    if secret is None:
        return "for everybody"
    identity = await ctx.auth.get_user_identity()
    return "for nobody" if identity is None else "for " + identity["name"]

@query
async def seen_at(ctx, name: str):
    item = await ctx.db.query("items").with_index("by_name", name=name).first()
    return [None if item is None else item["n"], ctx.now()]

@query
async def only(ctx, name: str):
    return (await ctx.db.query("items").with_index("by_name", name=name).unique() or {}).get("n")
"""
)

# The same project after an edit: one function answers differently, and one looks at who is calling from the start.
EDITED = {
    name: text.replace("return sum(", "return 0.0 + sum(")
    .replace('if secret is None:\n        return "for everybody"', "assert True")
    .replace('[item["n"], item["name"]]', '[item["name"], item["n"]]')
    for name, text in APP.items()
}

NAMES = st.sampled_from("abc")
NUMBERS = st.integers(0, 5)
IDENTITIES = st.sampled_from([ANONYMOUS, user("ann"), user("bob")])
QUERIES = st.one_of(
    st.just(("app:total", {})),
    st.builds(lambda at: ("app:account", {"at": at}), st.integers(0, 1)),
    st.builds(lambda name: ("app:named", {"name": name}), NAMES),
    st.builds(lambda low, high: ("app:between", {"low": low, "high": high}), NUMBERS, NUMBERS),
    st.builds(lambda k: ("app:top", {"k": k}), st.integers(0, 4)),
    st.builds(lambda n: ("app:until", {"n": n}), NUMBERS),
    st.builds(lambda low: ("app:count", {"low": low}), NUMBERS),
    st.just(("app:mine", {})),
    st.builds(lambda name: ("app:only", {"name": name}), NAMES),
    st.builds(lambda name: ("app:seen_at", {"name": name}), NAMES),
)
MUTATIONS = st.one_of(
    st.builds(lambda name, n: ("app:put", {"name": name, "n": n}), NAMES, NUMBERS),
    st.builds(lambda name, n: ("app:add", {"name": name, "n": n}), NAMES, NUMBERS),
    st.builds(lambda name: ("app:remove", {"name": name}), NAMES),
    st.builds(lambda amount: ("app:transfer", {"amount": amount}), NUMBERS),
)


class CheckingWatcher(Watcher):
    """Compares, inside each `settled`, what it holds with what a fresh run gives at that timestamp."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.host)
        self._bench = bench
        self.problems: list[str] = []

    def settled(self, ts: int) -> None:
        super().settled(ts)
        for handle in self.handles:
            fresh = fresh_run(self._bench, handle.call, ts)
            if not same(handle.call, fresh, held(handle)):
                self.problems.append(f"{handle.call.path} at {ts}: {held(handle)!r} instead of {fresh!r}")
        sums = {held(handle) for handle in self.handles if handle.call.path == "app:total"}
        if sums - {b"200.0"}:
            self.problems.append(f"a transfer was seen half done: {sums}")


def held(handle: LiveHandle) -> bytes | str | None:
    result = handle.result
    assert result is not None
    return result.value if result.error is None else result.error.detail


def same(call: Call, fresh: bytes | str | None, got: bytes | str | None) -> bool:
    """Whether `got` is as good as a fresh run; the time it shows may be an earlier one."""
    if call.path == "app:seen_at" and isinstance(fresh, bytes) and isinstance(got, bytes):
        (now_n, now), (n, then) = decode_json(fresh), decode_json(got)  # type: ignore[misc]
        return bool(n == now_n and then <= now)
    return fresh == got


def fresh_run(bench: Bench, call: Call, ts: int) -> bytes | str:
    """Run a query here and now, in one slice."""
    tick, bench.clock.tick = bench.clock.tick, 0.0
    bench.host.queue.start_slice()
    runs: list[QueryRun] = []
    bench.host.executor.run_query(call, ts, runs.append)
    bench.clock.tick = tick
    outcome = runs[0].outcome
    if isinstance(outcome, Success):
        return outcome.value
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome.detail


class LiveMachine(RuleBasedStateMachine):
    """Many observers of one host, against fresh runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.watchers: list[CheckingWatcher] = []
        self.pending: list[asyncio.Future[Outcome]] = []
        self.asked = 0
        self.problems: list[str] = []
        self.is_held = False

    def do(self, work: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return self.loop.run_until_complete(inside())

    @initialize(tick=st.sampled_from([0.0, 0.002, 1.0]))
    def open(self, tick: float) -> None:
        opening = open_bench(Path(self.folder.name), APP, limits=Limits(scan_check_entries=2, slice_ms=4.0))
        self.bench: Bench = self.do(lambda: self.stack.enter_async_context(opening))
        self.do(lambda: self.bench.mutation("app:open_accounts"))
        self.bench.clock.tick = tick
        self.watchers = [CheckingWatcher(self.bench) for _ in range(3)]

    @rule(mutation=MUTATIONS)
    def mutate(self, mutation: tuple[str, dict[str, Any]]) -> None:
        self.do(lambda: self.pending.append(self.bench.submit("mutation", *mutation)))

    @rule(query=QUERIES, at=st.integers(0, 2), identity=IDENTITIES)
    def subscribe(self, query: tuple[str, dict[str, Any]], at: int, identity: Identity) -> None:
        self.do(lambda: self.watchers[at].subscribe(*query, identity))

    @rule(query=QUERIES, identity=IDENTITIES)
    def ask(self, query: tuple[str, dict[str, Any]], identity: Identity) -> None:
        """Ask once; the answer is that of a fresh run, for this identity, not before what was durable when asked."""
        path, args = query
        call = Call(path, wire(args), identity)
        asked_at = self.bench.host.database.durable_ts

        def done(outcome: Outcome) -> None:
            self.asked -= 1
            assert isinstance(outcome, Success | Failure)
            now = self.bench.host.database.durable_ts
            fresh = [fresh_run(self.bench, call, now)] if outcome.ts < now else []
            with suppress(SnapshotTooOld):
                fresh.append(fresh_run(self.bench, call, outcome.ts))
            got = outcome.value if isinstance(outcome, Success) else outcome.detail
            if not any(same(call, one, got) for one in fresh):
                self.problems.append(f"{path} {args} for {identity.key!r}: {got!r} instead of {fresh}")
            if outcome.ts < asked_at and not same(call, fresh[0], got):
                self.problems.append(f"{path} answered of {outcome.ts}, asked at {asked_at}")

        def submit() -> None:
            self.bench.host.executor.submit_query(call, done)

        self.asked += 1
        self.do(submit)

    @rule(seconds=st.sampled_from([1, 20]))
    def wait(self, seconds: int) -> None:
        self.bench.clock.wall += seconds * 1_000_000_000

    @rule(files=st.sampled_from([APP, EDITED]))
    def deploy(self, files: dict[str, str]) -> None:
        self.release()
        self.do(lambda: self.bench.push(files))

    @precondition(lambda self: any(watcher.handles for watcher in self.watchers))
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        watcher = data.draw(st.sampled_from([watcher for watcher in self.watchers if watcher.handles]))
        handle = data.draw(st.sampled_from(watcher.handles))
        self.do(lambda: watcher.unsubscribe(handle))

    @rule(at=st.integers(0, 2))
    def leave(self, at: int) -> None:
        self.do(lambda: self.bench.host.live.forget(self.watchers[at]))
        self.watchers[at] = CheckingWatcher(self.bench)

    @rule()
    def hold(self) -> None:
        self.bench.storage.hold()
        self.is_held = True

    @rule()
    def release(self) -> None:
        self.bench.storage.release()
        self.is_held = False

    @rule(turns=st.integers(1, 12))
    def turn(self, turns: int) -> None:
        async def go_round() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.do(go_round)
        self.check()

    @rule()
    def settle(self) -> None:
        self.release()

        async def rest() -> None:
            for future in self.pending:
                success(await future)
            self.pending.clear()
            await self.bench.settle()

        self.do(rest)
        self.check()
        assert not self.asked, "every question is answered"
        now = self.bench.host.database.durable_ts
        for watcher in self.watchers:
            for handle in watcher.handles:
                assert handle.query.valid_at(now)
                assert handle.query.result is handle.result
                fresh = self.do(partial(fresh_run, self.bench, handle.call, now))
                assert same(handle.call, fresh, held(handle))

    def check(self) -> None:
        assert self.problems == []
        for watcher in self.watchers:
            assert watcher.problems == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "bench"):
                self.settle()
                for watcher in self.watchers:
                    self.do(partial(self.bench.host.live.forget, watcher))
                self.do(lambda: self.bench.settle())
                live = self.bench.host.live
                assert live.is_settled
                assert len(live) == len(live._places) == 0
                assert len(live.results.subscriptions) == len(live.results)
                assert not len(self.bench.host.database.retention)
        finally:
            self.do(lambda: self.stack.aclose())
            self.loop.close()
            self.folder.cleanup()


TestLiveQueries = LiveMachine.TestCase
TestLiveQueries.settings = settings(max_examples=size(15, 500), stateful_step_count=size(25, 60), deadline=None)


def test_the_check_can_fail() -> None:
    """With staleness never noticed, the same comparison finds the difference."""
    machine = LiveMachine()
    machine.open(0.0)
    try:
        machine.subscribe(("app:named", {"name": "a"}), 0, ANONYMOUS)
        machine.settle()
        live = machine.bench.host.live
        live.results._mark = lambda query, since, ts: None  # type: ignore[method-assign]
        machine.mutate(("app:put", {"name": "a", "n": 1}))
        machine.do(lambda: machine.pending.pop())
        (handle,) = machine.watchers[0].handles
        now = machine.bench.host.database.durable_ts
        assert handle.call.args == wire({"name": "a"})
        assert held(handle) != machine.do(lambda: fresh_run(machine.bench, handle.call, now))
    finally:
        machine.watchers.clear()
        machine.do(lambda: machine.stack.aclose())
        machine.loop.close()
        machine.folder.cleanup()
