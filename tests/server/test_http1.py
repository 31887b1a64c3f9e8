"""Clients that stand still on connections of our own process: in the head of a request, or before an answer."""

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reactor.limits import MAX_HTTP_BODY_BYTES, MIB, Limits
from reactor.server.app import Deployment
from reactor.server.http.http1 import Unread
from tests.server.projects import served, write_project

pytestmark = pytest.mark.asyncio

LARGE = """
from reactor import query


@query
async def text(ctx, length: int) -> str:
    return "x" * length
"""
ASK = b"GET /api/query?path=large:text&args=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def asked(length: int) -> bytes:
    return ASK % f"%7B%22length%22:{length}%7D".encode()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that takes little before it is read from."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    raw.setblocking(False)
    parts = urlsplit(url)
    await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
    return await asyncio.open_connection(sock=raw, limit=1 << 12)


async def with_server(folder: Path, limits: Limits, body: Callable[[str], Awaitable[None]]) -> None:
    project = write_project(folder)
    (project / "functions" / "large.py").write_text(LARGE)
    await served(Deployment(project, data=":memory:", limits=limits), body)


async def test_a_head_must_come_in_time(tmp_path: Path) -> None:
    async def body(url: str) -> None:
        for text, answer in (
            (b"", b""),
            (b"GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"HTTP/1.1 408 "),
            (b"\r\n", b"HTTP/1.1 408 "),
        ):
            reader, writer = await connect(url)
            writer.write(text)
            assert (await reader.read()).startswith(answer), text
            writer.close()

    await with_server(tmp_path, Limits(http_idle_seconds=0.1), body)


async def test_the_next_head_on_a_connection_must_come_in_time(tmp_path: Path) -> None:
    async def body(url: str) -> None:
        reader, writer = await connect(url)
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"\r\n")  # from here on uvicorn waits for ever
        assert b"HTTP/1.1 408 " in await reader.read()
        writer.close()

    await with_server(tmp_path, Limits(http_idle_seconds=0.1), body)


TOO_MUCH = MAX_HTTP_BODY_BYTES + 1
POST = b"POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
VERSION = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_a_body_that_declares_to_be_too_large_is_refused_before_it_comes(tmp_path: Path) -> None:
    async def body(url: str) -> None:
        reader, writer = await connect(url)
        writer.write(POST % (TOO_MUCH, b""))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" not in head
        writer.close()

    await with_server(tmp_path, Limits(), body)


async def test_who_sends_it_all_the_same_may_go_on_after_it(tmp_path: Path) -> None:
    async def body(url: str) -> None:
        reader, writer = await connect(url)
        writer.write(POST % (TOO_MUCH, b"") + bytes(TOO_MUCH) + POST % (TOO_MUCH, b"") + bytes(TOO_MUCH) + VERSION)
        answers = await reader.read()
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"413", b"413", b"200"]
        writer.close()

    await with_server(tmp_path, Limits(), body)


async def test_who_asks_whether_to_send_a_body_is_told(tmp_path: Path) -> None:
    """The connection then ends: after a refusal the body may come or not."""

    async def body(url: str) -> None:
        expects = b"Expect: 100-continue\r\n"
        reader, writer = await connect(url)
        writer.write(POST % (TOO_MUCH, expects))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer
        writer.close()

        reader, writer = await connect(url)
        writer.write(POST % (2, expects))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()

    await with_server(tmp_path, Limits(), body)


async def read_all(reader: asyncio.StreamReader) -> int:
    """How many bytes come before the connection ends, in whatever way."""
    count = 0
    try:
        while part := await reader.read(1 << 20):
            count += len(part)
    except ConnectionResetError:
        pass
    return count


async def test_a_client_that_reads_nothing_loses_its_answer(tmp_path: Path) -> None:
    gone = asyncio.Event()

    class Noted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            gone.set()

    async def body(url: str) -> None:
        reader, writer = await connect(url)
        writer.write(asked(15 * MIB))
        assert await reader.readexactly(16) == b"HTTP/1.1 200 OK\r"
        await gone.wait()  # in which it reads nothing
        assert await read_all(reader) < 15 * MIB
        writer.close()

    logger, handler = logging.getLogger("reactor.http"), Noted()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        await with_server(tmp_path, Limits(http_idle_seconds=0.1), body)
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


async def test_a_client_that_reads_slowly_gets_its_answer(tmp_path: Path) -> None:
    async def body(url: str) -> None:
        reader, writer = await connect(url)
        writer.write(asked(15 * MIB))
        count = 0
        while part := await reader.read(1 << 12):
            count += len(part)
        assert count > 15 * MIB
        writer.close()

    await with_server(tmp_path, Limits(http_idle_seconds=1), body)


async def test_answers_that_nobody_reads_stay_within_their_bytes(tmp_path: Path) -> None:
    async def body(url: str) -> None:
        connections = [await connect(url) for _ in range(6)]
        for reader, writer in connections:
            writer.write(asked(15 * MIB))
            assert await reader.readexactly(16) == b"HTTP/1.1 200 OK\r"
        whole = [await read_all(reader) > 15 * MIB for reader, _ in connections]
        assert whole == [False] * 4 + [True] * 2
        for _, writer in connections:
            writer.close()

    await with_server(tmp_path, Limits(http_unread_bytes=31 * MIB), body)


class FakeConnection:
    def __init__(self, unread: Unread, unread_bytes: int) -> None:
        self.unread, self.unread_bytes, self.is_dropped = unread, unread_bytes, False

    def drop(self, why: str) -> None:
        self.is_dropped = True
        self.unread.discard(self)  # type: ignore[arg-type]


async def test_who_waits_longest_is_dropped_first() -> None:
    unread = Unread(100)
    first, second, third, fourth = connections = [FakeConnection(unread, 40) for _ in range(4)]
    for connection in connections[:3]:
        unread.add(connection)  # type: ignore[arg-type]
    assert [connection.is_dropped for connection in connections] == [True, False, False, False]
    second.unread_bytes = 10  # it reads, so that there is room
    unread.add(fourth)  # type: ignore[arg-type]
    assert [connection.is_dropped for connection in connections] == [True, False, False, False]
    unread.discard(third)  # type: ignore[arg-type]
    unread.discard(first)  # type: ignore[arg-type]
    unread.add(FakeConnection(unread, 51))  # type: ignore[arg-type]
    assert second.is_dropped
    assert not fourth.is_dropped
