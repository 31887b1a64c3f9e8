"""Values of every type survive the way through every client, the wire, the function and the table, and back."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from reactor import Int64
from reactor.client import Client
from tests.servers import (
    SHARED_KILL_AFTER_SECONDS,
    Server,
    copy_fixture,
    javascript,
    output,
    python,
    running,
    start_dev,
)

VALUES: list[Any] = [
    *(None, True, False),
    *(0.0, -0.0, 1.0, -1.5, 1e21, 5e-324, sys.float_info.max, math.nan, math.inf, -math.inf),
    *(Int64(0), Int64(-1), Int64(2**63 - 1), Int64(-(2**63))),
    *("", "plain", "ä€😀", '\x00\n\u2028"\\'),
    *(b"", b"\x00", b"\x00\xff\x80\n"),
    *([], [[]], [1.0, -0.0, math.nan, Int64(1), "", None, b"\x07"]),
    *({}, {"a": {"b": [{"c": -0.0}, {"d": Int64(2**62)}]}, "with space": b"\x01"}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = copy_fixture(tmp_path_factory.mktemp("values") / "app")
    server = start_dev(project, kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


def test_the_javascript_clients(server: Server) -> None:
    assert output(javascript("js_values", server.url)) == [{"socket": 32}, {"http": 32}]


def test_the_client_of_pypi(server: Server) -> None:
    assert output(python("pypi_values", server.url)) == [len(VALUES)]


@pytest.mark.asyncio
async def test_the_client_of_reactor(server: Server) -> None:
    """`repr` tells what equality does not: 0.0 from -0.0, a number from an `Int64`; and NaN is itself."""
    async with Client(server.url) as client:
        for at, value in enumerate(VALUES):
            name = f"reactor{at}"
            results = [
                await client.query("things:echo", {"value": value}),
                await client.mutation("things:keep", {"name": name, "value": value}),
                await client.query("things:kept", {"name": name}),
            ]
            assert list(map(repr, results)) == [repr(value)] * 3
        made: Any = await client.query("things:made")
    assert repr(made["numbers"]) == "[1.0, 1.5, -0.0, 1e+300, nan, inf, -inf]"
    assert made["int64"] == [Int64(0), Int64(-1), Int64(2**63 - 1), Int64(-(2**63))]
    assert {type(number) for number in made["int64"]} == {Int64}
    assert made["bytes"] == [b"", b"\x00\xff\x80"]
