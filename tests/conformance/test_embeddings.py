"""The calls of `api.embeddings.rateLimiting` by the official client, and admission over HTTP, by everybody there is."""

from pathlib import Path
from typing import Any

from tests.servers import REACTOR, Program, copy_application, javascript, output, running, start_serve


def steps(name: str, *results: Any) -> list[Any]:
    what = ("checks", "logs once", "logs a failure", "checks again", "logs a guess")
    return [[f"{name} {step}", result] for step, result in zip(what, results, strict=True)]


def admin_key(project: Path) -> str:
    program = Program([*REACTOR, "admin-key"], cwd=project)
    with running(program):
        assert program.finish() == 0, program.transcript()
    return program.out[0]


LEFT_2: Any = {"allowed": True, "remaining": 2}
LEFT_0: Any = {"allowed": True, "remaining": 0}
REFUSED = "UNAUTHORIZED"


def test_services_with_keys_are_let_in_and_nobody_else(tmp_path: Path) -> None:
    project = copy_application(tmp_path / "app")
    key = admin_key(project)
    server = start_serve(project)
    with running(server):
        found = output(javascript("js_embeddings", server.url, server.site_url, key))
    assert found == [
        *steps("admin", LEFT_2, "an id", "another id", LEFT_0, None),
        ["admin asks", [2, 1024, 42.5, 0.5]],
        *steps("key", LEFT_2, "an id", "another id", LEFT_0, None),
        *steps("reader", LEFT_0, *["FORBIDDEN"] * 2, LEFT_0, "FORBIDDEN"),
        *steps("nobody", *[REFUSED] * 5),
        ["admitted", [200, None, None]],
        ["unknown provider", [400, None, "Unknown provider"]],
        ["without a key", [401, None, "API key required"]],
        ["without the scope", [403, None, "This key has no scope ai:openai"]],
        ["a bot", [403, None, "Bot detected"]],
        ["within the limit", [200, None, None]],
        ["beyond the limit", [429, "10000", "API key rate limit exceeded"]],
    ]


def test_anybody_is_let_in_where_the_environment_says_so(tmp_path: Path) -> None:
    server = start_serve(copy_application(tmp_path / "app"), env={"AI_PUBLIC_LOGGING": "true"})
    with running(server):
        anybody = output(javascript("js_embeddings", server.url, server.site_url, ""))
    unknown = {"allowed": False, "reason": "Invalid API key"}
    assert anybody == steps("anybody", unknown, "an id", "another id", unknown, None)


def test_a_server_with_a_wrong_limit_does_not_start(tmp_path: Path) -> None:
    project = copy_application(tmp_path / "app")
    origins = {"CONVEX_CLOUD_ORIGIN": "http://127.0.0.1:3210", "CONVEX_SITE_ORIGIN": "http://127.0.0.1:3211"}
    env = {**origins, "RATE_LIMIT_GLOBAL_REQUESTS": "many"}
    program = Program([*REACTOR, "serve", "--project", project, "--port", "0"], cwd=project, env=env)
    with running(program):
        assert program.finish() != 0
    assert "RATE_LIMIT_GLOBAL_REQUESTS" in program.transcript()
