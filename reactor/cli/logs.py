"""`reactor logs`: what functions of a running deployment log and fail with, as it happens.

Promises that each entry is shown once, and that `--jsonl` prints what the server says, unchanged.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from reactor.cli.console import say
from reactor.cli.remote import ask
from reactor.cli.target import Target, find_target

_LETTERS: Final = {"Query": "Q", "Mutation": "M", "Action": "A", "HttpAction": "H"}


class _Answer(msgspec.Struct, rename="camel"):
    entries: list[dict[str, Any]]
    new_cursor: float


_answers: Final = msgspec.json.Decoder(_Answer)


def logs(
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="TEXT", help="Only functions whose name contains this.")
    ] = None,
    history: Annotated[int, typer.Option(metavar="N", min=0, help="Begin with the newest N entries.")] = 0,
    success: Annotated[bool, typer.Option("--success", help="Also say when a function has ended well.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print each entry as one line of JSON.")] = False,
    url: Annotated[str | None, typer.Option(metavar="URL", help="The server.")] = None,
    admin_key: Annotated[str | None, typer.Option(metavar="KEY", help="Its admin key; needs --url.")] = None,
    project: Annotated[Path, typer.Option(metavar="DIR", help="Whose running `reactor dev` to use.")] = Path(),
) -> None:
    """Follow what functions log and fail with, until Ctrl-C.

    Examples: `reactor logs`; `reactor logs --history 20 --success`; `reactor logs --filter messages: --jsonl`.
    """
    target = find_target(url, admin_key, os.environ, project.resolve())
    first = True
    for entries in _follow(target):
        wanted = [entry for entry in entries if filter_ is None or filter_ in _name(entry)]
        if first:
            wanted = wanted[len(wanted) - history :] if history < len(wanted) else wanted
            wanted = wanted if history else []
            first = False
        for entry in wanted:
            if jsonl:
                say(msgspec.json.encode(entry).decode())
            else:
                _show(entry, success=success)


def _follow(target: Target) -> Iterator[list[dict[str, Any]]]:
    cursor = 0.0
    while True:
        answer = ask(target, f"/api/stream_function_logs?cursor={cursor!r}", _answers)
        cursor = answer.new_cursor
        yield answer.entries


def _name(entry: dict[str, Any]) -> str:
    component = entry["componentPath"]
    return f"{component}/{entry['identifier']}" if component else str(entry["identifier"])


def _show(entry: dict[str, Any], *, success: bool) -> None:
    when = datetime.fromtimestamp(entry["timestamp"]).strftime("%Y-%m-%d %H:%M:%S")
    head = f"{when} {_LETTERS.get(entry['udfType'], '?')}({_name(entry)})"
    for line in entry["logLines"]:
        inner = f"[{line['udfPath']}] " if "udfPath" in line else ""
        say(f"{head} [{line['level']}] {inner}{' '.join(line['messages'])}")
    if entry["kind"] != "Completion":
        return
    if entry["error"] is not None:
        say(f"{head} {entry['error']} [Request ID: {entry['requestId']}]", style="red")
    elif success:
        cached = " (cached)" if entry["cachedResult"] else ""
        say(f"{head} succeeded in {entry['executionTime'] * 1000:.0f} ms{cached}")
