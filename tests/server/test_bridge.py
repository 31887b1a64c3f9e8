"""The bridge between the server's loop and an action's: what it holds, and that nobody waits on it for ever."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from reactor.errors import InvalidArgument
from reactor.server.http.bridge import LEAST_BYTES, READ_AHEAD_BYTES, Bridge

pytestmark = pytest.mark.asyncio

START = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def part(data: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Server:
    """The server's end: gives what it is told to, and takes one message at a time, when it is told to."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.asked = 0
        self.sent: list[dict[str, Any]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.gone = asyncio.Event()
        self.error: Exception | None = None
        self.offered = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.messages:
            return self.messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.offered.set()
        if self.error is not None:
            raise self.error
        await self.takes.wait()
        self.sent.append(message)


async def act(bridge: Bridge, work: Callable[[], Any]) -> Any:
    """Run `work` as an action on this loop, and carry for it."""

    async def run() -> Any:
        bridge.begin()
        return await work()

    return await bridge.carry(asyncio.ensure_future(run()))


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_no_more_of_the_body_is_read_than_may_be_held() -> None:
    server = Server(*[body(bytes(READ_AHEAD_BYTES // 4)) for _ in range(100)], body(b"", more=False))
    bridge = Bridge("POST", server.receive, server.send, 1 << 30)

    async def work() -> int:
        await turns()
        assert server.asked == 4
        size = 0
        while (message := await bridge.receive())["more_body"]:
            size += len(message["body"])
        return size

    assert await act(bridge, work) == 25 * READ_AHEAD_BYTES


async def test_tiny_parts_of_the_body_count_what_they_take() -> None:
    server = Server(*[body(b"xx") for _ in range(1000)], body(b"", more=False))
    bridge = Bridge("POST", server.receive, server.send, 1 << 30)

    async def work() -> int:
        for _ in range(20):
            await turns()
        assert server.asked == READ_AHEAD_BYTES // LEAST_BYTES
        size = 0
        while (message := await bridge.receive())["more_body"]:
            size += len(message["body"])
        return size

    assert await act(bridge, work) == 2000


async def test_the_action_waits_until_the_server_takes_what_it_sends() -> None:
    server = Server()
    bridge = Bridge("GET", server.receive, server.send, 10)

    async def work() -> None:
        await bridge.send(START)
        server.takes.clear()
        sending = asyncio.ensure_future(bridge.send(part(b"1")))
        await turns()
        assert not sending.done()
        server.takes.set()
        await sending
        await bridge.send(part(b"", more=False))

    await act(bridge, work)
    assert server.sent == [START, part(b"1"), part(b"", more=False)]


async def test_the_body_comes_before_the_news_that_the_client_is_gone() -> None:
    server = Server(body(b"a"), body(b"b", more=False))
    server.gone.set()
    bridge = Bridge("POST", server.receive, server.send, 10)

    async def work() -> list[Any]:
        await bridge.until_gone()
        return [await bridge.receive() for _ in range(4)]

    received = await act(bridge, work)
    assert received == [body(b"a"), body(b"b", more=False), *[{"type": "http.disconnect"}] * 2]


async def test_what_is_sent_to_nobody_is_thrown_away() -> None:
    server = Server()
    server.gone.set()
    bridge = Bridge("GET", server.receive, server.send, 10)

    async def work() -> None:
        await bridge.until_gone()
        await bridge.send(START)
        await bridge.send(part(b"x"))

    await act(bridge, work)
    assert server.sent == []


async def test_a_server_may_say_by_an_error_that_the_client_is_gone() -> None:
    server = Server()
    server.error = OSError("broken pipe")
    bridge = Bridge("GET", server.receive, server.send, 10)

    async def work() -> Any:
        await bridge.send(START)
        return await bridge.until_gone()

    assert await act(bridge, work) == {"type": "http.disconnect"}


async def test_other_errors_of_the_server_are_the_actions() -> None:
    server = Server()
    server.error = RuntimeError("Response content longer than Content-Length")
    bridge = Bridge("GET", server.receive, server.send, 10)
    with pytest.raises(RuntimeError, match="longer"):
        await act(bridge, lambda: bridge.send(START))


@pytest.mark.parametrize(
    "header", [(b"a b", b"c"), (b"", b"c"), (b"a", b"b\nc"), (b"a", b"b\x00"), (b"Content-Length", b"-1")]
)
async def test_headers_that_would_break_the_connection_are_refused(header: tuple[bytes, bytes]) -> None:
    server = Server()
    bridge = Bridge("GET", server.receive, server.send, 10)
    with pytest.raises(InvalidArgument):
        await act(bridge, lambda: bridge.send({**START, "headers": [header]}))
    assert not bridge.has_started


async def test_a_thread_that_is_left_to_itself_can_end() -> None:
    """Its action was ended while it waited for a client that does not read: it must not wait for ever."""
    server = Server()
    server.takes.clear()
    bridge = Bridge("GET", server.receive, server.send, 10)
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send() -> None:
        bridge.begin()
        await bridge.send(START)  # waits, when the end comes
        await bridge.send(part(b"after the end"))

    thread = threading.Thread(target=lambda: asyncio.run(send()))
    carrying = asyncio.ensure_future(bridge.carry(ended))
    thread.start()
    await server.offered.wait()
    ended.set_result(None)
    await carrying
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    assert server.sent == []
