"""One HTTP request and its response, carried between the server's event loop and the loop of an action.

Owns what is under way between the two. Promises bounded buffers in both directions: at most `READ_AHEAD_BYTES` and one
chunk of the body that the action has not asked for, and one chunk of the response, which the action waits for until the
server has room; that the action learns of a client that is gone; and that a response with a malformed head is the
action's error, not the connection's (`docs/design/20-http-bridge.md`). Used by `actions`.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from starlette.types import Message, Receive, Send

from reactor.errors import InvalidArgument, LimitExceeded
from reactor.limits import KIB

T = TypeVar("T")

READ_AHEAD_BYTES: Final = 64 * KIB
LEAST_BYTES: Final = 512  # that a part of the body counts, which takes as much memory even if it holds one
TOO_LARGE: Final = "RequestTooLarge"

_DISCONNECT: Final[Message] = {"type": "http.disconnect"}
_END_OF_BODY: Final[Message] = {"type": "http.request", "body": b"", "more_body": False}
_END_OF_RESPONSE: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": False}
_REFUSED: Final[Message] = {"type": "reactor.refused"}
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_VALUES: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Bridge:
    """Between the ASGI channels of the server and those that an action is given.

    `carry` runs on the server's loop. `begin`, and then `receive`, `until_gone` and `send`, are called on the action's.
    """

    def __init__(self, method: str, receive: Receive, send: Send, max_bytes: int) -> None:
        self.has_started = False  # the head of the response has gone to the server
        self._is_head = method == "HEAD"
        self._has_body = method not in _BODILESS
        self._max_bytes = max_bytes
        # Of the server's loop.
        self._near = asyncio.get_running_loop()
        self._near_receive, self._near_send = receive, send
        self._begun = asyncio.Event()
        self._outgoing: asyncio.Queue[tuple[Message, asyncio.Future[None]]] = asyncio.Queue()
        self._untaken: set[asyncio.Future[None]] = set()  # of the action's loop
        self._is_over = False
        self._held = 0  # bytes that the action has not taken
        self._room = asyncio.Event()
        # Of the action's loop.
        self._far: asyncio.AbstractEventLoop | None = None
        self._inbox: deque[Message] = deque()
        self._news = asyncio.Event()
        self._gone = asyncio.Event()

    # On the server's loop.

    async def carry(self, ended: asyncio.Future[T]) -> T:
        """Carry both ways until the action has ended; return what `ended` gives."""
        work = [asyncio.ensure_future(self._bring()), asyncio.ensure_future(self._take())]
        try:
            return await ended
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            self._is_over = True
            del self._near_receive, self._near_send  # whoever keeps the bridge must not keep the connection
            self._post(self._lost)
            for taken in self._untaken:  # a thread may have been left to itself, and should come to its end
                self._post(_settle, taken, None)

    async def _bring(self) -> None:
        """Bring the body to the action, and then the news that the client is gone."""
        await self._begun.wait()
        is_wanted = self._has_body
        if not is_wanted:
            self._post(self._arrived, _END_OF_BODY)
        size = 0
        while True:
            message = await self._near_receive()
            if message["type"] == "http.disconnect":
                self._post(self._lost)
                return
            if not is_wanted:
                continue  # thrown away as it comes; the client may be sending without end
            length = len(message.get("body", b""))
            size += length
            if size > self._max_bytes:
                is_wanted = False
                self._post(self._arrived, _REFUSED)
                continue
            self._held += _weight(length)
            self._post(self._arrived, message)
            while self._held >= READ_AHEAD_BYTES:
                self._room.clear()
                await self._room.wait()

    async def _take(self) -> None:
        """Give what the action sends to the server, and let the action go on when the server has taken it."""
        while True:
            message, taken = await self._outgoing.get()
            problem: Exception | None = None
            try:
                await self._forward(message)
            except OSError:  # how ASGI servers may say that the client is gone
                self._post(self._lost)
            except Exception as error:
                problem = error
            self._untaken.discard(taken)
            self._post(_settle, taken, problem)

    def _offered(self, message: Message, taken: asyncio.Future[None]) -> None:
        if self._is_over:
            self._post(_settle, taken, None)
        else:
            self._untaken.add(taken)
            self._outgoing.put_nowait((message, taken))

    async def _forward(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            await self._near_send(message)
            return
        self.has_started = True
        await self._near_send(message)
        if self._is_head:
            # The rest is of no use, and may be a stream without end: from here on the action has no client.
            await self._near_send(_END_OF_RESPONSE)
            self._post(self._lost)

    def _taken(self, weight: int) -> None:
        self._held -= weight
        self._room.set()

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        if self._far is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the action with it
                self._far.call_soon_threadsafe(callback, *args)

    # On the action's loop.

    def begin(self) -> None:
        """Let the request come: the action is about to run on the loop that runs now."""
        self._far = asyncio.get_running_loop()
        self._near.call_soon_threadsafe(self._begun.set)

    async def receive(self) -> Message:
        """Return the next part of the body, or that the client is gone; ASGI's `receive`.

        Raises:
            LimitExceeded: `RequestTooLarge`; the body is too large.
        """
        while not self._inbox:
            if self._gone.is_set():
                return _DISCONNECT
            self._news.clear()
            await self._news.wait()
        if self._inbox[0] is _REFUSED:  # for everybody who asks
            raise too_large(self._max_bytes)
        message = self._inbox.popleft()
        length = len(message.get("body", b""))
        if length:
            self._near.call_soon_threadsafe(self._taken, _weight(length))
        return message

    async def until_gone(self) -> Message:
        """Return when the client is gone. For responses: their `receive` must not take the body from the handler."""
        await self._gone.wait()
        return _DISCONNECT

    async def send(self, message: Message) -> None:
        """Send a part of the response and wait until the server has room for the next; ASGI's `send`.

        What is sent to a client that is gone is thrown away.

        Raises:
            InvalidArgument: status or headers can't be sent.
        """
        assert self._far is not None
        if message["type"] == "http.response.start":
            _check_head(message)
        if self._gone.is_set():
            await asyncio.sleep(0)  # a response without end must not keep the loop for itself
            return
        taken: asyncio.Future[None] = self._far.create_future()
        self._near.call_soon_threadsafe(self._offered, message, taken)
        del message  # Starlette cancels this in a way that leaves the frame to the garbage collection
        await taken

    def _arrived(self, message: Message) -> None:
        self._inbox.append(message)
        self._news.set()

    def _lost(self) -> None:
        self._gone.set()
        self._news.set()


def too_large(max_bytes: int) -> LimitExceeded:
    """Return the error for a request body of more than `max_bytes`."""
    return LimitExceeded(
        TOO_LARGE,
        f"The request body is larger than {max_bytes} bytes, the limit (REACTOR_HTTP_ACTION_BYTES). "
        "Larger files go through an upload URL of file storage.",
    )


def _weight(length: int) -> int:
    return max(length, LEAST_BYTES) if length else 0


def _settle(taken: asyncio.Future[None], problem: Exception | None) -> None:
    if taken.done():  # who waited was cancelled
        return
    if problem is None:
        taken.set_result(None)
    else:
        taken.set_exception(problem)


def _check_head(message: Message) -> None:
    status = message["status"]
    if not 200 <= status <= 599:
        raise InvalidArgument(f"A response can't have status {status}: it must be from 200 to 599.")
    for name, value in message.get("headers", ()):
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"A response can't have a header with the name {name.decode('latin-1')!r}.")
        if _NOT_IN_VALUES.search(value) or (name.lower() == b"content-length" and not value.isdigit()):
            raise InvalidArgument(
                f"The response header {name.decode('latin-1')!r} can't have the value {value.decode('latin-1')!r}."
            )
