"""`reactor migrations`: running the migrations of a deployment, and looking at them.

A migration is a function of the application and its progress is kept by the component, so each command is one call.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from reactor.cli.calling import call, print_value
from reactor.cli.console import fail
from reactor.cli.target import Target, find_target
from reactor.errors import InvalidArgument

LOCATION: Final = "migrations:"  # where they are unless a name says otherwise
OWN_SERIES: Final = "migrations:run"

migrations: Final = typer.Typer(help="Run the migrations of a deployment.", no_args_is_help=True)


@migrations.callback()
def _group() -> None:
    """Run the migrations of a deployment."""


@migrations.command()
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Such as v1_to_v2; several run one after the other."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run one batch, show it, and take it back.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Begin again, also those that are done.")] = False,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Documents in one transaction.")] = None,
    cursor: Annotated[str | None, typer.Option(metavar="TEXT", help="Where to begin, from a status.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Only print how far they are.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop them, or all, behind the present batch.")] = False,
    component: Annotated[str, typer.Option(metavar="NAME", help="What the component is mounted as.")] = "migrations",
    url: Annotated[str | None, typer.Option(metavar="URL", help="The server.")] = None,
    admin_key: Annotated[str | None, typer.Option(metavar="KEY", help="Its admin key; needs --url.")] = None,
    project: Annotated[Path, typer.Option(metavar="DIR", help="Whose running `reactor dev` to use.")] = Path(),
) -> None:
    """Start migrations or go on with them; print the status of the first. The rest happens on the server."""
    target = find_target(url, admin_key, os.environ, project.resolve())
    if target.admin_key is None:
        raise InvalidArgument("Migrations need an admin key: give --admin-key, or CONVEX_SELF_HOSTED_ADMIN_KEY.")
    paths = [name if ":" in name else LOCATION + name for name in names or ()]
    options = {"dryRun": dry_run, "reset": reset, "batchSize": batch_size, "cursor": cursor}
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    if status + cancel + bool(given) > 1:
        raise InvalidArgument("--status and --cancel run nothing, so they go with no other option.")
    if status:
        print_value(call(target, "runs:getStatus", {"names": paths} if paths else {}, component=component))
    elif cancel:
        _cancel(target, paths, component)
    else:
        _run(target, paths, given)


def _cancel(target: Target, paths: list[str], component: str) -> None:
    if not paths:
        print_value(call(target, "runs:cancelAll", {}, component=component))
        return
    print_value([call(target, "runs:cancel", {"name": path}, component=component) for path in paths])


def _run(target: Target, paths: list[str], options: dict[str, Any]) -> None:
    first, *others = paths or [OWN_SERIES]
    result = call(target, first, {**options, "next": others} if others else options)
    print_value(result)
    if isinstance(result, dict) and result.get("state") == "failed":
        fail(f"Migration {result['name']} failed: {result.get('error')}")
