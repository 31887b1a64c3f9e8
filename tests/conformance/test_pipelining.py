"""Mutations sent without waiting take effect in the order they were sent, each once."""

import asyncio
from pathlib import Path

import pytest

from reactor.client import Client
from tests.servers import copy_fixture, javascript, output, running, start_dev

COUNT = 1000  # as many as a connection may have unanswered


def test_javascript(tmp_path: Path) -> None:
    server = start_dev(copy_fixture(tmp_path / "app"))
    with running(server):
        (result,) = output(javascript("js_pipeline", server.url, str(COUNT)))

    in_order = list(range(COUNT))
    assert result == {"positions": in_order, "answered": in_order, "sequence": in_order, "connections": 1}


@pytest.mark.asyncio
async def test_reactor(tmp_path: Path) -> None:
    server = start_dev(copy_fixture(tmp_path / "app"))
    with running(server):
        async with Client(server.url) as client:
            calls = [client.mutation("numbers:append", {"number": number}) for number in range(COUNT)]
            assert await asyncio.gather(*calls) == list(range(COUNT))
            assert await client.query("numbers:sequence") == list(range(COUNT))
