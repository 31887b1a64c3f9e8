"""The sending side of one socket: what has not left yet, in order.

Promises that messages leave in the order given, that an idle socket is written to at once without a task or a hop, that
`transitions` counts the Transitions still waiting (so the session can skip states for a slow reader), and that nothing
leaves after a close. Used by the session through its `Outlet` port, and by the connection.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from types import CoroutineType
from typing import Any, Final, NamedTuple

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Write = Callable[[bytes], bool]
Listener = Callable[[str], bool]

# The ASGI extension under which our own server offers "write", a `Write`, and "listen", which takes a `Listener`.
DIRECT: Final = "reactor.direct"

_TRANSITION_END = None  # queued behind the last frame of a Transition; what is no frame and no close is this mark


def _nothing() -> None:
    """Nobody waits for messages to leave."""


class Close(NamedTuple):
    """How to close the socket. Code None sends a close frame without a code, as Convex does after FatalError."""

    code: int | None
    reason: str


class Outbox:
    """Sends frames over an ASGI `send`. Belongs to the loop it was made on."""

    def __init__(self, send: Send, monotonic: Callable[[], float], write: Write | None = None) -> None:
        """
        Args:
            send: the ASGI callable.
            monotonic: seconds, for `last_sent`.
            write: a shorter way that our own server offers; returns False when it can't be taken.
        """
        self._send = send
        self._write = write
        self.drained: Callable[[], None] = _nothing  # called when, after some waited, the last message has left
        self._monotonic = monotonic
        self._queue: deque[bytes | Close | None] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.transitions = 0
        self.waiting_bytes = 0
        self.last_sent = monotonic()
        self.is_closed = False  # a close is queued or sent, or the socket is gone: new messages are dropped

    def put(self, frame: bytes) -> None:
        """Send one message, or queue it behind those that wait."""
        if self.is_closed:
            return
        if self._flusher is None:
            if self._write is not None and self._write(frame):
                self.last_sent = self._monotonic()
            else:
                self._start(frame)
        else:
            self._queue.append(frame)
            self.waiting_bytes += len(frame)

    def put_transition(self, frames: list[bytes]) -> None:
        """Send one Transition, of several frames if it was cut into chunks."""
        if self.is_closed:
            return
        for frame in frames:
            self.put(frame)
        if self._flusher is not None:
            self.transitions += 1
            self._queue.append(_TRANSITION_END)

    def close(self, code: int | None, reason: str = "") -> None:
        """Close the socket behind everything that waits."""
        if self.is_closed:
            return
        self.is_closed = True
        close = Close(code, reason)
        if self._flusher is None:
            self._start(close)
        else:
            self._queue.append(close)

    def abandon(self) -> None:
        """Forget everything: the socket is gone."""
        self.is_closed = True
        self.drained = _nothing
        self._queue.clear()
        self.waiting_bytes = self.transitions = 0
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None  # one that has not begun yet would not get to it
        self.wake()

    @property
    def is_idle(self) -> bool:
        """Whether everything, including a close, has been handed to the transport."""
        return self._flusher is None

    async def progress(self) -> None:
        """Wait until a waiting message has left, the socket is gone, or `wake` was called."""
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiter)

    def wake(self) -> None:
        """End the waits of `progress`."""
        if self._waiter is not None:
            self._waiter.set_result(None)
            self._waiter = None

    def _start(self, item: bytes | Close) -> None:
        """Send as far as that goes without waiting; only when the transport is full does a task take over."""
        self.last_sent = self._monotonic()
        sending = self._sending(item)
        try:
            blocked_on = sending.send(None)
        except StopIteration:
            return
        except Exception:
            # Servers report a lost client by different errors; the receiving side tells it properly.
            self.abandon()
            return
        if isinstance(item, bytes):
            self.waiting_bytes += len(item)
        self._flusher = asyncio.get_running_loop().create_task(
            self._flush(item, _Resumed(sending, blocked_on)), name="reactor-outbox"
        )

    async def _flush(self, item: bytes | Close | None, sending: Awaitable[None]) -> None:
        try:
            await sending
            while True:
                if isinstance(item, bytes):
                    self.waiting_bytes -= len(item)
                    self.last_sent = self._monotonic()
                    self.wake()
                if not self._queue:
                    break
                item = self._queue.popleft()
                if item is _TRANSITION_END:
                    self.transitions -= 1
                else:
                    await self._sending(item)
        except Exception:  # as in `_start`
            self._flusher = None
            self.abandon()
            return
        finally:
            self._flusher = None
            self.wake()
        self.drained()

    def _sending(self, item: bytes | Close) -> Coroutine[Any, Any, None]:
        message: dict[str, Any]
        if isinstance(item, Close):
            message = {"type": "websocket.close", "code": item.code, "reason": item.reason}
        else:
            message = {"type": "websocket.send", "text": item.decode()}
        sending = self._send(message)
        return sending if isinstance(sending, CoroutineType) else _as_coroutine(sending)


async def _as_coroutine(sending: Awaitable[None]) -> None:
    await sending


class _Resumed:
    """A coroutine whose first step has run already, as something a task can await to the end."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], blocked_on: Any) -> None:
        self._coroutine = coroutine
        self._blocked_on = blocked_on

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, blocked_on = self._coroutine, self._blocked_on
        while True:
            thrown: BaseException | None = None
            value = None
            try:
                value = yield blocked_on
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:
                thrown = error
            try:
                blocked_on = coroutine.send(value) if thrown is None else coroutine.throw(thrown)
            except StopIteration:
                return
