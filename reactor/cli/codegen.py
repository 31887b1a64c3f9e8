"""`reactor codegen`: types of a project for Python and TypeScript.

Loads the project as it is on disk; needs no server and touches no data.
"""

from pathlib import Path
from typing import Annotated

import typer

from reactor.cli.console import fail, say
from reactor.errors import PushError


def codegen(
    project: Annotated[Path, typer.Option(metavar="DIR", help="The project.")] = Path(),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is out of date, and name it.")
    ] = False,
) -> None:
    """Write the types of functions and documents: _generated/, and TypeScript where pyproject.toml says so."""
    # Here, since the engine takes a moment to import and no other command needs it.
    from reactor.cli.settings import find_project
    from reactor.codegen import files
    from reactor.runtime.loader import ProjectLoader

    folder = find_project(project)
    if check:
        missing = not (folder / files.PYTHON / "__init__.py").is_file()
        if missing:
            fail(f"Out of date: {files.PYTHON}/__init__.py. Run `reactor codegen`.")
    began = not check and files.begin(folder)
    try:
        loaded = ProjectLoader(folder).load()
    except PushError:
        if began:
            say("The project can't be loaded, so only what runs was written: _generated/__init__.py.")
        raise
    try:
        wanted = files.generated_files(loaded, folder)
    finally:
        loaded.release()
    if check:
        old = files.named(files.stale(wanted), folder)
        if old:
            fail(f"Out of date: {', '.join(old)}. Run `reactor codegen`.")
        say("The generated files are up to date.")
        return
    written = files.named(files.write(wanted), folder)
    if began:
        written = sorted({*written, f"{files.PYTHON}/__init__.py"})
    say(f"Wrote {', '.join(written)}." if written else "The generated files are up to date.")
