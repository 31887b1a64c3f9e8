"""The server dies in the middle of uploads; what was acknowledged is there, and nothing is doubled or left behind."""

import http.client
import json
import os
import random
import signal
import sys
import threading
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from reactor.client import BlockingClient
from reactor.storage.failpoints import UPLOAD_NAMES
from tests.crash.load import Service
from tests.sizes import size

ROUNDS = size(2, 30)  # for each place
SEED = 20261121
CLIENTS = 3
UPLOADS = 4  # of each client, in each round
MOST_BYTES = 600_000  # more than two parts
GRACE = {"REACTOR_FILE_GRACE_SECONDS": "0"}


def path_of(url: object) -> str:
    """Return the path of a URL that the server made, for whom it has another address."""
    assert isinstance(url, str)
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


class Uploader(threading.Thread):
    """A client that uploads one content after the other, until the server is gone."""

    def __init__(self, service: Service, path: str, contents: list[bytes]) -> None:
        super().__init__()
        self._port = service.port
        self._path = path
        self.contents = contents
        self.acknowledged: dict[str, str] = {}

    def run(self) -> None:
        for content in self.contents:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request("POST", self._path, content)
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                return
            finally:
                connection.close()
            assert answer.status == 200, body
            self.acknowledged[body["storageId"]] = digest(content)


def read(service: Service, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()


def kept(service: Service) -> list[str]:
    """Return the names of all files below the storage folder, unfinished ones too."""
    return [name for _, _, names in os.walk(service.data / "storage") for name in names]


def digest(content: bytes) -> str:
    return b64encode(sha256(content).digest()).decode()


def check(service: Service, sent: set[str], acknowledged: dict[str, str], seen: set[str]) -> None:
    """Check that what was acknowledged is there, whole, and that everything there is one file of what was sent.

    Contents are known by their hashes. Those of the files in `seen` have been read before.
    """
    with BlockingClient(service.url) as client:
        rows = client.query("files:stored")
        assert isinstance(rows, list)
        found = {row["_id"]: row["sha256"] for row in rows}
        assert acknowledged.items() <= found.items(), "an acknowledged file is lost"
        assert set(found.values()) <= sent, "a file holds what nobody has sent"
        assert len(set(found.values())) == len(found), "a file is there twice"
        for new in found.keys() - seen:
            assert digest(read(service, path_of(client.query("files:url", {"id": new})))) == found[new]
        seen.update(found)
        while len(kept(service)) > len(rows):
            client.query("files:stored")  # until the search at the start has found what is left over
        assert len(kept(service)) == len(rows)
        if rows:
            client.mutation("files:remove", {"id": rows[0]["_id"]})
            while len(kept(service)) >= len(rows):
                client.query("files:stored")  # until it has found that
            acknowledged.pop(rows[0]["_id"], None)


def test_the_server_dies_at_each_named_place_of_an_upload(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    sent: set[str] = set()
    acknowledged: dict[str, str] = {}
    seen: set[str] = set()
    service = Service(tmp_path, [sys.executable, "-m", "tests.crash.serve_dying"])
    try:
        for place in [place for place in UPLOAD_NAMES for _ in range(ROUNDS)]:
            visit = chance.randrange(1, CLIENTS * UPLOADS)
            service.start({**GRACE, "REACTOR_DIE_AT": place, "REACTOR_DIE_AT_VISIT": str(visit)})
            check(service, sent, acknowledged, seen)
            uploaders = begin(service, chance)
            for uploader in uploaders:
                uploader.join()
                acknowledged.update(uploader.acknowledged)
                sent.update(map(digest, uploader.contents))
            assert service.server.finish() == -signal.SIGKILL, f"it never came to {place!r} for the {visit}. time"
            service.close()
        service.start(GRACE)
        check(service, sent, acknowledged, seen)
    finally:
        service.close()


def begin(service: Service, chance: random.Random) -> list[Uploader]:
    """Begin uploads of several clients, all by one URL."""
    with BlockingClient(service.url) as client:
        url = path_of(client.mutation("files:upload_url"))
    uploaders = []
    for _ in range(CLIENTS):
        contents = [chance.randbytes(chance.randrange(1, MOST_BYTES)) for _ in range(UPLOADS)]
        uploaders.append(Uploader(service, url, contents))
    for uploader in uploaders:
        uploader.start()
    return uploaders
