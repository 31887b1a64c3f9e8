"""The calls of `api.ai.analytics` by the official client, with an admin key, with keys of the API, and by anybody."""

from pathlib import Path
from typing import Any

import pytest

from tests.servers import REACTOR, Program, copy_application, javascript, output, running, start_serve

ACTIONS = ["allowed"] * 6 + ["challenged"] * 5 + ["blocked"] * 2
TOTALS = {"totalRequests": 2, "successRate": 0.5, "averageLatency": 500, "totalTokens": 120, "totalCost": 0.3}
NEWEST = [["bot_useragent", "blocked", {"previousAttempts": number}] for number in (12, 11)]


def done(name: str, totals: dict[str, Any], actions: list[str], newest: list[Any]) -> list[Any]:
    """Return what one caller gets who is let in."""
    return [
        [f"{name} logs", None],
        [f"{name} logs a failure", None],
        [f"{name} asks", totals],
        [f"{name} detects", actions],
        [f"{name} lists", newest],
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_application(tmp_path / "app")


def admin_key(project: Path) -> str:
    program = Program([*REACTOR, "admin-key"], cwd=project)
    with running(program):
        assert program.finish() == 0, program.transcript()
    return program.out[0]


def test_callers_with_keys_are_let_in_and_nobody_else(project: Path) -> None:
    key = admin_key(project)
    server = start_serve(project)
    with running(server):
        refusals = output(javascript("js_analytics", server.url, "", "openai"))
        steps = output(javascript("js_analytics", server.url, key, "openai"))
    refused = "UNAUTHORIZED"
    assert [result for _, result in refusals] == [refused, refused, refused, [refused] * 13, refused]
    again = {**TOTALS, "totalRequests": 4, "totalTokens": 240, "totalCost": 0.6}
    assert steps == [
        *done("admin", TOTALS, ACTIONS, NEWEST),
        *done("key", again, ["blocked"] * 13, [["bot_useragent", "blocked", {"previousAttempts": 12}]] * 2),
        ["reader logs", "FORBIDDEN"],
        ["nobody logs", refused],
        ["nobody asks", refused],
        ["pushed", [4, 5]],
    ]


def test_anybody_is_let_in_where_the_environment_says_so(project: Path) -> None:
    server = start_serve(project, env={"AI_PUBLIC_LOGGING": "true"})
    with running(server):
        steps = output(javascript("js_analytics", server.url, "", "openai"))
    assert steps == done("anybody", TOTALS, ACTIONS, NEWEST)


def test_make_dev_lets_anybody_in(tmp_path: Path) -> None:
    """And only it: the server is the same, so what differs is the environment that `make` gives it."""
    root = Path(__file__).parent.parent.parent
    program = tmp_path / "bin" / "reactor"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$1 $AI_PUBLIC_LOGGING"\n')
    program.chmod(0o755)
    for name in ("bin/python", ".installed"):
        (tmp_path / name).touch()
    for env, wanted in (({}, "dev true"), ({"AI_PUBLIC_LOGGING": "false"}, "dev false")):
        make = Program(["make", "-C", root, "--no-print-directory", "dev", f"VENV={tmp_path}"], cwd=root, env=env)
        with running(make):
            assert make.finish() == 0, make.transcript()
        assert make.out == [wanted]
