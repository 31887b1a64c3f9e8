"""Mutations sent without waiting take effect in the order they were sent, each once."""

import asyncio
from pathlib import Path

import pytest

from reactor.client import Client
from tests.servers import copy_fixture, javascript, output, python, running, start_dev
from tests.sizes import size

COUNT = 1000  # as many as a connection may have unanswered
ONE_AT_A_TIME = size(200, 1000)


@pytest.mark.parametrize("kind", ["simple", "react", "http"])
def test_javascript(tmp_path: Path, kind: str) -> None:
    count = ONE_AT_A_TIME if kind == "http" else COUNT
    server = start_dev(copy_fixture(tmp_path / "app"))
    with running(server):
        (result,) = output(javascript("js_pipeline", server.url, kind, str(count)))

    in_order, connections = list(range(count)), None if kind == "http" else 1
    assert result == {"positions": in_order, "answered": in_order, "sequence": in_order, "connections": connections}


def test_pypi(tmp_path: Path) -> None:
    """Its calls block, so it has one under way at a time; a live query is told of each."""
    server = start_dev(copy_fixture(tmp_path / "app"))
    with running(server):
        *acknowledged, end = output(python("pypi_append", server.url, str(ONE_AT_A_TIME)))

    in_order = list(range(ONE_AT_A_TIME))
    assert [line["acknowledged"] for line in acknowledged] == end["sequence"] == end["shown"] == in_order


@pytest.mark.asyncio
async def test_reactor(tmp_path: Path) -> None:
    server = start_dev(copy_fixture(tmp_path / "app"))
    with running(server):
        async with Client(server.url) as client:
            calls = [client.mutation("numbers:append", {"number": number}) for number in range(COUNT)]
            assert await asyncio.gather(*calls) == list(range(COUNT))
            assert await client.query("numbers:sequence") == list(range(COUNT))
