"""Repeated runs: what is not deterministic is named, what is never is, and nothing of a repeat stays."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reactor.limits import MAX_REPEATS_WAITING, MIN_REPORT_SECONDS, Limits
from reactor.runtime.watchdog import SIGNAL
from reactor.storage.memory import MemoryPersistence
from tests.runtime.hosts import HEAD, Bench, failure, open_bench, project_files
from tests.sizes import size
from tests.storage.faults import FaultyPersistence

pytestmark = pytest.mark.asyncio

EVERY = Limits(determinism_sample=1)

PLANTED = """
import itertools, operator, datetime, logging

calls = itertools.count()
cache = {}
flag = [False]

class Odd:
    '''Hashes as the number of the call says: every second set of these is in reverse.'''
    def __init__(self, name):
        self.name = name
    def __hash__(self):
        return ord(self.name) % 8 ^ (7 if turn[0] % 2 else 0)

turn = [0]

def shuffled(*names):
    turn[0] += 1
    return [odd.name for odd in {Odd(name) for name in names}]

@query
async def of_a_set(ctx):
    return {"items": [{"n": 1, "name": "x"}, {"n": 1, "name": "y"}, {"n": 2, "name": shuffled("a", "c", "g")[0]}]}

@query
async def counted(ctx):
    return next(calls)

@mutation
async def counted_write(ctx):
    await ctx.db.insert("others", {"x": {"deep": [0, next(calls)]}})

@mutation
async def set_of_writes(ctx):
    for name in shuffled("a", "c", "g"):
        await ctx.db.insert("items", {"name": name})

@query
async def cached(ctx):
    if "names" not in cache:
        cache["names"] = [item["name"] for item in await ctx.db.query("items").collect()]
    return cache["names"]

@query
async def clock(ctx):
    return operator.methodcaller("now", datetime.timezone.utc)(datetime.datetime).timestamp()

@query
async def error(ctx):
    raise ReactorError({"code": next(calls)})

@query
async def other_error(ctx):
    raise ValueError(f"call {next(calls)}")

@query
async def sometimes(ctx):
    if next(calls) % 2:
        raise ValueError("odd")

@query
async def extra_read(ctx):
    await ctx.db.query("items").with_index("by_name", lambda q: q.eq("name", f"n{next(calls)}")).collect()

@mutation
async def one_more(ctx):
    for n in range(next(calls) % 2 + 1):
        await ctx.db.insert("others", {"x": n})

@mutation
async def deletes_once(ctx):
    item = await ctx.db.query("items").first()
    if item and next(calls) % 2 == 0:
        await ctx.db.delete(item["_id"])

@query
async def length(ctx):
    return [0] * (3 + next(calls) % 2)

@mutation
async def outer(ctx):
    return {"inner": await ctx.run_mutation("m:counted_write_and_tell")}

@internal_mutation
async def counted_write_and_tell(ctx):
    return {"n": next(calls)}

@query
async def slow_once(ctx):
    if next(calls) == 0:
        return "first"
    while True:
        pass
"""

CLEAN = """
import asyncio, logging, random, secrets, time, uuid

@mutation
async def everything(ctx, names: list[str], fail: bool):
    # Chance, time, ids, creation times, gather, nested calls that are undone, tables of the own: all of it is the
    # same again.
    ids = [await ctx.db.insert("items", {"name": name, "n": random.randrange(9)}) for name in names]
    stamps = [item["_creationTime"] for item in await asyncio.gather(*[ctx.db.get(i) for i in ids])]
    try:
        await ctx.run_mutation("m:inner", names=names, fail=fail)
    except ReactorError as error:
        stamps.append(error.data)
    if ids:
        await ctx.db.patch(ids[0], {"extra": [secrets.token_hex(4), str(uuid.uuid4()), time.time()]})
        await ctx.db.delete(ids[-1])
    print("seen")
    logging.getLogger("mine").warning("heard")
    return [ids, stamps, ctx.now(), [random.random() for _ in range(3)]]

@internal_mutation
async def inner(ctx, names: list[str], fail: bool):
    logging.getLogger("mine").warning("inside")
    made = [await ctx.db.insert("others", {"x": [name, random.random()]}) for name in names]
    seen = [(await ctx.db.get(i))["_creationTime"] for i in made]
    if fail:
        raise ReactorError([*made, *seen])

@query
async def listed(ctx):
    found = await ctx.db.query("items").with_index("by_name").order("desc").collect()
    first = await ctx.db.query("others").first()
    return [found, first, await ctx.run_query("m:few", n=2), random.random(), time.time_ns() // 1000]

@query
async def few(ctx, n: int):
    return [item["name"] async for item in ctx.db.query("items").filter(lambda q: q.gte(q.field("n"), n))][:3]

@query
def plain(ctx):
    return [ctx.db.query("items").count(), [item["name"] for item in ctx.db.query("items").take(2)]]

@mutation
async def moves(ctx):
    item = await ctx.db.query("items").first()
    if item is None:
        raise KeyError(object())
    await ctx.db.replace(item["_id"], {"name": item["name"] + "x", "n": random.randrange(5)})
    return item
"""


@asynccontextmanager
async def sampled(root: Path, text: str, limits: Limits = EVERY) -> AsyncIterator[Bench]:
    async with open_bench(root, project_files(m=text), limits=limits, development=True) as bench:
        yield bench


async def repeats(bench: Bench) -> None:
    """Wait until every repeat has ended."""
    sampler = bench.host.sampler
    assert sampler is not None
    for _ in range(100_000):
        if not sampler.waiting:
            return
        await asyncio.sleep(0)
    raise AssertionError("repeats don't come to an end")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "reactor.runtime.sampling"]


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("query", "of_a_set", "result.items[2].name"),
        ("query", "counted", "result"),
        ("mutation", "counted_write", "write others field x.deep[1]"),
        ("mutation", "set_of_writes", "write items field name"),
        ("query", "cached", "read _tables"),
        ("query", "clock", "result"),
        ("query", "error", "error.data.code"),
        ("query", "other_error", "error"),
        ("query", "sometimes", "result"),
        ("query", "extra_read", 'read items [name = "n0"]'),
        ("mutation", "one_more", "write others"),
        ("mutation", "deletes_once", "write items"),
        ("query", "length", "result[3]"),
        ("mutation", "outer", "result.inner.n"),
    ],
)
async def test_a_planted_difference_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, name: str, path: str
) -> None:
    async with sampled(tmp_path, PLANTED) as bench:
        await bench.run(lambda ctx: ctx.db.insert("items", {"name": "there"}))
        await bench.submit(kind, f"m:{name}")
        await repeats(bench)
    (text,) = told(caplog)
    assert text.startswith(f"m:{name} is not deterministic")
    assert f"differed at {path} (" in text
    assert "ctx.now()" in text


async def test_it_is_told_once_for_each_code_and_not_many_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with sampled(tmp_path, PLANTED) as bench:

        async def run(name: str) -> int:
            await bench.submit("mutation", f"m:{name}")
            await repeats(bench)
            return len(told(caplog))

        assert await run("counted_write") == 1
        assert await run("one_more") == 1, "too soon after the other"
        bench.clock.seconds += MIN_REPORT_SECONDS
        assert await run("counted_write") == 1, "known"
        assert await run("one_more") == 2, "it was not forgotten"
        bench.clock.seconds += MIN_REPORT_SECONDS
        await bench.push(project_files(m=PLANTED.replace("[0, next(calls)]", "[1, next(calls)]")))
        assert await run("counted_write") == 3, "edited, and still wrong"


@pytest.mark.parametrize("tick", [0.0, 1.0])
async def test_runs_that_are_suspended_are_repeated_on_their_snapshot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tick: float
) -> None:
    """What others commit between a run and its repeat is none of its business, at whatever pace either goes."""
    async with sampled(tmp_path, CLEAN, msgspec.structs.replace(EVERY, scan_check_entries=2)) as bench:
        bench.clock.tick = tick
        for n in range(3):
            await bench.mutation("m:everything", names=[f"a{n}", "b", "c"], fail=bool(n % 2))
        waiting = [
            bench.submit("query", "m:listed"),
            *[bench.submit("mutation", "m:everything", {"names": ["d", "e"], "fail": False}) for _ in range(3)],
            bench.submit("mutation", "m:moves"),
            bench.submit("query", "m:few", {"n": 1}),
        ]
        await asyncio.gather(*waiting)
        await repeats(bench)
    assert told(caplog) == []


@pytest.mark.parametrize("tick", [0.0, 1.0])
async def test_suspended_or_not_a_difference_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tick: float
) -> None:
    async with sampled(tmp_path, PLANTED) as bench:
        bench.clock.tick = tick
        await bench.submit("mutation", "m:set_of_writes")
        await repeats(bench)
    assert len(told(caplog)) == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("mutation"),
            st.just("everything"),
            st.fixed_dictionaries({"names": st.lists(st.sampled_from("abc"), max_size=3), "fail": st.booleans()}),
        ),
        st.sampled_from([("mutation", "moves", {}), ("query", "listed", {}), ("query", "plain", {})]),
        st.tuples(st.just("query"), st.just("few"), st.fixed_dictionaries({"n": st.integers(0, 4)})),
    ),
    max_size=8,
)


@settings(max_examples=size(15, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, tick=st.sampled_from([0.0, 0.002, 1.0]), together=st.booleans())
async def test_a_clean_function_is_never_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, steps: list[Any], tick: float, together: bool
) -> None:
    caplog.clear()
    async with sampled(tmp_path, CLEAN, msgspec.structs.replace(EVERY, scan_check_entries=2)) as bench:
        bench.clock.tick = tick
        calls = [(kind, f"m:{name}", args) for kind, name, args in steps]
        if together:
            await asyncio.gather(*[bench.submit(*call) for call in calls])
        else:
            for call in calls:
                await bench.submit(*call)
        await repeats(bench)
    assert told(caplog) == []


async def test_nothing_of_a_repeat_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Same ids, same data, same log lines, whether runs are repeated or not."""
    seen: list[Any] = []
    for development in (False, True):
        caplog.clear()
        async with open_bench(tmp_path, project_files(m=CLEAN), limits=EVERY, seed=5, development=development) as bench:
            given = [await bench.submit("mutation", "m:everything", {"names": ["a", "b"], "fail": True})]
            if development:
                await repeats(bench)
            given.append(await bench.submit("mutation", "m:everything", {"names": ["c", "d"], "fail": False}))
            if development:
                await repeats(bench)
            bench.host.queue.hold()
            stats = bench.host.executor.stats
            assert len(bench.host.database.retention) == 0, "every snapshot was given back"
            bench.host.queue.release()
            heard = [record.getMessage() for record in caplog.records if record.name == "mine"]
            seen.append((given, await bench.query("m:few", n=0), stats.mutations, stats.queries, heard))
    assert seen[0] == seen[1]
    assert seen[0][-1] == ["inside", "heard"] * 2


async def test_a_repeat_that_runs_into_a_limit_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = msgspec.structs.replace(EVERY, user_seconds=0.05)
    async with sampled(tmp_path, PLANTED, limits) as bench:
        assert await bench.query("m:slow_once") == "first"
        await repeats(bench)
        assert len(bench.host.database.retention) == 0
    assert told(caplog) == []


async def test_a_first_run_that_was_stopped_is_not_repeated(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(EVERY, user_seconds=0.05)
    text = "@query\nasync def spin(ctx):\n    while True:\n        pass\n"
    async with sampled(tmp_path, text, limits) as bench:
        assert "timed out" in failure(await bench.submit("query", "m:spin")).message
        assert bench.host.sampler is not None
        assert bench.host.sampler.waiting == 0


async def test_a_table_that_comes_to_be_meanwhile_is_no_difference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tables are looked up by name, in what is there now."""
    text = """
@query
async def look(ctx):
    return [d["x"] for d in await ctx.db.query("late").collect()]

@mutation
async def make(ctx):
    await ctx.db.insert("late", {"x": 1})
"""
    files = project_files(m=text) | {"schema.py": HEAD + "schema = define_schema({})"}
    async with open_bench(tmp_path, files, limits=EVERY, development=True) as bench:
        first = bench.submit("query", "m:look")
        await asyncio.gather(first, bench.submit("mutation", "m:make"))
        await repeats(bench)
    assert told(caplog) == []


async def test_one_run_in_so_many(tmp_path: Path) -> None:
    text = """
runs = [0]

@query
async def count(ctx, n: int):
    runs[0] += 1
    return 0
"""
    async with sampled(tmp_path, text, Limits(determinism_sample=5)) as bench:
        for n in range(20):
            await bench.query("m:count", n=n)
            await repeats(bench)
        module = next(iter(bench.projects)).namespace("m")
        assert module is not None
        assert module.runs == [20 + 4]


async def test_repeats_that_wait_are_bounded(tmp_path: Path) -> None:
    async with sampled(tmp_path, CLEAN) as bench:
        sampler = bench.host.sampler
        assert sampler is not None
        most = 0

        def look(_: object) -> None:
            nonlocal most
            most = max(most, sampler.waiting)

        calls = [bench.submit("query", "m:few", {"n": n}) for n in range(4 * MAX_REPEATS_WAITING)]
        for call in calls:
            call.add_done_callback(look)
        await asyncio.gather(*calls)
        await repeats(bench)
        assert 1 < most <= MAX_REPEATS_WAITING


async def test_off_and_not_sampled_cost_no_call(tmp_path: Path) -> None:
    """Counted, not timed: the Python functions called from the submission of a call to its outcome."""
    counts: list[Counter[Any]] = []
    for development in (False, False, True):  # the first fills what is kept for the life of the process
        async with open_bench(
            tmp_path, project_files(m=CLEAN), limits=Limits(determinism_sample=1 << 20), development=development
        ) as bench:
            await bench.query("m:plain")
            called: Counter[Any] = Counter()
            with profiled(lambda frame, called=called: called.update([frame.f_code.co_qualname])):
                await bench.query("m:few", n=1)
            counts.append(called)
    assert counts[1] == counts[2]
    assert not any(name.startswith(("Sample", "Record", "Repeat", "Replay", "no_sample")) for name in counts[1])


class profiled:
    """Tell of every call of a Python function inside the block."""

    def __init__(self, seen: Callable[[FrameType], None]) -> None:
        self._seen = seen

    def __enter__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})  # the watchdog's, which comes when it likes
        sys.setprofile(lambda frame, event, _: self._seen(frame) if event == "call" else None)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {SIGNAL})


async def test_a_repeat_goes_on_behind_everybody_else(tmp_path: Path) -> None:
    """Suspended, it does not stand in line with transactions that somebody waits for."""
    counts: list[int] = []
    for development in (False, True):
        async with open_bench(tmp_path, project_files(m=CLEAN), limits=EVERY, seed=1, development=development) as bench:
            queue, count = bench.host.queue, 0
            suspend = queue.suspend

            def counted(step: Callable[[], None], suspend: Any = suspend) -> None:
                nonlocal count
                count += 1
                suspend(step)

            queue.suspend = counted  # type: ignore[method-assign]
            bench.clock.tick = 1.0
            await bench.mutation("m:everything", names=["a", "b"], fail=False)
            if development:
                await repeats(bench)
            queue.suspend = suspend  # type: ignore[method-assign]
            counts.append(count)
    assert counts[0] > 2
    assert counts[0] == counts[1]


async def test_a_repeat_does_not_wait_for_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = """
calls = [0]

@mutation
async def fill(ctx):
    await ctx.db.insert("items", {"name": "a"})
    await ctx.db.insert("others", {"x": 1})

@query
async def one_of_two(ctx):
    calls[0] += 1
    await ctx.db.query(["others", "items"][calls[0] % 2]).collect()

@query
async def items(ctx):
    await ctx.db.query("items").collect()
"""
    storage = FaultyPersistence(MemoryPersistence())
    async with open_bench(tmp_path, project_files(m=text), storage=storage) as bench:
        await bench.mutation("m:fill")
    async with open_bench(tmp_path, project_files(m=text), storage=storage, limits=EVERY, development=True) as bench:
        await bench.query("m:items")
        await repeats(bench)
        await bench.query("m:one_of_two")
        await repeats(bench)
        table = bench.host.database.table("others")
        assert table is not None
        assert table.unloaded is not None
        assert len(bench.host.database.retention) == 0
    assert told(caplog) == []


async def test_an_attempt_that_was_given_up_is_not_compared_with_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = """
@mutation
async def both(ctx):
    return [await ctx.db.insert("items", {"name": "a"}), await ctx.db.insert("others", {"x": 1})]

@query
async def items(ctx):
    await ctx.db.query("items").collect()
"""
    storage = FaultyPersistence(MemoryPersistence())
    async with open_bench(tmp_path, project_files(m=text), storage=storage) as bench:
        await bench.mutation("m:both")
    limits = Limits(determinism_sample=1000)
    async with open_bench(tmp_path, project_files(m=text), storage=storage, limits=limits, development=True) as bench:
        await bench.query("m:items")
        executor = bench.host.executor
        executor.sample_at = executor.begun + 1
        begun = executor.begun
        await bench.mutation("m:both")  # the sampled attempt ends where a table must be loaded
        assert executor.begun == begun + 2
        await repeats(bench)
    assert told(caplog) == []
