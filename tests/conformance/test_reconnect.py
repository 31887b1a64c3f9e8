"""The server killed and started again with mutations under way: what each client makes of it."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from reactor.client import Client
from tests.servers import (
    CONFORMANCE,
    Server,
    copy_fixture,
    free_port,
    javascript,
    python,
    running,
    start_serve,
)
from tests.sizes import size

COUNT = size(60, 600)
RESTARTS = size(2, 10)


@pytest.mark.asyncio
async def test_reactor_takes_effect_exactly_once_and_in_order(tmp_path: Path) -> None:
    project, port = copy_fixture(tmp_path / "app"), free_port()
    server = await asyncio.to_thread(start_serve, project, port=port)
    try:
        async with Client(server.url) as client, client.subscribe("numbers:sequence") as live:
            assert await live.next() == []
            for restart in range(RESTARTS):
                numbers = range(restart * COUNT, (restart + 1) * COUNT)
                calls = [asyncio.ensure_future(client.mutation("numbers:append", {"number": n})) for n in numbers]
                await calls[0]
                server = await asyncio.to_thread(kill_and_start, server, project, port)
                assert await asyncio.gather(*calls) == list(numbers), "each ran once, in the order of the calls"
                assert live.value == list(range((restart + 1) * COUNT)), "the live query went on by itself"
            await client.query("numbers:sequence")  # also when all was answered before the last kill
            assert client.connection_state().connection_count == RESTARTS + 1
    finally:
        server.close()


def kill_and_start(server: Server, project: Path, port: int) -> Server:
    server.end(signal.SIGKILL)
    server.close()
    return start_serve(project, port=port)


def test_pypi_takes_effect_at_least_once(tmp_path: Path) -> None:
    """It makes a new session on each connection, so a server can't recognise what it sends again."""
    project, port = copy_fixture(tmp_path / "app"), free_port()
    server = start_serve(project, port=port)
    client = python("pypi_append", server.url, str(COUNT))
    with running(client):
        for restart in range(RESTARTS):
            part = f'"acknowledged": {(restart + 1) * COUNT // (RESTARTS + 2)}}}'
            client.wait_for_line(part)
            server = kill_and_start(server, project, port)
        with running(server):
            assert client.finish() == 0, client.transcript()

    lines = [json.loads(line) for line in client.out if line.startswith("{")]
    result = lines[-1]
    assert [line["acknowledged"] for line in lines[:-1]] == list(range(COUNT))
    assert sorted(set(result["sequence"])) == list(range(COUNT)), "an acknowledged mutation is missing"
    assert len(result["sequence"]) <= COUNT + RESTARTS, "only what was under way at a kill may be there twice"
    assert result["shown"] == result["sequence"]


BEFORE = "append: before"  # they have run, and nothing of it is on disk
AFTER = "append: before publishing"  # all of it is on disk, and nobody was told


@pytest.mark.parametrize(
    ("kind", "place"),
    [("simple", AFTER), ("react", AFTER), *size([], [("simple", BEFORE), ("react", BEFORE)])],
)
def test_javascript_takes_effect_exactly_once_and_in_order(tmp_path: Path, kind: str, place: str) -> None:
    """Conformance #6: the server dies with mutations between their commit and their answer."""
    project, port, dies = copy_fixture(tmp_path / "app"), free_port(), tmp_path / "dies"
    program = [sys.executable, CONFORMANCE / "dying_server.py", place, dies]
    server = start_serve(project, port=port, program=program)
    try:
        client = javascript("js_append", server.url, kind)
        with running(client):
            for _ in range(size(1, 5)):
                client.wait_for_line('"number"', after=len(client.out))
                dies.touch()
                assert server.finish() == -signal.SIGKILL
                server.close()
                server = start_serve(project, port=port, program=program)
            client.wait_for_line('"number"', after=len(client.out))
            assert client.end(signal.SIGTERM) == 0, client.transcript()
    finally:
        server.close()

    *acknowledged, end = [json.loads(line) for line in client.out if line.startswith("{")]
    assert acknowledged == [{"number": number, "position": number} for number in range(len(acknowledged))]
    assert end["sequence"] == list(range(len(acknowledged)))
    assert end["shown"] == end["sequence"], "the live query went on by itself"
    assert (end["connections"], end["inFlight"]) == (size(2, 6), False)
