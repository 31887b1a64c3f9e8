"""`reactor dev` lives on when a function that can't be stopped has ended its server, and ends when it is told to."""

import json
import os
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reactor.cli.supervisor import restart_delay
from reactor.client import BlockingClient
from reactor.limits import MAX_RESTART_SECONDS
from tests.runtime.hosts import project_files
from tests.runtime.projects import write
from tests.servers import REACTOR, Server, running

FUNCTIONS = """
import sys

@mutation
async def add(ctx, name: str):
    await ctx.db.insert("items", {"name": name})

@query
async def names(ctx):
    return [item["name"] for item in await ctx.db.query("items").collect()]

@mutation
async def hold(ctx):
    await ctx.db.insert("items", {"name": "lost"})
    sys.__stderr__.write("holding\\n")
    sys.__stderr__.flush()
    return sum(range(10**12))
"""
ENVIRONMENT = {"REACTOR_USER_SECONDS": "0.1", "REACTOR_HARD_SECONDS": "0.4"}
ENDED = "could not be stopped"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "app", project_files(m=FUNCTIONS))


@pytest.fixture
def server(project: Path) -> Server:
    return Server([*REACTOR, "dev", "--port", "0"], cwd=project, env=ENVIRONMENT)


def server_pid(project: Path) -> int:
    """Return the process that serves, which is not the one that was started."""
    pid = json.loads((project / ".reactor" / "dev.json").read_text())["pid"]
    assert isinstance(pid, int)
    return pid


def address_of(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def hold(server: Server) -> None:
    """Call the function that can't be stopped; the answer never comes."""
    body = b'{"path": "m:hold", "args": {}, "format": "json"}'
    with socket.create_connection(address_of(server)) as connection:
        connection.sendall(
            b"POST /api/mutation HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_starts_again_at_the_same_address_with_what_was_answered(server: Server, project: Path) -> None:
    with running(server):
        server.wait_until_ready()
        with BlockingClient(server.url) as client:
            client.mutation("m:add", {"name": "kept"})
        first = server_pid(project)
        hold(server)
        server.wait_for_line(ENDED, "err")
        assert any("in hold" in line for line in server.err), server.transcript()
        # Neither refused nor told that there is no project, although the next server may not be there yet.
        with BlockingClient(server.url) as client:
            assert client.query("m:names") == ["kept"]
        server.wait_for_line("ready at", after=server.wait_for_line("ready at"))
        assert server_pid(project) not in (first, server.process.pid)
        assert not is_alive(first)
        assert server.end(signal.SIGINT) == 0
    assert not (project / ".reactor" / "dev.json").exists()


def test_sigterm_ends_the_server_gently(server: Server, project: Path) -> None:
    with running(server):
        server.wait_until_ready()
        child = server_pid(project)
        assert server.end(signal.SIGTERM) == 0
        assert not is_alive(child)
    assert not (project / ".reactor" / "dev.json").exists(), "it had the time to clean up"


def test_a_server_without_its_supervisor_ends(server: Server) -> None:
    with running(server):
        server.wait_until_ready()
        server.process.kill()
        assert server.finish() == -signal.SIGKILL  # which comes with the end of the output that both write to


def test_a_server_that_does_not_react_is_killed_by_the_third_signal(project: Path) -> None:
    server = Server([*REACTOR, "dev", "--port", "0"], cwd=project, env={"REACTOR_HARD_SECONDS": "3600"})
    with running(server):
        server.wait_until_ready()
        child = server_pid(project)
        holding = threading.Thread(target=hold, args=(server,))
        holding.start()
        server.wait_for_line("holding", "err")
        sent = 0
        while server.process.poll() is None:
            server.process.send_signal(signal.SIGINT)
            sent += 1
            with suppress(subprocess.TimeoutExpired):  # signals that arrive together are one
                server.process.wait(0.1)
        assert server.finish() == 130
        assert sent >= 3
        assert not is_alive(child)
        holding.join()


def test_restarts_come_more_and_more_slowly() -> None:
    delays = [restart_delay(restarts) for restarts in range(1, 20)]
    assert delays[:4] == [0.0, 1.0, 2.0, 4.0]
    assert delays == sorted(delays)
    assert delays[-1] == MAX_RESTART_SECONDS
