"""`reactor data`, `logs` and `function-spec`: what a running deployment holds, does and offers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import REACTOR, SHARED_KILL_AFTER_SECONDS, Program, Server, free_port, running, start_dev

SCHEMA = """
from reactor import define_schema, define_table, v
schema = define_schema({"rows": define_table({"big": v.int64(), "n": v.integer(), "text": v.optional(v.string())})})
"""
FUNCTIONS = """
from reactor import Int64, mutation

@mutation
async def fill(ctx):
    print("filling")
    for number in range(3):
        await ctx.db.insert("rows", {"n": number, "big": Int64(2**60), **({"text": "ü"} if number else {})})

@mutation
async def fill_none(ctx):
    print("filling")

@mutation
async def fail(ctx):
    raise ValueError("mine")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("app")
    (project / "functions").mkdir()
    (project / "schema.py").write_text(SCHEMA)
    (project / "functions" / "rows.py").write_text(FUNCTIONS)
    return project


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    server = start_dev(project, "--data", ":memory:", kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        program = Program([*REACTOR, "run", "rows:fill"], cwd=project)
        with running(program):
            assert program.finish() == 0, program.transcript()
        yield server


def reactor(project: Path, *args: str, code: int = 0) -> tuple[list[str], str]:
    program = Program([*REACTOR, *args], cwd=project)
    with running(program):
        assert program.finish() == code, program.transcript()
    assert not any(line.startswith("Traceback") for line in program.err)
    return program.out, "\n".join(program.err)


@pytest.mark.usefixtures("server")
class TestData:
    def test_tables_and_documents(self, project: Path) -> None:
        assert reactor(project, "data") == (["rows"], "")
        (head, *rows), err = reactor(project, "data", "rows", "--limit", "2")
        assert head.split() == ["_id", "_creationTime", "big", "n", "text"]
        assert [row.split()[2:] for row in rows] == [[f'"{2**60}"', "2", '"ü"'], [f'"{2**60}"', "1", '"ü"']]
        assert "--limit shows more" in err
        assert reactor(project, "data", "nothing") == ([], "There are no documents in table 'nothing'.")

    def test_lines_of_json_keep_every_type(self, project: Path) -> None:
        out, err = reactor(project, "data", "rows", "--jsonl", "--order", "asc")
        rows = [json.loads(line) for line in out]
        assert [row["n"] for row in rows] == [0, 1, 2]
        assert (rows[0]["big"], "text" in rows[0], err) == ({"$integer": "AAAAAAAAABA="}, False, "")


def test_function_spec(project: Path, server: Server) -> None:
    spec = json.loads("".join(reactor(project, "function-spec")[0]))
    assert spec["url"] == server.url
    assert [entry["identifier"] for entry in spec["functions"]] == ["rows.js:fail", "rows.js:fill", "rows.js:fill_none"]
    _, err = reactor(project, "function-spec", "--file")
    (file,) = project.glob("function_spec_*.json")
    assert (json.loads(file.read_text()), file.name in err) == (spec, True)


def test_logs(project: Path, server: Server) -> None:
    follow = Program([*REACTOR, "logs", "--history", "100", "--filter", "fill", "--success"], cwd=project)
    with running(follow):
        follow.wait_for_line("M(rows:fill) [LOG] 'filling'")
        follow.wait_for_line("M(rows:fill) succeeded in")
        assert reactor(project, "run", "rows:fail", code=1)[0] == []
        reactor(project, "run", "rows:fill_none")
        follow.wait_for_line("M(rows:fill_none) succeeded in")
        assert follow.end() == 130
        assert not any("fail" in line for line in follow.out), "filtered"
    again = Program([*REACTOR, "logs", "--history", "2"], cwd=project)
    with running(again):
        again.wait_for_line("[LOG] 'filling'")
        assert any("M(rows:fail) Uncaught ValueError: mine" in line for line in again.out)
    lines = Program([*REACTOR, "logs", "--history", "1", "--jsonl"], cwd=project)
    with running(lines):
        lines.wait_for_line("{")
        assert json.loads(lines.out[0])["identifier"] == "rows:fill_none"


@pytest.mark.parametrize("command", ["data", "logs", "function-spec"])
def test_failures_are_one_message(project: Path, server: Server, command: str) -> None:
    wrong = ("--url", server.url, "--admin-key", "reactor|00")
    away = ("--url", f"http://127.0.0.1:{free_port()}", "--admin-key", "reactor|00")
    for options, text in (
        (wrong, "BadDeployKey: The provided deploy key is invalid"),
        (away, "No answer from"),
        (("--url", server.url), "admin key"),
    ):
        out, err = reactor(project, command, *options, code=1)
        assert (out, err.startswith("error: "), text in err, err.count("\n")) == ([], True, True, 0)
