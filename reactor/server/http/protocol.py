"""HTTP/1.1 as uvicorn speaks it, with a way to cut off a client.

An ASGI application can end its answer, but a client that does not read keeps what was written, and its connection, for
ever. Used by `server/run`; under another server nothing is cut off here, and the server decides.
"""

from typing import Final

from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ABORT: Final = "reactor.abort"


class HttpProtocol(HttpToolsProtocol):
    """Lets the application reach its connection."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}


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
