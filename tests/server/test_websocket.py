"""Frames over real sockets: compression, sizes, floods, clients that do not read and clients that are dead."""

import asyncio
import json
import socket
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reactor.limits import MIB, Limits
from reactor.server.app import Deployment
from reactor.server.sync import websocket
from reactor.server.sync.websocket import DeflateFactory, SelectiveDeflate
from tests.server.fakes import add
from tests.server.frames import BINARY, CONT, PING, PONG, TEXT, FrameSocket
from tests.server.projects import served, write_project
from tests.sizes import size

WIDE = """
from reactor import query, v


@query(args={"width": v.number()})
async def text(ctx, width):
    count = await ctx.db.query("messages").count()
    return {"count": count, "text": "abc " * int(width)}
"""
OFFER = "permessage-deflate; client_max_window_bits"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = write_project(tmp_path / "app")
    (folder / "functions" / "wide.py").write_text(WIDE)
    return folder


def deployment(project: Path, **limits: Any) -> Deployment:
    return Deployment(project, data=":memory:", limits=Limits(**limits))


def serving(project: Path, **limits: Any) -> Callable[[Callable[[str], Awaitable[None]]], Awaitable[None]]:
    return lambda body: served(deployment(project, **limits), body)


def watch(width: int, version: int = 0) -> bytes:
    change = add(version, "wide:text", {"width": width})
    message = {
        "type": "ModifyQuerySet",
        "baseVersion": version,
        "newVersion": version + 1,
        "modifications": [change],
    }
    return json.dumps(message).encode()


def inflate(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-12).decompress(data + b"\x00\x00\xff\xff")


# Compression.


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("offer", "limits", "width", "compressed"),
    [
        (OFFER, {}, 2000, True),
        ("permessage-deflate", {}, 2000, True),
        (OFFER, {}, 10, False),  # tiny
        (OFFER, {"deflate_bytes": 1}, 10, True),
        (OFFER, {}, 300_000, False),  # would hold up everybody else
        (OFFER, {"deflate_bytes": 0}, 2000, False),
        (None, {}, 2000, False),
    ],
)
async def test_what_is_compressed(
    project: Path, offer: str | None, limits: dict[str, int], width: int, compressed: bool
) -> None:
    async def body(url: str) -> None:
        async with FrameSocket(url, offer=offer) as client:
            agreed = "permessage-deflate" in client.response
            assert agreed is (offer is not None and limits.get("deflate_bytes") != 0)
            if agreed:
                assert "server_no_context_takeover" in client.response
                assert "client_no_context_takeover" in client.response
            for version in range(2):  # the second does not depend on the first
                asked = watch(width, version)
                if agreed:
                    packed = zlib.compressobj(wbits=-12)
                    asked = (packed.compress(asked) + packed.flush(zlib.Z_SYNC_FLUSH))[:-4]
                client.write(TEXT, asked, compressed=agreed)
                frame = await client.read()
                assert frame.is_compressed is compressed
                text = inflate(frame.payload) if compressed else frame.payload
                (modification,) = json.loads(text)["modifications"]
                assert modification["value"]["text"] == "abc " * width
                assert len(frame.payload) < len(text) / 20 or not compressed or width < 2000

    await serving(project, **limits)(body)


@pytest.mark.asyncio
async def test_a_decompression_bomb_is_refused(project: Path) -> None:
    packed = zlib.compressobj(wbits=-12)
    zeros = bytes(MIB)
    bomb = b"".join(packed.compress(zeros) for _ in range(64)) + packed.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < MIB

    async def body(url: str) -> None:
        async with FrameSocket(url, offer=OFFER) as client:
            client.write(TEXT, bomb[:-4], compressed=True)
            code, reason = await client.read_close()
            assert code == 1009
            assert str(MIB) in reason

    await serving(project, message_bytes=MIB)(body)


def test_no_memory_is_held_between_messages() -> None:
    _, agreed = DeflateFactory(1024).process_request_params([], [])
    assert isinstance(agreed, SelectiveDeflate)
    assert not hasattr(agreed, "encoder")
    assert not hasattr(agreed, "decoder")


# Frames that break the rules.


@pytest.mark.asyncio
async def test_a_frame_too_large_is_refused_with_a_reason_although_it_is_still_being_sent(project: Path) -> None:
    async def body(url: str) -> None:
        async with FrameSocket(url) as client:
            client.write(TEXT, bytes(100 * MIB))
            reading = asyncio.create_task(client.read_close())
            code, reason = await reading
            assert code == 1009
            assert str(100 * MIB) in reason
            assert str(Limits().message_bytes) in reason

    await serving(project)(body)


@pytest.mark.asyncio
async def test_many_small_frames_count_as_one_message(project: Path) -> None:
    async def body(url: str) -> None:
        async with FrameSocket(url) as client:
            client.write(TEXT, b"", fin=False)
            for _ in range(websocket.MAX_FRAGMENTS):
                client.write(CONT, b"", fin=False)
            assert await client.read_close() == (1009, f"over {websocket.MAX_FRAGMENTS} fragments in one message")
        async with FrameSocket(url) as client:
            text = watch(3)
            client.write(TEXT, text[:10], fin=False)
            client.write(CONT, text[10:20], fin=False)
            client.write(CONT, text[20:])
            assert json.loads((await client.read()).payload)["type"] == "Transition"

    await serving(project)(body)


@pytest.mark.asyncio
@pytest.mark.parametrize("fragments", [1, 2])
async def test_text_that_is_not_utf8_is_refused(
    project: Path, fragments: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(url: str) -> None:
        async with FrameSocket(url) as client:
            if fragments == 2:
                client.write(TEXT, b'{"type":"', fin=False)
                client.write(CONT, b"\xff\xfe")
            else:
                client.write(TEXT, b"\xff\xfe")
            code, reason = await client.read_close()
            assert code == 1007
            assert "invalid start byte" in reason

    await serving(project)(body)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.asyncio
@pytest.mark.parametrize("opcode", [3, 11, CONT])
async def test_frames_that_make_no_sense_are_protocol_errors(project: Path, opcode: int) -> None:
    async def body(url: str) -> None:
        async with FrameSocket(url) as client:
            client.write(opcode, b"x")
            assert (await client.read_close())[0] == 1002

    await serving(project)(body)


# Clients that do not read.


@pytest.mark.asyncio
async def test_pings_of_a_client_that_does_not_read_pile_up_nowhere(project: Path) -> None:
    app = deployment(project)
    sizes: list[int] = []

    async def body(url: str) -> None:
        async with FrameSocket(url, receive_buffer=4096) as client:
            client.write(TEXT, watch(3))
            assert (await client.read()).opcode == TEXT
            (transport,) = transports
            for _ in range(size(100, 1000)):
                for _ in range(500):
                    client.write(PING, b"x" * 125)
                await client.writer.drain()
                sizes.append(transport.get_write_buffer_size())
            assert max(sizes) < MIB // 2, "pongs nobody reads"
            while (await client.read()).opcode != PONG:
                pass

    transports: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        connection_made = websocket.WebSocketProtocol.connection_made

        def noted(self: Any, transport: Any) -> None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transports.append(transport)
            connection_made(self, transport)

        patch.setattr(websocket.WebSocketProtocol, "connection_made", noted)
        await served(app, body)


@pytest.mark.asyncio
async def test_what_waits_for_a_slow_reader_is_bounded_by_what_it_watches(project: Path) -> None:
    """However many commits happen meanwhile; and when it reads, it is at the end in a few steps."""
    commits, width = size(400, 10_000), 25_000
    app = deployment(project)

    async def body(url: str) -> None:
        async with FrameSocket(url, receive_buffer=4096) as client:
            client.write(TEXT, watch(width))
            first = await client.read()
            waiting: list[int] = []
            for number in range(commits):
                await app.mutation("messages:send", channel="a", body=str(number))
                waiting.append(app.sockets.waiting_bytes)
            one = len(first.payload)
            assert one > 4 * width
            assert max(waiting[: commits // 4]) > 0
            assert max(waiting) <= 3 * (one + 200), "more than one that is being sent, and two that wait"
            transitions = 0
            count = 0
            while count < commits:
                frame = await client.read()
                if frame.opcode == TEXT:
                    message = json.loads(frame.payload)
                    if message["type"] == "Transition" and message["modifications"]:
                        transitions += 1
                        count = message["modifications"][0]["value"]["count"]
            assert transitions < commits // 4

    await served(app, body)


@pytest.mark.asyncio
async def test_a_client_that_never_reads_is_gone_after_a_while(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "ABORT_SECONDS", 0.1)
    app = deployment(project, client_silence_seconds=1, ping_seconds=0.1)
    lost = asyncio.Event()
    connection_lost = websocket.WebSocketProtocol.connection_lost

    def noted(self: Any, error: Exception | None) -> None:
        connection_lost(self, error)
        lost.set()

    monkeypatch.setattr(websocket.WebSocketProtocol, "connection_lost", noted)

    async def body(url: str) -> None:
        async with FrameSocket(url, receive_buffer=4096) as client:
            client.write(TEXT, watch(2_000_000))  # more than any buffer between us takes
            await lost.wait()
            assert len(app.sockets) == 0

    await served(app, body)


@pytest.mark.asyncio
async def test_a_client_that_answers_no_ping_is_dropped(project: Path) -> None:
    async def body(url: str) -> None:
        async with FrameSocket(url) as client:
            assert (await client.read()).opcode == PING
            assert await client.read_close() == (1000, "ClientDisconnected")
        async with FrameSocket(url) as client:
            for _ in range(3):
                frame = await client.read()
                while frame.opcode != PING:
                    frame = await client.read()
                client.write(PONG, frame.payload)
            client.write(BINARY, b"x")
            assert await client.read_close() == (1011, "InternalServerError")

    await serving(project, socket_ping_seconds=0.05, client_silence_seconds=1)(body)
