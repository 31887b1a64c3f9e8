"""Official clients stay on their sockets through deploys, lose no write, and see what the new code says."""

import json
import re
from pathlib import Path

import pytest

from tests.conformance.test_reload_connected import HELPER, NOTES, SCHEMA
from tests.crash.load import Load, check_end
from tests.servers import FIXTURE, Server, deploy, javascript, running, start_empty
from tests.sizes import size

DEPLOYS = size(4, 50)
MEMORY_DEPLOYS = size(0, 200)
STEADY = 0.001  # growth of memory by one deploy


def fixture_files() -> dict[str, str]:
    return {path.relative_to(FIXTURE).as_posix(): path.read_text() for path in FIXTURE.rglob("*.py")}


@pytest.mark.timeout(size(60, 600))
def test_deploys_under_load(tmp_path: Path) -> None:
    """Mutations caught by a deploy happen once, on sockets that stay; each second deploy fills an index."""
    server = start_empty(tmp_path / "server", kill_after=size(50, 600))
    files = fixture_files()
    indexed = files["schema.py"].replace(
        '{"marker": v.string()}).index("by_marker", ["marker"])',
        '{"marker": v.string(), "more": v.optional(v.string())})'
        '.index("by_marker", ["marker"]).index("by_more", ["more", "marker"])',
    )
    assert indexed != files["schema.py"]
    with running(server):
        assert deploy(server.url, files)["kind"] == "done"
        load = Load(server.url, rounds=size(2, 25))
        with running(load.program):
            for number in range(DEPLOYS):
                load.wait_for_more(20)
                changed = {
                    "functions/pairs.py": f"{files['functions/pairs.py']}\nEDIT = {number}\n",
                    "schema.py": indexed if number % 2 else files["schema.py"],
                }
                last = deploy(server.url, files | changed)
                assert last["kind"] == "done", last
            load.wait_for_more(20)
            assert check_end(load, server.url) > 20 * DEPLOYS
        assert {connections for results in load.seen().values() for _, connections in results} == {1}
        assert server.err == []


def test_a_live_query_shows_each_version_once(tmp_path: Path) -> None:
    server = start_empty(tmp_path / "server")
    with running(server):
        files = {"schema.py": SCHEMA, "helper.py": HELPER, "functions/notes.py": NOTES}
        assert deploy(server.url, files)["kind"] == "done"
        live = javascript("js_live", server.url, "notes:summary", "{}")
        with running(live):
            live.wait_for_line("first: ")
            for number in range(3):
                changed = {"functions/notes.py": NOTES.replace("first: ", f"{number}: ")}
                assert deploy(server.url, files | changed)["kind"] == "done"
                assert deploy(server.url, files | changed | {"functions/other.py": f"X = {number}"})["kind"] == "done"
                live.wait_for_line(f'"{number}: ')
            shown = [json.loads(line) for line in live.out]
    assert shown == [{"value": f"{text}: ", "connections": 1, "retries": 0} for text in ("first", 0, 1, 2)]


def resident(server: Server) -> int:
    """Return the memory of a server, in KiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


@pytest.mark.skipif(not MEMORY_DEPLOYS, reason="takes minutes: REACTOR_TEST_SIZE=full")
@pytest.mark.timeout(900)
def test_memory_stays_over_many_deploys(tmp_path: Path) -> None:
    """From the hundredth deploy to the two hundredth, each adds at most a thousandth."""
    server = start_empty(tmp_path / "server", kill_after=900)
    files = fixture_files()
    used = []
    with running(server):
        for number in range(MEMORY_DEPLOYS):
            changed = {"functions/pairs.py": f"{files['functions/pairs.py']}\nEDIT = {number}\n"}
            assert deploy(server.url, files | changed)["kind"] == "done"
            used.append(resident(server))
    measured = used[100:]
    middle = (len(measured) - 1) / 2
    mean = sum(measured) / len(measured)
    rise = sum((at - middle) * memory for at, memory in enumerate(measured))
    slope = rise / sum((at - middle) ** 2 for at in range(len(measured)))
    assert slope / mean <= STEADY, f"{slope:.0f} KiB each, of {mean:.0f}"
