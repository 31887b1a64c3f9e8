"""The server killed and started again with mutations under way: what each Python client makes of it."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from reactor.client import Client
from tests.servers import Server, copy_fixture, free_port, python, running, start_dev
from tests.sizes import size

COUNT = size(60, 600)
RESTARTS = size(2, 10)


@pytest.mark.asyncio
async def test_reactor_takes_effect_exactly_once_and_in_order(tmp_path: Path) -> None:
    project, port = copy_fixture(tmp_path / "app"), free_port()
    server = await asyncio.to_thread(start_dev, project, port=port)
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
    return start_dev(project, port=port)


def test_pypi_takes_effect_at_least_once(tmp_path: Path) -> None:
    """It makes a new session on each connection, so a server can't recognise what it sends again."""
    project, port = copy_fixture(tmp_path / "app"), free_port()
    server = start_dev(project, port=port)
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
