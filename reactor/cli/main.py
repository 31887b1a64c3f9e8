"""The program `reactor`: one command per module.

Promises that a failure on purpose is one message and exit code 1, never a traceback, and that an interrupt is exit
code 130.
"""

import sys
from typing import Annotated, Final

import typer

from reactor.cli.admin_key import admin_key
from reactor.cli.codegen import codegen
from reactor.cli.console import say, show
from reactor.cli.deploy import deploy
from reactor.cli.dev import dev
from reactor.cli.env import env
from reactor.cli.init import init
from reactor.cli.migrations import migrations
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
app.command("admin-key")(admin_key)
app.add_typer(env, name="env")
app.add_typer(migrations, name="migrations")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except Error as error:
        show(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
