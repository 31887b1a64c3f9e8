"""The sync endpoint: pumps text frames between ASGI sockets and their sessions.

Owns the open connections of one deployment. Promises no task or timer per message, that a client which does not read is
not read from, `Ping` after silence, and at shutdown a close that waits for answers under way. Used by the HTTP router.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

from reactor.errors import Error
from reactor.limits import Limits
from reactor.ports import Clock
from reactor.protocol.sync import Ping, decode_client_message, encode_server_message
from reactor.server.http.client_version import ClientVersion, client_version
from reactor.server.http.errors import error_body, status_of
from reactor.server.sync.outbox import DIRECT, Listener, Outbox, Send
from reactor.server.sync.session import Session

logger = logging.getLogger("reactor.sync")

BURST_MESSAGES: Final = 16  # messages handled before other sockets get a turn
_PING: Final = encode_server_message(Ping())

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class NewSession(Protocol):
    """Makes the session of one connection, or refuses while the deployment is not open."""

    def __call__(self, outbox: Outbox, *, chunks: bool) -> Session: ...


class SyncEndpoint:
    """An ASGI application for WebSocket scopes; one per deployment."""

    def __init__(self, new_session: NewSession, clock: Clock, limits: Limits) -> None:
        self._new_session = new_session
        self._clock = clock
        self._limits = limits
        self._connections: set[Connection] = set()

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of messages that wait because their clients do not read."""
        return sum([connection.outbox.waiting_bytes for connection in self._connections])

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one socket until it closes."""
        await receive()  # websocket.connect
        try:
            version = _version(scope)
            direct = scope.get("extensions", {}).get(DIRECT)
            outbox = Outbox(send, self._clock.monotonic, direct and direct["write"])
            session = self._new_session(outbox, chunks=version.takes_chunks)
        except Error as error:
            await _deny(scope, send, error)
            return
        await send({"type": "websocket.accept", "headers": version.deprecation_headers})
        connection = Connection(session, outbox, self._clock, self._limits, direct and direct["listen"])
        self._connections.add(connection)
        try:
            await connection.run(receive)
        finally:
            self._connections.discard(connection)

    async def close(self, code: int, reason: str) -> None:
        """Close every connection once what it asked for is answered, or `shutdown_seconds` are over."""
        connections = list(self._connections)
        for connection in connections:
            connection.session.finish(code, reason)
        deadline = asyncio.get_running_loop().time() + self._limits.shutdown_seconds
        for connection in connections:
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(connection.gone.wait(), max(left, 0))
            except TimeoutError:
                connection.outbox.close(code, reason)
                connection.give_up()


class Connection:
    """One accepted socket."""

    def __init__(
        self,
        session: Session,
        outbox: Outbox,
        clock: Clock,
        limits: Limits,
        listen: Callable[[Listener], None] | None = None,
    ) -> None:
        """
        Args:
            listen: where the server offers it, has messages handed over as they come, without a task that waits.
        """
        self.session = session
        self.outbox = outbox
        self.gone = asyncio.Event()  # the session is over and everything has left
        self._clock = clock
        self._limits = limits
        self._listen = listen
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None  # set to be cancelled when the client is given up
        outbox.drained = self._drained

    async def run(self, receive: Receive) -> None:
        """Feed the session until the socket closes."""
        task = self._task = asyncio.current_task()
        self._watch()
        try:
            await self._pump(receive)
        except asyncio.CancelledError:
            if self._task is not None:
                raise  # the server's doing, not `give_up`'s
            assert task is not None
            task.uncancel()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.session.closed()
            self.outbox.abandon()
            self.gone.set()

    async def _pump(self, receive: Receive) -> None:
        session = self.session
        burst = 0
        while True:
            if self._listen is not None:
                self._listen(self._heard)
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            await self._room()  # what `_heard` took meanwhile may have left none
            if session.is_closed:
                continue  # the close frame is on its way; what still arrives was sent before it was seen
            self._take(event.get("text"))
            burst += 1
            if burst >= BURST_MESSAGES:
                burst = 0
                await asyncio.sleep(0)
            await self._room()

    async def _room(self) -> None:
        """Wait while nothing may be taken: who does not read, or sends faster than we work, is not read from."""
        session, outbox, limit = self.session, self.outbox, self._limits.message_bytes
        while outbox.waiting_bytes + session.queued_bytes > limit and not session.is_closed:
            await outbox.progress()

    def _heard(self, text: str) -> bool:
        """Take a message as it comes; return False when the next ones must wait in line, for `_pump` to hold up."""
        session = self.session
        if not session.is_closed:
            self._take(text)
        return self.outbox.waiting_bytes + session.queued_bytes <= self._limits.message_bytes

    def _take(self, text: str | None) -> None:
        session = self.session
        try:
            if text is None:
                session.fail(Error("Binary frames are not part of the protocol."))
            else:
                session.receive(decode_client_message(text))
        except Error as error:
            session.fail(error)
        except Exception:
            logger.exception("A message could not be handled; its connection is closed")
            session.fail(Error("internal"))

    def _watch(self) -> None:
        """Send Ping when nothing was sent for `ping_seconds`; drop a client that has not read for too long."""
        now = self._clock.monotonic()
        silence = now - self.outbox.last_sent
        if self.outbox.is_idle:
            if silence >= self._limits.ping_seconds:
                self.outbox.put(_PING)
                silence = 0.0
        elif silence >= self._limits.client_silence_seconds:
            self.give_up()
            return
        wait = max(self._limits.ping_seconds - silence, 0.05)
        answer_due = self.session.watch(now)
        if answer_due is not None:
            wait = max(min(wait, answer_due), 0.05)
        self._timer = asyncio.get_running_loop().call_later(wait, self._watch)

    def give_up(self) -> None:
        """End `run` although the client says nothing, or reads nothing."""
        task, self._task = self._task, None
        self.session.closed()
        self.outbox.abandon()
        if task is not None:
            task.cancel()

    def _drained(self) -> None:
        self.session.drained()
        if self.session.is_closed and self.outbox.is_closed:
            self.gone.set()


def _version(scope: Any) -> ClientVersion:
    header = dict(scope["headers"]).get(b"convex-client")
    segment = scope.get("path_params", {}).get("version")
    return client_version(None if header is None else header.decode("latin-1"), segment)


async def _deny(scope: Any, send: Send, error: Error) -> None:
    """Answer the upgrade with an HTTP error, or where the server can't, with a plain refusal."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1013, "reason": ""})
        return
    await send(
        {
            "type": "websocket.http.response.start",
            "status": status_of(error),
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "websocket.http.response.body", "body": error_body(error)})
