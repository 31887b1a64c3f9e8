"""Fetching from real issuers: what is taken, what is not, and that nothing waits for who does not answer."""

import asyncio
import socket
from pathlib import Path

import pytest

from reactor.auth.fetching import FetchFailed, ThreadedFetch
from reactor.limits import MAX_AUTH_DOCUMENT_BYTES
from tests.auth.issuer import JWKS, issuing

pytestmark = pytest.mark.asyncio
JSON = {"Content-Type": "application/json"}


async def failure(address: str, folder: Path = Path()) -> FetchFailed:
    with pytest.raises(FetchFailed) as failed:
        await ThreadedFetch(lambda: folder, 10)(address)
    return failed.value


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/jwk-set+json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
    ],
)
async def test_json_is_taken(content_type: str) -> None:
    with issuing() as issuer:
        issuer.answers[JWKS] = (200, {"Content-Type": content_type}, b"body")
        assert await ThreadedFetch(Path, 10)(issuer.url + JWKS) == b"body"


@pytest.mark.parametrize(
    ("answer", "text", "is_passing"),
    [
        ((404, JSON, b"no keys here"), "404 Not Found no keys here", False),
        ((500, JSON, b"x" * 9999), "500 Internal Server Error " + "x" * 200, True),
        ((429, JSON, b""), "429 Too Many Requests", True),
        ((204, JSON, b""), "204 No Content", False),
        ((302, {**JSON, "Location": "file:///etc/passwd"}, b""), "302 Found", False),
        ((200, {"Content-Type": "text/html"}, b"{}"), "its Content-Type is 'text/html'", False),
        ((200, {"Content-Type": "application/json; charset=latin-1"}, b"{}"), "its Content-Type is", False),
        ((200, {}, b"{}"), "its Content-Type is 'missing'", False),
        ((200, JSON, b"x" * (MAX_AUTH_DOCUMENT_BYTES + 1)), "the answer is larger than 524288 bytes", False),
        ((200, {**JSON, "Content-Length": "99999999999"}, b"{}"), "", True),
    ],
)
async def test_anything_else_is_not(answer: tuple[int, dict[str, str], bytes], text: str, is_passing: bool) -> None:
    with issuing() as issuer:
        issuer.answers[JWKS] = answer
        failed = await failure(issuer.url + JWKS)
    assert str(failed).startswith(text)
    assert failed.is_passing is is_passing


async def test_redirects_are_not_followed() -> None:
    with issuing() as issuer, issuing() as other:
        issuer.answers[JWKS] = (307, {**JSON, "Location": other.url + JWKS}, b"")
        await failure(issuer.url + JWKS)
        assert not other.asked


async def test_nobody_there() -> None:
    with issuing() as issuer:
        url = issuer.url
    assert (await failure(url + JWKS)).is_passing
    assert (await failure("http://host.invalid/")).is_passing


async def test_a_certificate_nobody_trusts() -> None:
    with issuing() as issuer:
        failed = await failure(issuer.url.replace("http:", "https:"))
    assert failed.is_passing


async def test_who_is_given_up_is_hung_up_on() -> None:
    """Also one that sends a byte now and then: a timeout for each read would never end it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        fetching = asyncio.ensure_future(ThreadedFetch(Path, 600)(f"http://127.0.0.1:{port}/"))
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            connection.settimeout(30)
            assert await asyncio.to_thread(connection.recv, 1)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            while await asyncio.to_thread(connection.recv, 4096):  # ends: the other side has closed
                pass


async def test_files_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(b"{}")
    fetch = ThreadedFetch(lambda: tmp_path, 10)
    assert await fetch("keys.json") == b"{}"
    assert await fetch(f"file://{tmp_path}/keys.json") == b"{}"
    (tmp_path / "large.json").write_bytes(b" " * (MAX_AUTH_DOCUMENT_BYTES + 1))
    assert "larger than" in str(await failure("large.json", tmp_path))
    for name in ("none.json", ".", "a\0b"):
        assert not (await failure(name, tmp_path)).is_passing
