"""One request of a command to a server, over HTTP.

Promises that whatever goes wrong ends the command with one message that says what the server answered, or that it did
not. Used by the remote commands.
"""

import base64
import http.client
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from reactor.cli.console import fail
from reactor.cli.target import Target
from reactor.client.address import client_name, is_loopback
from reactor.protocol.http import ErrorBody

T = TypeVar("T")

PART_BYTES: Final = 1 << 20
TIMEOUT_SECONDS: Final = 600.0  # of a silent server; an action may run for long


def ask(
    target: Target,
    place: str,
    answers: "msgspec.json.Decoder[T]",
    body: bytes | None = None,
    acting_as: dict[str, Any] | None = None,
) -> T:
    """Send a request to `place`, a POST when it has a body, and return the answer as `answers` decodes it.

    Raises:
        typer.Exit: it was refused, or there was no answer.
    """
    text = send(target, place, body, acting_as)
    try:
        return answers.decode(text)
    except msgspec.MsgspecError as error:
        fail(_silent(target, error))


def send(target: Target, place: str, body: bytes | None = None, acting_as: dict[str, Any] | None = None) -> bytes:
    """Send a request to `place`, a POST when it has a body, and return the body of the answer.

    Raises:
        typer.Exit: it was refused, or there was no answer.
    """
    with _answer(target, place, body, acting_as) as answer:
        try:
            content: bytes = answer.read()
        except (OSError, http.client.HTTPException) as error:
            fail(_silent(target, error))
        return content


def download(target: Target, place: str, file: Path) -> None:
    """Write the answer to a request to `place` into a file, in parts; it is there whole or not at all.

    Raises:
        typer.Exit: it was refused, there was no answer, or it broke off.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        with _answer(target, place, None, None) as answer, open(partial, "wb") as stream:
            try:
                shutil.copyfileobj(answer, stream, PART_BYTES)
            except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
                fail(_silent(target, error))
            expected = answer.headers.get("Content-Length")
            if expected is not None and stream.tell() != int(expected):
                fail(f"The answer from {target.url} broke off. Try again.")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def follow(target: Target, place: str, body: bytes, content_type: str) -> Iterator[bytes]:
    """POST to `place`, and yield the lines of the answer as they come.

    Raises:
        typer.Exit: it was refused, or there was no answer, or not all of it.
    """
    with _answer(target, place, body, None, content_type) as answer:
        try:
            yield from answer
        except (OSError, http.client.HTTPException) as error:
            fail(_silent(target, error))


def _answer(
    target: Target,
    place: str,
    body: bytes | None,
    acting_as: dict[str, Any] | None,
    content_type: str = "application/json",
) -> http.client.HTTPResponse:
    headers = {"Content-Type": content_type, "Convex-Client": client_name()}
    if target.admin_key is not None:
        suffix = "" if acting_as is None else ":" + base64.b64encode(json.dumps(acting_as).encode()).decode()
        headers["Authorization"] = f"Convex {target.admin_key}{suffix}"
    request = urllib.request.Request(target.url.rstrip("/") + place, data=body, headers=headers)
    # A proxy for the outside world would not reach this machine's own loopback.
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(target.url) else []
    try:
        answer: http.client.HTTPResponse = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_SECONDS)
        return answer
    except urllib.error.HTTPError as error:
        with error:
            fail(_refusal(error.code, error.read()))
    except (OSError, http.client.HTTPException) as error:
        fail(_silent(target, error))


def _silent(target: Target, error: Exception) -> str:
    reason = getattr(error, "reason", error)
    reason = getattr(reason, "strerror", None) or reason  # without the number
    return f"No answer from {target.url}: {reason}. Is `reactor dev` still running there?"


def _refusal(status: int, body: bytes) -> str:
    try:
        refused = msgspec.json.decode(body, type=ErrorBody)
    except msgspec.MsgspecError:
        return f"HTTP {status}: {body[:200].decode(errors='replace')}"
    return f"{refused.code}: {refused.message}"
