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
    from reactor.cli.settings import read_settings
    from reactor.runtime.loader import read_options
    from reactor.server.app import DEFAULT_DATA, MEMORY
    from reactor.server.credentials import load_credentials
    from reactor.server.system import SystemClock, SystemRng

    settings = read_settings(os.environ)
    if data == MEMORY:
        raise InvalidArgument(
            "Data in memory has no key outside the process that holds it; `reactor dev` prints its own."
        )
    folder = project.resolve()
    folder = (folder / (read_options(folder).data or DEFAULT_DATA)) if data is None else Path(data).resolve()
    rng = SystemRng()
    credentials = load_credentials(folder, settings.instance_name, settings.instance_secret, rng)
    say(credentials.admin_key(SystemClock(), rng, read_only=read_only))
