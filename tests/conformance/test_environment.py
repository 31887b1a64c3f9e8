"""Environment variables of a real server: set by the official command line, by ours and over HTTP; seen by clients."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import (
    CONFORMANCE,
    REACTOR,
    SHARED_KILL_AFTER_SECONDS,
    Program,
    Server,
    javascript,
    running,
    start_dev,
    start_serve,
)

OFFICIAL = ("node", CONFORMANCE / "node_modules" / "convex" / "bin" / "main.js")
FUNCTIONS = """
from reactor import action, env, query

@query
async def model(ctx):
    return env.get("MODEL")

@query
async def urls(ctx):
    return [env["CONVEX_CLOUD_URL"], env["CONVEX_SITE_URL"]]

@action
async def in_action(ctx):
    return env.get("MODEL")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "ai.py").write_text(FUNCTIONS)
    return tmp_path


@pytest.fixture
def server(project: Path) -> Iterator[Server]:
    server = start_dev(project, "--data", ":memory:", kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


@pytest.fixture
def target(server: Server, project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / ".reactor" / "dev.json").read_text())
    return found


def run(*command: str | Path, cwd: Path, code: int = 0, env: dict[str, str] | None = None) -> tuple[list[str], str]:
    program = Program(command, cwd=cwd, env=env)
    with running(program):
        assert program.finish() == code, program.transcript()
    return program.out, "\n".join(program.err)


def test_the_official_command_line_and_the_official_client(
    node: str, server: Server, project: Path, target: dict[str, Any]
) -> None:
    """The live query is pushed to once for each change of what it reads, and for nothing else."""
    folder = project / "front"
    folder.mkdir()
    (folder / "package.json").write_text('{"dependencies": {"convex": "1.48.0"}}')
    environ = {"CONVEX_SELF_HOSTED_URL": target["url"], "CONVEX_SELF_HOSTED_ADMIN_KEY": target["adminKey"], "CI": "1"}

    def official(*args: str, code: int = 0) -> tuple[list[str], str]:
        return run(*OFFICIAL, "env", *args, cwd=folder, env=environ, code=code)

    live = javascript("js_live", server.url, "ai:model", "{}")
    with running(live):
        live.wait_for_line('"value":null')
        assert "Successfully set MODEL" in official("set", "MODEL", "one")[1]
        live.wait_for_line('"value":"one"')
        official("set", "OTHER", "x")
        (folder / "variables").write_text("MODEL='two words'\nTHIRD=3\n")
        official("set", "--from-file", "variables", "--force")
        live.wait_for_line('"value":"two words"')
        assert official("list", "--include-values")[0] == ["MODEL=two words", "OTHER=x", "THIRD=3"]
        assert "not found" in official("get", "NOBODY")[1]
        official("remove", "MODEL")
        live.wait_for_line('"value":null', after=3)
        assert len(live.out) == 4
        assert "EnvironmentVariableNameInvalid" in official("set", "1A", "x", code=1)[1]
    assert "two words" not in server.transcript()


def test_our_command_line(server: Server, project: Path) -> None:
    def ours(*args: str, code: int = 0) -> tuple[list[str], str]:
        return run(*REACTOR, "env", *args, cwd=project, code=code)

    assert ours("set", "MODEL=a b", "KEY=x=y", "EMPTY=")[0] == ["Set MODEL, KEY, EMPTY."]
    assert ours("list")[0] == ["EMPTY=''", "KEY=x=y", "MODEL='a b'"]
    assert ours("get", "MODEL")[0] == ["a b"]
    assert ours("unset", "KEY", "NOT_SET")[0] == ["Unset KEY, NOT_SET."]
    assert ours("get", "KEY", code=1)[1] == "error: KEY is not set."
    out, error = ours("set", "GOOD=1", "1BAD=2", code=1)
    assert (out, error.startswith("error: EnvironmentVariableNameInvalid: '1BAD'")) == ([], True)
    assert ours("set", "GOOD=1", "BAD", code=1)[1].startswith("error: BAD has no value")
    ours("set", "SECRET")  # standard input is empty
    assert ours("list", "--names-only")[0] == ["EMPTY", "MODEL", "SECRET"]
    assert run(*REACTOR, "run", "ai:in_action", cwd=project)[0] == ['"a b"']
    out, error = run(*REACTOR, "env", "list", "--url", server.url, cwd=project, code=1)
    assert (out, "needs an admin key" in error) == ([], True)


def test_over_http(server: Server, target: dict[str, Any]) -> None:
    admin = {"Authorization": f"Convex {target['adminKey']}"}
    change = {"changes": [{"name": "MODEL", "value": "m"}, {"name": "OTHER", "value": None}]}
    call = {"path": "_system/environment:change", "args": change}
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for version in ("", "/v1"):
            assert client.post(f"/api{version}/update_environment_variables", json=change, headers=admin).text == ""
            answer = client.get(f"/api{version}/list_environment_variables", headers=admin)
            assert answer.json() == {"environmentVariables": {"MODEL": "m"}}
            assert answer.headers["cache-control"] == "no-store"
        asked = client.post("/api/query", json={"path": "ai:model", "args": {}}).json()
        assert asked == {"status": "success", "value": "m"}

        for headers in ({}, {"Authorization": "Convex reactor|0000"}):
            for refused in (
                client.get("/api/v1/list_environment_variables", headers=headers),
                client.post("/api/update_environment_variables", json=change, headers=headers),
                client.post("/api/function", json=call, headers=headers),
            ):
                assert (refused.status_code, refused.json()["code"]) == (403, "BadDeployKey")
        for path in ("_system/cli/queryEnvironmentVariables", "_system/environment:change"):
            for kind in ("query", "mutation", "run/_system/environment/change"):
                answer = client.post(f"/api/{kind}", json={"path": path, "args": {}})
                assert "value" not in answer.json(), "nobody but an administrator"

        for bad in (b"", b"[]", b'{"changes": [{"value": "x"}]}', b'{"changes": [{"name": "A", "value": 1}]}'):
            refused = client.post("/api/update_environment_variables", content=bad, headers=admin)
            assert (refused.status_code, refused.json()["code"]) == (400, "BadJsonBody")
        too_large = {"changes": [{"name": "GOOD", "value": "x"}, {"name": "A", "value": "x" * 8193}]}
        refused = client.post("/api/update_environment_variables", json=too_large, headers=admin)
        assert (refused.status_code, refused.json()["code"]) == (400, "EnvironmentVariableValueTooLarge")
        assert client.get("/api/v1/list_environment_variables", headers=admin).json() == {
            "environmentVariables": {"MODEL": "m"}
        }


def test_they_survive_the_server(project: Path) -> None:
    origins = {"CONVEX_CLOUD_ORIGIN": "https://api.example.com", "CONVEX_SITE_ORIGIN": "https://example.com/"}
    keys: list[str] = []
    for value in (None, "kept"):
        server = start_serve(project, env=origins)
        with running(server):
            if not keys:
                keys = [run(*REACTOR, "admin-key", *option, cwd=project)[0][0] for option in ((), ("--read-only",))]
            key, read_only = keys
            with httpx.Client(base_url=server.url, trust_env=False) as client:
                asked = client.post("/api/query", json={"path": "ai:model", "args": {}}).json()
                assert asked == {"status": "success", "value": value}
                urls = client.post("/api/query", json={"path": "ai:urls", "args": {}}).json()["value"]
                assert urls == ["https://api.example.com", "https://example.com"]
                client.headers["Authorization"] = f"Convex {read_only}"
                assert client.get("/api/v1/list_environment_variables").status_code == 200
                change = {"changes": [{"name": "MODEL", "value": "kept"}]}
                refused = client.post("/api/update_environment_variables", json=change)
                assert (refused.status_code, "read-only" in refused.json()["message"]) == (403, True)
                client.headers["Authorization"] = f"Convex {key}"
                assert client.post("/api/update_environment_variables", json=change).status_code == 200
            server.end()
