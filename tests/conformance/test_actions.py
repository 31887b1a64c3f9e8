"""Actions through every client, against a real server process: how they answer, block, are lost and are stopped."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reactor.client import BlockingClient, Client
from reactor.errors import ConnectionLost, FunctionError, ReactorError
from tests.servers import (
    REACTOR,
    SHARED_KILL_AFTER_SECONDS,
    Program,
    Server,
    copy_fixture,
    free_port,
    javascript,
    output,
    python,
    running,
    start_dev,
    start_serve,
)

HEAD = r"(\[CONVEX A\(.*\)\] )?\[Request ID: [0-9a-f]{16}\] Server Error\n"


LOST = "Connection lost while action was in flight"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = copy_fixture(tmp_path_factory.mktemp("actions") / "app")
    env = {"REACTOR_ACTION_STALL_SECONDS": "0.1"}
    server = start_dev(project, "--data", ":memory:", env=env, kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


class Gate:
    """What actions of the fixture connect to, and wait for."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._held: list[socket.socket] = []
        self.port: int = listener.getsockname()[1]

    def begun(self, count: int = 1) -> None:
        """Wait until so many more actions wait."""
        for _ in range(count):
            connection, _ = self._listener.accept()
            self._held.append(connection)
            assert connection.recv(100) == b"begun\n"

    def open(self) -> None:
        """Let all of them go on."""
        for connection in self._held:
            connection.sendall(b"go\n")


@contextmanager
def gate() -> Iterator[Gate]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(40)
        held = Gate(listener)
        yield held
        for connection in held._held:
            connection.close()


@pytest.mark.parametrize("kind", ["js", "http", "pypi"])
def test_every_client_calls_actions(server: Server, kind: str) -> None:
    program = python("pypi_actions", server.url) if kind == "pypi" else javascript("js_actions", server.url, kind)

    steps = output(program)

    refused = {"data": {"code": "EMPTY", "channel": kind, "allowed": [1, 500]}}
    assert [step for step in steps if not isinstance(step[1], dict) or "data" in step[1]] == [
        ["relayed", 1],
        ["seen", ["one"]],
        ["relayed", 2],
        ["refused", refused],
        ["refused", refused],
        *([["together", [3, 4, 5, 6]]] if kind != "pypi" else []),
    ]
    found = dict(steps)
    for step, text in (
        ("failed", r"Uncaught ValueError: boom is not allowed\n    at send \(.*\n    at relay \(.*work\.py:\d+\)"),
        ("invalid", r"ArgumentValidationError: Value does not match validator\.\nPath: \.body\nValue: 7\.0\n"),
        ("internal", r"Could not find public function for 'work:hidden'\."),
        ("missing", r"Could not find public function for 'work:missing'\."),
        ("wrong", r"Trying to execute messages\.js:send as Action, but it is defined as Mutation\."),
    ):
        assert re.match(HEAD + text, found[step]["message"]), found[step]
    if kind != "http":
        assert any("[LOG] [messages:send] 'sending one'" in line for line in program.out)


def test_the_blocking_client_of_reactor(server: Server) -> None:
    with BlockingClient(server.url) as client:
        assert client.action("work:relay", {"channel": "blocking", "body": "one"}) == 1
        with pytest.raises(ReactorError) as refused:
            client.action("work:relay_blocking", {"channel": "blocking", "body": ""})
        assert refused.value.data["code"] == "EMPTY"
        with pytest.raises(FunctionError, match="boom is not allowed"):
            client.action("work:relay", {"channel": "blocking", "body": "boom"})


def test_the_command_line_runs_actions(server: Server) -> None:
    command = [*REACTOR, "run", "work:relay", json.dumps({"channel": "cli", "body": "one"})]
    program = Program(command, cwd=server.cwd)
    with running(program):
        assert program.finish() == 0, program.transcript()
    assert program.out[-1] == "1.0"
    assert any("'relaying one'" in line for line in [*program.out, *program.err])


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["work:block", "work:block_plain"])
async def test_an_action_that_blocks_delays_nobody(server: Server, path: str) -> None:
    channel = {"channel": path}
    async with Client(server.url) as client:
        with gate() as held:
            blocked = asyncio.ensure_future(client.action(path, {"port": held.port}))
            await asyncio.to_thread(held.begun)
            async with client.subscribe("messages:list_messages", channel) as live:
                assert await live.next(timeout=30) == []
                for number in range(20):
                    await client.mutation("messages:send", {**channel, "body": str(number)})
                    assert len(await live.next(timeout=30)) == number + 1
            assert await client.action("work:relay", {**channel, "body": "last"}) == 21
            assert not blocked.done()
            held.open()
            assert await blocked == "go"
    if path == "work:block":
        place = re.compile(r"blocks its event loop, at \S*work\.py:\d+ in wait_for_test")
        server.wait_for(lambda _: any(map(place.search, [*server.err, *server.out])), "the place that blocks")


@pytest.mark.asyncio
async def test_an_action_goes_on_when_its_client_is_gone(server: Server) -> None:
    channel = {"channel": "gone"}
    with gate() as held:
        async with Client(server.url) as client, client.subscribe("messages:list_messages", channel) as live:
            assert await live.next(timeout=30) == []
            async with Client(server.url) as leaving:
                lost = asyncio.ensure_future(leaving.action("work:hold", {"port": held.port, **channel, "body": "x"}))
                await asyncio.to_thread(held.begun)
            with pytest.raises(Exception, match=r"closed|lost"):
                await lost
            held.open()
            assert await live.next(timeout=30) == ["x"]


def test_an_action_in_flight_is_lost_with_the_connection(tmp_path: Path) -> None:
    """The client can't know whether it took effect, so it does not ask again."""
    project, port = copy_fixture(tmp_path / "app"), free_port()
    with gate() as held:
        first = start_serve(project, port=port)
        with running(first):
            program = javascript("js_actions", first.url, "lost", str(held.port))
            held.begun()
            first.end(signal.SIGKILL)
        with running(start_serve(project, port=port)):
            with running(program):
                assert program.finish() == 0, program.transcript()
            assert [json.loads(line) for line in program.out if line.startswith('["')] == [
                ["lost", {"message": f"[CONVEX A(work:hold)] {LOST}\n  Called by client"}],
                ["query", []],
            ]


@pytest.mark.asyncio
async def test_a_shutdown_stops_actions_and_ends_in_time(tmp_path: Path) -> None:
    """Also when they sleep in a thread that nobody can end. Clients get an answer, or know that there is none."""
    env = {"REACTOR_ACTION_GRACE_SECONDS": "0.2", "REACTOR_ACTION_STALL_SECONDS": "0.1"}
    server = start_serve(copy_fixture(tmp_path / "app"), env=env)
    with running(server), gate() as held:
        async with Client(server.url) as client:
            args: dict[str, Any] = {"port": held.port, "channel": "c", "body": "never"}
            waiting = [asyncio.ensure_future(client.action("work:hold", args))]
            await asyncio.to_thread(held.begun)
            for path in ("work:sleep", "work:sleep_plain"):
                waiting.append(asyncio.ensure_future(client.action(path, {"seconds": 3600})))
            await asyncio.sleep(0)  # they are sent
            assert await client.action("work:relay", {"channel": "c", "body": "first"}) == 1
            server.process.send_signal(signal.SIGTERM)
            for answer in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(answer, FunctionError | ConnectionLost), answer
                assert "The deployment is shutting down" in str(answer)
        assert await asyncio.to_thread(server.finish) == 0
    stopped = [line for line in [*server.out, *server.err] if "was stopped but goes on" in line]
    names = sorted(re.findall(r"The action (\S+) was", " ".join(stopped)))
    assert names == ["work:hold", "work:sleep", "work:sleep_plain"], "the first one is on a loop that is blocked"
