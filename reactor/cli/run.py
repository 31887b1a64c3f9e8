"""`reactor run`: call a function on a server, or with `--watch` subscribe to it.

Promises that standard output holds results as JSON and nothing else; log lines and errors go to standard error. With an
admin key any function can be called, also an internal one, and `--identity` chooses the user it sees.
"""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from reactor.cli.calling import call, check_identity, print_value
from reactor.cli.console import show
from reactor.cli.target import Target, find_target
from reactor.client.address import path_of
from reactor.client.async_client import Client
from reactor.client.subscription import Subscription
from reactor.errors import AuthError, Error, InvalidArgument


def run(
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="Such as messages:send.")],
    args: Annotated[str, typer.Argument(metavar="ARGS", help="The arguments, a JSON object.")] = "{}",
    watch: Annotated[bool, typer.Option("--watch", help="Subscribe, and print each new result until Ctrl-C.")] = False,
    identity: Annotated[str | None, typer.Option(metavar="JSON", help='Call as this user: {"subject": "ann"}.')] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="The server.")] = None,
    admin_key: Annotated[str | None, typer.Option(metavar="KEY", help="Its admin key; needs --url.")] = None,
    project: Annotated[Path, typer.Option(metavar="DIR", help="Whose running `reactor dev` to use.")] = Path(),
) -> None:
    """Call a function and print its result as JSON."""
    target = find_target(url, admin_key, os.environ, project.resolve())
    arguments = _json_object("ARGS", args)
    acting_as = None if identity is None else _json_object("--identity", identity)
    if watch:
        asyncio.run(_watch(target, path_of(function), arguments, acting_as))
    else:
        print_value(call(target, path_of(function), arguments, acting_as=acting_as))


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{name} is not JSON ({error}); most shells need '...' around it.") from None
    if not isinstance(parsed, dict):
        raise InvalidArgument(f"{name} must be a JSON object, not {text}")
    return parsed


async def _watch(target: Target, path: str, args: dict[str, Any], acting_as: dict[str, Any] | None) -> None:
    check_identity(target, acting_as)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    client = Client(target.url)
    if target.admin_key is not None:
        client.set_admin_auth(target.admin_key, acting_as)
    async with client, client.subscribe(path, args) as live:
        printing = asyncio.create_task(_print_each(live), name="print results")
        waiting = asyncio.create_task(stopped.wait(), name="wait for a signal")
        await asyncio.wait({printing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in (printing, waiting):
            task.cancel()
        if printing.done() and not printing.cancelled():
            printing.result()


async def _print_each(live: Subscription) -> None:
    while True:
        try:
            print_value(await live.next())
        except Error as error:
            if live.closed or isinstance(error, AuthError):
                raise
            show(error)  # of this run of the query; the next one may succeed
