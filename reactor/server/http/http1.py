"""HTTP/1.1 as uvicorn speaks it, with bounds on what clients may keep, and the way to cut one off (`abort`).

Promises that a head, a trailer or the size line of a chunk can't grow the process: uvicorn's parser keeps them until
they are complete, however long they get; that a connection without a request under way is not kept; and that a client
which does not read its answer keeps that, and its connection, neither for ever (`http_idle_seconds`) nor when all such
answers together take too much memory (`http_unread_bytes`). Used by `server/run`. In a host application's server, that
server's own rules hold, and nothing is cut off here.
"""

import asyncio
import logging
from typing import Any, ClassVar, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from reactor.limits import KIB, MAX_HEAD_BYTES, Limits
from reactor.server.http.abort import ABORT

logger = logging.getLogger("reactor.http")

TEXT: Final = f"The head of the request is larger than {MAX_HEAD_BYTES} bytes."
ANSWER: Final = (
    "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    f"content-length: {len(TEXT)}\r\nconnection: close\r\n\r\n{TEXT}"
).encode()
SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 40\r\n"
    b"connection: close\r\n\r\nThe head of the request took too long.\r\n"
)
PROGRESS_BYTES: Final = 64 * KIB  # that a client must read in `http_idle_seconds`
LATE: Final = 0.9  # of these; timers are not exact, and the next look is as much later


class Unread:
    """What clients of one server have not read, by connection: those whose transports are full, longest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes: dict[HttpProtocol, int] = {}  # when it was last looked; it only gets less
        self._total = 0

    def add(self, connection: "HttpProtocol") -> None:
        """Count a connection whose transport is full; drop those that are so for the longest if all keep too much."""
        self._count(connection)
        if self._total <= self._limit:
            return
        for one in self._bytes:
            self._count(one)
        for one in list(self._bytes):
            if self._total <= self._limit:
                return
            one.drop(f"clients have more than REACTOR_HTTP_UNREAD_BYTES={self._limit} to read, and it waits longest")

    def discard(self, connection: "HttpProtocol") -> None:
        """Forget a connection that has room again, or is gone."""
        self._total -= self._bytes.pop(connection, 0)

    def _count(self, connection: "HttpProtocol") -> None:
        now = connection.unread_bytes
        self._total += now - self._bytes.get(connection, 0)
        self._bytes[connection] = now


class HttpProtocol(HttpToolsProtocol):
    """One connection, which the application can reach.

    Made by `http_protocol`, since uvicorn passes nothing of ours.
    """

    limits: ClassVar[Limits]
    unread: ClassVar[Unread]

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._kept_bytes = 0  # since the parser has last given something away
        self._waits_since: float | None = None  # for a head, or for the rest of a body that nobody wants
        self._last_unread = 0  # bytes, when it was last looked
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._timer = self.loop.call_later(self.limits.http_idle_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._forget()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Give the connection to the protocol of sockets, which has rules of its own."""
        self._forget()
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # which refers back: only the collector would free the two

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the parser keeps too much of it."""
        self._kept_bytes += len(data)
        super().data_received(data)
        if self._is_between():
            if self._waits_since is None:
                self._waits_since = self.loop.time()
            if self._kept_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(ANSWER)
                self.transport.close()
        elif self._kept_bytes > MAX_HEAD_BYTES:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self.unread.add(self)

    def resume_writing(self) -> None:
        """It has read nearly all."""
        super().resume_writing()
        self._last_unread = 0
        self.unread.discard(self)

    @property
    def unread_bytes(self) -> int:
        """What the client was sent and has not taken."""
        return self.transport.get_write_buffer_size()

    def drop(self, why: str) -> None:
        """End the connection at once, with what its client has not read."""
        logger.info("a connection was dropped: %s", why)
        self.unread.discard(self)
        self.transport.abort()

    def _is_between(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        """See whether the client moves. Two looks are as far apart as it may stand still."""
        seconds = self.limits.http_idle_seconds
        # Only while nothing is added: otherwise what is left says nothing of what was read.
        is_settled = self.flow.write_paused or self.transport.is_closing()
        unread, last = self.unread_bytes if is_settled else 0, self._last_unread
        if unread and last and last - unread < PROGRESS_BYTES:
            self.drop(f"its client has not read for {seconds:g} s (REACTOR_HTTP_IDLE_SECONDS)")
            return
        self._last_unread = unread
        since = self._waits_since
        is_late = since is not None and self.loop.time() - since >= seconds * LATE
        if is_late and self._is_between() and not self.transport.is_closing():
            if self._kept_bytes:
                self.transport.write(SLOW)
            self.transport.close()
        self._timer = self.loop.call_later(seconds, self._look)

    def _forget(self) -> None:
        self.unread.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}

    def on_headers_complete(self) -> None:
        """Let a request be answered."""
        self._kept_bytes = 0
        self._waits_since = None
        super().on_headers_complete()
        if self.expect_100_continue and self.cycle is not None:
            # When it is refused, whether the body follows is up to the client: what comes could be the next request.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._kept_bytes = 0
        super().on_message_complete()


def http_protocol(limits: Limits) -> type[HttpProtocol]:
    """Return the protocol class for one server and its limits."""
    return type("HttpProtocol", (HttpProtocol,), {"limits": limits, "unread": Unread(limits.http_unread_bytes)})
