"""Nested calls: what an inner function sees, what is undone when it fails, and what stays."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor.errors import (
    ArgumentsInvalid,
    FunctionNotFound,
    InvalidArgument,
    InvalidFunctionCall,
    LimitExceeded,
    ReactorError,
    ReturnsInvalid,
    UnawaitedCallError,
)
from reactor.runtime.executions import AttemptEnded
from reactor.runtime.references import api, internal
from tests.runtime.hosts import Bench, failure, open_bench, project_files, success, user, value_of

pytestmark = pytest.mark.asyncio

APP = project_files(
    inner="""
import random
import time
from dataclasses import dataclass

@query
async def names(ctx) -> list[str]:
    return [item["name"] async for item in ctx.db.query("items")]

@query
def names_blocking(ctx) -> list[str]:
    return [item["name"] for item in ctx.db.query("items")]

@mutation
async def add(ctx, name: str, fails: bool = False) -> str:
    print("adding", name)
    id = await ctx.db.insert("items", {"name": name})
    if fails:
        raise ReactorError({"code": "NO", "name": name})
    return id

@mutation
def add_blocking(ctx, name: str, fails: bool = False) -> str:
    print("adding", name)
    id = ctx.db.insert("items", {"name": name})
    if fails:
        raise ReactorError({"code": "NO", "name": name})
    return id

@mutation
async def change_all(ctx, then: str):
    async for item in ctx.db.query("items"):
        if item["name"] == "drop":
            await ctx.db.delete(item["_id"])
        else:
            await ctx.db.patch(item["_id"], {"name": item["name"] + "!"})
    await ctx.db.insert("items", {"name": "new"})
    if then:
        raise ValueError(then)

@internal_mutation
async def hidden(ctx) -> str:
    return "hidden"

@mutation(args={"userId": v.string(), "n": v.integer()}, returns=v.object({"n": v.integer(), "who": v.string()}))
async def typed(ctx, user_id, n):
    assert type(n) is int
    return {"n": n, "who": user_id}

@mutation(returns=v.string())
async def wrong_result(ctx):
    await ctx.db.insert("items", {"name": "wrong"})
    return 5

@action
async def act(ctx):
    pass

@dataclass
class Point:
    x: int

@query
async def point(ctx, x: int) -> Point:
    return Point(x)

@query
async def who(ctx):
    return await ctx.auth.get_user_identity()

@query
async def moment(ctx):
    return [time.time(), ctx.now(), random.random()]

@query
async def mutable(ctx, box: dict) -> dict:
    box["inner"] = True
    return box

@mutation
async def deeper(ctx, left: int) -> int:
    await ctx.db.insert("items", {"name": f"depth {left}"})
    if left == 0:
        return 0
    return 1 + await ctx.run_mutation(deeper, left=left - 1)

@mutation
async def loop(ctx):
    await ctx.run_mutation("inner:loop")

@mutation
async def forgets(ctx):
    ctx.db.insert("items", {"name": "forgotten"})

@query
async def from_query(ctx, target: str):
    return await ctx.run_query(target)

@query
async def mutation_from_query(ctx):
    return await ctx.run_mutation(add, name="x")

@query
def blocking_from_query(ctx):
    return ctx.run_query(names) + ctx.run_query(names_blocking)

@mutation
async def gathers(ctx):
    return await asyncio.gather(*[ctx.db.insert("items", {"name": f"g{at}"}) for at in range(3)])
"""
)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, APP) as bench:
        yield bench


async def names(bench: Bench) -> list[str]:
    return await bench.query("inner:names")  # type: ignore[no-any-return]


# What is called, and how it is named.


async def test_a_function_is_named_in_every_form(bench: Bench) -> None:
    async def outer(ctx: Any) -> list[str]:
        add = bench.projects[-1].registry.functions["inner:add"].function
        await ctx.run_mutation(add, name="decorated")
        await ctx.run_mutation(api.inner.add, {"name": "api"})
        await ctx.run_mutation("inner:add", name="text")
        await ctx.run_mutation("inner.js:add", {"name": "js"})
        assert await ctx.run_mutation(internal.inner.hidden) == "hidden"
        return await ctx.run_query(api.inner.names)  # type: ignore[no-any-return]

    assert await bench.run(outer) == ["decorated", "api", "text", "js"]


@pytest.mark.parametrize("outer_is_async", [True, False])
@pytest.mark.parametrize("inner", ["add", "add_blocking"])
@pytest.mark.parametrize("tick", [0.0, 1.0])
async def test_async_and_blocking_functions_call_each_other(
    bench: Bench, outer_is_async: bool, inner: str, tick: float
) -> None:
    async def outer(ctx: Any) -> list[list[str]]:
        await ctx.db.insert("items", {"name": "own"})
        await ctx.run_mutation(f"inner:{inner}", name="child")
        return [await ctx.run_query("inner:names"), await ctx.run_query("inner:names_blocking")]

    def outer_blocking(ctx: Any) -> list[list[str]]:
        ctx.db.insert("items", {"name": "own"})
        ctx.run_mutation(f"inner:{inner}", name="child")
        return [ctx.run_query("inner:names"), ctx.run_query("inner:names_blocking")]

    bench.clock.tick = tick
    seen = await bench.run(outer if outer_is_async else outer_blocking)
    bench.clock.tick = 0.0
    assert seen == [["own", "child"]] * 2
    assert await names(bench) == ["own", "child"]


async def test_a_query_calls_queries_on_its_own_snapshot(bench: Bench) -> None:
    await bench.mutation("inner:add", name="a")
    assert await bench.query("inner:from_query", target="inner:names") == ["a"]
    assert await bench.query("inner:blocking_from_query") == ["a", "a"]


async def test_a_live_query_depends_on_what_its_nested_queries_read(bench: Bench) -> None:
    watcher = bench.watch("inner:from_query", target="inner:names")
    assert await watcher.next() == [[]]
    await bench.mutation("inner:add", name="a")
    assert await watcher.next() == [["a"]]


async def test_a_nested_look_at_the_identity_counts(bench: Bench) -> None:
    ada, bob = (bench.watch("inner:from_query", target="inner:who", identity=user(name)) for name in ("Ada", "Bob"))
    assert await ada.next() == [{"name": "Ada"}]
    await bench.settle()
    assert bob.value == {"name": "Bob"}


async def test_a_nested_function_has_the_time_of_the_outer_one_and_chance_of_its_own(bench: Bench) -> None:
    async def outer(ctx: Any) -> list[list[float]]:
        import random
        import time

        own = [time.time(), ctx.now(), random.random()]
        return [own, *[await ctx.run_query("inner:moment") for _ in range(2)]]

    drawn = await bench.run(outer)
    assert len({(now, milliseconds) for now, milliseconds, _ in drawn}) == 1
    assert len({chance for *_, chance in drawn}) == 3


async def test_arguments_and_results_are_checked_and_delivered_as_declared(bench: Bench) -> None:
    async def outer(ctx: Any) -> Any:
        point = await ctx.run_query("inner:point", x=3)
        typed = [
            await ctx.run_mutation("inner:typed", {"userId": "a", "n": 1}),
            await ctx.run_mutation("inner:typed", userId="a", n=1),
            await ctx.run_mutation("inner:typed", user_id="a", n=1),
        ]
        assert [type(result["n"]) for result in typed] == [int] * 3
        return [point.x, type(point).__name__, *typed]

    assert await bench.run(outer) == [3.0, "Point", *[{"n": 1.0, "who": "a"}] * 3]


async def test_no_object_is_shared_between_caller_and_callee(bench: Bench) -> None:
    async def outer(ctx: Any) -> list[Any]:
        box: dict[str, Any] = {"outer": True}
        returned = await ctx.run_query("inner:mutable", box=box)
        return [box, returned]

    assert await bench.run(outer) == [{"outer": True}, {"inner": True, "outer": True}]


@pytest.mark.parametrize(
    ("call", "expected", "text"),
    [
        (lambda ctx: ctx.run_mutation("inner:nope"), FunctionNotFound, "Could not find function for 'inner:nope'."),
        (lambda ctx: ctx.run_mutation("in ner:!"), FunctionNotFound, "is not a valid path to a Convex function"),
        (lambda ctx: ctx.run_mutation(5), InvalidArgument, "5 names no function"),
        (
            lambda ctx: ctx.run_query("inner:add", name="x"),
            InvalidFunctionCall,
            "Trying to execute inner.js:add as Query, but it is defined as Mutation.",
        ),
        (
            lambda ctx: ctx.run_mutation("inner:names"),
            InvalidFunctionCall,
            "Trying to execute inner.js:names as Mutation, but it is defined as Query.",
        ),
        (
            lambda ctx: ctx.run_mutation("inner:act"),
            InvalidFunctionCall,
            "Cannot call an Action function from a Mutation function",
        ),
        (lambda ctx: ctx.run_action("inner:act"), InvalidFunctionCall, "Cannot call an Action function"),
        (lambda ctx: ctx.run_mutation("inner:add"), ArgumentsInvalid, "Object is missing the required field `name`"),
        (lambda ctx: ctx.run_mutation("inner:add", name=1), ArgumentsInvalid, "Value does not match validator"),
        (lambda ctx: ctx.run_mutation("inner:add", name={1}), ArgumentsInvalid, "Invalid arguments for inner.js:add: "),
        (lambda ctx: ctx.run_mutation("inner:add", {"name": "x"}, name="y"), ArgumentsInvalid, "one dict, or keywords"),
        (lambda ctx: ctx.run_mutation("inner:add", "x"), ArgumentsInvalid, "one dict, or keywords"),
        (lambda ctx: ctx.run_mutation("inner:wrong_result"), ReturnsInvalid, "Value does not match validator"),
        (lambda ctx: ctx.run_mutation("inner:forgets"), UnawaitedCallError, r"db.insert\(\) at .*inner.py"),
    ],
)
async def test_what_is_wrong_with_a_call_can_be_caught(bench: Bench, call: Any, expected: Any, text: str) -> None:
    async def outer(ctx: Any) -> str:
        await ctx.db.insert("items", {"name": "kept"})
        with pytest.raises(expected, match=text):
            await call(ctx)
        return "caught"

    assert await bench.run(outer) == "caught"
    assert await names(bench) == ["kept"]


async def test_a_query_can_not_call_a_mutation(bench: Bench) -> None:
    expected = "Cannot call a Mutation function from a Query function"
    for path, args in (("inner:mutation_from_query", {}), ("inner:from_query", {"target": "inner:add"})):
        assert failure(await bench.submit("query", path, args)).detail.startswith(expected)


async def test_calls_nest_eight_deep(bench: Bench) -> None:
    assert await bench.mutation("inner:deeper", left=8) == 8
    error = failure(await bench.submit("mutation", "inner:loop")).error
    assert isinstance(error, LimitExceeded)
    assert error.rule == "MaximumCallDepthExceeded"
    assert str(error) == "Cross component call depth limit exceeded. Do you have an infinite loop in your app?"
    assert isinstance(failure(await bench.submit("mutation", "inner:deeper", {"left": 9})).error, LimitExceeded)


# What is undone, and what stays.


@pytest.mark.parametrize("inner", ["add", "add_blocking"])
async def test_a_failed_child_leaves_no_write_and_its_data_reaches_who_catches(bench: Bench, inner: str) -> None:
    async def outer(ctx: Any) -> Any:
        await ctx.db.insert("items", {"name": "before"})
        with pytest.raises(ReactorError) as caught:
            await ctx.run_mutation(f"inner:{inner}", name="undone", fails=True)
        assert await ctx.run_query("inner:names") == ["before"]
        await ctx.db.insert("items", {"name": "after"})
        return caught.value.data

    assert await bench.run(outer) == {"code": "NO", "name": "undone"}
    assert await names(bench) == ["before", "after"]


async def test_every_kind_of_write_is_undone_also_of_what_the_outer_function_wrote(bench: Bench) -> None:
    for name in ("old", "drop"):
        await bench.mutation("inner:add", name=name)

    async def outer(ctx: Any) -> list[list[str]]:
        first = await ctx.db.query("items").first()
        await ctx.db.patch(first["_id"], {"name": "patched"})
        await ctx.db.insert("items", {"name": "own"})
        seen = [await ctx.run_query("inner:names")]
        with pytest.raises(ValueError, match="later"):
            await ctx.run_mutation("inner:change_all", then="later")
        seen.append(await ctx.run_query("inner:names"))
        seen.append([item["name"] async for item in ctx.db.query("items").with_index("by_name")])
        await ctx.run_mutation("inner:change_all", then="")
        seen.append(await ctx.run_query("inner:names"))
        return seen

    seen = await bench.run(outer)
    assert seen == [
        ["patched", "drop", "own"],
        ["patched", "drop", "own"],
        ["drop", "own", "patched"],
        ["patched!", "own!", "new"],
    ]
    assert await names(bench) == ["patched!", "own!", "new"]


async def test_what_a_failed_child_succeeded_with_inside_is_undone_too(bench: Bench) -> None:
    async def outer(ctx: Any) -> None:
        with pytest.raises(LimitExceeded):
            await ctx.run_mutation("inner:deeper", left=20)

    await bench.run(outer)
    assert await names(bench) == []


async def test_the_reads_of_a_failed_child_still_conflict(bench: Bench) -> None:
    """Conformance 13: what the outer function did next depended on them."""
    attempts = []

    async def outer(ctx: Any) -> int:
        attempts.append(1)
        try:
            await ctx.run_mutation("inner:change_all", then="fails")
        except ValueError:
            pass
        await ctx.db.insert("counters", {"value": 1})
        if len(attempts) == 1:  # another mutation commits before this one does
            rival = bench.submit("mutation", "inner:add", {"name": "rival"})
            bench.host.queue._turn()
            rival.add_done_callback(lambda _: None)
        return len(attempts)

    assert await bench.run(outer) == 2
    assert await names(bench) == ["rival"]


async def test_writes_that_were_undone_do_not_count_but_reads_do(bench: Bench) -> None:
    async def outer(ctx: Any) -> list[int]:
        transaction = ctx._execution.documents.transaction
        await ctx.run_mutation("inner:add", name="kept")
        before = transaction.documents_written, transaction.bytes_written, transaction.documents_read
        with pytest.raises(ValueError, match="x"):
            await ctx.run_mutation("inner:change_all", then="x")
        after = transaction.documents_written, transaction.bytes_written, transaction.documents_read
        assert after[:2] == before[:2]
        return [before[2], after[2]]

    before, after = await bench.run(outer)
    assert after > before


async def test_log_lines_stay_under_the_path_of_their_function(bench: Bench) -> None:
    async def outer(ctx: Any) -> None:
        ctx._execution.ambient.log.add("LOG", "before")
        with pytest.raises(ReactorError):
            await ctx.run_mutation("inner:add", name="a", fails=True)
        ctx._execution.ambient.log.add("LOG", "after")

    assert success(await bench.start(outer)).log_lines == (
        "[LOG] 'before'",
        "[LOG] [inner:add] 'adding a'",
        "[LOG] 'after'",
    )


async def test_log_lines_of_nested_functions_count_in_the_outer_one(bench: Bench) -> None:
    async def outer(ctx: Any) -> None:
        for at in range(300):
            await ctx.run_mutation("inner:add", name=str(at))

    lines = success(await bench.start(outer)).log_lines
    assert len(lines) == 256
    assert lines[-1] == "[ERROR] Log overflow (maximum 256). Remaining log lines omitted."


async def test_the_ctx_of_a_nested_function_dies_with_it(bench: Bench) -> None:
    kept: list[Any] = []
    registry = bench.projects[-1].registry
    function = registry.functions["inner:hidden"].function

    async def keep(ctx: Any) -> str:
        kept.append(ctx)
        return "kept"

    object.__setattr__(function, "handler", keep)

    async def outer(ctx: Any) -> None:
        await ctx.run_mutation(function)
        with pytest.raises(RuntimeError, match="belongs to a function that has ended"):
            await kept[0].db.insert("items", {"name": "late"})
        await ctx.db.insert("items", {"name": "own"})

    await bench.run(outer)
    assert await names(bench) == ["own"]


async def test_a_decorated_function_called_directly_is_a_plain_call(bench: Bench) -> None:
    async def outer(ctx: Any) -> None:
        add = bench.projects[-1].registry.functions["inner:add"].function
        with pytest.raises(ReactorError):
            await add(ctx, name="kept", fails=True)

    await bench.run(outer)
    assert await names(bench) == ["kept"], "no sub-transaction, so nothing was undone"


# Side by side.


@pytest.mark.parametrize("tick", [0.0, 1.0], ids=["one slice", "a slice per call"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_gather_runs_its_calls_one_after_the_other_in_order(
    bench: Bench, tick: float, order: tuple[int, ...]
) -> None:
    """Conformance 31: a nested mutation that fails takes nothing of its siblings with it, wherever it stands."""

    async def outer(ctx: Any) -> list[Any]:
        calls = [
            lambda: ctx.run_mutation("inner:change_all", then="fails"),
            lambda: ctx.db.insert("items", {"name": "sibling"}),
            lambda: ctx.run_query("inner:names"),
        ]
        with pytest.raises(ValueError, match="fails"):
            await asyncio.gather(*(calls[at]() for at in order))
        results = await asyncio.gather(*(calls[at]() for at in order), return_exceptions=True)
        return [results[order.index(2)], await ctx.run_query("inner:names")]

    bench.clock.tick = tick
    seen, after = await bench.run(outer)
    bench.clock.tick = 0.0
    insert_first = order.index(1) < order.index(2)
    assert seen == ["sibling"] * (2 if insert_first else 1)
    assert after == await names(bench) == ["sibling", "sibling"]


@pytest.mark.parametrize("tick", [0.0, 1.0], ids=["one slice", "a slice per call"])
async def test_tasks_of_several_calls_take_turns_whatever_the_time(bench: Bench, tick: float) -> None:
    async def part(ctx: Any, name: str, fails: bool = False) -> None:
        await ctx.db.insert("items", {"name": f"{name}0"})
        await ctx.run_mutation("inner:add", name=f"{name}1")
        if fails:
            raise ValueError(name)
        await ctx.db.insert("items", {"name": f"{name}2"})

    async def outer(ctx: Any) -> None:
        with pytest.raises(ValueError, match="b"):
            await asyncio.gather(part(ctx, "a"), part(ctx, "b", fails=True), part(ctx, "c"))

    bench.clock.tick = tick
    await bench.run(outer)
    bench.clock.tick = 0.0
    assert await names(bench) == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "c2"]


@pytest.mark.parametrize("tick", [0.0, 1.0])
async def test_nested_functions_gather_too(bench: Bench, tick: float) -> None:
    async def outer(ctx: Any) -> None:
        await asyncio.gather(ctx.run_mutation("inner:gathers"), ctx.db.insert("items", {"name": "between"}))
        await ctx.run_mutation("inner:gathers")

    bench.clock.tick = tick
    await bench.run(outer)
    bench.clock.tick = 0.0
    assert await names(bench) == ["g0", "g1", "g2", "between", "g0", "g1", "g2"]


async def test_below_a_blocking_function_nobody_can_gather(bench: Bench) -> None:
    def outer(ctx: Any) -> str:
        with pytest.raises(InvalidFunctionCall, match="Make the caller `async def`"):
            ctx.run_mutation("inner:gathers")
        return "caught"

    assert await bench.run(outer) == "caught"
    await asyncio.sleep(0)
    assert await names(bench) == []


# Lost attempts.


@pytest.mark.parametrize("caught", [Exception, BaseException])
@pytest.mark.parametrize("gathered", [False, True])
async def test_no_handler_outlives_a_lost_attempt(bench: Bench, caught: type[BaseException], gathered: bool) -> None:
    """A handler that catches everything runs again all the same, and its leftovers change nothing."""
    await bench.mutation("inner:add", name="0")
    attempts: list[str] = []

    async def outer(ctx: Any) -> str:
        attempts.append("begun")
        item = await ctx.db.query("items").first()
        for _ in range(3):
            try:
                if gathered:
                    for result in await asyncio.gather(ctx.run_query("inner:names"), return_exceptions=True):
                        if isinstance(result, BaseException):
                            attempts.append(type(result).__name__)
                else:
                    await ctx.run_query("inner:names")
            except caught as error:
                attempts.append(type(error).__name__)
        await ctx.db.patch(item["_id"], {"name": item["name"] + "+"})
        return item["name"]  # type: ignore[no-any-return]

    bench.clock.tick = 1.0
    first, second = bench.start(outer), bench.start(outer)
    values = sorted([value_of(await first), value_of(await second)])
    bench.clock.tick = 0.0
    assert values == ["0", "0+"]
    assert await names(bench) == ["0++"]
    assert attempts.count("begun") == 3
    if caught is Exception and not gathered:
        assert set(attempts) == {"begun"}, "what ends an attempt is no Exception"
    assert not issubclass(AttemptEnded, Exception)
