"""A WebSocket client that sends any frame it is told to, reads only when asked, and knows nothing of the rules."""

import asyncio
import socket
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


class Frame(NamedTuple):
    """One frame as it came: `is_compressed` is the RSV1 bit."""

    opcode: int
    payload: bytes
    is_compressed: bool


class FrameSocket:
    """One connection. `async with FrameSocket(url)` opens it."""

    def __init__(
        self, url: str, path: str = "/api/sync", *, offer: str | None = None, receive_buffer: int | None = None
    ) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        extension = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extension}\r\n"
        )
        self._receive_buffer = receive_buffer
        self.response = ""

    async def __aenter__(self) -> Self:
        raw = socket.socket()
        if self._receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, self._address)
        limit = self._receive_buffer or 1 << 16
        self.reader, self.writer = await asyncio.open_connection(sock=raw, limit=limit)
        self.writer.write(self._request.encode())
        self.response = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    def write(self, opcode: int, payload: bytes, *, fin: bool = True, compressed: bool = False) -> None:
        """Queue one frame, masked with zeros."""
        head = bytes([fin << 7 | compressed << 6 | opcode])
        size = len(payload)
        if size < 126:
            head += bytes([128 | size])
        elif size < 1 << 16:
            head += bytes([128 | 126]) + size.to_bytes(2, "big")
        else:
            head += bytes([128 | 127]) + size.to_bytes(8, "big")
        self.writer.write(head + bytes(4) + payload)

    async def read(self) -> Frame:
        """Return the next frame.

        Raises:
            IncompleteReadError, ConnectionError: there is none any more.
        """
        first, second = await self.reader.readexactly(2)
        size = second & 127
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        return Frame(first & 15, await self.reader.readexactly(size), bool(first & 64))

    async def read_close(self) -> tuple[int, str]:
        """Read up to the close frame; return its code and reason (1005 for one without a code)."""
        while (frame := await self.read()).opcode != CLOSE:
            pass
        if not frame.payload:
            return 1005, ""
        return int.from_bytes(frame.payload[:2], "big"), frame.payload[2:].decode()
