"""Functions that never end, against a real server process, while other clients go on asking."""

import os
import threading
import time
from pathlib import Path

import pytest

from reactor.client import BlockingClient
from reactor.errors import FunctionError
from tests.runtime.hosts import HEAD, SCHEMA
from tests.runtime.projects import write
from tests.servers import Server, running, start_serve

FUNCTIONS = (
    HEAD
    + """
import re

@query
async def ping(ctx):
    return "pong"

@mutation
async def add(ctx, name: str):
    return await ctx.db.insert("items", {"name": name})

@query
async def names(ctx):
    return [item["name"] for item in await ctx.db.query("items").collect()]

@query
async def spin(ctx):
    while True:
        pass

@query
async def swallow(ctx):
    while True:
        try:
            while True:
                str(1)
        except BaseException:
            pass

@query
async def regex(ctx):
    return bool(re.match(r"(a|aa)+$", "a" * 60 + "b"))

@query
async def memory(ctx):
    return len("a" * 10**10)

@query
async def recurse(ctx):
    def deeper():
        return deeper() + 1
    return deeper()

@query
async def nested(ctx):
    value = []
    for _ in range(100_000):
        value = [value]
    return repr(value)

@mutation
async def hold(ctx):
    await ctx.db.insert("items", {"name": "lost"})
    return sum(range(10**12))
"""
)
ENVIRONMENT = {"REACTOR_USER_SECONDS": "0.3", "REACTOR_HARD_SECONDS": "1.5", "REACTOR_MEMORY_BYTES": str(6 << 30)}
STOPPED = {
    "spin": "timed out",
    "swallow": "timed out",
    "regex": "timed out",
    "memory": "MemoryError",
    "recurse": "RecursionError",
    "nested": "RecursionError",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "app", {"schema.py": SCHEMA, "functions/m.py": FUNCTIONS})


def start(project: Path) -> Server:
    return start_serve(project, "--data", project / "data", env=ENVIRONMENT)


class Bystander:
    """Another client, which asks again as soon as it is answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with BlockingClient(self._url) as client:
            while not self._over.is_set():
                began = time.perf_counter()
                assert client.query("m:ping") == "pong"
                self.seconds.append(time.perf_counter() - began)


def test_a_runaway_is_stopped_and_others_are_served(project: Path) -> None:
    server = start(project)
    with running(server), BlockingClient(server.url) as client:
        for name, said in STOPPED.items():
            with Bystander(server.url) as others, pytest.raises(FunctionError, match=said) as failure:
                client.query(f"m:{name}")
            assert f"at {name} (" in str(failure.value) or "RecursionError" in said, str(failure.value)
            assert client.query("m:ping") == "pong"
            ordered = sorted(others.seconds)
            if ordered:
                p99 = ordered[int(len(ordered) * 0.99)]
                print(f"{name}: others p99 {p99 * 1000:.1f} ms, worst {ordered[-1] * 1000:.0f} ms of {len(ordered)}")
        assert server.process.poll() is None


def test_what_cannot_be_stopped_ends_the_server_and_a_restart_has_what_was_answered(project: Path) -> None:
    server = start(project)
    with running(server):
        with BlockingClient(server.url) as client:
            client.mutation("m:add", {"name": "kept"})
            threading.Thread(target=_ignore, args=(server.url,), daemon=True).start()
            assert server.finish() == 27, server.transcript()
    assert any("in hold" in line for line in server.err), server.transcript()
    again = start(project)
    with running(again), BlockingClient(again.url) as client:
        assert client.query("m:names") == ["kept"]


def _ignore(url: str) -> None:
    import urllib.request

    body = b'{"path": "m:hold", "args": {}, "format": "json"}'
    request = urllib.request.Request(f"{url}/api/mutation", body, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except OSError:
        assert os.getpid()  # the server has ended, which is what is tested
