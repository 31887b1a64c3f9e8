"""`reactor serve`: a project in production, from a folder or from `reactor deploy`.

Promises to say in one message what keeps it from starting, and to end after the answers under way have left. Reads the
project once; a change needs a restart, or a deploy where there is no project folder.
"""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from reactor.cli.console import say, show_function_logs

DEFAULT_PORT: Final = 3210

SitePort = Annotated[
    int | None,
    typer.Option(
        "--site-port",
        metavar="PORT",
        help="Where HTTP actions are served at the root; 0 picks a free one.",
        min=0,
        max=65535,
        show_default="the port after --port",
    ),
]


def serve(
    project: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The project.", show_default="what was deployed last")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where the data is kept.", show_default=".reactor in the project, or here"),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="0 picks a free one.", min=0, max=65535)] = DEFAULT_PORT,
    site_port: SitePort = None,
) -> None:
    """Serve a project in production: that of a folder, or what `reactor deploy` brings."""
    # Here, since the engine takes a moment to import and no other command needs it.
    from reactor.cli.settings import find_project, read_settings
    from reactor.server import run as server

    settings = read_settings(os.environ, needs_origins=True)
    deployment = settings.deployment(None if project is None else find_project(project), data)
    show_function_logs()
    server.protect(settings.limits)
    listener = server.bind(host, port)
    site = server.bind(host, site_port_of(port, site_port), "--site-port")

    def ready() -> None:
        if project is None and not deployment.has_version:
            say("Nothing was deployed yet: `reactor deploy` brings a project.")
        say(f"HTTP actions: {server.url_of(site)}")
        say(f"reactor serve: ready at {server.url_of(listener)}")

    server.run(server.serve(deployment, listener, site=site, ready=ready))


def site_port_of(port: int, site_port: int | None) -> int:
    """Return where HTTP actions are served: as told, else beside the port, 3211 beside 3210."""
    if site_port is not None:
        return site_port
    return port + 1 if 0 < port < 65535 else 0
