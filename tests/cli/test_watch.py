"""Telling when a project changed: by content, and without missing an edit made at a bad moment."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from reactor.cli.watch import ProjectWatch, differs, look, python_files


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "functions").mkdir()
    for name in ("schema.py", "helper.py", "manage.py", "functions/a.py"):
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def loaded(project: Path, *sources: str) -> ProjectWatch:
    watch = ProjectWatch(project, debounce_ms=1)
    watch.before_load()
    watch.after_load(
        [project / name for name in sources or ("schema.py", "helper.py", "functions/a.py")],
        [project / "functions", project / "part" / "functions"],
    )
    return watch


def test_nothing_changed(project: Path) -> None:
    assert loaded(project).is_current()


@pytest.mark.parametrize("name", ["schema.py", "helper.py", "functions/a.py"])
def test_an_edit_of_an_imported_file_counts(project: Path, name: str) -> None:
    watch = loaded(project)
    (project / name).write_text("edited")
    assert not watch.is_current()


@pytest.mark.parametrize("name", ["functions/b.py", "functions/deep/er/c.py", "part/functions/d.py", "pyproject.toml"])
def test_a_new_file_that_a_load_would_read_counts(project: Path, name: str) -> None:
    watch = loaded(project)
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text("new")
    assert not watch.is_current()


def test_a_removed_file_counts(project: Path) -> None:
    watch = loaded(project)
    (project / "helper.py").unlink()
    assert not watch.is_current()


@pytest.mark.parametrize("name", ["manage.py", "tests.py", "functions/notes.txt"])
def test_files_that_were_not_imported_do_not_count(project: Path, name: str) -> None:
    watch = loaded(project)
    (project / name).write_text("edited")
    assert watch.is_current()


def test_saving_unchanged_is_no_edit(project: Path) -> None:
    watch = loaded(project)
    (project / "schema.py").write_text("# schema.py\n")
    os.utime(project / "schema.py", ns=(1, 1))
    assert watch.is_current()


def test_an_edit_within_the_resolution_of_file_times_counts(project: Path) -> None:
    """Two writes in one tick of the file system's clock leave the same times and size."""
    watch = loaded(project)
    file = project / "schema.py"
    status = file.stat()
    file.write_text("# SCHEMA.py\n")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not watch.is_current()


def test_an_edit_during_a_load_counts(project: Path) -> None:
    watch = ProjectWatch(project, debounce_ms=1)
    watch.before_load()
    (project / "helper.py").write_text("edited while loading")
    watch.after_load([project / "helper.py"], [project / "functions"])
    assert not watch.is_current()


def test_after_a_failed_load_any_python_file_may_mend_it(project: Path) -> None:
    watch = ProjectWatch(project, debounce_ms=1)
    watch.before_load()
    watch.after_failure([])
    assert watch.is_current()
    (project / "missing.py").write_text("here now")
    assert not watch.is_current()


def test_after_a_failed_load_what_it_had_read_elsewhere_may_mend_it(project: Path, tmp_path_factory: Any) -> None:
    installed = tmp_path_factory.mktemp("installed") / "component.py"
    installed.write_text("broken")
    watch = ProjectWatch(project, debounce_ms=1)
    watch.before_load()
    watch.after_failure([installed])
    assert watch.is_current()
    installed.write_text("mended")
    assert not watch.is_current()


def test_what_is_not_the_users_is_left_out(project: Path) -> None:
    for folder in ("node_modules/x", ".hidden", "env", "__pycache__"):
        (project / folder).mkdir(parents=True)
        (project / folder / "x.py").touch()
    (project / "env" / "pyvenv.cfg").touch()
    assert {path.name for path in python_files(project)} == {"schema.py", "helper.py", "manage.py", "a.py"}


def test_an_old_file_is_not_read_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project / "schema.py"
    os.utime(file, (1, 1))
    stamps = look([file], {})
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    assert not differs(look([file], stamps), stamps)


@pytest.mark.asyncio
async def test_changed_returns_at_once_for_an_edit_made_before_it_was_asked(project: Path) -> None:
    watch = loaded(project)
    (project / "helper.py").write_text("edited")
    await watch.changed()
    assert not watch.is_current()


@pytest.mark.asyncio
async def test_changed_waits_for_an_edit(project: Path) -> None:
    watch = loaded(project)
    waiting = asyncio.create_task(watch.changed())
    await asyncio.sleep(0)
    (project / "functions" / "a.py").write_text("edited")
    await waiting
    assert not watch.is_current()
