"""`reactor migrations run`: a whole life of two migrations, from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reactor.cli.main import main
from tests.servers import ROOT, copy_project, running, start_dev


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = ROOT / "tests" / "components" / "migrations" / "project"
    return copy_project(project, tmp_path_factory.mktemp("migrations") / "app")


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command in this process, which is the same but for the start of Python: what it printed as JSON, and said."""

    def run(*args: str, code: int = 0) -> tuple[Any, str]:
        monkeypatch.setattr("sys.argv", ["reactor", *args, "--project", str(project)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return json.loads(out) if out else None, err

    return run


def test_migrations(project: Path, run: Callable[..., Any]) -> None:
    adding = "from reactor import mutation\n\n\n@mutation\nasync def add(ctx, name: str, number: float):\n"
    (project / "functions" / "filling.py").write_text(
        adding + '    await ctx.db.insert("users", {"name": name, "number": number})\n'
    )
    server = start_dev(project, "--data", ":memory:")
    with running(server):
        for number, name in enumerate("ab"):
            run("run", "filling:add", json.dumps({"name": name, "number": number}))
        dry, log = run("migrations", "run", "count", "--dry-run", "--batch-size", "1")
        assert (dry["kind"], dry["status"]["processed"]) == ("DRY RUN", 1)
        assert "Dry run: 1 documents read, nothing was written." in log
        assert run("migrations", "run", "--status") == ([], "")
        begun, _ = run("migrations", "run", "count", "shout")
        assert (begun["state"], begun["processed"], begun["isDone"]) == ("success", 2, True)
        again, _ = run("migrations", "run", "count", "--reset")
        assert again["latestStart"] > begun["latestStart"]
        found, _ = run("migrations", "run", "--status", "migrations:count", "nowhere")
        assert [(one["name"], one["state"]) for one in found] == [
            ("migrations:count", "success"),
            ("migrations:nowhere", "unknown"),
        ]
        assert run("migrations", "run", "count", "--cancel")[0][0]["state"] == "success"
        for args, part in (
            (("count", "--cancel", "--reset"), "no other option"),
            (("nowhere",), "nowhere"),
            ((), "Name the migration to run"),
            (("with_context", "--url", server.url), "admin key"),
        ):
            assert part in run("migrations", "run", *args, code=1)[1], args
