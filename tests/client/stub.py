"""A WebSocket server on loopback that speaks for the model, and fails on request."""

import asyncio
import http
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.client.model import ModelConnection, ModelServer

Intervention = Callable[["StubSocket", Any], Awaitable[bool]]


class StubSocket:
    """One connection as the server sees it."""

    def __init__(self, socket: ServerConnection, model: ModelConnection) -> None:
        self.socket = socket
        self.model = model

    async def send(self, frame: bytes) -> None:
        await self.socket.send(frame, text=True)

    def drop(self) -> None:
        """End the TCP connection without a goodbye."""
        self.socket.transport.abort()


class StubServer:
    """Serves the model on an ephemeral port.

    `intervene` sees each frame's effect before its answers leave: returning True swallows the answers.
    """

    def __init__(self, model: ModelServer | None = None) -> None:
        self.model = model or ModelServer()
        self.intervene: Intervention | None = None
        self.refuse_handshakes = 0
        self.requests: list[Request] = []
        self.sockets: list[StubSocket] = []
        self.connected = asyncio.Event()
        self._server: Server

    @property
    def url(self) -> str:
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def push(self) -> None:
        """Send everyone a Transition to the newest timestamp."""
        for socket in self.sockets:
            await socket.send(socket.model.transition())

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if self.refuse_handshakes:
            self.refuse_handshakes -= 1
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "not now")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        socket = StubSocket(connection, ModelConnection(self.model))
        self.sockets.append(socket)
        self.connected.set()
        try:
            async for frame in connection:
                answers = socket.model.receive(frame)
                if self.intervene is not None and await self.intervene(socket, socket.model.received[-1]):
                    continue
                for answer in answers:
                    await socket.send(answer)
                if socket.model.closing:
                    await connection.close()
                    break  # what was pipelined behind is not served
        except ConnectionClosed:
            pass
        finally:
            self.sockets.remove(socket)

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=self._process_request, close_timeout=1, ping_interval=None
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()
