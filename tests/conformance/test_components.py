"""Components of a real server, behind the functions that the official client calls."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor.client import BlockingClient
from tests.servers import FIXTURE, Server, copy_project, javascript, running, start_dev


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(FIXTURE.parent / "mounted", tmp_path / "app")


@pytest.fixture
def server(project: Path) -> Iterator[Server]:
    server = start_dev(project)
    with running(server):
        yield server


def admin_key(project: Path) -> str:
    return str(json.loads((project / ".reactor" / "dev.json").read_text())["adminKey"])


def call(server: Server, key: str, path: str, component: str, **args: object) -> dict[str, Any]:
    """POST /api/function, as the dashboard does."""
    body = {"path": path, "componentPath": component, "args": args, "format": "json"}
    request = urllib.request.Request(
        f"{server.url}/api/function",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Convex {key}"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def test_an_application_with_components(server: Server, project: Path) -> None:
    """Partial rollback, isolation, callbacks and actions, seen by a client that knows of the application only."""
    key = admin_key(project)
    driver = javascript("js_components", server.url, key)
    with running(driver):
        assert driver.finish() == 0, driver.transcript()
    steps: list[tuple[str, Any]] = [
        tuple(json.loads(line)) for line in driver.out if not line.startswith(("[CONVEX", "[LOG]"))
    ]
    values = [step for step in steps if step[0] not in ("direct", "kept", "forged", "nowhere")]
    assert values == [
        ("left", [3, 10]),
        ("sign up", None),
        ("left", [2, 10]),
        ("callback", None),
        ("left", [1, 10]),
        ("action", [1, 9]),
        ("left", [1, 9]),
        ("last", True),
        ("left", [0, 9]),
        ("thrown", {"data": {"code": "NONE_LEFT", "name": "d"}}),
        ("caught", False),
        ("names", ["a", "b, noted", "c"]),
        ("peek", [None, None]),
        ("admin", True),
        ("left", [0, 8]),
    ]
    texts = [(step, result["message"]) for step, result in steps if step in ("direct", "kept", "forged", "nowhere")]
    assert [step for step, _ in texts] == ["direct", "direct", "direct", "kept", "forged", "nowhere"]
    assert all("Could not find public function for" in text for _, text in texts[:3])
    assert "Could not find public function for 'usage:ids' in component 'quota'" in texts[3][1]
    assert "Table for ID" in texts[4][1]
    assert "Component path 'nowhere' not found" in texts[5][1]

    assert call(server, key, "usage:left", "quota") == {"status": "success", "value": 0}
    assert len(call(server, key, "usage:ids", "quota")["value"]) == 3, "what failed has left nothing"


def test_an_edit_of_a_component_reaches_its_callers(server: Server, project: Path) -> None:
    key = admin_key(project)
    assert call(server, key, "signups:left", "")["value"] == [3, 10]
    ready = len(server.out)
    settings = project / "quota" / "settings.py"
    settings.write_text(settings.read_text().replace('"10"', '"20"'))
    server.wait_for_line("changed: guests/usage", after=ready)
    assert call(server, key, "signups:left", "")["value"] == [3, 20]


CRONS = """
from reactor import cron_jobs

crons = cron_jobs()
crons.interval("spend", "usage:spend", {"name": "nobody"}, hours=1)
"""


def test_crons_of_a_component_run_for_each_instance(server: Server, project: Path) -> None:
    """From the moment of the push that brings them; a client of the application sees what they do."""
    with BlockingClient(server.url) as client, client.subscribe("signups:left") as live:
        assert live.next(timeout=20) == [3, 10]
        (project / "quota" / "functions" / "crons.py").write_text(CRONS)
        seen = live.next(timeout=20)
        while seen != [2, 9]:  # one runs after the other
            assert seen in ([3, 9], [2, 10])
            seen = live.next(timeout=20)
