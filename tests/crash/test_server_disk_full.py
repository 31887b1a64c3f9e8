"""The disk of a running server fills up and is freed again."""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.crash.load import Service, serving, stored
from tests.crash.shim import environment


def post(url: str, kind: str, path: str, **args: object) -> tuple[int, Any]:
    body = json.dumps({"path": path, "args": args, "format": "json"}).encode()
    request = urllib.request.Request(f"{url}/api/{kind}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_writes_are_refused_while_the_disk_is_full_and_reads_go_on(shim_library: Path, tmp_path: Path) -> None:
    service = Service(tmp_path)
    full = tmp_path / "full"
    env = dict(environment(shim_library, service.data, full=full).items() - os.environ.items())
    with serving(service, {**env, "REACTOR_STORAGE_PATIENCE_SECONDS": "0.2"}):
        assert post(service.url, "mutation", "pairs:write", marker="before")[0] == 200
        full.touch()
        status, answer = post(service.url, "mutation", "pairs:write", marker="during")
        assert (status, answer["code"]) == (503, "OutcomeUnknown")
        status, answer = post(service.url, "mutation", "pairs:write", marker="refused")
        assert (status, answer["code"]) == (503, "StorageError")
        assert "the disk is full: free space on it" in answer["message"]
        assert list(stored(service.url)["lefts"]) == ["before"]

        full.unlink()
        while post(service.url, "mutation", "pairs:write", marker="after")[0] != 200:
            pass
        service.kill()
        service.start(env)
        found = stored(service.url)
        assert found["lefts"] == found["rights"]
        assert {"before", "after"} <= found["lefts"].keys() <= {"before", "during", "after"}
