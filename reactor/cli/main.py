"""The program `reactor`: one command per module.

Promises that a failure on purpose is one message and exit code 1, never a traceback, and that an interrupt is exit
code 130.
"""

import sys
from typing import Annotated, Any, Final

import typer

from reactor.cli.admin_key import admin_key
from reactor.cli.codegen import codegen
from reactor.cli.console import complain, say, show
from reactor.cli.data import data
from reactor.cli.deploy import deploy
from reactor.cli.dev import dev
from reactor.cli.env import env
from reactor.cli.export import export
from reactor.cli.function_spec import function_spec
from reactor.cli.import_ import import_
from reactor.cli.init import init
from reactor.cli.logs import logs
from reactor.cli.migrations import migrations
from reactor.cli.official import answer_to
from reactor.cli.run import run
from reactor.cli.serve import serve
from reactor.errors import Error
from reactor.server.version import version

app: Final = typer.Typer(
    name="reactor",
    help="A reactive document database server: schema and functions in Python, live queries for every client.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"reactor {version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that come before any command."""


app.command()(init)
app.command()(dev)
app.command()(serve)
app.command()(deploy)
app.command()(run)
app.command()(codegen)
app.command()(data)
app.command()(logs)
app.command("function-spec")(function_spec)
app.command("import")(import_)
app.command()(export)
app.command("admin-key")(admin_key)
app.add_typer(env, name="env")
app.add_typer(migrations, name="migrations")


def commands() -> dict[str, frozenset[str]]:
    """Return the options of each command, by its whole name."""
    found: dict[str, frozenset[str]] = {}
    below: list[tuple[str, Any]] = list(typer.main.get_command(app).commands.items())  # type: ignore[attr-defined]
    while below:
        name, command = below.pop()
        inner = getattr(command, "commands", None)
        if inner is None:
            found[name] = frozenset(option for one in command.params for option in one.opts)
        else:
            below += [(f"{name} {part}", one) for part, one in inner.items()]
    return found


def main() -> None:
    """Run the command line."""
    answer = answer_to(sys.argv[1:], commands())
    if answer is not None:
        complain(answer)
        sys.exit(2)
    try:
        app()
    except Error as error:
        show(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
