"""Actions on the engine: every form, what they may call, how they end, and that nobody waits for them."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reactor.errors import (
    ArgumentsInvalid,
    Error,
    FunctionNotFound,
    FunctionTimeout,
    InvalidFunctionCall,
    LimitExceeded,
    NotSupported,
    ReactorError,
    ReturnsInvalid,
    TooManyRequests,
    Unavailable,
    UnawaitedCallError,
)
from reactor.limits import Limits
from reactor.runtime.actions.runs import Ended, Task
from reactor.runtime.calls import Call, Outcome
from reactor.values.json import decode_json
from tests.runtime.hosts import Bench, failure, open_bench, project_files, refusal, success, user, value_of

pytestmark = pytest.mark.asyncio

ITEMS = """
@query
async def names(ctx) -> list[str]:
    return [item["name"] for item in await ctx.db.query("items").collect()]

@internal_mutation
async def add(ctx, name: str) -> str:
    print("adding", name)
    return await ctx.db.insert("items", {"name": name})

@action
async def add_two(ctx, first: str, second: str) -> list[str]:
    print("begin")
    await asyncio.gather(ctx.run_mutation(add, name=first), ctx.run_mutation("items:add", {"name": second}))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        found = group.create_task(ctx.run_query(names))
    await asyncio.sleep(0)
    return sorted(found.result())

@action
def add_two_blocking(ctx, first: str, second: str) -> list[str]:
    ctx.run_mutation(add, name=first)
    ctx.run_mutation(add, {"name": second})
    return sorted(ctx.run_query(names))
"""

# What a test holds in its hand: functions of this module wait here, and say that they do.
GATES = """
import threading

opened = threading.Event()      # what a blocking function waits for
begun = threading.Semaphore(0)  # released by each function that has begun
seen = []
"""


def gates(bench: Bench) -> Any:
    return bench.projects[-1].modules["functions.gates"]


async def has_begun(bench: Bench, count: int = 1) -> None:
    for _ in range(count):
        assert await asyncio.to_thread(gates(bench).begun.acquire, timeout=30)


async def act(bench: Bench, path: str, /, **args: object) -> Any:
    return value_of(await bench.submit("action", path, args))


async def test_the_time_is_as_exact_as_that_of_mutations(tmp_path: Path) -> None:
    clock = """
@action
async def now(ctx):
    return ctx.now()

@mutation
async def frozen(ctx):
    return ctx.now()
"""
    async with open_bench(tmp_path, project_files(clock=clock)) as bench:
        bench.clock.wall = 1750000000000000123  # which is another number of milliseconds when it is made a float first
        assert await act(bench, "clock:now") == await bench.mutation("clock:frozen")


# What they may call.


async def test_both_forms_run_queries_mutations_and_actions(tmp_path: Path) -> None:
    outer = """
from functions.items import add_two, add_two_blocking

@action
async def both(ctx) -> list[str]:
    await ctx.run_action(add_two_blocking, first="x", second="y")
    return await ctx.run_action(add_two, first="a", second="b")

@action
def both_blocking(ctx) -> list[str]:
    ctx.run_action(add_two_blocking, first="X", second="Y")
    return ctx.run_action("items:addTwo", first="A", second="B")
"""
    async with open_bench(tmp_path, project_files(items=ITEMS, outer=outer)) as bench:
        assert await act(bench, "items:add_two", first="2", second="1") == ["1", "2"]
        assert await act(bench, "items:add_two_blocking", first="4", second="3") == ["1", "2", "3", "4"]
        assert await act(bench, "outer:both") == ["1", "2", "3", "4", "a", "b", "x", "y"]
        outcome = success(await bench.submit("any", "outer:both_blocking"))
        assert decode_json(outcome.value) == ["1", "2", "3", "4", "A", "B", "X", "Y", "a", "b", "x", "y"]
        assert sorted(outcome.log_lines) == [
            "[LOG] [items:add_two] 'begin'",
            "[LOG] [items:add_two] [items:add] 'adding A'",
            "[LOG] [items:add_two] [items:add] 'adding B'",
            "[LOG] [items:add_two_blocking] [items:add] 'adding X'",
            "[LOG] [items:add_two_blocking] [items:add] 'adding Y'",
        ]


async def test_each_call_is_a_transaction_of_its_own(tmp_path: Path) -> None:
    """What was done stays done when the action fails; a query sees what was done before it, here and elsewhere."""
    functions = (
        ITEMS
        + """
@action
async def fail_later(ctx):
    before = await ctx.run_query(names)
    await ctx.run_mutation(add, name="kept")
    assert (before, await ctx.run_query(names)) == ([], ["kept"])
    raise ReactorError("too late")
"""
    )
    async with open_bench(tmp_path, project_files(items=functions)) as bench:
        with pytest.raises(ReactorError, match="too late"):
            await act(bench, "items:fail_later")
        assert await bench.query("items:names") == ["kept"]


async def test_concurrent_appends_are_not_lost(tmp_path: Path) -> None:
    functions = (
        ITEMS
        + """
@internal_mutation
async def increment(ctx):
    counter = await ctx.db.query("counters").first()
    if counter is None:
        await ctx.db.insert("counters", {"value": 1})
    else:
        await ctx.db.patch(counter["_id"], {"value": counter["value"] + 1})

@query
async def total(ctx) -> int:
    return (await ctx.db.query("counters").unique())["value"]

@action
async def append(ctx, start: int):
    both = [(ctx.run_mutation(add, name=str(start + n)), ctx.run_mutation(increment)) for n in range(10)]
    await asyncio.gather(*(call for pair in both for call in pair))
"""
    )
    async with open_bench(tmp_path, project_files(items=functions)) as bench:
        await asyncio.gather(*(act(bench, "items:append", start=10 * number) for number in range(5)))
        assert sorted(await bench.query("items:names"), key=int) == [str(n) for n in range(50)]
        assert await bench.query("items:total") == 50


IDENTITY = """
@query
async def q(ctx) -> Any:
    return (await ctx.auth.get_user_identity() or {}).get("name")

@mutation
async def m(ctx) -> Any:
    return (await ctx.auth.get_user_identity() or {}).get("name")

@action
async def a(ctx, path: str) -> Any:
    kind = path.partition(":")[2]
    return await (ctx.run_query(path) if kind == "q" else ctx.run_mutation(path))

@action
def b(ctx, path: str) -> Any:
    kind = path.partition(":")[2]
    return ctx.run_query(path) if kind == "q" else ctx.run_mutation(path)

@action
async def own(ctx, path: str) -> Any:
    return (await ctx.auth.get_user_identity() or {}).get("name")

@action
def own_blocking(ctx, path: str) -> Any:
    return (ctx.auth.get_user_identity() or {}).get("name")

@action
async def nested(ctx, inner: str, path: str) -> Any:
    return await ctx.run_action(inner, path=path)

@action
def nested_blocking(ctx, inner: str, path: str) -> Any:
    return ctx.run_action(inner, path=path)
"""


async def test_the_identity_goes_along_in_every_combination(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(who="from typing import Any\n" + IDENTITY)) as bench:
        for name, identity in (("alice", user("alice")), ("bob", user("bob"))):
            for inner in ("a", "b", "own", "own_blocking"):
                for path in ("who:q", "who:m"):
                    args = {"inner": f"who:{inner}", "path": path}
                    for outer in ("nested", "nested_blocking"):
                        told = await bench.submit("action", f"who:{outer}", args, identity=identity)
                        assert value_of(told) == name
        assert await act(bench, "who:nested", inner="who:a", path="who:q") is None


ERRORS = """
@query
async def q(ctx, data):
    raise ReactorError(data)

@mutation
async def m(ctx, data):
    raise ReactorError(data)

@action
async def a(ctx, data):
    raise ReactorError(data)

@action
def b(ctx, data):
    raise ReactorError(data)

@action
async def catch(ctx, name, data):
    run = {"q": ctx.run_query, "m": ctx.run_mutation}.get(name, ctx.run_action)
    try:
        await run(f"bad:{name}", data=data)
    except ReactorError as error:
        assert error.data == data, error.data
        raise

@action
def catch_blocking(ctx, name, data):
    run = {"q": ctx.run_query, "m": ctx.run_mutation}.get(name, ctx.run_action)
    try:
        run(f"bad:{name}", data=data)
    except ReactorError as error:
        assert error.data == data, error.data
        raise

@mutation
def boom(ctx):
    raise ValueError("boom")

@action
async def let_boom(ctx):
    await ctx.run_mutation(boom)

@action
async def catch_boom(ctx) -> str:
    try:
        await ctx.run_action(let_boom)
    except ValueError as error:
        return f"caught {error}"
"""


@pytest.mark.parametrize("data", [{"code": "NO", "list": [1.0, None]}, "text", 1.5, None, [True]], ids=str)
async def test_data_of_errors_survives_every_hop(tmp_path: Path, data: Any) -> None:
    async with open_bench(tmp_path, project_files(bad=ERRORS)) as bench:
        for outer in ("catch", "catch_blocking"):
            for name in ("q", "m", "a", "b"):
                told = failure(await bench.submit("action", f"bad:{outer}", {"name": name, "data": data}))
                assert told.data is not None
                assert decode_json(told.data) == data


async def test_other_errors_keep_their_type_and_their_place(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(bad=ERRORS)) as bench:
        told = failure(await bench.submit("action", "bad:let_boom"))
        text = r"Uncaught ValueError: boom\n    at boom \(.*:\d+\)\n    at let_boom \(.*:\d+\)"
        assert re.fullmatch(text, told.detail), told.detail
        assert await act(bench, "bad:catch_boom") == "caught boom"


async def test_redaction_leaves_the_data_and_nothing_else(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(bad=ERRORS, items=ITEMS), redact=True) as bench:
        told = failure(await bench.submit("action", "bad:catch", {"name": "m", "data": 7.0}))
        assert (told.message, told.data) == ("[Request ID: 00000000deadbeef] Server Error", b"7.0")
        assert success(await bench.submit("action", "items:add_two", {"first": "a", "second": "b"})).log_lines == ()


CALLS = """
@query
async def typed(ctx, n: int) -> int:
    return n

@action(args={"n": v.integer()}, returns=v.integer())
async def checked(ctx, n):
    return n if n < 5 else str(n)

@action
async def run(ctx, kind: str, path: str, args: dict) -> Any:
    return await getattr(ctx, "run_" + kind)(path, args)

@action
def run_blocking(ctx, kind: str, path: str, args: dict) -> Any:
    return getattr(ctx, "run_" + kind)(path, args)
"""


@pytest.mark.parametrize("form", ["run", "run_blocking"])
async def test_what_is_wrong_with_a_call_is_raised_at_the_call(tmp_path: Path, form: str) -> None:
    async with open_bench(tmp_path, project_files(calls="from typing import Any\n" + CALLS)) as bench:

        async def run(kind: str, path: str, **args: object) -> Any:
            return await act(bench, f"calls:{form}", kind=kind, path=path, args=args)

        assert await run("query", "calls:typed", n=3) == 3
        assert await run("action", "calls:checked", n=3) == 3
        for kind in ("query", "mutation", "action"):
            with pytest.raises(FunctionNotFound, match="Could not find function for 'calls:nope'"):
                await run(kind, "calls:nope")
        with pytest.raises(FunctionNotFound, match="not a valid path"):
            await run("query", "calls:no such")
        with pytest.raises(InvalidFunctionCall, match=r"calls\.js:typed as Mutation, but it is defined as Query"):
            await run("mutation", "calls:typed", n=3)
        with pytest.raises(InvalidFunctionCall, match=r"calls\.js:typed as Action, but it is defined as Query"):
            await run("action", "calls:typed", n=3)
        with pytest.raises(ArgumentsInvalid, match="required field `n`"):
            await run("query", "calls:typed")
        with pytest.raises(ArgumentsInvalid, match=r"Path: \.n\nValue: \"x\""):
            await run("action", "calls:checked", n="x")
        with pytest.raises(ReturnsInvalid, match=r"Value: \"7\""):
            await run("action", "calls:checked", n=7)


async def test_arguments_and_results_are_checked_and_bounded(tmp_path: Path) -> None:
    functions = """
@action
async def echo(ctx, n: int) -> int:
    return n

@action
def huge(ctx, size: int):
    return "x" * size

@action
async def no_value(ctx):
    return object()
"""
    async with open_bench(tmp_path, project_files(m=functions)) as bench:
        told = failure(await bench.submit("action", "m:echo", {"n": "1"}))
        assert told.detail.startswith("ArgumentValidationError: Value does not match validator.\nPath: .n\n")
        assert (await act(bench, "m:huge", size=10)) == "x" * 10
        told = failure(await bench.submit("action", "m:huge", {"size": 17 << 20}))
        assert told.detail == "Function m.js:huge return value is too large (actual: 17.00 MiB, limit: 16 MiB)"
        told = failure(await bench.submit("action", "m:no_value"))
        assert told.detail.startswith("Function m.js:no_value return value invalid: ")


async def test_actions_are_nested_no_deeper_than_8(tmp_path: Path) -> None:
    functions = """
@action
async def down(ctx, left: int) -> int:
    return 1 + (await ctx.run_action("m:down_blocking", left=left - 1) if left else 0)

@action
def down_blocking(ctx, left: int) -> int:
    return 1 + (ctx.run_action("m:down", left=left - 1) if left else 0)
"""
    async with open_bench(tmp_path, project_files(m=functions)) as bench:
        assert await act(bench, "m:down", left=8) == 9
        with pytest.raises(LimitExceeded, match="Cross component call depth limit exceeded") as caught:
            await act(bench, "m:down", left=9)
        assert caught.value.rule == "MaximumCallDepthExceeded"


async def test_8_calls_are_under_way_and_1000_wait(tmp_path: Path) -> None:
    functions = """
from functions import gates

running, peak = 0, 0
full, done = asyncio.Event(), asyncio.Event()

@action
async def child(ctx):
    global running, peak
    running += 1
    peak = max(peak, running)
    if running == 8:
        full.set()
    await done.wait()
    running -= 1

@query
async def nothing(ctx):
    pass

@action
async def parent(ctx, calls: int):
    children = [asyncio.create_task(ctx.run_action(child)) for _ in range(8)]
    await full.wait()
    waiting = [asyncio.create_task(ctx.run_query(nothing)) for _ in range(calls)]
    ended, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=0 if calls <= 1000 else None)
    refused = [str(task.exception()) for task in ended]
    done.set()
    await asyncio.gather(*children)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    return [peak, refused, len([result for result in results if result is None])]
"""
    async with open_bench(tmp_path, project_files(m=functions, gates=GATES)) as bench:
        peak, refused, answered = await act(bench, "m:parent", calls=1001)
        assert (peak, answered) == (8, 1000)
        assert refused == ["An action may have 1000 calls on ctx waiting; await some before the next."]


async def test_other_parts_of_ctx_reach_the_engine_through_the_port(tmp_path: Path) -> None:
    functions = (
        ITEMS
        + """
async def insert(ctx):
    return await ctx.db.insert("items", {"name": (await ctx.auth.get_user_identity())["name"]})

@action
async def both(ctx):
    await ctx._port.mutate(insert)
    await ctx._port.mutate(lambda ctx: ctx.db.insert("items", {"name": "second"}))
    assert ctx._port.call.job is None
    return await ctx._port.query(lambda ctx: ctx.db.query("items").count())

@action
def both_blocking(ctx):
    ctx._port.mutate(insert)
    try:
        ctx._port.query(insert)
    except AttributeError:
        return ctx._port.query(lambda ctx: ctx.db.query("items").count())
"""
    )
    async with open_bench(tmp_path, project_files(items=functions)) as bench:
        assert value_of(await bench.submit("action", "items:both", identity=user("a"))) == 2
        assert value_of(await bench.submit("action", "items:both_blocking", identity=user("b"))) == 3
        assert await bench.query("items:names") == ["a", "second", "b"]


# What they may do.


async def test_actions_may_do_anything(tmp_path: Path) -> None:
    functions = """
import os, random, socket, subprocess, sys, tempfile, threading, time

def look():
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    socket.socket().close()
    left, right = socket.socketpair()
    left.sendall(b"x")
    assert right.recv(1) == b"x"
    left.close(), right.close()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    time.sleep(0)
    return [os.environ["PATH"] != "", random.random() != random.random(), abs(time.time() - time.monotonic()) > 1]

@action
async def everything(ctx):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=subprocess.PIPE)
    printed, _ = await process.communicate()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
    assert await asyncio.wait_for(asyncio.to_thread(look), 10) == [True] * 3
    return [printed.decode().strip(), *look(), ctx.now() > 1.7e12]

@action
def everything_blocking(ctx):
    return ["1", *look(), ctx.now() > 1.7e12]
"""
    async with open_bench(tmp_path, project_files(m=functions)) as bench:
        assert await act(bench, "m:everything") == ["1", True, True, True, True]
        assert await act(bench, "m:everything_blocking") == ["1", True, True, True, True]


async def test_what_is_logged_anywhere_in_an_action_is_its_log(tmp_path: Path) -> None:
    functions = """
import logging, sys

def in_thread():
    print("thread")

@action
async def talk(ctx):
    print("start", 1)
    logging.info("info")
    logging.getLogger("mine").warning("%s", "warn")
    print("bad", file=sys.stderr)
    await asyncio.to_thread(in_thread)
    await asyncio.gather(whisper())

async def whisper():
    print("task")

@action
def talk_blocking(ctx):
    print("start", 1)
    raise ValueError("no")
"""
    async with open_bench(tmp_path, project_files(m=functions)) as bench:
        assert success(await bench.submit("action", "m:talk")).log_lines == (
            "[LOG] 'start 1'",
            "[INFO] 'info'",
            "[WARN] 'warn'",
            "[ERROR] 'bad'",
            "[LOG] 'thread'",
            "[LOG] 'task'",
        )
        assert failure(await bench.submit("action", "m:talk_blocking")).log_lines == ("[LOG] 'start 1'",)


async def test_vector_search_and_the_database_say_what_is_missing(tmp_path: Path) -> None:
    functions = """
@action
async def search(ctx):
    return await ctx.vector_search("docs", "by_embedding", vector=[1.0, 2.0], limit=3)

@action
async def read(ctx):
    return await ctx.db.query("items").collect()
"""
    async with open_bench(tmp_path, project_files(m=functions)) as bench:
        with pytest.raises(NotSupported, match=r"docs\.by_embedding"):
            await act(bench, "m:search")
        with pytest.raises(AttributeError, match="run_query"):
            await act(bench, "m:read")


# Calls that nobody waits for.

CARELESS = (
    ITEMS
    + """
kept = []

@action
async def forgets(ctx):
    ctx.run_mutation(add, name="never")
    return 1

@action
async def forgets_a_task(ctx):
    asyncio.create_task(ctx.run_mutation(add, name="never"))
    return 1

@action
async def leaves_a_task(ctx):
    async def forever():
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            kept.append("cancelled")
            raise
    kept.append(asyncio.create_task(forever()))
    await asyncio.sleep(0)
    return 1

@action
async def keeps_ctx(ctx):
    kept.append(ctx)

@action
async def uses_kept(ctx):
    await kept[0].run_query(names)

@action
def keeps_ctx_blocking(ctx):
    kept.append(ctx)

@action
def uses_kept_blocking(ctx):
    kept[0].run_query(names)
"""
)


async def test_a_call_that_is_never_awaited_fails_the_action(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(items=CARELESS)) as bench:
        for name in ("forgets", "forgets_a_task"):
            with pytest.raises(UnawaitedCallError) as caught:
                await act(bench, f"items:{name}")
            place = r"1 call\(s\) were made but never awaited: ctx\.run_mutation\(\) at .*functions/items\.py:\d+\."
            assert re.match(place, str(caught.value))
        assert await bench.query("items:names") == []


async def test_a_task_that_is_left_behind_is_cancelled_and_named(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(items=CARELESS)) as bench:
        outcome = success(await bench.submit("action", "items:leaves_a_task"))
        (line,) = outcome.log_lines
        assert line.startswith("[WARN] 1 task(s) still ran when the action ended, and were cancelled: leaves_a_task")
        await act(bench, "items:add_two", first="a", second="b")  # a turn of that loop later
        assert bench.projects[-1].modules["functions.items"].kept[1:] == ["cancelled"]


@pytest.mark.parametrize("form", ["", "_blocking"])
async def test_ctx_dies_with_its_action(tmp_path: Path, form: str) -> None:
    async with open_bench(tmp_path, project_files(items=CARELESS)) as bench:
        await act(bench, f"items:keeps_ctx{form}")
        with pytest.raises(RuntimeError, match="an action that has ended"):
            await act(bench, f"items:uses_kept{form}")


# Limits.

SLOW = """
from functions import gates

@internal_mutation
async def add(ctx, name: str):
    await ctx.db.insert("items", {"name": name})

@query
async def names(ctx) -> list[str]:
    return [item["name"] for item in await ctx.db.query("items").collect()]

@action
async def waits(ctx):
    print("waiting")
    gates.begun.release()
    try:
        await asyncio.sleep(1e6)
    finally:
        await ctx.run_mutation(add, name="cleaned up")

@action
async def stubborn(ctx):
    gates.begun.release()
    for _ in range(2):
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            pass
    return "never"

@action
async def blocks(ctx):
    gates.begun.release()
    gates.opened.wait()
    return "opened"

@action
def blocks_blocking(ctx):
    print("waiting")
    gates.begun.release()
    gates.opened.wait()
    try:
        ctx.run_mutation(add, name="too late")
    except Exception as error:
        gates.seen.append(repr(error))
        gates.begun.release()
    return "opened"

@action
async def quick(ctx):
    return "quick"

@action
def quick_blocking(ctx):
    return "quick"

@action
async def calls(ctx, path: str):
    return await ctx.run_action(path)

@action
def calls_blocking(ctx, path: str):
    return ctx.run_action(path)

@action
async def gives_up(ctx):
    waiting = asyncio.create_task(ctx.run_action(waits))
    await asyncio.to_thread(gates.begun.acquire)
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        await asyncio.to_thread(gates.opened.wait)
        return "gave up"
"""
TIMED_OUT = "Function execution timed out (maximum duration: 0.05s)"


@asynccontextmanager
async def slow_bench(root: Path, **limits: Any) -> AsyncIterator[Bench]:
    """Open a host with slow actions, none of which outlives the test."""
    async with open_bench(root, project_files(slow=SLOW, gates=GATES), limits=Limits(**limits)) as bench:
        opened = gates(bench).opened
        try:
            yield bench
        finally:
            opened.set()


@pytest.mark.parametrize("path", ["slow:waits", "slow:stubborn", "slow:blocks", "slow:blocks_blocking"])
@pytest.mark.parametrize("outer", [None, "slow:calls", "slow:calls_blocking"])
async def test_an_action_ends_when_its_time_is_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str, outer: str | None
) -> None:
    """It is cancelled where that can be done; who does not end is left to itself, and named."""
    grace = 30 if path == "slow:waits" else 0.2
    async with slow_bench(tmp_path, action_seconds=0.05, action_grace_seconds=grace, shutdown_seconds=60) as bench:
        running = bench.submit("action", outer or path, {"path": path} if outer else {})
        if outer is None:
            for _ in range(5):
                await asyncio.sleep(0)
            # On the engine's thread, so that its time is not up before it has begun.
            assert gates(bench).begun.acquire(timeout=30)
        told = failure(await running)
        assert isinstance(told.error, FunctionTimeout)
        assert told.detail.startswith(TIMED_OUT)
        assert len(bench.host.actions) == 0 or outer is not None
        if path == "slow:waits" and outer is None:
            assert told.log_lines == ("[LOG] 'waiting'",)
            assert await bench.query("slow:names") == ["cleaned up"]
            assert re.search(r"\n    at waits \(.*slow\.py:\d+\)", told.detail)
        if path != "slow:waits" and outer is None:
            (record,) = [line for line in caplog.messages if "was stopped but goes on" in line]
            assert re.search(rf"{path} was stopped but goes on, at .*slow\.py:\d+ in \w+", record)
        gates(bench).opened.set()
        if path == "slow:blocks_blocking" and outer is None:
            await has_begun(bench)
            assert "TimeIsUp" not in gates(bench).seen[0]
            assert await bench.query("slow:names") == [], "it has no ctx any more"


async def test_a_call_that_nobody_waits_for_is_cancelled(tmp_path: Path) -> None:
    async with slow_bench(tmp_path) as bench:
        watcher = bench.watch("slow:names")
        await watcher.next()
        outer = bench.submit("action", "slow:gives_up")
        while watcher.value != ["cleaned up"]:
            await watcher.next()
        gates(bench).opened.set()
        assert value_of(await outer) == "gave up"


async def test_an_action_waits_for_a_place_for_a_while(tmp_path: Path) -> None:
    async with slow_bench(tmp_path, actions=1, action_wait_seconds=0.05) as bench:
        first = bench.submit("action", "slow:blocks_blocking")
        await has_begun(bench)
        patient: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        bench.host.executor.submit_action(Call("slow:quick", b"{}"), patient.set_result, is_patient=True)
        refused = refusal(await bench.submit("action", "slow:quick"))
        assert isinstance(refused.error, TooManyRequests)
        assert (refused.error.code, refused.error.status) == ("TooManyConcurrentRequests", 429)
        assert str(refused.error).startswith(
            "Too many concurrent requests. Your backend is limited to 1 concurrent actions. "
        )
        assert not patient.done()
        gates(bench).opened.set()
        assert value_of(await first) == "opened"
        assert value_of(await patient) == "quick"
        assert await act(bench, "slow:calls", path="slow:quick") == "quick", "a part needs no place of its own"


async def test_one_that_waits_goes_before_one_that_comes(tmp_path: Path) -> None:
    async with slow_bench(tmp_path, actions=2) as bench:
        running = [bench.submit("action", "slow:blocks_blocking") for _ in range(2)]
        await has_begun(bench, 2)
        waiting = [bench.submit("action", "slow:quick") for _ in range(5)]
        assert await bench.query("slow:names") == []
        gates(bench).opened.set()
        assert [value_of(await one) for one in (*running, *waiting)] == ["opened"] * 2 + ["quick"] * 5
        assert len(bench.host.actions) == 0


@pytest.mark.parametrize("path", ["slow:quick", "slow:quick_blocking"])
async def test_without_a_thread_nothing_is_begun_and_no_place_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with slow_bench(tmp_path, actions=2) as bench:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            for outcome in await asyncio.gather(*[bench.submit("action", path) for _ in range(50)]):
                assert isinstance(refusal(outcome).error, TooManyRequests)
        assert len(bench.host.actions) == 0
        assert await act(bench, path) == "quick"


# Nobody waits for them.


@pytest.mark.parametrize("path", ["slow:blocks", "slow:blocks_blocking"])
async def test_a_blocked_action_delays_neither_the_engine_nor_other_actions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    async with slow_bench(tmp_path, action_stall_seconds=0.05) as bench:
        blocked = bench.submit("action", path)
        await has_begun(bench)
        await bench.run(lambda ctx: ctx.db.insert("items", {"name": "one"}))
        assert await bench.query("slow:names") == ["one"]
        assert await act(bench, "slow:quick") == "quick"
        assert await act(bench, "slow:calls_blocking", path="slow:quick") == "quick"
        assert not blocked.done()
        gates(bench).opened.set()
        assert value_of(await blocked) == "opened"
        if path == "slow:blocks":
            place = r"blocks its event loop, at \S*slow\.py:\d+ in blocks \(in threading\.wait\)"
            assert any(re.search(place, line) for line in caplog.messages)


async def test_a_loop_that_comes_back_is_used_up_and_ended(tmp_path: Path) -> None:
    async with slow_bench(tmp_path, action_stall_seconds=0.3) as bench:
        blocked = bench.submit("action", "slow:blocks")
        await has_begun(bench)
        await act(bench, "slow:quick")
        names = {thread.name for thread in threading.enumerate()}
        assert {"reactor-actions-1", "reactor-actions-2"} <= names
        gates(bench).opened.set()
        await blocked
        waiting = bench.submit("action", "slow:waits")  # while something runs, the loops are looked at
        first = next(thread for thread in threading.enumerate() if thread.name == "reactor-actions-1")
        await asyncio.to_thread(first.join)
        assert not waiting.done()


# Reload and shutdown.


async def test_an_action_goes_on_with_its_code_and_calls_the_newest(tmp_path: Path) -> None:
    old = """
from functions import gates
WORD = "old"

@query
async def word(ctx) -> str:
    return WORD

@action
async def slow(ctx) -> list[str]:
    gates.begun.release()
    await asyncio.to_thread(gates.opened.wait)
    from functions.late import LATE
    return [WORD, LATE, await ctx.run_query(word), await ctx.run_query("m:word"), await ctx.run_action("m:quick")]

@action
async def quick(ctx) -> str:
    return WORD
"""
    async with open_bench(tmp_path, project_files(m=old, gates=GATES, late="LATE = 'old'")) as bench:
        first = bench.projects[-1]
        gate, module = gates(bench), first.modules["functions.m"]
        running = bench.submit("action", "m:slow")
        await has_begun(bench)
        await bench.push(project_files(m=old.replace('"old"', '"new"'), gates=GATES, late="LATE = 'new'"))
        assert await act(bench, "m:quick") == "new"
        assert first.modules, "still in use"
        gate.opened.set()
        assert value_of(await running) == ["old", "old", "new", "new", "new"]
        assert not first.modules, "released"
        assert module.WORD == "old"


async def test_closing_stops_what_is_under_way(tmp_path: Path) -> None:
    async with slow_bench(tmp_path, actions=2, action_grace_seconds=30, shutdown_seconds=60) as bench:
        paths = ("slow:blocks_blocking", "slow:waits", "slow:quick")
        running = [bench.submit("action", path) for path in paths]
        await has_begun(bench, 2)
        closing = asyncio.ensure_future(bench.host.actions.quiesce())
        outcomes = await asyncio.gather(*running)
        await closing
        assert all(isinstance(refusal(outcome).error, Unavailable) for outcome in outcomes)
        assert await bench.query("slow:names") == ["cleaned up"]
        late = refusal(await bench.submit("action", "slow:quick"))
        assert "no action is begun" in str(late.error)
        gates(bench).opened.set()
        await has_begun(bench)  # the thread has ended by itself
        assert "Unavailable" in gates(bench).seen[0]


async def test_closing_leaves_behind_what_does_not_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with slow_bench(tmp_path, action_grace_seconds=0.05) as bench:
        running = bench.submit("action", "slow:stubborn")
        await has_begun(bench)
        await bench.host.actions.quiesce()
        assert isinstance(refusal(await running).error, Unavailable)
        (line,) = [line for line in caplog.messages if "was stopped but goes on" in line]
        assert re.search(r"slow:stubborn was stopped but goes on, at \S*slow\.py:\d+ in stubborn", line)


# Any code, run like an action.


async def test_other_code_can_run_as_an_action(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(items=ITEMS)) as bench:
        actions, version = bench.host.actions, bench.host.executor.versions.latest()
        ended: list[asyncio.Future[Ended]] = []

        def perform(work: Any, is_async: bool) -> "asyncio.Future[Ended]":
            future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
            call = Call("items:hook", b"{}", user("alice"))
            cancel = actions.perform(
                Task(call, version, "items:hook", work, is_async, "http_action"), future.set_result
            )
            ended.append(future)
            future.add_done_callback(lambda _: cancel())
            return future

        async def work(ctx: Any) -> object:
            await ctx.run_mutation("items:add", name="x")
            return ctx, (await ctx.auth.get_user_identity())["name"]

        def fail(ctx: Any) -> object:
            raise Error("no")

        end = await perform(work, True)
        assert end.result[1] == "alice", "what it returns is nobody's business"
        assert end.log_lines == ("[LOG] [items:add] 'adding x'",)
        end = await perform(fail, False)
        assert (str(end.error), end.stopped) == ("no", None)
