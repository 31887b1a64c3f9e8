"""The two faces of `ctx`: chains of queries, ranges, iteration, identity and time."""

import datetime
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from reactor.engine.query import RangeError
from reactor.errors import InvalidArgument
from reactor.limits import Limits
from reactor.values.types import undefined
from tests.runtime.hosts import NO_FUNCTIONS, Form, as_coroutine, as_function, open_bench, project_files, user, value_of

Script = Generator[Any, Any, Any]

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=[as_coroutine, as_function], ids=["async", "blocking"])
def form(request: pytest.FixtureRequest) -> Form:
    made: Form = request.param
    return made


@pytest.mark.parametrize(
    ("chain", "text"),
    [
        (lambda q: q.order("asc").order("desc"), "Queries may only specify order at most once"),
        (lambda q: q.order("up"), 'order is "asc" or "desc", not \'up\''),
        (lambda q: q.with_index("by_name").with_index("by_n"), "A query can have only one with_index."),
        (
            lambda q: q.with_index("by_name", lambda r: r, name="a"),
            "with_index takes a range function or keyword equalities, not both.",
        ),
    ],
)
async def test_a_chain_that_makes_no_sense_is_refused(
    tmp_path: Path, form: Form, chain: Callable[[Any], Any], text: str
) -> None:
    def script(ctx: Any) -> Script:
        yield chain(ctx.db.query("items")).collect()

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(InvalidArgument) as caught:
            await bench.run(form(script))
    assert str(caught.value) == text


@pytest.mark.parametrize("again", ["collect", "first", "unique", "count"])
async def test_a_query_gives_its_results_once(tmp_path: Path, form: Form, again: str) -> None:
    def script(ctx: Any) -> Script:
        query = ctx.db.query("items")
        yield query.collect()
        yield getattr(query, again)()

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(InvalidArgument, match="This query is closed and can't emit any more values"):
            await bench.run(form(script))


async def test_a_range_is_built_by_calls_or_by_keywords(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        for n in (1, 2, 3, 4):
            yield ctx.db.insert("items", {"name": "a", "n": n})
        yield ctx.db.insert("items", {"name": "none"})

        def by_n(range: Any = None, **equals: Any) -> Any:
            return ctx.db.query("items").with_index("by_n", range, **equals)

        for query in (
            by_n(lambda q: q.gt("n", 1).lte("n", 3)),
            by_n(lambda q: q.gte("n", 2).lt("n", 3)),
            by_n(n=4),
            by_n(lambda q: q.eq("n", undefined)),
            by_n(lambda q: q.lt("n", 2)),
            by_n(lambda q: q.gt("n", 5)),
            by_n(lambda q: q.gt("n", 3).lt("n", 2)),
            by_n(n=2.0).order("desc"),
        ):
            seen.append([document.get("n") for document in (yield query.collect())])

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await bench.run(form(script))
    assert seen == [[2, 3], [2], [4], [None], [None, 1], [], [], [2]]


async def test_a_range_on_a_field_that_is_not_indexed_is_refused(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        yield ctx.db.query("items").with_index("by_n", name="a").collect()

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(RangeError) as caught:
            await bench.run(form(script))
    assert str(caught.value).startswith(
        'The index range included a comparison with "name", but items.by_n with fields ["n", "_creationTime"]'
    )


@pytest.mark.parametrize("call", [lambda db: db.get(), lambda db: db.patch("a"), lambda db: db.delete("a", "b", "c")])
async def test_the_wrong_number_of_arguments_is_a_type_error(
    tmp_path: Path, form: Form, call: Callable[[Any], Any]
) -> None:
    def script(ctx: Any) -> Script:
        yield call(ctx.db)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(TypeError, match=r"takes \d or \d arguments"):
            await bench.run(form(script))


async def test_iteration_ends_where_the_function_stops_it(tmp_path: Path) -> None:
    async def walk(ctx: Any) -> list[int]:
        found = []
        async for counter in ctx.db.query("counters"):
            found.append(counter["value"])
            if len(found) == 3:
                break
        async for counter in ctx.db.query("counters").order("desc"):
            found.append(counter["value"])
        return found

    def walk_blocking(ctx: Any) -> list[int]:
        found = []
        for counter in ctx.db.query("counters"):
            found.append(counter["value"])
            if len(found) == 3:
                break
        found.extend(counter["value"] for counter in ctx.db.query("counters").order("desc"))
        return found

    async with open_bench(tmp_path, NO_FUNCTIONS, limits=Limits(scan_check_entries=2)) as bench:

        def fill(ctx: Any) -> None:
            for value in range(5):
                ctx.db.insert("counters", {"value": value})

        await bench.run(fill)
        for tick in (0.0, 1.0):
            bench.clock.tick = tick
            assert await bench.run(walk) == await bench.run(walk_blocking) == [0, 1, 2, 4, 3, 2, 1, 0]


async def test_a_suspended_scan_returns_exactly_its_snapshot(tmp_path: Path) -> None:
    """The range is rewritten while the scan is suspended in it."""
    files = project_files(
        app="""
@query
async def values(ctx):
    return [[d["n"] async for d in ctx.db.query("items").with_index("by_n").order(o)] for o in ("asc", "desc")]
"""
    )
    async with open_bench(tmp_path, files, limits=Limits(scan_check_entries=1)) as bench:

        def fill(ctx: Any) -> list[str]:
            return [ctx.db.insert("items", {"name": "x", "n": n}) for n in range(10)]

        ids = await bench.run(fill)

        def rewrite(ctx: Any) -> None:
            for n, item in enumerate(ids):
                if n % 3 == 0:
                    ctx.db.delete(item)
                elif n % 3 == 1:
                    ctx.db.patch(item, {"n": 100 - n})
            ctx.db.insert("items", {"name": "y", "n": 4})

        bench.clock.tick = 1.0
        scan = bench.submit("query", "app:values")
        change = bench.start(rewrite)
        value_of(await change)
        assert not scan.done()
        up, down = value_of(await scan)
        bench.clock.tick = 0.0
        assert up == list(range(10))
        assert down == list(range(9, -1, -1))


async def test_identity_is_a_fresh_dict_or_none(tmp_path: Path) -> None:
    files = project_files(
        app="""
@query
async def me(ctx):
    first = await ctx.auth.get_user_identity()
    if first is not None:
        first["name"] = "changed"
    return await ctx.auth.get_user_identity()

@query
def me_blocking(ctx):
    return ctx.auth.get_user_identity()
"""
    )
    async with open_bench(tmp_path, files) as bench:
        for path in ("app:me", "app:me_blocking"):
            assert value_of(await bench.submit("query", path, identity=user("ann"))) == {"name": "ann"}
            assert value_of(await bench.submit("query", path)) is None


async def test_time_stands_still_inside_and_goes_on_outside(tmp_path: Path) -> None:
    files = project_files(
        app="""
import time
from datetime import datetime

@query
async def times(ctx):
    return [ctx.now(), time.time() * 1000, datetime.now().timestamp() * 1000, ctx.now()]
"""
    )
    async with open_bench(tmp_path, files) as bench:
        for _ in range(2):
            times = await bench.query("app:times")
            assert times == pytest.approx([bench.clock.wall / 1e6] * 4)
            bench.clock.wall += 3_600_000_000_000
    assert datetime.datetime.now().year > 2000


async def test_a_query_ctx_can_not_write(tmp_path: Path) -> None:
    files = project_files(app='@query\nasync def writes(ctx):\n    await ctx.db.insert("items", {"name": "a"})\n')
    async with open_bench(tmp_path, files) as bench:
        with pytest.raises(AttributeError):
            await bench.query("app:writes")
