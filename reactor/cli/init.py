"""`reactor init`: a project that works, small enough to read in a minute.

Promises to overwrite nothing. The files come from `template/` beside this module.
"""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final

import typer

from reactor.cli.console import fail, say

_RENAMED: Final = {"gitignore": ".gitignore"}  # under its own name the file would apply to this repository


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to create it.")] = Path(),
) -> None:
    """Create a project: schema.py, functions/messages.py, a test."""
    files = {_target(name): content for name, content in _template()}
    present = sorted(str(name) for name in files if name.name != ".gitignore" and (directory / name).exists())
    if (directory / "functions").is_dir():
        present = ["functions/", *(name for name in present if not name.startswith("functions"))]
    if present:
        fail(f"{directory.resolve()} already holds {', '.join(present)}; nothing was changed.")
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            content = _with_lines(file.read_text(encoding="utf-8"), content)
        file.write_text(content, encoding="utf-8")
    say(f"Created a project in {directory.resolve()}:")
    for name in files:
        say(f"  {name}")
    enter = "" if directory == Path() else f"cd {directory} && "
    say(f"\nStart it:  {enter}reactor dev")


def _template() -> list[tuple[Path, str]]:
    def walk(folder: Traversable, at: Path) -> list[tuple[Path, str]]:
        found: list[tuple[Path, str]] = []
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if entry.is_dir():
                found += walk(entry, at / entry.name) if entry.name != "__pycache__" else []
            elif not entry.name.endswith(".pyc"):
                found.append((at / entry.name, entry.read_text(encoding="utf-8")))
        return found

    return walk(resources.files("reactor.cli") / "template", Path())


def _target(name: Path) -> Path:
    return name.with_name(_RENAMED.get(name.name, name.name))


def _with_lines(old: str, wanted: str) -> str:
    missing = [line for line in wanted.splitlines() if line not in old.splitlines()]
    joint = "" if not old or old.endswith("\n") else "\n"
    return old + joint + "".join(f"{line}\n" for line in missing)
