"""`reactor serve`: a project in production.

Promises to say in one message what keeps it from starting, and to end after the answers under way have left. Reads the
project once; a change needs a restart.
"""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from reactor.cli.console import say, show_function_logs

DEFAULT_PORT: Final = 3210


def serve(
    project: Annotated[Path, typer.Option(metavar="DIR", help="The project.")] = Path(),
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data is kept.", show_default=".reactor in the project")
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="0 picks a free one.", min=0, max=65535)] = DEFAULT_PORT,
) -> None:
    """Serve a project in production."""
    # Here, since the engine takes a moment to import and no other command needs it.
    from reactor.cli.settings import find_project, read_settings
    from reactor.server import run as server

    settings = read_settings(os.environ, needs_origins=True)
    deployment = settings.deployment(find_project(project), data)
    show_function_logs()
    server.protect(settings.limits)
    listener = server.bind(host, port)
    url = server.url_of(listener)
    server.run(server.serve(deployment, listener, ready=lambda: say(f"reactor serve: ready at {url}")))
