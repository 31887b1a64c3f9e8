"""`reactor function-spec`: the functions of a running deployment with their types, for tools that make clients.

Promises the official form: what reads the output of `convex function-spec` reads this.
"""

import json
import os
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from reactor.cli.console import say, warn
from reactor.cli.queries import system_query
from reactor.cli.target import find_target


def function_spec(
    to_file: Annotated[bool, typer.Option("--file", help="Write function_spec_<time>.json here instead.")] = False,
    url: Annotated[str | None, typer.Option(metavar="URL", help="The server.")] = None,
    admin_key: Annotated[str | None, typer.Option(metavar="KEY", help="Its admin key; needs --url.")] = None,
    project: Annotated[Path, typer.Option(metavar="DIR", help="Whose running `reactor dev` to use.")] = Path(),
) -> None:
    """Print the functions of a deployment and their types as JSON.

    Examples: `reactor function-spec`; `reactor function-spec --file`.
    """
    target = find_target(url, admin_key, os.environ, project.resolve())
    address = msgspec.json.decode(system_query(target, "_system/cli/convexUrl:cloudUrl", {}))
    functions = msgspec.json.decode(system_query(target, "_system/cli/modules:apiSpec", {}))
    text = json.dumps({"url": address, "functions": functions}, indent=2)
    if not to_file:
        say(text)
        return
    file = Path(f"function_spec_{time.time_ns() // 1_000_000}.json")
    file.write_text(text + "\n", encoding="utf-8")
    warn(f"Wrote {file}.")
