"""`reactor dev` follows edits without dropping a client, and survives broken ones."""

import json
import re
from pathlib import Path

import pytest

from tests.servers import REACTOR, Program, Server, running

HERE = Path(__file__).parent
ANALYTICS = "functions/ai/analytics.py"
IMPORTS = "from collections.abc import Mapping"  # a line of it
ANSWER = "return summary_of(await total_of(ctx, provider, span_of(ctx, time_range, window)))"  # of getProviderStats


@pytest.fixture
def watching(server: Server, project: Path) -> Program:
    """A subscription from a program of its own, which would print a second connection's result twice."""
    args = json.dumps({"provider": "openai", "timeRange": {"start": 0}})
    program = Program([*REACTOR, "run", "ai/analytics:getProviderStats", args, "--watch"], cwd=project)
    program.wait_for_line("totalRequests")
    return program


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_edits_reach_subscribers(server: Server, project: Path, watching: Program) -> None:
    with running(watching):
        # A function.
        edit(project / ANALYTICS, ANSWER, f'{ANSWER} | {{"totalTokens": 1}}')
        watching.wait_for_line('"totalTokens":1.0')

        # A helper module, first imported, then edited.
        (project / "numbers_of_mine.py").write_text("TOKENS = 2\n")
        edit(project / ANALYTICS, IMPORTS, f"{IMPORTS}\nfrom numbers_of_mine import TOKENS")
        edit(project / ANALYTICS, '"totalTokens": 1', '"totalTokens": TOKENS')
        watching.wait_for_line('"totalTokens":2.0')
        (project / "numbers_of_mine.py").write_text("TOKENS = 3\n")
        watching.wait_for_line('"totalTokens":3.0')

        # The schema, with a function that uses what it adds.
        edit(
            project / "schema.py",
            '        "botDetectionEvents"',
            '        "extra": define_table({"n": v.number()}),\n        "botDetectionEvents"',
        )
        edit(
            project / ANALYTICS,
            '"totalTokens": TOKENS',
            '"totalTokens": 4 + await ctx.db.query("extra").count()',
        )
        watching.wait_for_line('"totalTokens":4.0')

        assert watching.end() == 0
        assert watching.err == [], "the connection was never lost"


def test_a_broken_edit_is_shown_and_the_last_good_version_serves(
    server: Server, project: Path, watching: Program
) -> None:
    with running(watching):
        good = (project / ANALYTICS).read_text(encoding="utf-8")
        (project / ANALYTICS).write_text(good + "\ndef broken(:\n", encoding="utf-8")
        server.wait_for_line(f"{ANALYTICS}:{len(good.splitlines()) + 2}", "err")
        server.wait_for_line("last good version")

        # A module that is missing, and comes.
        (project / ANALYTICS).write_text(good.replace(IMPORTS, f"{IMPORTS}\nimport soon"), encoding="utf-8")
        server.wait_for_line("No module named 'soon'", "err")

        call = Program(
            [
                *REACTOR,
                "run",
                "ai/analytics:getProviderStats",
                json.dumps({"provider": "x", "timeRange": {"start": 0}}),
            ],
            cwd=project,
        )
        with running(call):
            assert call.finish() == 0, call.transcript()

        loads = len([line for line in server.out if line.startswith("Loaded")])
        (project / "soon.py").write_text("")
        server.wait_for(lambda s: len([x for x in s.out if x.startswith("Loaded")]) > loads, "the mended version")
        assert watching.end() == 0
        assert watching.err == []


def test_a_project_broken_from_the_start_is_waited_for(project: Path) -> None:
    good = (project / "schema.py").read_text(encoding="utf-8")
    (project / "schema.py").write_text("schema = define_schema({})\n", encoding="utf-8")
    server = Server([*REACTOR, "dev", "--port", "0"], cwd=project)
    with running(server):
        server.wait_for_line("schema.py:1", "err")
        server.wait_for_line("Waiting for an edit")
        (project / "schema.py").write_text(good, encoding="utf-8")
        server.wait_until_ready()


def test_many_edits_in_a_row_end_with_the_last(server: Server, project: Path, watching: Program) -> None:
    """Each write may fall into a reload that is under way; the one that counts is the last."""
    with running(watching):
        good = (project / ANALYTICS).read_text(encoding="utf-8")
        for number in range(1, 41):
            text = good.replace(ANSWER, f'{ANSWER} | {{"totalTokens": {number}}}')
            whole = project / "analytics.new"
            whole.write_text(text, encoding="utf-8")
            whole.replace(project / ANALYTICS)  # no load may find half of an edit, which would be an edit of its own
            if number % 10 == 0:
                server.wait_for_line("Loaded")
        watching.wait_for_line('"totalTokens":40.0')
        assert watching.err == []


def test_the_frontend_finds_the_server(project: Path) -> None:
    (project / "package.json").write_text('{"dependencies": {"vite": "6"}}')
    (project / ".env.local").write_text("MINE=1\n")
    server = Server([*REACTOR, "dev", "--port", "0"], cwd=project)
    with running(server):
        server.wait_until_ready()
        text = (project / ".env.local").read_text()
    assert text.startswith("MINE=1\n")
    assert re.search(rf"^VITE_CONVEX_URL={server.url}$", text, re.MULTILINE)


def test_ctrl_c_ends_dev_cleanly(server: Server, project: Path) -> None:
    assert (project / ".reactor" / "dev.json").exists()
    assert server.end() == 0, server.transcript()
    assert not (project / ".reactor" / "dev.json").exists()
    assert server.err == []
