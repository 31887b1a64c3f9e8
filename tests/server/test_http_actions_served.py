"""HTTP actions over real sockets, on both ports of a real server process: streams, limits, disconnects, bad input."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from reactor.client import Client
from reactor.limits import MAX_HEAD_BYTES
from tests.server.http_project import write_http_project
from tests.servers import SHARED_KILL_AFTER_SECONDS, Server, running, start_dev, start_serve

LIMIT = 20 << 20
PART = 65536
SOCKET_BYTES = 32 << 20  # more than the kernel ever keeps for one connection here


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("http")
    app = write_http_project(folder / "app")
    server = start_serve(app, "--data", folder / "data", kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


@pytest.fixture
def site(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.site_url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture(autouse=True)
def others_are_unaffected(server: Server) -> Iterator[None]:
    """Whatever a test did, the next client is served and nothing broke inside."""
    lines = len(server.err)
    yield
    assert httpx.get(f"{server.site_url}/binary", trust_env=False).status_code == 200
    assert server.process.poll() is None
    assert "Traceback" not in "\n".join(server.err[lines:])


def connect(url: str, receive_buffer: int | None = None) -> socket.socket:
    parts = urlsplit(url)
    raw = socket.socket()
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.settimeout(30)
    assert parts.hostname is not None
    raw.connect((parts.hostname, parts.port))
    return raw


def read_until(raw: socket.socket, end: bytes) -> bytes:
    """Return what comes up to and with `end`, or all there is when the server closes before."""
    data = b""
    while not data.endswith(end):
        try:
            part = raw.recv(65536 if not end else 1)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part
    return data


def read_all(raw: socket.socket) -> bytes:
    data = b""
    try:
        while part := raw.recv(65536):
            data += part
    except ConnectionResetError:  # what we had not sent yet was not wanted
        pass
    return data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


async def stored(server: Server, *wanted: str) -> list[str]:
    """Wait until the messages that actions have stored since the last call end with these, and take them out."""
    async with Client(server.url) as client, client.subscribe("messages:list", {"channel": "http"}) as live:
        while True:
            bodies: list[str] = await live.next(timeout=30)
            if [re.sub(r"\d+", "N", body) for body in bodies[-len(wanted) :]] == list(wanted):
                await client.mutation("messages:clear", {"channel": "http"})
                return bodies


# Both ports.


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_both_ports_show_an_action_the_same_request(server: Server, method: str) -> None:
    headers = {"host": "app.example:8000", "content-type": "text/plain", "x-twice": "a, b"}
    seen = []
    for base in (server.site_url, f"{server.url}/http"):
        answer = httpx.request(method, f"{base}/info/a%20b?x=1", headers=headers, content=b"text", trust_env=False)
        seen.append(answer.json())
    assert seen[0] == seen[1]
    assert seen[0]["method"] == method
    assert seen[0]["url"] == "http://app.example:8000/info/a b?x=1"
    assert seen[0]["body"] == ("" if method in ("GET", "OPTIONS") else "text")


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ({"x-forwarded-proto": "https"}, "https"),
        ({"x-forwarded-proto": "https, http"}, "https"),
        ({"forwarded": 'for=1.2.3.4;proto="https";host=x, proto=http'}, "https"),
        ({"x-forwarded-proto": "http", "forwarded": "proto=https"}, "http"),
        ({"x-forwarded-proto": "javascript"}, "http"),
        ({}, "http"),
    ],
)
def test_a_proxy_tells_the_scheme(site: httpx.Client, headers: dict[str, str], scheme: str) -> None:
    assert site.get("/info/", headers=headers).json()["url"].startswith(f"{scheme}://127.0.0.1")


def test_the_client_is_the_other_end_of_the_connection(site: httpx.Client) -> None:
    """Also on the machine itself: who to believe about addresses is for the application to say."""
    for headers in ({"x-forwarded-for": "192.0.2.1"}, {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https"}):
        assert site.get("/info/", headers=headers).json()["client"] == "127.0.0.1"


def test_the_site_port_serves_nothing_else(server: Server, site: httpx.Client) -> None:
    for path in ("/", "/version", "/api/query", "/http/binary"):
        answer = site.get(path)
        assert (answer.status_code, answer.text) == (404, "No matching routes found")
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    key = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert site.get("/api/sync", headers={**upgrade, **key}).status_code == 403
    assert httpx.get(f"{server.url}/version", trust_env=False).status_code == 200


def test_head_ends_a_stream_that_would_not_end(server: Server, site: httpx.Client) -> None:
    assert site.head("/endless").status_code == 200
    assert asyncio.run(stored(server, "ended after N"))


def test_head_and_bytes(site: httpx.Client) -> None:
    assert site.get("/binary").content == bytes(range(256)) * 100
    answer = site.head("/binary")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "25600")


def test_one_connection_serves_many_requests(server: Server) -> None:
    """Also when a body was not read: what comes next is not taken for a part of it."""
    with connect(server.site_url) as raw:
        body = b"GET /fail/http HTTP/1.1\r\n\r\n"
        for _ in range(3):
            raw.sendall(head("/unread", f"Content-Length: {len(body)}") + body)
            assert read_until(raw, b"not interested").startswith(b"HTTP/1.1 200 ")
        raw.sendall(head("/binary", "Connection: close", method="GET"))
        assert read_all(raw).endswith(bytes(range(256)))


# Streams and limits.


def test_a_response_streams_while_the_request_is_sent(server: Server) -> None:
    with connect(server.site_url) as raw:
        raw.sendall(head("/echo", "Transfer-Encoding: chunked"))
        for number in range(20):
            part = b"%d" % number * 1000
            raw.sendall(chunk(part))
            echoed = read_until(raw, chunk(part))
            assert echoed.endswith(chunk(part)), "before the next part is sent"
        raw.sendall(b"0\r\n\r\n")
        assert read_until(raw, b"0\r\n\r\n") == b"0\r\n\r\n"


@pytest.mark.parametrize("path", ["/size", "/size-blocking"])
def test_bodies_up_to_the_limit(site: httpx.Client, path: str) -> None:
    assert site.post(path, content=bytes(LIMIT)).text == str(LIMIT)


def parts(size: int) -> Iterator[bytes]:
    for start in range(0, size, PART):
        yield bytes(min(PART, size - start))


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_larger_body_is_refused(site: httpx.Client, is_chunked: bool) -> None:
    answer = site.post("/size", content=parts(LIMIT + 1) if is_chunked else bytes(LIMIT + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "RequestTooLarge")


@pytest.mark.asyncio
async def test_a_reader_who_does_not_read_holds_the_stream_back(server: Server) -> None:
    """Another one reads more meanwhile than all buffers together could hold."""
    with connect(server.site_url, receive_buffer=PART) as slow:
        slow.sendall(head("/endless", method="GET"))
        assert slow.recv(1) == b"H"
        with connect(server.site_url) as fast:
            fast.sendall(head("/endless", method="GET"))
            received = 0
            while received < 2 * SOCKET_BYTES:
                received += len(fast.recv(1 << 20))
    bodies = await stored(server, "ended after N", "ended after N")
    fewer, more = sorted(int(body.split()[-1]) for body in bodies[-2:])
    assert fewer * PART < SOCKET_BYTES < 2 * SOCKET_BYTES < more * PART


def test_a_body_that_nobody_reads_is_held_back(server: Server) -> None:
    """The server takes what its buffers hold, and then the client waits."""
    with connect(server.site_url) as raw:
        raw.sendall(head("/never-read", "Transfer-Encoding: chunked"))
        raw.settimeout(0.5)
        with pytest.raises(TimeoutError):
            raw.sendall(chunk(bytes(PART)) * (SOCKET_BYTES // PART))


# Clients that go.


@pytest.mark.asyncio
async def test_a_stream_is_cancelled_when_its_client_goes(server: Server) -> None:
    with connect(server.site_url) as raw:
        raw.sendall(head("/quiet", method="GET"))
        read_until(raw, chunk(b"begun"))
    assert await stored(server, "cancelled")


@pytest.mark.asyncio
async def test_an_action_goes_on_and_can_ask_whether_its_client_is_there(server: Server) -> None:
    with connect(server.site_url) as raw:
        raw.sendall(head("/patient", method="GET"))
        await stored(server, "begun")
    assert await stored(server, "gone")


@pytest.mark.asyncio
async def test_a_body_that_breaks_off_is_an_error_for_who_reads_it(server: Server) -> None:
    with connect(server.site_url) as raw:
        raw.sendall(head("/half-read", "Content-Length: 1000") + b"12345")
        await stored(server, "N bytes")
    assert await stored(server, "ClientDisconnect")


# Failures.


def test_errors_over_the_wire(site: httpx.Client) -> None:
    answer = site.get("/fail/data")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")
    assert answer.json()["data"] == {"code": "TAKEN", "limit": 2}
    for path in ("/fail/header", "/fail/status", "/fail/length", "/fail/type"):
        assert site.get(path).status_code == 500


def test_a_stream_that_fails_is_cut_off(server: Server) -> None:
    """A client can tell it from one that is complete."""
    with connect(server.site_url) as raw:
        raw.sendall(head("/fail/late", method="GET"))
        data = read_all(raw)
    assert data.startswith(b"HTTP/1.1 200 ")
    assert data.endswith(chunk(b"begun"))
    server.wait_for_line("Uncaught ValueError: too late", "err")


def test_what_an_action_prints_is_shown_where_the_server_runs(server: Server, site: httpx.Client) -> None:
    assert site.post("/store", json={"body": "a word"}).status_code == 201
    server.wait_for_line("POST /store: [LOG] [messages:send] 'sent a word'", "err")


# Bad input.

BAD: dict[str, tuple[bytes, bytes]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.1 400 "),
    "an unknown method": (head("/size", method="BREW"), b"HTTP/1.1 400 "),
    "a header without a colon": (head("/size", "Nonsense"), b"HTTP/1.1 400 "),
    "a NUL in a header": (head("/size", "X-A: a\x00b"), b"HTTP/1.1 400 "),
    "a header name with a space": (head("/size", "X A: b"), b"HTTP/1.1 400 "),
    "lengths that differ": (head("/size", "Content-Length: 1", "Content-Length: 2") + b"xy", b"HTTP/1.1 400 "),
    "a length that is none": (head("/size", "Content-Length: -1"), b"HTTP/1.1 400 "),
    "two framings": (head("/size", "Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n", b"HTTP/1.1 400 "),
    "a chunk that is none": (head("/size", "Transfer-Encoding: chunked") + b"zz\r\nxx\r\n", b"HTTP/1.1 400 "),
    "a chunk that is too long": (head("/size", "Transfer-Encoding: chunked") + b"1\r\nxyz\r\n", b"HTTP/1.1 400 "),
    "a chunk of a size without end": (head("/size", "Transfer-Encoding: chunked") + b"f" * 40, b"HTTP/1.1 400 "),
    "many headers": (head("/size", *[f"X-{n}: {'v' * 1000}" for n in range(300)]), b"HTTP/1.1 431 "),
    "a header without end": (b"POST /size HTTP/1.1\r\nX-A: " + b"a" * (1 << 20), b"HTTP/1.1 431 "),
    "a URL without end": (b"GET /" + b"a" * (1 << 20), b"HTTP/1.1 431 "),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("port", ["site_url", "url"])
def test_bad_input_is_refused(server: Server, name: str, port: str) -> None:
    data, answer = BAD[name]
    with connect(getattr(server, port)) as raw:
        try:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError, OSError):
            pass
        assert read_all(raw)[: len(answer)] in (answer, b"")


@pytest.mark.parametrize("tail", [b"0\r\nX-A: ", b"1;"])
def test_a_trailer_and_an_extension_can_not_grow_the_process(server: Server, tail: bytes) -> None:
    """The parser keeps what has no end yet, or skips it for ever."""
    with connect(server.site_url) as raw:
        raw.sendall(head("/size", "Transfer-Encoding: chunked") + tail)
        with pytest.raises(ConnectionError):
            raw.sendall(b"a" * SOCKET_BYTES)


def test_a_head_up_to_the_limit_is_taken(site: httpx.Client) -> None:
    assert site.get("/binary", headers={"x-a": "a" * (MAX_HEAD_BYTES - 1000)}).status_code == 200


def test_a_mounted_deployment_serves_them_below_its_prefix(tmp_path: Path) -> None:
    from fastapi import FastAPI

    from reactor.server.app import Deployment

    deployment = Deployment(write_http_project(tmp_path), data=":memory:")

    async def call() -> Any:
        app = FastAPI()
        app.mount("/reactor", deployment.asgi())
        app.mount("/hooks/of", deployment.site_asgi())
        async with (
            deployment,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client,
        ):
            paths = ("/reactor/http/info/x?a=1", "/hooks/of/info/x?a=1")
            return [(await client.post(path, content=b"text")).json() for path in paths]

    for seen in asyncio.run(call()):
        told = (seen["url"], seen["path"], seen["base"], seen["body"])
        assert told == ("http://host/info/x?a=1", "/info/x", "http://host/", "text")


def test_dev_serves_them_and_follows_edits(tmp_path: Path) -> None:
    app = write_http_project(tmp_path / "app")
    server = start_dev(app, "--data", ":memory:")
    with running(server):
        assert httpx.get(f"{server.site_url}/binary", trust_env=False).status_code == 200
        assert httpx.get(f"{server.site_url}/new", trust_env=False).status_code == 404
        assert json.loads((app / ".reactor" / "dev.json").read_text())["siteUrl"] == server.site_url
        seen = len(server.out)
        with (app / "functions" / "http.py").open("a") as routes:
            routes.write('http.route(path="/new", method="GET", handler=binary)\n')
        server.wait_for_line("Loaded in", after=seen)
        assert httpx.get(f"{server.site_url}/new", trust_env=False).status_code == 200
