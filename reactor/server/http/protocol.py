"""The HTTP protocol of our own process: uvicorn's, with a bound on what is no body.

Promises that a head, a trailer or the size line of a chunk can't grow the process: uvicorn's parser keeps them until
they are complete, however long they get. Used by `server/run`. In a host application's server, that server's own rules
hold.
"""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reactor.limits import MAX_HEAD_BYTES

TEXT: Final = f"The head of the request is larger than {MAX_HEAD_BYTES} bytes."
ANSWER: Final = (
    "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    f"content-length: {len(TEXT)}\r\nconnection: close\r\n\r\n{TEXT}"
).encode()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _kept_bytes = 0  # since the parser has last given something away

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the parser keeps too much of it."""
        self._kept_bytes += len(data)
        super().data_received(data)
        if self._kept_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(ANSWER)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin a request."""
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
