"""HTTP/1.1 as uvicorn speaks it, with a bound on what is no body, and a way to cut off a client.

Promises that a head, a trailer or the size line of a chunk can't grow the process: uvicorn's parser keeps them until
they are complete, however long they get. An ASGI application can end its answer, but a client that does not read keeps
what was written, and its connection, for ever; `abort` drops it. Used by `server/run`. In a host application's server,
that server's own rules hold, and nothing is cut off here.
"""

from typing import Final

from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reactor.limits import MAX_HEAD_BYTES

TEXT: Final = f"The head of the request is larger than {MAX_HEAD_BYTES} bytes."
ANSWER: Final = (
    "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    f"content-length: {len(TEXT)}\r\nconnection: close\r\n\r\n{TEXT}"
).encode()
ABORT: Final = "reactor.abort"


class HttpProtocol(HttpToolsProtocol):
    """One connection, which the application can reach."""

    _kept_bytes = 0  # since the parser has last given something away

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the parser keeps too much of it."""
        self._kept_bytes += len(data)
        super().data_received(data)
        if self._kept_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(ANSWER)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}

    def on_headers_complete(self) -> None:
        """Let a request be answered."""
        self._kept_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._kept_bytes = 0
        super().on_message_complete()


async def abort(request: Request) -> None:
    """Drop the connection of a request that is partly answered, with all that its client has not read.

    Raises:
        ClientDisconnect: the server behind does not offer that; it closes what is not answered to the end.
    """
    extension = request.scope.get("extensions", {}).get(ABORT)
    if extension is None:
        raise ClientDisconnect
    extension["abort"]()
    while (await request.receive())["type"] != "http.disconnect":  # so that the server knows it, too
        pass
