"""Files larger than what the server may take of memory pass through it, up and down, whole and in ranges."""

import hashlib
import http.client
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reactor.client import BlockingClient
from reactor.limits import GIB, MIB
from tests.servers import Server, copy_fixture, running, start_serve
from tests.sizes import size

FILE_BYTES = size(96 * MIB, 1 * GIB)
MOST_GROWTH = size(48 * MIB, 64 * MIB)
PART = 1 * MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


class Memory:
    """The resident memory of a process; `peak` counts from when this was made."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        (self._process / "clear_refs").write_text("5")
        self.before = self._read("VmRSS")

    @property
    def growth(self) -> int:
        return self._read("VmHWM") - self.before

    def _read(self, name: str) -> int:
        line = next(line for line in (self._process / "status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024


class Content:
    """A large content that is made while it is sent, and its hash."""

    def __init__(self) -> None:
        self._part = random.Random(20261121).randbytes(PART)

    def parts(self, count: int = FILE_BYTES // PART) -> Iterator[bytes]:
        for number in range(count):
            yield number.to_bytes(8, "big") + self._part[8:]

    def between(self, start: int, end: int) -> bytes:
        """Return a few bytes of it."""
        first = start // PART
        data = b"".join(number.to_bytes(8, "big") + self._part[8:] for number in range(first, (end - 1) // PART + 1))
        return data[start - first * PART : end - first * PART]


def connection(server: Server) -> http.client.HTTPConnection:
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)


def local(url: object) -> str:
    """Return the path of a URL that the server made, for whom it has another address."""
    assert isinstance(url, str)
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def post(server: Server, path: str, parts: Iterator[bytes], length: int) -> str:
    to = connection(server)
    try:
        to.putrequest("POST", path)
        to.putheader("Content-Length", str(length))
        to.endheaders()
        for part in parts:
            to.send(part)
        answer = to.getresponse()
        body = json.loads(answer.read())
        assert answer.status == 200, body
        return str(body["storageId"])
    finally:
        to.close()


def get(server: Server, path: str, **headers: str) -> tuple[http.client.HTTPResponse, str, int]:
    """Return the response, and the hash and the length of its body, of which never more than a part is kept."""
    to = connection(server)
    try:
        to.request("GET", path, headers=headers)
        answer = to.getresponse()
        digest, length = hashlib.sha256(), 0
        while part := answer.read(PART):
            digest.update(part)
            length += len(part)
        return answer, digest.hexdigest(), length
    finally:
        to.close()


def test_a_file_larger_than_memory_passes_through(tmp_path: Path) -> None:
    content = Content()
    digest = hashlib.sha256()
    for part in content.parts():
        digest.update(part)
    project, data = copy_fixture(tmp_path / "app"), tmp_path / "data"
    server = start_serve(project, "--data", data, kill_after=size(50, 800))
    with running(server), BlockingClient(server.url) as client:
        small = post(server, local(client.mutation("files:upload_url")), content.parts(1), PART)
        get(server, local(client.query("files:url", {"id": small})))
        memory = Memory(server.process.pid)

        large = post(server, local(client.mutation("files:upload_url")), content.parts(), FILE_BYTES)
        url = local(client.query("files:url", {"id": large}))
        after_upload = memory.growth
        answer, found, length = get(server, url)
        assert (answer.status, found, length) == (200, digest.hexdigest(), FILE_BYTES)
        start, end = FILE_BYTES // 3, FILE_BYTES // 3 + 3 * PART
        answer, found, length = get(server, url, Range=f"bytes={start}-{end - 1}")
        assert (answer.status, length) == (206, end - start)
        assert found == hashlib.sha256(content.between(start, end)).hexdigest()
        answer, _, length = get(server, url, Range=f"bytes={PART}-")
        assert (answer.status, length) == (206, FILE_BYTES - PART)
        growth = memory.growth
        assert growth < MOST_GROWTH, f"{growth / MIB:.1f} MiB more memory for a file of {FILE_BYTES // MIB} MiB"
        print(f"{FILE_BYTES // MIB} MiB: memory grew by {after_upload / MIB:.1f} MiB, then {growth / MIB:.1f} MiB")

        # One that stops half way leaves nothing behind.
        kept = blobs(data)
        to = connection(server)
        to.putrequest("POST", local(client.mutation("files:upload_url")))
        to.putheader("Content-Length", str(FILE_BYTES))
        to.endheaders()
        for part in content.parts(FILE_BYTES // PART // 2):
            to.send(part)
        while len(blobs(data)) == len(kept):
            pass  # until the server has begun to write it
        to.close()
        while len(blobs(data)) > len(kept):
            pass  # until the server has heard of it
        assert blobs(data) == kept
        assert len(client.query("files:stored")) == 2  # type: ignore[arg-type]


def blobs(data: Path) -> set[str]:
    """Return every file below the storage folder, unfinished ones too."""
    return {name for _, _, names in os.walk(data / "storage") for name in names}
