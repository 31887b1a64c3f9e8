"""Asking a running deployment a query of its own, for administrators. Used by the commands that show what it holds."""

import json
from typing import Any, Final

import msgspec

from reactor.cli.console import fail, told
from reactor.cli.remote import ask
from reactor.cli.target import Target
from reactor.protocol.http import FunctionRequest, UdfFailure, UdfResponse, encode_body

_responses: Final[msgspec.json.Decoder[UdfResponse]] = msgspec.json.Decoder(UdfResponse)
NEEDS_KEY: Final = "This needs an admin key: give --admin-key beside --url, or set CONVEX_SELF_HOSTED_ADMIN_KEY."


def system_query(target: Target, path: str, args: dict[str, Any], component: str = "") -> bytes:
    """Return the result of a `_system` query as wire JSON, in which every value has a form of its own.

    Raises:
        typer.Exit: it was refused, or there was no answer.
    """
    if target.admin_key is None:
        fail(NEEDS_KEY)
    body = FunctionRequest(
        path=path,
        args=msgspec.Raw(json.dumps(args).encode()),
        format="convex_encoded_json",
        component_path=component or None,
    )
    response = ask(target, "/api/query", _responses, encode_body(body))
    if isinstance(response, UdfFailure):
        fail(told(response.error_message))
    return bytes(response.value)
