"""Every client against a real server process: live queries, calls, and how calls fail."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from reactor.client import BlockingClient, Client
from reactor.errors import FunctionError, ReactorError
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

SERVER_ERROR = r"(\[CONVEX [QM]\(.*\)\] )?\[Request ID: [0-9a-f]{16}\] Server Error\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = copy_fixture(tmp_path_factory.mktemp("calls") / "app")
    server = start_dev(project, "--data", ":memory:", kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


def check_failures(steps: dict[str, Any], channel: str) -> None:
    assert steps["failing"] == {"data": {"code": "NO_MESSAGES", "channel": channel}}
    assert steps["refused"] == {"data": {"code": "EMPTY", "channel": channel, "allowed": [1, 500]}}
    for step, text in (
        ("failed", r"Uncaught ValueError: boom is not allowed\n    at send \(.*functions/messages\.py:\d+\)"),
        ("invalid", r"ArgumentValidationError: Value does not match validator\.\nPath: \.body\nValue: 7\.0\n"),
        ("internal", r"Could not find public function for 'messages:secret'\."),
        ("missing", r"Could not find public function for 'messages:missing'\."),
    ):
        assert re.match(SERVER_ERROR + text, steps[step]["message"]), steps[step]


def successes(steps: list[Any]) -> list[Any]:
    return [[step, result] for step, result in steps if not isinstance(result, dict) or result.keys() == {"value"}]


@pytest.mark.parametrize("driver", ["js_calls", "pypi_calls"])
def test_clients_with_a_socket(server: Server, driver: str) -> None:
    kind = driver.partition("_")[0]
    program = javascript(driver, server.url) if kind == "js" else python(driver, server.url)

    steps = output(program)

    check_failures(dict(steps), kind)
    expected: list[Any] = [
        ["first", {"value": []}],
        ["sent", 1],
        ["push", {"value": ["one"]}],
        ["query", ["one"]],
        ["sent", 2],
        ["query", ["one", "two"]],
    ]
    if kind == "js":
        expected[3:3] = [["healed", {"value": None}]]
        expected += [["unread", []], ["connections", 1]]
    else:
        expected += [["unread", "This subscription has been dropped"]]
    assert successes(steps) == expected
    assert any("[LOG] 'sending one'" in line for line in program.out)


def test_the_http_client(server: Server) -> None:
    steps = output(javascript("js_http", server.url))

    check_failures(dict(steps), "http")
    assert successes(steps) == [
        ["sent", 1],
        ["query", ["one"]],
        ["queued", [2, 3]],
        ["query", ["one", "two", "three"]],
    ]


@pytest.mark.asyncio
async def test_the_client_of_reactor(server: Server) -> None:
    channel = {"channel": "reactor"}
    async with Client(server.url) as client:
        live = client.subscribe("messages:list_messages", channel)
        assert await live.next() == []
        failing = client.subscribe("messages:fail", channel)
        with pytest.raises(ReactorError) as refused:
            await failing.next()
        assert refused.value.data == {"code": "NO_MESSAGES", **channel}

        assert await client.mutation("messages:send", {**channel, "body": "one"}) == 1
        assert live.value == await live.next() == ["one"]
        assert await failing.next() is None
        with pytest.raises(ReactorError) as refused:
            await client.mutation("messages:send", {**channel, "body": ""})
        assert refused.value.data == {"code": "EMPTY", **channel, "allowed": [1, 500]}
        with pytest.raises(FunctionError, match="ValueError: boom is not allowed") as failed:
            await client.mutation("messages:send", {**channel, "body": "boom"})
        assert failed.value.log_lines == ("[LOG] 'sending boom'",)
        for call in (client.mutation("messages:send", {**channel, "body": 7}), client.query("messages:secret")):
            with pytest.raises(FunctionError, match=r"ArgumentValidationError|Could not find public function"):
                await call

        live.close()
        assert await client.mutation("messages:send", {**channel, "body": "two"}) == 2
        assert await client.query("messages:list_messages", channel) == ["one", "two"]
        assert live.closed


def test_the_blocking_client_of_reactor(server: Server) -> None:
    channel = {"channel": "blocking"}
    with BlockingClient(server.url) as client, client.subscribe("messages:list_messages", channel) as live:
        assert live.next(timeout=30) == []
        assert client.mutation("messages:send", {**channel, "body": "one"}, timeout=30) == 1
        assert live.next(timeout=30) == ["one"]
        with pytest.raises(ReactorError):
            client.mutation("messages:send", {**channel, "body": ""}, timeout=30)
        assert client.query("messages:list_messages", channel, timeout=30) == ["one"]
