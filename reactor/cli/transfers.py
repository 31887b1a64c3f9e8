"""What `reactor import` and `reactor export` have in common: asking a server how far a transfer is.

Promises that progress goes to standard error, each line once. Used by the two commands.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from reactor.cli.console import fail
from reactor.cli.remote import send
from reactor.cli.target import Target, find_target

POLL_SECONDS: Final = 0.2

Url = Annotated[str | None, typer.Option(metavar="URL", help="The server.")]
AdminKey = Annotated[str | None, typer.Option(metavar="KEY", help="Its admin key; needs --url.")]
Project = Annotated[Path, typer.Option(metavar="DIR", help="Whose running `reactor dev` to use.")]
Component = Annotated[str, typer.Option(metavar="PATH", help="The component instance, by default the application.")]


def target_of(url: str | None, admin_key: str | None, project: Path) -> Target:
    """Return the server that the options name."""
    return find_target(url, admin_key, os.environ, project.resolve())


def ask_system(target: Target, path: str, args: dict[str, Any]) -> Any:
    """Return what a system query gives.

    Raises:
        typer.Exit: it was refused, or there was no answer.
    """
    body = json.dumps({"path": path, "args": args, "format": "json"}).encode()
    answer = msgspec.json.decode(send(target, "/api/query", body))
    if answer.get("status") != "success":
        fail(str(answer.get("errorMessage")))
    return answer["value"]


def looks(target: Target, path: str, args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the document of a transfer again and again, until nobody asks any more."""
    while True:
        row = ask_system(target, path, args)
        if row is None:
            fail("The server knows nothing of it any more.")
        yield row
        time.sleep(POLL_SECONDS)
