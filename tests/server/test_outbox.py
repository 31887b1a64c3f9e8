"""The sending side of a socket: order, directness, and what happens when it is full."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from reactor.server.sync.outbox import Outbox

pytestmark = pytest.mark.asyncio


class Wire:
    """An ASGI `send` that can be full."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.room = asyncio.Event()
        self.room.set()
        self.error: Exception | None = None

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.room.wait()
        if self.error is not None:
            raise self.error
        if message["type"] == "websocket.close":
            self.sent.append((message["code"], message["reason"]))
        else:
            self.sent.append(message["text"])


def outbox(wire: Wire) -> Outbox:
    return Outbox(wire.send, lambda: 7.0)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_idle_socket_is_written_to_at_once() -> None:
    wire = Wire()
    box = outbox(wire)
    box.put(b"one")
    box.put_transition([b"two"])
    box.close(1000, "done")
    assert wire.sent == ["one", "two", (1000, "done")]
    assert box.is_idle
    assert (box.transitions, box.waiting_bytes) == (0, 0)


async def test_a_full_socket_keeps_the_order_and_counts_what_waits() -> None:
    wire = Wire()
    box = outbox(wire)
    drained: list[int] = []
    box.drained = lambda: drained.append(len(wire.sent))
    wire.room.clear()
    box.put(b"one")
    box.put_transition([b"two", b"three"])
    box.put_transition([b"four"])
    box.put(b"five")
    box.close(None)
    box.put(b"dropped")
    assert (wire.sent, box.transitions, box.waiting_bytes, box.is_idle) == ([], 2, 19, False)
    wire.room.set()
    await settle()
    assert wire.sent == ["one", "two", "three", "four", "five", (None, "")]
    assert (box.transitions, box.waiting_bytes, box.is_idle) == (0, 0, True)
    assert drained == [6]


async def test_progress_returns_when_something_has_left() -> None:
    wire = Wire()
    box = outbox(wire)
    wire.room.clear()
    box.put(b"one")
    waiting = asyncio.ensure_future(box.progress())
    await settle()
    assert not waiting.done()
    wire.room.set()
    await waiting
    again = asyncio.ensure_future(box.progress())
    await settle()
    box.wake()
    await again


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_lost_client_makes_everything_disappear(is_full: bool) -> None:
    wire = Wire()
    box = outbox(wire)
    wire.error = OSError("gone")
    if is_full:
        wire.room.clear()
    box.put(b"one")
    box.put_transition([b"two"])
    wire.room.set()
    await settle()
    box.put(b"three")
    assert wire.sent == []
    assert (box.is_closed, box.is_idle, box.transitions, box.waiting_bytes) == (True, True, 0, 0)


async def test_abandoning_cancels_a_send_that_waits() -> None:
    wire = Wire()
    box = outbox(wire)
    wire.room.clear()
    box.put(b"one")
    box.abandon()
    await settle()
    wire.room.set()
    await settle()
    assert wire.sent == []
    assert box.is_idle


async def test_any_awaitable_will_do() -> None:
    sent: list[str] = []

    def send(message: MutableMapping[str, Any]) -> asyncio.Future[None]:
        sent.append(message["text"])
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        return future

    box = Outbox(send, lambda: 7.0)
    box.put(b"one")
    box.put(b"two")
    await settle()
    assert sent == ["one", "two"]
    assert box.is_idle


async def test_what_is_put_while_draining_leaves_too() -> None:
    wire = Wire()
    box = outbox(wire)
    box.drained = lambda: box.put(b"last") if len(wire.sent) < 3 else None
    wire.room.clear()
    box.put(b"one")
    box.put(b"two")
    wire.room.set()
    await settle()
    assert wire.sent == ["one", "two", "last"]
