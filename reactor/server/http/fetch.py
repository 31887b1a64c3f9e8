"""Requests to HTTP actions from the process the deployment runs in: for tests and host applications.

Promises the same way through routes, limits and errors as over a socket. Used by `callers`.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message

from reactor.auth.identity import Identity
from reactor.errors import ConnectionLost, InvalidArgument
from reactor.server.http.actions import IDENTITY

HOST: Final = "some.convex.site"  # where tests of Convex functions are, too


class FetchResponse(msgspec.Struct, frozen=True):
    """What an HTTP action answered."""

    status_code: int
    headers: Headers
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return what the body says.

        Raises:
            ValueError: it is no JSON.
        """
        return msgspec.json.decode(self.content)


async def fetch(
    app: ASGIApp,
    path: str,
    method: str,
    headers: Mapping[str, str],
    body: bytes | str,
    json: Any,
    identity: Identity | None,
) -> FetchResponse:
    """Send one request through `app` and collect the response; see `Caller.fetch`.

    Raises:
        InvalidArgument: the path does not begin with "/", or both `body` and `json` are given.
        ConnectionLost: the response ended before its end.
    """
    if not path.startswith("/"):
        raise InvalidArgument(f"fetch({path!r}): the path must begin with '/'.")
    if body and json is not None:
        raise InvalidArgument(f"fetch({path!r}): give body= or json=, not both.")
    sent = {name.lower(): value for name, value in headers.items()}
    sent.setdefault("host", HOST)
    if json is not None:
        body = msgspec.json.encode(json)
        sent.setdefault("content-type", "application/json")
    content = body.encode() if isinstance(body, str) else body
    if content:
        sent.setdefault("content-length", str(len(content)))
    raw_path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method.upper(),
        "scheme": "https",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
        IDENTITY: identity,
    }
    exchange = _Exchange(content)
    await app(scope, exchange.receive, exchange.send)
    return exchange.response(path)


class _Exchange:
    """The client's end of one request."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content
        self._head: Message | None = None
        self._parts: list[bytes] = []
        self._is_complete = asyncio.Event()

    async def receive(self) -> Message:
        """Give the body, and when the response is there, that nobody listens any more."""
        content, self._content = self._content, None
        if content is not None:
            return {"type": "http.request", "body": content, "more_body": False}
        await self._is_complete.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the response."""
        if message["type"] == "http.response.start":
            self._head = message
            return
        self._parts.append(bytes(message.get("body", b"")))
        if not message.get("more_body", False):
            self._is_complete.set()

    def response(self, path: str) -> FetchResponse:
        """Return what came.

        Raises:
            ConnectionLost: that is not all of it.
        """
        if self._head is None or not self._is_complete.is_set():
            raise ConnectionLost(
                f"fetch({path!r}): the HTTP action failed before its response was complete; see the log."
            )
        return FetchResponse(self._head["status"], Headers(raw=self._head["headers"]), b"".join(self._parts))
