"""The WebSocket protocol of our own process: uvicorn's, with every buffer bounded and every end certain.

Offers a way in and out that is shorter than ASGI's, for the sync endpoint to take (`docs/design/13-past-asgi.md`).
Promises that compression costs no memory between messages and no more than about a slice of time for one; that a
message of many fragments, a flood of pings and a client that never reads can't grow the process; that who breaks the
framing is told why, and that a socket is gone some seconds after its connection ended, whatever its client does. Used
by `server/run`. In a host application's server, that server's own rules hold.
"""

import asyncio
from contextvars import Context
from struct import Struct
from typing import Any, ClassVar, Final

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import CTRL_OPCODES, CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.typing import ExtensionParameter

from reactor.limits import KIB, MIB, Limits
from reactor.server.sync.outbox import DIRECT, Listener

WINDOW_BITS: Final = 12
MEMORY_LEVEL: Final = 5
LEVEL: Final = 1  # half the time of the default for nearly its ratio
MAX_COMPRESSED_BYTES: Final = MIB  # of one message: some 4 ms of the loop's time
MAX_FRAGMENTS: Final = 16 * KIB  # of one message
MAX_DIRECT_BYTES: Final = 64 * KIB  # of one message that goes past ASGI; also what a short head can say
ABORT_SECONDS: Final = 12.0  # after the end; uvicorn lets the closing handshake take 10

_NO_CONTEXT: Final = Context()  # of the handles that flush: a copy of the present one for each would be waste
_SHORT: Final = Struct(">BBH")  # head of an unmasked, final text frame below 64 KiB (RFC 6455, 5.2)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One socket. Made by `websocket_protocol`, since uvicorn passes nothing of ours."""

    limits: ClassVar[Limits]

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if self.limits.deflate_bytes:
            self.conn.available_extensions = [DeflateFactory(self.limits.deflate_bytes)]
        self._abort_timer: asyncio.TimerHandle | None = None
        self._listener: Listener | None = None
        self._written: list[bytes] = []  # frames that leave together when this turn of the loop ends

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake, and offer the application the short ways in and out."""
        super().handle_connect(event)
        if self.scope is not None:
            self.scope["extensions"][DIRECT] = {"write": self.write_text, "listen": self.listen}

    def listen(self, listener: Listener) -> None:
        """Give text messages to `listener` as they come, until it returns False; then they wait in line for `receive`.

        Does nothing while some are still in line.
        """
        if self.queue.empty():
            self._listener = listener

    def write_text(self, data: bytes) -> bool:
        """Send a text message past the coroutines of ASGI; return False where it has to go through these.

        That is: while the transport is full, outside of an open connection, when the message is to be compressed, and
        when it is large, so that a transport that is full by it says so before the next one.
        What one turn of the loop writes leaves as one: a system call for each answer would cost more than the answer.
        """
        conn, size = self.conn, len(data)
        if not self.writable.is_set() or self.close_sent or conn.state is not OPEN or size >= MAX_DIRECT_BYTES:
            return False
        if conn.extensions and self.limits.deflate_bytes <= size:
            return False
        head = b"\x81%c" % size if size < 126 else _SHORT.pack(0x81, 126, size)
        written = self._written
        if not written:
            self.loop.call_soon(self._flush, context=_NO_CONTEXT)
        written.append(head)
        written.append(data)
        return True

    def _flush(self) -> None:
        if self._written:
            data, self._written = b"".join(self._written), []
            if not self.transport.is_closing():
                self.transport.write(data)

    async def send(self, message: ASGISendEvent) -> None:
        """Send as ASGI says, behind what was written before."""
        self._flush()
        await super().send(message)

    def handle_ping(self) -> None:
        """Answer, unless the client does not read its answers."""
        output = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(output))

    def handle_cont(self, event: Frame) -> None:
        """Take one more fragment. Empty ones weigh nothing against the limit in bytes, so they are counted too."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"over {MAX_FRAGMENTS} fragments in one message")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Hand a message on; text that is not UTF-8 ends the connection."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
            try:
                text = bytes(data).decode()
            except UnicodeDecodeError as error:
                self.frames = []
                self.conn.fail(CloseCode.INVALID_DATA, f"{error.reason} at position {error.start}")
                self.handle_parser_exception()
                return
            self.frames = []
            if self._listener is not None:
                if not self._listener(text):
                    self._listener = None
                return
            self.queue.put_nowait({"type": "websocket.receive", "text": text})
            if not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Say why, and throw away what still comes: closing at once would reset the connection under the reason."""
        if self.conn.parser_exc is not None:
            self.conn.parser_exc.__traceback__ = None  # which refers back, so that only the collector would free them
        if self.close_sent:
            return
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def keepalive_timeout(self) -> None:
        """Drop a client that has answered no ping for too long, unless it is we who do not read."""
        if self.read_paused:
            self.pong_timer = self.loop.call_later(self.limits.client_silence_seconds, self.keepalive_timeout)
            return
        self.pong_timer = None
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.fail(CloseCode.NORMAL_CLOSURE, "ClientDisconnected")
        self.handle_parser_exception()

    async def run_asgi(self) -> None:
        """Serve the socket, and see to its end."""
        await super().run_asgi()
        if not self.disconnected:
            self._abort_timer = self.loop.call_later(ABORT_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)
        # The parser, and what was lent to the application, refer back here: without this, only the collector would free
        # the socket, and with it the message that came last.
        self.conn.parser.close()
        self._listener = None
        self._written.clear()
        if self.scope is not None:  # the handshake was not refused
            self.scope["extensions"].pop(DIRECT, None)


class DeflateFactory(ServerPerMessageDeflateFactory):
    """Negotiates compression without memory between messages, when a client offers any."""

    def __init__(self, threshold: int) -> None:
        super().__init__(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=WINDOW_BITS,
            client_max_window_bits=WINDOW_BITS,
            compress_settings={"level": LEVEL, "memLevel": MEMORY_LEVEL},
        )
        self._threshold = threshold

    def process_request_params(
        self, params: Any, accepted_extensions: Any
    ) -> tuple[list[ExtensionParameter], "SelectiveDeflate"]:
        """Answer an offer."""
        answer, agreed = super().process_request_params(params, accepted_extensions)
        return answer, SelectiveDeflate(
            self._threshold,
            agreed.remote_no_context_takeover,
            agreed.local_no_context_takeover,
            agreed.remote_max_window_bits,
            agreed.local_max_window_bits,
            agreed.compress_settings,
        )


class SelectiveDeflate(PerMessageDeflate):
    """Compresses what gains by it: not the tiny, and not what would hold up everybody else."""

    def __init__(self, threshold: int, *agreed: Any) -> None:
        super().__init__(*agreed)
        self._threshold = threshold

    def encode(self, frame: Frame) -> Frame:
        """Return the frame as it leaves. We send no fragments, so each frame is a message."""
        if frame.opcode in CTRL_OPCODES or not self._threshold <= len(frame.data) <= MAX_COMPRESSED_BYTES:
            return frame
        return super().encode(frame)


def websocket_protocol(limits: Limits) -> type[WebSocketProtocol]:
    """Return the protocol class for one deployment's limits."""
    return type("WebSocketProtocol", (WebSocketProtocol,), {"limits": limits})
