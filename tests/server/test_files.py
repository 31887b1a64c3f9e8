"""Uploads and downloads over a real port: what clients get, what they can't do, and what they leave behind."""

import asyncio
import json
import os
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from reactor.auth.upload_token import UploadTokens
from reactor.errors import StorageError
from reactor.limits import Limits
from reactor.server.app import Deployment
from reactor.testing.clock import VirtualClock
from tests.server.projects import served
from tests.servers import copy_fixture

pytestmark = pytest.mark.asyncio
SECRET = "5a" * 32
CONTENT = bytes(range(256)) * 4000  # a few parts
DIGEST = b64encode(sha256(CONTENT).digest()).decode()


class Site:
    """A deployment behind a real port, and an HTTP client for it."""

    def __init__(self, url: str, deployment: Deployment, data: Path, client: httpx.AsyncClient) -> None:
        self.url, self.deployment, self.data, self.client = url, deployment, data, client

    @property
    def files(self) -> Any:
        return self.deployment.backend().files

    @property
    def kept(self) -> set[str]:
        """Every file below the storage folder, unfinished ones too."""
        return {name for _, _, names in os.walk(self.data / "storage") for name in names}

    async def rows(self) -> Any:
        return await self.deployment.query("files:stored")

    async def upload_url(self) -> str:
        """Return the path of an upload URL."""
        url = await self.deployment.mutation("files:upload_url")
        assert isinstance(url, str)
        return url.removeprefix("https://files.example")

    async def post(self, content: Any = CONTENT, **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        return await self.client.post(await self.upload_url(), content=content, headers=names)

    async def stored(self, content: Any = CONTENT, **headers: str) -> tuple[str, str]:
        """Store a file; return its id and the path of its URL."""
        response = await self.post(content, **headers)
        assert response.status_code == 200, response.text
        stored_id = response.json()["storageId"]
        return stored_id, await self.path_of(stored_id)

    async def path_of(self, stored_id: str) -> str:
        url = await self.deployment.query("files:url", {"id": stored_id})
        assert isinstance(url, str)
        return url.removeprefix("https://files.example")

    async def go_on(self) -> None:
        """Let the server do what it has to do."""
        await self.client.get("/version")

    async def nothing_left(self, kept: set[str]) -> None:
        """Wait until the server has noticed that a client is gone."""
        while self.kept != kept or self.files.arriving:
            await self.go_on()
        assert [row for row in await self.rows() if row["size"] != len(CONTENT)] == []

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", urlsplit(self.url).port)


async def on_site(folder: Path, body: Callable[[Site], Awaitable[None]], **options: Any) -> None:
    limits = options.pop("limits", {})
    data = folder / "data"
    deployment = Deployment(
        copy_fixture(folder / "app"),
        data=data,
        limits=Limits(**limits),
        cloud_origin="https://files.example",
        instance_name="here",
        instance_secret=SECRET,
        **options,
    )

    async def with_client(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            await body(Site(url, deployment, data, client))

    await served(deployment, with_client)


async def failure(response: httpx.Response, status: int, code: str) -> str:
    body = response.json()
    assert (response.status_code, body["code"], set(body)) == (status, code, {"code", "message"})
    return str(body["message"])


async def test_a_file_there_and_back(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        response = await site.post(content_type="image/png", digest=f"sha-256={DIGEST}", origin="https://app.example")
        assert response.json() == {"storageId": (await site.rows())[0]["_id"]}
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        path = await site.path_of(response.json()["storageId"])
        assert site.kept != set()

        response = await site.client.get(path, headers={"origin": "https://app.example"})
        assert response.status_code == 200
        assert response.content == CONTENT
        headers = dict(response.headers)
        assert (headers.pop("date"), headers.pop("vary")) != ("", "")
        assert headers == {
            "content-type": "image/png",
            "content-length": str(len(CONTENT)),
            "digest": f"sha-256={DIGEST}",
            "cache-control": "private, max-age=2592000",
            "accept-ranges": "bytes",
            "etag": f'"{DIGEST}"',
            "access-control-allow-origin": "https://app.example",
            "access-control-allow-credentials": "true",
        }
        head = await site.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert {"date": "", **head.headers}.keys() == {"date", *headers} - {
            "access-control-allow-origin",
            "access-control-allow-credentials",
        }
        assert head.headers["content-length"] == str(len(CONTENT))

    await on_site(tmp_path, body)


async def test_ranges(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        _, path = await site.stored()
        for header, start, end in (
            ("bytes=0-0", 0, 1),
            ("bytes=262140-262150", 262140, 262151),  # across two parts
            (f"bytes={len(CONTENT) - 3}-99999999", len(CONTENT) - 3, len(CONTENT)),
            ("bytes=-5", len(CONTENT) - 5, len(CONTENT)),
            ("bytes=0-", 0, len(CONTENT)),
        ):
            response = await site.client.get(path, headers={"range": header})
            assert response.status_code == 206
            assert response.content == CONTENT[start:end]
            assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
            assert response.headers["content-length"] == str(end - start)
            assert "digest" not in response.headers
            assert "content-type" not in response.headers
        for header in ("bytes=0-1,3-4", f"bytes={len(CONTENT)}-", "bytes=x"):
            await failure(await site.client.get(path, headers={"range": header}), 416, "RangeNotSatisfiable")
        await failure(await site.client.get(path, headers={"range": "lines=1-2"}), 400, "BadHeader")

        _, empty = await site.stored(b"")
        response = await site.client.get(empty, headers={"range": "bytes=0-5"})
        assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "0")

    await on_site(tmp_path, body)


async def test_conditional_requests(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        _, path = await site.stored()
        tag = f'"{DIGEST}"'
        response = await site.client.get(path, headers={"if-none-match": f'"x", {tag}'})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
        assert (await site.client.get(path, headers={"if-none-match": '"x"'})).status_code == 200
        for if_range, status in ((tag, 206), ('"x"', 200), ("Sat, 21 Nov 2026 17:00:00 GMT", 200)):
            response = await site.client.get(path, headers={"range": "bytes=0-1", "if-range": if_range})
            assert response.status_code == status

    await on_site(tmp_path, body)


async def test_what_an_upload_says_of_itself_must_be_true(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        wrong = b64encode(sha256(b"other").digest()).decode()
        message = await failure(await site.post(digest=f"sha-256={wrong}"), 400, "Sha256Mismatch")
        assert message == f"Sha256 mismatch. Expected: {wrong} Actual: {DIGEST}"
        for headers in ({"digest": "md5=abc"}, {"digest": "sha-256=abc"}, {"content_type": "png"}):
            await failure(await site.post(**headers), 400, "BadHeader")
        assert (site.kept, await site.rows()) == (set(), [])

    await on_site(tmp_path, body)


async def test_a_body_without_a_length(tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(CONTENT), 100_000):
            yield CONTENT[at : at + 100_000]

    async def body(site: Site) -> None:
        _, path = await site.stored(parts())
        assert (await site.client.get(path)).content == CONTENT

    await on_site(tmp_path, body)


async def test_a_token_is_good_for_an_hour_and_for_many_files(tmp_path: Path) -> None:
    clock = VirtualClock()

    async def body(site: Site) -> None:
        url = await site.upload_url()
        assert (await site.client.post(url, content=b"1")).status_code == 200
        clock.advance(minutes=59)
        assert (await site.client.post(url, content=b"2")).status_code == 200
        clock.advance(minutes=1)
        message = await failure(await site.client.post(url, content=b"3"), 401, "StorageTokenExpired")
        assert message == "Store File Authorization expired"
        assert len(await site.rows()) == len(site.kept) == 2

    await on_site(tmp_path, body, clock=clock, alarms=clock)


async def test_tokens_that_this_deployment_did_not_make(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        now = site.deployment.clock.now_ns()
        good = (await site.upload_url()).partition("?token=")[2]
        for token, code in (
            ("", "StorageTokenInvalid"),
            ("x", "StorageTokenInvalid"),
            (good[:-1] + ("A" if good[-1] != "A" else "B"), "StorageTokenInvalid"),
            (UploadTokens("here", b"x" * 32).issue(now, ""), "StorageTokenInvalid"),
            (UploadTokens("there", bytes.fromhex(SECRET)).issue(now, ""), "InvalidStorageToken"),
            ("%00%ff" + good, "StorageTokenInvalid"),
        ):
            response = await site.client.post(f"/api/storage/upload?token={token}", content=CONTENT)
            await failure(response, 401, code)
        await failure(await site.client.post("/api/storage/upload", content=b""), 401, "StorageTokenInvalid")
        # One for a component that is not mounted (any more).
        token = UploadTokens("here", bytes.fromhex(SECRET)).issue(now, "gone")
        await failure(
            await site.client.post(f"/api/storage/upload?token={token}", content=b""), 404, "ComponentNotFound"
        )
        assert (site.kept, await site.rows()) == (set(), [])

    await on_site(tmp_path, body)


async def test_urls_of_no_file(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        stored_id, path = await site.stored()
        uuid = path.rpartition("/")[2]
        (key,) = site.kept
        for name in (stored_id, key, uuid[:-1], uuid + "0", uuid.replace("-", ""), f"{{{uuid}}}", "upload", "%2e%2e"):
            await failure(await site.client.get(f"/api/storage/{name}"), 400, "InvalidStoragePath")
        other = ("0" if uuid[0] != "0" else "1") + uuid[1:]
        await failure(await site.client.get(f"/api/storage/{other}"), 404, "FileNotFound")
        await failure(await site.client.get(f"/api/storage/{uuid}?component=gone"), 404, "FileNotFound")
        await failure(await site.client.get(f"/api/storage/{uuid}?component=../.."), 404, "FileNotFound")
        await failure(await site.client.put(path, content=b""), 405, "MethodNotAllowed")
        assert (await site.client.get(f"/api/storage/{uuid.upper()}")).status_code == 200
        reader, writer = await site.raw()  # as it is, without a client that tidies the path up
        for traversal in ("../../data/credentials/instance_secret", "%2e%2e%2f%2e%2e%2fdb.sqlite3", f"..%5c{key}"):
            writer.write(f"GET /api/storage/{traversal} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status = (await reader.readline()).split()[1]
            assert status in (b"400", b"404")
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split()[0])
            assert SECRET.encode() not in await reader.readexactly(size)
        writer.close()

        await site.deployment.mutation("files:remove", {"id": stored_id})
        await failure(await site.client.get(path), 404, "FileNotFound")

    await on_site(tmp_path, body)


@pytest.mark.parametrize("has_length", [True, False])
async def test_a_file_may_be_too_large(tmp_path: Path, has_length: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield CONTENT
        yield b"x"

    async def body(site: Site) -> None:
        await site.stored()
        kept = site.kept
        content = CONTENT + b"x" if has_length else parts()
        message = await failure(await site.post(content), 413, "FileTooLarge")
        assert f"REACTOR_FILE_BYTES={len(CONTENT)}" in message
        await site.nothing_left(kept)

    await on_site(tmp_path, body, limits={"file_bytes": len(CONTENT)})


async def test_a_disk_that_takes_no_more_is_an_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(site: Site) -> None:
        _, path = await site.stored()
        kept = site.kept

        def full(key: str) -> None:
            raise StorageError("The disk is full: free space on it. Nothing was stored.")

        with monkeypatch.context() as patch:
            patch.setattr(site.files.blobs, "write", full)
            message = await failure(await site.post(), 503, "StorageError")
        assert "free space" in message
        await site.nothing_left(kept)
        assert (await site.client.get(path)).content == CONTENT
        await site.stored()

    await on_site(tmp_path, body)


async def test_content_that_cannot_be_read_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(site: Site) -> None:
        stored_id, path = await site.stored()
        (key,) = site.kept
        file = site.data / "storage" / "files" / key[:2] / key
        with file.open("r+b") as opened:
            opened.truncate(300_000)
        with pytest.raises(httpx.RemoteProtocolError):
            await site.client.get(path)
        assert "a download was cut off" in caplog.text
        file.unlink()
        assert stored_id in await failure(await site.client.get(path), 503, "StorageError")

    await on_site(tmp_path, body)


# Clients that go away, stall, or are too many.


async def begin_upload(site: Site, sent: bytes = CONTENT) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin an upload of twice as much, and return when the server has begun to write it."""
    reader, writer = await site.raw()
    path, kept = await site.upload_url(), site.kept
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * len(CONTENT)}\r\n\r\n".encode() + sent)
    while site.kept == kept:
        await site.go_on()
    return reader, writer


async def test_an_upload_whose_client_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.stored()
        kept = site.kept
        for is_reset in (False, True):
            _, writer = await begin_upload(site)
            assert len(site.kept) == len(kept) + 1
            if is_reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                writer.transport.abort()
            else:
                writer.close()
            await site.nothing_left(kept)
        assert len(await site.rows()) == 1

    await on_site(tmp_path, body)


async def test_an_upload_that_stalls_is_given_up(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        reader, writer = await begin_upload(site)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head
        answer = json.loads(await reader.read())  # to the end: the server has closed it
        assert answer["code"] == "RequestTimeout"
        assert "REACTOR_FILE_IDLE_SECONDS" in answer["message"]
        await site.nothing_left(set())
        writer.close()

    await on_site(tmp_path, body, limits={"file_idle_seconds": 0.1})


async def test_an_upload_that_trickles_is_given_up_too(tmp_path: Path) -> None:
    """One byte now and then is no progress."""

    async def body(site: Site) -> None:
        reader, writer = await begin_upload(site)
        answer = asyncio.ensure_future(reader.readline())
        with suppress(ConnectionError):
            while not answer.done():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        writer.close()

    await on_site(tmp_path, body, limits={"file_idle_seconds": 0.2})


async def slow_reader(site: Site, path: str) -> socket.socket:
    """Ask for a file and read nothing of it but the first bytes."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(reader, ("127.0.0.1", urlsplit(site.url).port))
    await loop.sock_sendall(reader, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await loop.sock_recv(reader, 12)) == b"HTTP/1.1 200"
    return reader


async def test_a_reader_that_stalls_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(site: Site) -> None:
        _, path = await site.stored(b"x" * 20_000_000)
        reader = await slow_reader(site, path)
        received = 0
        # Everybody else is served, also while there is only one place.
        assert (await site.client.get(path)).status_code == 200
        with suppress(ConnectionResetError):
            while part := await asyncio.get_running_loop().sock_recv(reader, 1_000_000):
                received += len(part)
        assert received < 20_000_000
        assert "uvicorn" not in {record.name.partition(".")[0] for record in caplog.records}, "it was not aborted"
        reader.close()

    await on_site(tmp_path, body, limits={"file_idle_seconds": 0.2, "file_transfers": 1})


async def test_a_reader_that_goes_away_costs_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(site: Site) -> None:
        _, path = await site.stored(b"x" * 20_000_000)
        parts = 0
        closed = asyncio.Event()
        read = site.files.parts

        async def counted(*args: Any) -> AsyncIterator[bytes]:
            nonlocal parts
            inner = read(*args)
            try:
                async for part in inner:
                    parts += 1
                    yield part
            finally:
                await inner.aclose()
                closed.set()

        monkeypatch.setattr(site.files, "parts", counted)
        (await slow_reader(site, path)).close()
        await closed.wait()
        assert parts < 70  # of 77

    await on_site(tmp_path, body)


async def test_only_so_many_transfers_run_at_a_time(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        _, path = await site.stored()
        _, first = await begin_upload(site)
        message = await failure(await site.post(), 429, "TooManyConcurrentRequests")
        assert "REACTOR_FILE_TRANSFERS" in message
        assert (await site.client.get(path)).status_code == 200  # downloads have places of their own
        first.close()
        while site.files.arriving:
            await site.go_on()
        await site.stored()

    await on_site(tmp_path, body, limits={"file_transfers": 1, "http_wait_seconds": 0.05})
