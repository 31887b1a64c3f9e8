"""Imports and exports with the official command line and with ours, against a real server."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import (
    CONFORMANCE,
    REACTOR,
    SHARED_KILL_AFTER_SECONDS,
    Program,
    Server,
    free_port,
    running,
    start_dev,
)
from tests.transfer.sites import archive, write_project

OFFICIAL = ("node", CONFORMANCE / "node_modules" / "convex" / "bin" / "main.js")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path)


@pytest.fixture
def server(project: Path) -> Iterator[Server]:
    server = start_dev(project, kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


def run(*command: str | Path, cwd: Path, code: int = 0, env: dict[str, str] | None = None) -> tuple[list[str], str]:
    program = Program(command, cwd=cwd, env=env)
    with running(program):
        assert program.finish() == code, program.transcript()
    return program.out, "\n".join(program.err)


@pytest.fixture
def official(node: str, server: Server, project: Path) -> Any:
    """The official command line, which talks to the server unless told otherwise."""
    target: dict[str, Any] = json.loads((project / ".reactor" / "dev.json").read_text())
    folder = project / "front"
    folder.mkdir()
    (folder / "package.json").write_text('{"dependencies": {"convex": "1.48.0"}}')
    (folder / "users.csv").write_text("name\nAda\n")

    def official(*args: str, code: int = 0, **environ: str) -> str:
        good = {"CONVEX_SELF_HOSTED_URL": target["url"], "CONVEX_SELF_HOSTED_ADMIN_KEY": target["adminKey"], "CI": "1"}
        out, err = run(*OFFICIAL, *args, cwd=folder, env=good | environ, code=code)
        return "\n".join(out) + err

    return official


@pytest.mark.timeout(150)
def test_the_official_import(official: Any, project: Path) -> None:
    folder = project / "front"
    (folder / "users.jsonl").write_text("".join(json.dumps({"name": f"u{n}"}) + "\n" for n in range(300)))
    assert "Added 300 documents" in official("import", "--table", "users", "users.jsonl")
    assert "already exists" in official("import", "--table", "users", "users.jsonl", code=1)
    assert "Added 1 document" in official("import", "--table", "users", "--append", "users.csv")
    assert "Added 1 document" in official("import", "--table", "users", "--replace", "-y", "users.csv")
    (folder / "things.json").write_text('[{"a": {"$integer": "AQAAAAAAAAA="}}, {"a": 1}]')
    assert "Added 2 documents" in official("import", "--table", "things", "things.json")
    (folder / "bad.jsonl").write_text('{"name": 1}\n')
    assert "row 1" in official("import", "--table", "users", "--append", "bad.jsonl", code=1)


@pytest.mark.timeout(150)
def test_the_official_export(official: Any, project: Path) -> None:
    folder = project / "front"
    official("import", "--table", "users", "users.csv")
    official("export", "--path", "taken.zip", "--include-file-storage")
    with zipfile.ZipFile(folder / "taken.zip") as opened:
        names = opened.read("users/documents.jsonl")
        assert b"Ada" in names
        assert "_storage/documents.jsonl" in opened.namelist()
    official("import", "--replace-all", "-y", "taken.zip")
    official("export", "--path", "again.zip")
    with zipfile.ZipFile(folder / "again.zip") as opened:
        assert opened.read("users/documents.jsonl") == names


@pytest.mark.timeout(200)
@pytest.mark.parametrize("command", [("import", "--table", "users", "users.csv"), ("export", "--path", "x.zip")])
def test_the_official_command_line_refused_and_alone(official: Any, command: tuple[str, ...]) -> None:
    wrong = official(*command, code=1, CONVEX_SELF_HOSTED_ADMIN_KEY="reactor|0000")
    assert "deploy key is invalid" in wrong, wrong
    away = official(*command, code=1, CONVEX_SELF_HOSTED_URL=f"http://127.0.0.1:{free_port()}")
    assert "fetch failed" in away, away


@pytest.mark.timeout(150)
def test_our_command_line(server: Server, project: Path) -> None:
    def ours(*args: str, code: int = 0) -> tuple[str, str]:
        out, err = run(*REACTOR, *args, cwd=project, code=code)
        return "\n".join(out), err

    (project / "users.csv").write_text('name\nAda\n"O\'Neil, ""Tip"""\n')
    assert ours("import", "users.csv", "--table", "users")[0] == "Imported 2 rows."
    assert "already exists" in ours("import", "users.csv", "--table", "users", code=1)[1]
    assert ours("import", "users.csv", "--table", "users", "--append")[0] == "Imported 2 rows."
    error = ours("import", "users.csv", "--table", "users", "--replace", code=1)[1]
    assert "Import change summary:" in error, "asked, and nobody answered"
    assert ours("import", "users.csv", "--table", "users", "--replace", "-y")[0] == "Imported 2 rows."
    assert "its name" in ours("import", "users.txt", "--table", "users", code=1)[1]
    assert "can't be read" in ours("import", "nowhere.csv", "--table", "users", code=1)[1]
    assert "Only one" in ours("import", "users.csv", "--append", "--replace", code=1)[1]

    ours("export", "--path", "all.zip", "--include-file-storage")
    (project / "folder").mkdir()
    ours("export", "--path", "folder")
    assert [path.suffix for path in (project / "folder").iterdir()] == [".zip"]
    for name in ("users.jsonl", "again.csv", "users.parquet"):
        assert ours("export", "--table", "users", "--path", name)[0] == f"Wrote {name}."
    assert (project / "again.csv").read_text().splitlines()[0] == "_id,_creationTime,name"
    assert "Tip" in (project / "again.csv").read_text()
    assert "no table 'nobody'" in ours("export", "--table", "nobody", "--path", "x.csv", code=1)[1]
    assert "give --table" in ours("export", "--format", "csv", "--path", "x.csv", code=1)[1]
    assert "no format 'xls'" in ours("export", "--table", "users", "--path", "x.xls", code=1)[1]
    assert ours("import", "users.jsonl", "--table", "users", "--replace", "-y")[0] == "Imported 2 rows."
    assert ours("import", "all.zip", "--replace-all", "-y")[0] == "Imported 2 rows."
    (project / "evil.zip").write_bytes(archive({"../../users/documents.jsonl": [{"name": "x"}]}))
    assert "leads out of the archive" in ours("import", "evil.zip", "--replace-all", "-y", code=1)[1]
    away = f"http://127.0.0.1:{free_port()}"
    for command in (("import", "users.csv", "--table", "users"), ("export", "--path", "x.zip")):
        assert "No answer from" in ours(*command, "--url", away, "--admin-key", "x|y", code=1)[1]
        assert "BadDeployKey" in ours(*command, "--url", server.url, "--admin-key", "x|y", code=1)[1]
    assert not (project / "x.zip").exists()
