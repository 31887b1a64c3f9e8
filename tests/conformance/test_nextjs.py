"""`convex/nextjs` from Node: what a server component asks, as a user and as nobody."""

import json
from pathlib import Path

from tests.servers import CONFORMANCE, Program, copy_application, output, running, start_dev


def test_with_a_token_and_without(tmp_path: Path) -> None:
    project = copy_application(tmp_path / "app")
    server = start_dev(project, "--data", ":memory:", env={"AI_PUBLIC_LOGGING": "true"})
    with running(server):
        key = json.loads((project / ".reactor" / "dev.json").read_text())["adminKey"]
        program = Program(
            ["node", CONFORMANCE / "js_nextjs.mjs", server.url, server.site_url, key],
            cwd=CONFORMANCE,
            env={"NEXT_PUBLIC_CONVEX_URL": server.url},
        )
        steps = dict(output(program))
    assert steps == {
        "query": [None, None, {"name": "Ann"}],
        "mutation": None,
        "total": [1, 1],
        "preloaded": [1, ["_argsJSON", "_name", "_valueJSON"]],
        "viewer": {"name": "Ann"},
        "with a token": [None, 2],
        "without": ["UNAUTHORIZED", "UNAUTHORIZED", "UNAUTHORIZED"],
        "a forged one": "Unauthenticated",
    }
