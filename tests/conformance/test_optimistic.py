"""Optimistic updates of the official React client's core, against a real server process."""

from pathlib import Path

from tests.servers import copy_fixture, javascript, output, running, start_dev


def test_previews_are_shown_confirmed_and_rolled_back(tmp_path: Path) -> None:
    server = start_dev(copy_fixture(tmp_path / "app"), "--data", ":memory:")
    with running(server):
        steps = output(javascript("js_react", server.url))

    assert steps == [
        ["first", []],
        ["preview", ["one?"]],
        ["sent", 1],
        ["settled", ["one"]],
        ["push", ["one"]],
        ["preview", ["one", "?"]],
        ["refused", {"data": {"code": "EMPTY", "channel": "react", "allowed": [1, 500]}}],
        ["rolled back", ["one"]],
        ["all sent", ["one", "two", "three", "four"]],
        ["seen", True],
        ["query", ["one", "two", "three", "four"]],
        ["sent", 5],
        ["unread", []],
        ["unwatched", None],
    ]
