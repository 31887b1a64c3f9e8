"""This repository's own project, served by `reactor dev`: the result of a mutation arrives by push, in every client."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import (
    REACTOR,
    SHARED_KILL_AFTER_SECONDS,
    Program,
    Server,
    copy_application,
    javascript,
    output,
    python,
    running,
    start_dev,
)

NOTHING = {"averageLatency": None, "successRate": None, "totalCost": 0, "totalRequests": 0, "totalTokens": 0}
ONE = {"averageLatency": 120, "successRate": 1, "totalCost": 0, "totalRequests": 1, "totalTokens": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = copy_application(tmp_path_factory.mktemp("first") / "app")
    server = start_dev(project, env={"AI_PUBLIC_LOGGING": "true"}, kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


def call(server: Server, function: str, args: dict[str, Any], *options: str) -> Program:
    return Program([*REACTOR, "run", *options, function, json.dumps(args)], cwd=server.cwd)


@pytest.mark.parametrize("driver", ["js_first_query", "pypi_first_query", "reactor_first_query"])
def test_a_client_sees_its_mutation_by_push(server: Server, driver: str) -> None:
    start = javascript if driver.startswith("js") else python

    lines = output(start(driver, server.url))

    assert lines[0] == NOTHING
    assert ONE in lines
    assert [line for line in lines if line not in (NOTHING, ONE)] == [None]


def request(provider: str) -> dict[str, Any]:
    return {
        "provider": provider,
        "model": "gpt",
        "fingerprint": "f",
        "ip": "127.0.0.1",
        "success": True,
        "latencyMs": 120,
    }


def test_the_command_line_calls_both_functions(server: Server) -> None:
    """Run in the project's folder it finds the server by itself."""
    watched = {"provider": "run", "timeRange": {"start": 0}}
    assert output(call(server, "ai/analytics:getProviderStats", watched)) == [NOTHING]
    assert output(call(server, "ai/analytics:logAIRequest", request("run"))) == [None]
    assert output(call(server, "ai/analytics:get_provider_stats", watched)) == [ONE]


def test_the_command_line_says_what_failed(server: Server) -> None:
    program = call(server, "ai/analytics:logAIRequest", request("run") | {"latencyMs": -1})
    with running(program):
        assert program.finish() == 1
    assert program.out == []
    assert "INVALID_NUMBER" in program.transcript()
    assert "Traceback" not in program.transcript()


def test_watching_prints_each_push(server: Server) -> None:
    args = {"provider": "watch", "timeRange": {"start": 0}}
    watcher = call(server, "ai/analytics:getProviderStats", args, "--watch")
    with running(watcher):
        watcher.wait_for_line('"totalRequests":0')
        assert output(call(server, "ai/analytics:logAIRequest", request("watch"))) == [None]
        watcher.wait_for_line('"totalRequests":1')
        code = watcher.end(signal.SIGINT)
    assert code == 0
    assert [json.loads(line) for line in watcher.out] == [NOTHING, ONE]
    assert not watcher.err
