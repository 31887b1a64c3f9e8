"""An ASGI application that opens its deployment, for servers that run it by itself.

Promises that a deployment which can't be opened fails the start of the server, with the reason. A mounted application
is never asked to open: that is the host's `lifespan`. Used by the composition root.
"""

from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from reactor.errors import Error


class Opening(Protocol):
    """What is opened before the first request, and closed behind the last one."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...


class WithLifespan:
    """`app`, and the lifespan of what it serves."""

    def __init__(self, opening: Opening, app: ASGIApp) -> None:
        self._opening = opening
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket, or the whole life of the server."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        try:
            await self._opening.open()
        except Error as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._opening.close()
        await send({"type": "lifespan.shutdown.complete"})
