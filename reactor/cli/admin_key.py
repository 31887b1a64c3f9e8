"""`reactor admin-key`: a new key to a project's data.

Needs no running server: a key follows from the instance's name and secret, which lie with the data or in the
environment.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from reactor.cli.console import say
from reactor.errors import InvalidArgument


def admin_key(
    project: Annotated[Path, typer.Option(metavar="DIR", help="The project.")] = Path(),
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data is kept.", show_default=".reactor in the project")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="A key that can read but not write.")] = False,
) -> None:
    """Print a new admin key for a project's data."""
    # Here, since the engine takes a moment to import and most commands don't need it.
    from reactor.cli.database import data_below
    from reactor.cli.settings import find_project, read_settings
    from reactor.server.credentials import load_credentials
    from reactor.server.data import data_directory
    from reactor.server.system import SystemClock, SystemRng

    settings = read_settings(os.environ)
    data = data_below(settings.folder, data)
    directory = data_directory(find_project(project) if data is None else project, data)
    if directory is None:
        raise InvalidArgument(
            "Data in memory has no key outside the process that holds it; `reactor dev` prints its own."
        )
    rng = SystemRng()
    credentials = load_credentials(directory, settings.instance_name, settings.instance_secret, rng)
    say(credentials.admin_key(SystemClock(), rng, read_only=read_only))
