"""What requests carry and responses bring back, as bytes.

Promises to read no more of a body than is allowed. Used by the endpoints.
"""

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from reactor.errors import ProtocolError
from reactor.limits import MAX_HTTP_BODY_BYTES
from reactor.server.http.errors import HttpError

_JSON_TYPE: Final = re.compile(r"application/(?:json|[\w.!#$&^-]+\+json)\s*(?:;.*)?", re.IGNORECASE)


async def read_json(request: Request) -> bytes:
    """Return the body of a JSON request.

    Raises:
        ProtocolError: rule `BadJsonBody`; the request does not say it is JSON.
        HttpError: 413; the body is too large.
    """
    if not _JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
        raise ProtocolError("BadJsonBody", "Expected request with `Content-Type: application/json`")
    return await read_body(request, MAX_HTTP_BODY_BYTES)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request, reading no more than `limit` bytes of it.

    Raises:
        HttpError: 413; there is more.
    """
    body: bytes | bytearray = b""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)  # without keeping any of it
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        if not body:
            body = chunk  # mostly all of it
        elif chunk:
            if isinstance(body, bytes):
                body = bytearray(body)
            body += chunk  # not a list: of a body that comes byte by byte, that takes forty times its size
    return bytes(body)


def _too_large(limit: int) -> HttpError:
    return HttpError(413, "RequestTooLarge", f"The request body is larger than {limit} bytes.")


def json_response(text: bytes, status: int = 200, **headers: str) -> Response:
    """Return a response of JSON; an underscore in the name of a header stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(text, status, named, media_type="application/json")
