"""`reactor init` makes a project that loads, and overwrites nothing."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reactor.cli.main import app
from reactor.runtime.loader import ProjectLoader

FILES = {".gitignore", "schema.py", "functions/messages.py", "tests/test_messages.py"}


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_makes_a_project_that_loads(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "chat")])
    assert result.exit_code == 0, result.output
    assert files_of(tmp_path / "chat") == FILES

    project = ProjectLoader(tmp_path / "chat").load()
    assert set(project.registry.functions) == {"messages:list_messages", "messages:send"}
    assert set(project.schema.tables) == {"messages"}
    project.release()


def test_it_says_how_to_start(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "chat")])
    assert f"cd {tmp_path / 'chat'} && reactor dev" in result.output


@pytest.mark.parametrize("present", ["schema.py", "functions/mine.py", "tests/test_messages.py"])
def test_it_refuses_where_something_of_it_is(tmp_path: Path, present: str) -> None:
    file = tmp_path / present
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    result = CliRunner().invoke(app, ["init", str(tmp_path)])
    assert result.exit_code == 1
    assert "already holds" in result.output
    assert files_of(tmp_path) == {present}
    assert file.read_text() == "mine"


def test_it_adds_to_a_gitignore(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("node_modules/\n.venv/")
    assert CliRunner().invoke(app, ["init", str(tmp_path)]).exit_code == 0
    assert (tmp_path / ".gitignore").read_text() == "node_modules/\n.venv/\n.reactor/\n.env.local\n__pycache__/\n"
