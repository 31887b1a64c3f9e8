"""One call of a function on a server, over HTTP, by a command.

Promises that results go to standard output as JSON, what the function printed to standard error, and that a function
that failed ends the command with its message. Used by `run` and the commands that stand for calls of functions.
"""

import json
import sys
from typing import Any, Final
from urllib.parse import quote

import msgspec

from reactor.cli.console import fail, say, told, warn
from reactor.cli.remote import ask
from reactor.cli.target import Target
from reactor.errors import InvalidArgument
from reactor.protocol.http import FunctionRequest, RunRequest, UdfFailure, UdfResponse, UdfSuccess, encode_body
from reactor.values.json import decode_json, encode_format
from reactor.values.types import Value

_responses: Final[msgspec.json.Decoder[UdfResponse]] = msgspec.json.Decoder(UdfResponse)


def call(
    target: Target,
    path: str,
    args: dict[str, Any],
    *,
    acting_as: dict[str, Any] | None = None,
    component: str | None = None,
) -> Value:
    """Call a function of the application, or of a component instance; return its result.

    Raises:
        InvalidArgument: what was asked for needs an admin key.
        typer.Exit: it failed, or there was no answer.
    """
    response = _post(target, path, args, acting_as, component)
    for line in response.log_lines:
        warn(line)
    if isinstance(response, UdfFailure):
        fail(told(response.error_message))
    return decode_json(bytes(response.value))


def check_identity(target: Target, acting_as: dict[str, Any] | None) -> None:
    """Make sure that whoever chooses an identity may.

    Raises:
        InvalidArgument: there is no key that allows it.
    """
    if acting_as is not None and target.admin_key is None:
        raise InvalidArgument("--identity needs an admin key: only an administrator may choose who is calling.")


def print_value(value: Value) -> None:
    """Print a result: for people on a terminal, else on one line."""
    text = encode_format(value, "json").decode()
    say(json.dumps(json.loads(text), indent=2, ensure_ascii=False) if sys.stdout.isatty() else text)


def _post(
    target: Target, path: str, args: dict[str, Any], acting_as: dict[str, Any] | None, component: str | None
) -> UdfSuccess | UdfFailure:
    """Send the call in a form that needs no knowledge of the kind of function."""
    raw = msgspec.Raw(json.dumps(args).encode())
    if target.admin_key is not None:
        place = "/api/function"
        request = FunctionRequest(path=path, args=raw, format="convex_encoded_json", component_path=component)
        body = encode_body(request)
    else:
        check_identity(target, acting_as)
        module, _, name = path.partition(":")
        place = f"/api/run/{quote(module)}/{quote(name or 'default')}"
        body = encode_body(RunRequest(args=raw, format="convex_encoded_json"))
    return ask(target, place, _responses, body, acting_as)
