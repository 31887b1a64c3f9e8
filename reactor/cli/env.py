"""`reactor env`: the environment variables of a running deployment.

Promises that a set of changes is made whole or not at all, and that a value can be given without showing up in the
shell's history or the list of processes: on standard input.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from reactor.cli.console import fail, say
from reactor.cli.remote import ask, send
from reactor.cli.target import Target, find_target
from reactor.errors import InvalidArgument
from reactor.protocol.http import VariableChange, VariablesRequest, VariablesResponse, encode_body

_responses: Final = msgspec.json.Decoder(VariablesResponse)

env: Final = typer.Typer(help="Show and change environment variables of a deployment.", no_args_is_help=True)

Url = Annotated[str | None, typer.Option(metavar="URL", help="The server.")]
AdminKey = Annotated[str | None, typer.Option(metavar="KEY", help="Its admin key; needs --url.")]
Project = Annotated[Path, typer.Option(metavar="DIR", help="Whose running `reactor dev` to use.")]


@env.command("list")
def list_(
    names_only: Annotated[bool, typer.Option("--names-only", help="Leave out the values.")] = False,
    url: Url = None,
    admin_key: AdminKey = None,
    project: Project = Path(),
) -> None:
    """Print all variables as NAME=VALUE, quoted for a shell."""
    for name, value in sorted(_read(_target(url, admin_key, project)).items()):
        say(name if names_only else f"{name}={shlex.quote(value)}")


@env.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    url: Url = None,
    admin_key: AdminKey = None,
    project: Project = Path(),
) -> None:
    """Print the value of a variable as it is."""
    value = _read(_target(url, admin_key, project)).get(name)
    if value is None:
        fail(f"{name} is not set.")
    say(value)


@env.command("set")
def set_(
    variables: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE", help="One NAME alone: its value comes from standard input."),
    ],
    url: Url = None,
    admin_key: AdminKey = None,
    project: Project = Path(),
) -> None:
    """Set variables, all or none. What has read one of them runs again."""
    target = _target(url, admin_key, project)
    if len(variables) == 1 and "=" not in variables[0]:
        changes = {variables[0]: _value_from_input(variables[0])}
    else:
        changes = dict(map(_assignment, variables))
    _write(target, [VariableChange(name, value) for name, value in changes.items()])
    say(f"Set {', '.join(changes)}.")


@env.command()
def unset(
    names: Annotated[list[str], typer.Argument(metavar="NAME")],
    url: Url = None,
    admin_key: AdminKey = None,
    project: Project = Path(),
) -> None:
    """Unset variables, all or none."""
    _write(_target(url, admin_key, project), [VariableChange(name) for name in names])
    say(f"Unset {', '.join(names)}.")


def _target(url: str | None, admin_key: str | None, project: Path) -> Target:
    return find_target(url, admin_key, os.environ, project.resolve())


def _read(target: Target) -> dict[str, str]:
    return ask(target, "/api/v1/list_environment_variables", _responses).environment_variables


def _write(target: Target, changes: list[VariableChange]) -> None:
    send(target, "/api/v1/update_environment_variables", encode_body(VariablesRequest(changes)))


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise InvalidArgument(
            f"{name} has no value: write {name}=VALUE, or set it alone with its value on standard input."
        )
    return name, value


def _value_from_input(name: str) -> str:
    if sys.stdin.isatty():
        value: str = typer.prompt(f"Value of {name}", hide_input=True)
        return value
    return sys.stdin.read().removesuffix("\n")
