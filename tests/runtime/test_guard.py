"""Tests of the determinism guard, from user code and through packages; the documented table is walked row by row."""

import asyncio
import inspect
import os
import re
import shutil
import sys
import tempfile
import time
import timeit
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from reactor.errors import DeterminismError
from reactor.runtime import guard
from reactor.runtime.determinism import Ambient, AmbientKind
from reactor.runtime.guard import AUDITED, facades, guard_loop, install, outside
from reactor.runtime.logs import LogBuffer
from tests.runtime.hosts import open_bench, project_files
from tests.runtime.projects import inside, loaded
from tests.servers import ROOT

MOMENT: Final = 1_700_000_000_123_456_789

REFUSED: Final[dict[str, list[tuple[str, str]]]] = {
    "Files: `open`, `os.open`, `pathlib`, `shutil`, `tempfile`, `mmap`": [
        ("outreach.read_text", "open()"),
        ("outreach.descriptor", "open()"),
        ("outreach.temporary", "os.environ|tempfile.mkdtemp()"),
        ("outreach.copying", "shutil.copyfile()|os.stat()"),
        ("outreach.mapped", "mmap"),
    ],
    "Folders: listing, making, removing": [("outreach.listing", "os.listdir()"), ("outreach.removal", "os.remove()")],
    "Looking at the file system: `os.stat`, `os.path.exists`, the working folder": [
        ("outreach.looks_for_file", "os.stat()"),
        ("outreach.size_of_file", "os.stat()"),
        ("outreach.working_folder", "os.getcwd()"),
    ],
    "Databases: `sqlite3.connect`, `aiosqlite`": [
        ("outreach.database", "sqlite3.connect()"),
        ("real.with_aiosqlite", "threading.Thread.start()"),
    ],
    "Sockets and names: `socket`, `getaddrinfo`, `gethostname`": [
        ("outreach.makes_socket", "socket.socket()"),
        ("outreach.connects", "socket.getaddrinfo()"),
        ("outreach.resolves", "socket.getaddrinfo()"),
        ("outreach.host_name", "socket.gethostname()"),
    ],
    "Sockets that are open already, and polling them": [
        ("outreach.sends", "socket.send()"),
        ("outreach.receives", "socket.send()"),
        ("outreach.polls", "select.select()"),
    ],
    "HTTP clients: `urllib`, `requests`, `httpx`": [
        ("outreach.fetch", "os.environ|urllib.Request()"),
        ("real.with_requests", ""),
        ("real.with_httpx", ""),
        ("real.with_async_httpx", ""),
    ],
    "The event loop: timers, connections, servers, name lookup": [
        ("outreach.calls_later", "loop.call_later()"),
        ("outreach.opens_connection", "loop.create_connection()"),
        ("outreach.listens", "loop.create_server()"),
        ("outreach.looks_up", "loop.getaddrinfo()"),
    ],
    "Waiting for anything but `ctx` calls": [("outreach.waits_for_nobody", "wait for anything but ctx calls")],
    "Sleeping and timeouts: `time.sleep`, `asyncio.sleep`, `wait_for`, `TaskGroup`": [
        ("outreach.sleeps", "time.sleep()"),
        ("outreach.rests", "asyncio.sleep()"),
        ("outreach.gives_up", "asyncio.sleep()"),
    ],
    "Threads: `threading`, executors, `asyncio.to_thread`, `anyio.to_thread`": [
        ("outreach.starts_thread", "threading.Thread.start()"),
        ("outreach.submits", "ThreadPoolExecutor.submit()"),
        ("outreach.offloads", "asyncio.to_thread()"),
        ("outreach.uses_executor", "loop.run_in_executor()"),
    ],
    "Waiting for another thread: `Event.wait`, `Queue.get`": [
        ("outreach.waits_for_thread", "threading.Condition.wait()"),
        ("outreach.waits_for_queue", "threading.Condition.wait()"),
    ],
    "Processes: `subprocess`, `os.system`, `fork`, `multiprocessing`": [
        ("outreach.runs_command", "os.pipe()|subprocess.Popen()"),
        ("outreach.shell", "os.system()"),
        ("outreach.forks", "os.pipe()|os.fork()"),
    ],
    "The process environment: `os.environ`, `os.getenv`": [
        ("outreach.reads_environment", "os.environ"),
        ("outreach.writes_environment", "os.environ"),
        ("outreach.lists_environment", "os.environ"),
    ],
    "Signals": [("outreach.handles_signal", "signal.signal()"), ("outreach.sends_signal", "os.kill()")],
    "`ctypes`: loading libraries, looking up functions": [("outreach.loads_library", "ctypes.dlopen")],
    "`input` and `breakpoint`": [("outreach.asks_user", "input()")],
    "Settings of the interpreter: the recursion limit, the switch interval": [
        ("outreach.deepens_stack", "sys.setrecursionlimit()")
    ],
}
SAME: Final = {
    "Clocks: `time.time`, `time.localtime`, `time.strftime`, `date.today`": "outreach.clocks",
    "`datetime.now` in your own modules": "real.own_now",
    "Chance: `random`, `secrets`, `uuid`, `os.urandom`": "outreach.chances",
}
ALLOWED: Final = {
    "Late imports, and what a module does while it is imported": ("outreach.lazily_imports", True),
    "Tracebacks, logging and its handlers": ("outreach.explains", "as always"),
    "Time zones: `zoneinfo`": ("outreach.zone", "Europe/Berlin"),
}
NOT_CAUGHT: Final = {
    "`datetime.now` called by a package: a method of a C type": ("outreach.precise_now",),
    "Files and databases that are open already": ("outreach.open_file", "outreach.open_database"),
    "Functions below `os`, such as `posix.stat`, and C extensions that call the system themselves": (
        "outreach.below_os",
    ),
    "Foreign functions found before: `ctypes`, `cffi`": ("outreach.foreign_function",),
    "Stopwatches: `time.monotonic`, `time.perf_counter`": ("outreach.stopwatch",),
    "Facts about the process: `os.getpid`, `sys.platform`": ("outreach.process_facts",),
    "`id`, `hash` of text, and the order of sets of text, which differ from process to process": ("outreach.identity",),
    "Module globals that change from call to call": ("outreach.remembers",),
    "Tasks left behind: they go on after the function has ended, under the same refusals": ("outreach.leaves_task",),
}

PROJECT: Final = project_files(
    real="""
import datetime, inspect
import outreach

async def answer(name):
    package, _, function = name.partition(".")
    found = (outreach if package == "outreach" else None)
    result = (getattr(found, function) if found else globals()[function])()
    return repr(await result if inspect.isawaitable(result) else result)

def own_now():
    return datetime.datetime.now(), datetime.datetime.today()

async def with_aiosqlite():
    import aiosqlite
    return await aiosqlite.connect(":memory:")

def with_requests():
    import requests
    return requests.get("http://127.0.0.1:9/")

def with_httpx():
    import httpx
    return httpx.get("http://127.0.0.1:9/")

async def with_async_httpx():
    import httpx
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get("http://127.0.0.1:9/")

@query
async def asked(ctx, name: str):
    return await answer(name)

@mutation
async def told(ctx, name: str):
    await ctx.db.insert("items", {"name": name})
    return await answer(name)

@query
async def stored(ctx):
    return await ctx.db.query("items").collect()
"""
)


@pytest.fixture(autouse=True)
def _installed() -> None:
    install()


@pytest.fixture(scope="module")
def outreach(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The third-party package, installed where the interpreter finds packages."""
    site = tmp_path_factory.mktemp("site-packages")
    shutil.copytree(
        ROOT / "tests/fixtures/thirdparty", site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    sys.path.append(str(site))
    import outreach  # type: ignore[import-not-found]

    yield outreach
    outreach.close()
    sys.path.remove(str(site))
    for name in [name for name in sys.modules if name.partition(".")[0] == "outreach"]:
        del sys.modules[name]


def rows(section: str) -> list[str]:
    """Return the first column of a table of the documentation."""
    text = (ROOT / "docs/reference/determinism.md").read_text(encoding="utf-8")
    body = text.split(f"## {section}\n")[1].split("\n## ")[0]
    return [row for row in re.findall(r"^\| (.+?) \|", body, re.MULTILINE) if row != "What"]


@pytest.mark.parametrize(
    ("section", "tested"),
    [("Refused", REFUSED), ("Frozen and seeded", SAME), ("Allowed", ALLOWED), ("Not caught", NOT_CAUGHT)],
)
def test_every_documented_row_is_tested_and_the_reverse(section: str, tested: dict[str, Any]) -> None:
    assert rows(section) == list(tested)


@pytest.mark.asyncio
async def test_what_is_documented_as_refused_is_refused_through_packages(outreach: ModuleType, tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        for row, calls in REFUSED.items():
            for name, shown in calls:
                for run, path in ((bench.query, "real:asked"), (bench.mutation, "real:told")):
                    with pytest.raises(DeterminismError) as failure:
                        await run(path, name=name)
                    text = str(failure.value)
                    assert any(part in text for part in shown.split("|")), (row, text)
                    if "ctx calls in queries" not in text:
                        assert "functions/real.py:" in text, text
                        assert ", through " in text, text
        assert await bench.query("real:stored") == [], "what failed has written nothing"


@pytest.mark.asyncio
async def test_what_is_documented_as_frozen_and_seeded_is(outreach: ModuleType, tmp_path: Path) -> None:
    with loaded(tmp_path, PROJECT) as project:
        module = project.modules["functions.real"]
        for name in SAME.values():
            seen = []
            for _ in range(2):
                with inside(Ambient("query", MOMENT, LogBuffer(), seed=bytes(32))):
                    seen.append(await module.answer(name))
            assert seen[0] == seen[1], name
            assert await module.answer(name) != seen[0]


@pytest.mark.asyncio
async def test_what_is_documented_as_allowed_works(outreach: ModuleType, tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        for name, expected in ALLOWED.values():
            assert str(expected) in await bench.query("real:asked", name=name)


@pytest.mark.asyncio
async def test_what_is_documented_as_not_caught_is_not(outreach: ModuleType, tmp_path: Path) -> None:
    """When one of these begins to be caught, the documentation is wrong."""
    async with open_bench(tmp_path, PROJECT) as bench:
        for names in NOT_CAUGHT.values():
            for name in names:
                await bench.query("real:asked", name=name)


@pytest.mark.asyncio
async def test_in_actions_and_outside_nothing_is_refused(outreach: ModuleType) -> None:
    guard_loop(type(asyncio.get_running_loop()))
    elsewhere = "fetch asks_user connects opens_connection waits_for_nobody waits_for_queue removal forks"
    skipped = {f"outreach.{name}" for name in f"{elsewhere} submits offloads uses_executor read_text".split()}
    for kind in (None, "action"):
        for name, _ in [call for calls in REFUSED.values() for call in calls]:
            if name.startswith("outreach.") and name not in skipped:
                with inside(Ambient("action", MOMENT, LogBuffer()) if kind else None):  # type: ignore[arg-type]
                    result = getattr(outreach, name.removeprefix("outreach."))()
                    result = await result if inspect.isawaitable(result) else result
                _discard(name, result)
        assert outreach.submits() == await outreach.offloads() == os.getpid()
        with pytest.raises(FileNotFoundError):
            outreach.removal()
    os.environ.pop("OUTREACH")


def _discard(name: str, result: object) -> None:
    """Give back what a call has taken from the system."""
    if name == "outreach.descriptor":
        assert isinstance(result, int)
        os.close(result)
    elif isinstance(result, str) and Path(result).parent == Path(tempfile.gettempdir()):
        Path(result).rmdir()
    elif name != "outreach.loads_library" and hasattr(result, "close"):  # that of a C library closes any descriptor
        result.close()


CALLS: Final[list[tuple[str, Callable[[], Any]]]] = [
    ("time.sleep()", lambda: time.sleep(0)),
    ("asyncio.sleep()", lambda: asyncio.sleep(0)),
    ("asyncio.timeout()", lambda: asyncio.timeout(1)),
    ("asyncio.timeout_at()", lambda: asyncio.timeout_at(1)),
    ("asyncio.wait_for()", lambda: asyncio.wait_for(None, 1)),  # type: ignore[arg-type]
    ("asyncio.TaskGroup()", lambda: asyncio.TaskGroup()),
    ("os.environ", lambda: os.getenv("HOME")),
    ("open()", lambda: facades()["open"](__file__)),
    ("input()", lambda: facades()["input"]()),
    ("breakpoint()", lambda: facades()["breakpoint"]()),
]


@pytest.mark.parametrize("kind", ["query", "mutation"])
@pytest.mark.parametrize(("name", "call"), CALLS)
def test_a_refusal_names_the_call_and_what_to_do(kind: AmbientKind, name: str, call: Callable[[], Any]) -> None:
    with inside(Ambient(kind, MOMENT, LogBuffer())), pytest.raises(DeterminismError) as failure:
        call()
    assert f"Can't use {name} in queries and mutations (" in str(failure.value)
    assert re.search("action|argument", str(failure.value))


def test_reading_the_environment_points_to_what_to_use() -> None:
    with inside(Ambient("query", MOMENT, LogBuffer())), pytest.raises(DeterminismError, match=r"reactor\.env"):
        os.environ["HOME"]


@pytest.mark.asyncio
async def test_waiting_works_everywhere_else() -> None:
    assert inspect.iscoroutinefunction(asyncio.sleep) or asyncio.iscoroutinefunction(asyncio.sleep)
    with inside(Ambient("action", MOMENT, LogBuffer())):
        time.sleep(0)  # noqa: ASYNC251
        assert await asyncio.wait_for(asyncio.sleep(0, "done"), 30) == "done"
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0, "task"))
        assert task.result() == "task"


def test_functions_keep_what_others_ask_of_them() -> None:
    assert os.stat in os.supports_fd
    assert os.stat in os.supports_follow_symlinks
    assert os.access in os.supports_dir_fd
    assert os.stat.__name__ == "stat"


def test_host_code_inside_an_execution_has_a_way_out() -> None:
    with inside(Ambient("query", MOMENT, LogBuffer())):
        assert outside(os.getcwd) == outside(lambda: os.getcwd())
        assert outside(time.time) * 1e9 > MOMENT
        assert time.time() == MOMENT / 1e9


def test_a_late_import_is_no_part_of_the_execution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock and chance are the process's, and a warning in it names who imports."""
    (tmp_path / "guard_late.py").write_text(
        "import os, random, time, warnings\nWHEN, HOME = time.time(), os.environ.get('HOME')\n"
        "random.random()\nwarnings.warn('old', DeprecationWarning, stacklevel=2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = Ambient("query", MOMENT, LogBuffer())
    with warnings.catch_warnings(record=True) as caught, inside(found):
        warnings.simplefilter("always")
        import guard_late  # type: ignore[import-not-found]
    assert guard_late.WHEN > MOMENT / 1e9
    assert not found.looked_at_clock
    assert not found.looked_at_chance
    assert [warning.filename for warning in caught] == [__file__]
    del sys.modules["guard_late"]


@pytest.mark.asyncio
async def test_a_late_import_of_the_project_may_look_around(tmp_path: Path) -> None:
    files = project_files(
        m="""
        @query
        async def late(ctx):
            from _helpers import late
            return late.SIZE > 0
        """.replace("\n        ", "\n")
    ) | {"_helpers/late.py": "import os\nSIZE = os.stat(__file__).st_size\nopen(__file__).close()\n"}
    async with open_bench(tmp_path, files) as bench:
        assert await bench.query("m:late") is True


def test_installing_again_changes_nothing() -> None:
    before = time.sleep, asyncio.sleep, asyncio.TaskGroup.__init__, os.stat
    install()
    assert before == (time.sleep, asyncio.sleep, asyncio.TaskGroup.__init__, os.stat)


@pytest.mark.asyncio
async def test_guarding_a_loop_twice_guards_once() -> None:
    kind = type(asyncio.get_running_loop())
    guard_loop(kind)
    before = kind.call_later
    guard._guarded_loops.discard(kind)
    guard_loop(kind)
    assert kind.call_later is before


def test_audit_events_have_texts() -> None:
    assert all((call and instead.endswith(".")) or ")." in instead for call, instead in AUDITED.values())


def test_a_guarded_function_costs_one_look() -> None:
    """A generous bound: what is added is one lookup of a context variable."""
    calls = 20_000
    cost = min(timeit.repeat("f('PATH')", globals={"f": os.environ.__contains__}, number=calls, repeat=5)) / calls
    assert cost < 2e-5
