"""Tests of the watchdog: what runs too long is ended at its line, and nothing else notices."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor.errors import FunctionTimeout, SystemTimeout
from reactor.limits import Limits
from reactor.runtime.calls import Failure
from reactor.runtime.determinism import Ambient
from reactor.runtime.logs import LogBuffer
from reactor.runtime.watchdog import PERIOD_SECONDS, TimeIsUp, Watch, Watchdog, place_of, watchdog
from tests.runtime.hosts import Bench, failure, open_bench, project_files
from tests.runtime.projects import inside
from tests.servers import ROOT

LIMITS = Limits(user_seconds=0.2, engine_seconds=0.2)
RUNAWAYS = """
import re

def spin():
    while True:
        pass  # here

def regex():
    return re.match(r"(a|aa)+$", "a" * 60 + "b")

def recurse(depth=0):
    return recurse(depth + 1) + 1

def swallow():
    while True:
        try:
            while True:
                str(1)
        except BaseException:
            pass

def swallow_once():
    try:
        spin()
    except BaseException:
        return "as if nothing had happened"

@query
def blocking_query(ctx, how: str):
    return globals()[how]()

@query
async def async_query(ctx, how: str):
    return globals()[how]()

@mutation
def blocking_mutation(ctx, how: str):
    ctx.db.insert("items", {"name": "lost"})
    return globals()[how]()

@mutation
async def async_mutation(ctx, how: str):
    await ctx.db.insert("items", {"name": "lost"})
    return globals()[how]()

async def later(ctx, how):
    await ctx.db.get(await ctx.db.insert("items", {"name": "lost"}))
    return globals()[how]()

@mutation
async def gathered(ctx, how: str):
    return await asyncio.gather(later(ctx, how), ctx.db.query("items").collect())

@mutation
async def retried(ctx):
    for attempt in range(3):
        try:
            spin()
        except BaseException:
            await ctx.db.insert("items", {"name": "in spite of it"})
    return "swallowed"

@query
async def patient(ctx, turns: int):
    found = 0
    for turn in range(turns):
        found += len(await ctx.db.query("items").collect())
    return found

@query
async def items(ctx):
    return [item["name"] for item in await ctx.db.query("items").collect()]
"""
FORMS = ["query:blocking_query", "query:async_query", "mutation:blocking_mutation", "mutation:async_mutation"]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, project_files(m=RUNAWAYS), limits=LIMITS) as opened:
        yield opened


async def fails(bench: Bench, form: str, how: str) -> Failure:
    kind, _, name = form.partition(":")
    return failure(await bench.submit(kind, f"m:{name}", {"how": how}))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("form", "how"),
    [
        *((form, "spin") for form in [*FORMS, "mutation:gathered"]),
        ("query:blocking_query", "regex"),
        ("mutation:gathered", "regex"),
        ("mutation:async_mutation", "swallow_once"),
    ],
)
async def test_what_runs_too_long_fails_at_its_line_and_changes_nothing(bench: Bench, form: str, how: str) -> None:
    found = await fails(bench, form, how)
    assert isinstance(found.error, FunctionTimeout)
    text, *frames = found.detail.split("\n")
    assert text == "Function execution timed out (maximum duration: 0.2s)"
    place = "regex" if how == "regex" else "spin"
    assert f"at {place} (" in frames[0]
    assert "functions/m.py:" in frames[0]
    assert await bench.query("m:items") == []


@pytest.mark.asyncio
async def test_a_loop_that_swallows_everything_ends_too(bench: Bench) -> None:
    for form in FORMS[1::2]:
        assert isinstance((await fails(bench, form, "swallow")).error, FunctionTimeout)


@pytest.mark.asyncio
async def test_a_function_that_overran_fails_whatever_it_does_then(bench: Bench) -> None:
    assert isinstance(failure(await bench.submit("mutation", "m:retried")).error, FunctionTimeout)
    assert await bench.query("m:items") == []


@pytest.mark.asyncio
@pytest.mark.parametrize("form", FORMS)
async def test_deep_recursion_is_a_failure_of_the_function(bench: Bench, form: str) -> None:
    found = await fails(bench, form, "recurse")
    assert isinstance(found.error, RecursionError)
    assert await bench.query("m:items") == []


@pytest.mark.asyncio
async def test_others_are_served_after_a_runaway(bench: Bench) -> None:
    hog = bench.submit("query", "m:async_query", {"how": "spin"})
    others = [bench.submit("query", "m:items") for _ in range(5)]
    assert isinstance(failure(await hog).error, FunctionTimeout)
    assert [type(await other).__name__ for other in others] == ["Success"] * 5


@pytest.mark.asyncio
async def test_time_in_the_engine_and_suspended_is_not_that_of_the_function(tmp_path: Path) -> None:
    """Scans of a thousand documents, again and again, for longer than user code may run."""
    limits = Limits(user_seconds=0.3, engine_seconds=60)
    async with open_bench(tmp_path, project_files(m=RUNAWAYS), limits=limits) as bench:

        async def fill(ctx: Any) -> None:
            for number in range(1000):
                await ctx.db.insert("items", {"name": str(number)})

        await bench.run(fill)
        began = time.monotonic()
        await bench.query("m:patient", turns=2)
        turns = int(2 * 0.9 / (time.monotonic() - began)) + 1
        assert await bench.query("m:patient", turns=min(turns, 15)) == 1000 * min(turns, 15)


def nested_frames(*modules: str) -> types.FrameType:
    """Return the innermost of frames in `modules`, outermost first."""

    def enter(names: tuple[str, ...]) -> types.FrameType:
        space: dict[str, Any] = {"__name__": names[0], "sys": sys, "enter": enter, "rest": names[1:]}
        exec("def probe():\n return enter(rest) if rest else sys._getframe()", space)
        found: types.FrameType = space["probe"]()
        return found

    # `enter` itself is a frame of this module: a library, as far as the watchdog is concerned.
    return enter(modules)


USER = "_reactor_project_1.functions.m"


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (["reactor.runtime.executions", USER], "user"),
        (["reactor.runtime.executions", USER, "somelibrary"], "user"),
        (["reactor.runtime.executions", USER, "reactor.runtime.logs"], "user"),
        (["reactor.runtime.executions", USER, "reactor.runtime.context", "msgspec"], "engine"),
        (["reactor.runtime.executions", USER, "reactor.engine.query", USER], "user"),
        (["reactor.runtime.executions", USER, "asyncio.tasks"], "fragile"),
        (["reactor.runtime.executions", USER, "logging"], "fragile"),
        (["reactor.runtime.runs", "handler_of_a_test"], "user"),
        (["reactor.runtime.executions"], "engine"),
        (["reactor.runtime.executions", "asyncio.base_events"], "fragile"),
    ],
)
def test_whose_code_was_interrupted(stack: list[str], place: str) -> None:
    assert place_of(nested_frames(*stack)) == place


def watch(limits: Limits = LIMITS) -> tuple[Watchdog, Watch]:
    assert watchdog._take_signal()  # it may be sent for real, and does nothing to a thread that nobody watches
    dog = Watchdog()
    found = Watch(dog, threading.get_ident(), True)
    found.all_limits = [limits]
    return dog, found


def test_past_the_limit_user_code_gets_the_carrier_again_and_again() -> None:
    _, found = watch()
    frame = nested_frames("reactor.runtime.executions", USER)
    with inside(Ambient("query", 0, LogBuffer())) as surroundings:
        found.interrupted(frame)  # a first look charges next to nothing
        assert surroundings.observed.overrun is None
        surroundings.observed.user_seconds = 0.3
        for _ in range(3):
            with pytest.raises(TimeIsUp):
                found.interrupted(frame)
        assert isinstance(surroundings.observed.overrun, FunctionTimeout)


def test_a_call_of_the_engine_is_never_interrupted() -> None:
    _, found = watch()
    with inside(Ambient("mutation", 0, LogBuffer())) as surroundings:
        surroundings.observed.user_seconds = 0.3
        found.interrupted(nested_frames("reactor.runtime.executions", USER, "reactor.engine.transaction"))
        assert surroundings.observed.overrun is None


def test_past_its_own_limit_the_engine_fails_the_function() -> None:
    _, found = watch()
    with inside(Ambient("query", 0, LogBuffer())) as surroundings:
        surroundings.observed.engine_seconds = 0.3
        found.interrupted(nested_frames("reactor.runtime.executions", USER, "reactor.engine.transaction"))
        assert isinstance(surroundings.observed.overrun, SystemTimeout)
        assert str(surroundings.observed.overrun) == "Your request timed out performing too many system operations."
        with pytest.raises(TimeIsUp):
            found.interrupted(nested_frames("reactor.runtime.executions", USER))
        assert isinstance(surroundings.observed.overrun, SystemTimeout)


def test_actions_and_the_host_are_let_be() -> None:
    _, found = watch()
    for surroundings in (None, Ambient("action", 0, LogBuffer())):
        if surroundings is not None:
            surroundings.observed.user_seconds = 9
        with inside(surroundings):  # type: ignore[arg-type]
            found.interrupted(nested_frames("reactor.runtime.executions", USER))


def test_a_process_that_was_stopped_does_not_charge_for_it() -> None:
    _, found = watch()
    found._charged_until -= 1000
    with inside(Ambient("query", 0, LogBuffer())) as surroundings:
        found.interrupted(nested_frames("reactor.runtime.executions", USER))
        assert surroundings.observed.user_seconds <= 2 * PERIOD_SECONDS


def test_past_the_hard_limit_the_process_is_told_to_end() -> None:
    dog, found = watch(Limits(user_seconds=0.1, hard_seconds=0.2))
    said: list[str] = []
    dog.on_hard_limit = said.append
    with inside(Ambient("query", 0, LogBuffer())) as surroundings:
        surroundings.observed.user_seconds = 0.25
        with pytest.raises(TimeIsUp):
            found.interrupted(nested_frames("reactor.runtime.executions", USER))
    assert [text.partition(" (")[2] for text in said] == ["limit 0.2s) and can't be stopped"]


def test_the_strictest_deployment_on_a_thread_decides() -> None:
    strict, lax = Limits(user_seconds=0.5), Limits(user_seconds=30)
    found = watchdog.watch(lax)
    assert watchdog.watch(strict) is found
    assert found.user_seconds <= 0.5
    watchdog.leave(found, strict)
    watchdog.leave(found, lax)


def test_off_the_main_thread_it_only_reports(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An embedding program's thread can't be interrupted; the function goes on, and its line is in the log."""
    code = RUNAWAYS + (
        "\nimport threading\nreported = threading.Event()\n"
        "@query\nasync def until_reported(ctx):\n    while not reported.is_set():\n        pass\n    return 'went on'\n"
    )
    results: list[object] = []

    async def main() -> None:
        async with open_bench(tmp_path, project_files(m=code), limits=LIMITS) as bench:
            (project,) = bench.projects
            event = project.modules["functions.m"].reported  # type: ignore[attr-defined]

            class Listener(logging.Handler):
                def emit(self, record: logging.LogRecord) -> None:
                    event.set()

            listener = Listener()
            logging.getLogger("reactor.runtime.watchdog").addHandler(listener)
            try:
                results.append(await bench.query("m:until_reported"))
            finally:
                logging.getLogger("reactor.runtime.watchdog").removeHandler(listener)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    assert results == ["went on"]
    assert "can't be stopped here" in caplog.text
    assert "functions/m.py:" in caplog.text


LAST_RESORT = """
import sys, time
from reactor.limits import Limits
from reactor.runtime import lastresort
from reactor.runtime.watchdog import watchdog
watch = watchdog.watch(Limits())
lastresort.arm(0.5)
def hold():
    sum(range(10**12))
while not time.sleep(0.2):
    hold() if "hold" in sys.argv else lastresort.end("the reason") if "end" in sys.argv else sys.exit(3)
"""


@pytest.mark.parametrize(("how", "code", "said"), [("hold", 27, "in hold"), ("end", 27, "the reason"), ("no", 3, "")])
def test_the_last_resort_ends_a_process_whose_interpreter_is_held(how: str, code: int, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LAST_RESORT, how], cwd=ROOT, capture_output=True, text=True, timeout=40, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
