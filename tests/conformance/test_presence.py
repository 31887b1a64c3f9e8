"""Presence for browsers: what the official hook calls, and what it gets."""

from pathlib import Path

from tests.servers import ROOT, copy_project, javascript, output, running, start_dev


def test_presence_from_javascript(tmp_path: Path) -> None:
    app = copy_project(ROOT / "tests" / "components" / "presence" / "project", tmp_path / "app")
    server = start_dev(app, "--data", ":memory:")
    with running(server):
        assert output(javascript("js_presence", server.url)) == [
            ["tokens", ["roomToken", "sessionToken"]],
            ["types", ["string", "string"]],
            ["list", [{"userId": "ann", "online": True, "lastDisconnected": 0}]],
            ["same room", True],
            ["list", [{"userId": name, "online": True, "lastDisconnected": 0} for name in ("bob", "ann")]],
            ["again", True],
            ["beacon", [200, "success"]],
            ["left", [["ann", True], ["bob", False]]],
            ["when", True],
            ["unknown token", []],
            ["nobody", "Unauthenticated"],
        ]
