"""What the socket benchmarks share: servers as child processes, and a WebSocket client that costs next to nothing.

The client speaks just enough of RFC 6455: text frames, masked with a zero key (so that masking is the identity), whole
messages of a server that does not fragment. It exists so that the server, not the driver, is what is measured; the same
client drives the raw echo that every figure is divided by.
"""

import asyncio
import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import uvloop

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


class Socket(asyncio.Protocol):
    """One client connection. `on_message` gets the payload of each text frame."""

    def __init__(self, path: str, host: str) -> None:
        self._handshake = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self._buffer = b""
        self._is_open = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_message: Callable[[bytes], None] = lambda payload: None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._is_open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            assert b" 101 " in head, head
            self._is_open = True
            self.opened.set_result(None)
        at, size = 0, len(data)
        while size - at >= 2:
            opcode, length, start = data[at] & 15, data[at + 1] & 127, at + 2
            if length == 126:
                if size - at < 4:
                    break
                length, start = struct.unpack_from(">H", data, at + 2)[0], at + 4
            elif length == 127:
                if size - at < 10:
                    break
                length, start = struct.unpack_from(">Q", data, at + 2)[0], at + 10
            if size < start + length:
                break
            if opcode == 1:
                self.on_message(data[start : start + length])
            at = start + length
        self._buffer = data[at:]

    def send(self, payload: bytes) -> None:
        """Send one text message."""
        self._transport.write(frame(payload))

    def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()


def frame(payload: bytes) -> bytes:
    """Return a masked text frame."""
    length = len(payload)
    if length < 126:
        head = bytes((0x81, 0x80 | length))
    elif length < 65536:
        head = struct.pack(">BBH", 0x81, 0xFE, length)
    else:
        head = struct.pack(">BBQ", 0x81, 0xFF, length)
    return head + b"\0\0\0\0" + payload


async def connect(port: int, path: str) -> Socket:
    """Open one connection to a server on this machine."""
    _, socket = await asyncio.get_running_loop().create_connection(
        lambda: Socket(path, f"127.0.0.1:{port}"), "127.0.0.1", port
    )
    await socket.opened
    return socket


@contextmanager
def server(*command: str, env: dict[str, str] | None = None) -> Iterator[int]:
    """Run a server process, yield the port it says it is ready on, and end it."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            ready = re.search(r"ready at http://127.0.0.1:(\d+)", line)
            if ready:
                yield int(ready[1])
                return
        raise RuntimeError(f"the server ended before it was ready: {process.wait()}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def echo_server() -> Iterator[int]:
    """Run the baseline: raw echo and broadcast on the stack that reactor is served by."""
    with server("-m", "bench.echo") as port:
        yield port


@contextmanager
def reactor_server(data: str) -> Iterator[int]:
    """Run `reactor serve` on the project of the benchmarks."""
    origin = {"CONVEX_CLOUD_ORIGIN": "http://127.0.0.1", "CONVEX_SITE_ORIGIN": "http://127.0.0.1"}
    command = ("-m", "reactor.cli.main", "serve", "--project", "bench/project", "--data", data, "--port", "0")
    with server(*command, env=origin) as port:
        yield port


def run(main: Any) -> Any:
    """Run a coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def report(name: str, result: dict[str, Any]) -> None:
    """Print a result and keep it in bench/results/."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
