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
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise HttpError(413, "RequestTooLarge", f"The request body is larger than {limit} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


def json_response(text: bytes, status: int = 200, **headers: str) -> Response:
    """Return a response of JSON; an underscore in the name of a header stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(text, status, named, media_type="application/json")
