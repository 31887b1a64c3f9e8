"""The whole server under power loss: what a client was told is on disk, since no reply leaves before the sync.

The same test fails with storage that does not sync, and the trace shows why.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.crash.load import Load, Service, check_end, check_kept, serving
from tests.crash.shim import environment, restore_synced
from tests.crash.trace import assert_replies_follow_syncs, read_trace
from tests.servers import REACTOR, ROOT, running
from tests.sizes import size

UNSYNCED = (sys.executable, ROOT / "tests" / "crash" / "serve_unsynced.py")
ROUNDS = size(1, 10)
MUTATIONS = size(75, 200)


def lose_power_under_load(service: Service, library: Path, traces: list[Path], fail_sync: int | None = None) -> None:
    """Kill the server under load, keep of its files what was synced, start it again, and so on.

    Raises:
        AssertionError: an acknowledged mutation is lost, or one took effect twice or by half.
    """

    def env() -> dict[str, str]:
        trace = service.data.parent / f"trace{len(traces)}"
        traces.append(trace)
        return dict(environment(library, service.data, trace, fail_sync=fail_sync).items() - os.environ.items())

    with serving(service, env()):
        load = Load(service.url, ROUNDS)
        with running(load.program):
            for _ in range(ROUNDS):
                load.wait_for_more(MUTATIONS)
                service.kill()
                acknowledged = load.acknowledged()
                restore_synced(service.data)
                service.start(env())
                check_kept(service.url, acknowledged)
                load.wait_for_more(MUTATIONS)
            check_end(load, service.url)


def test_what_was_acknowledged_survives(shim_library: Path, tmp_path: Path) -> None:
    traces: list[Path] = []

    lose_power_under_load(Service(tmp_path, REACTOR), shim_library, traces)

    assert len(traces) == ROUNDS + 1
    for trace in traces:
        assert assert_replies_follow_syncs(read_trace(trace)) > 0


@pytest.mark.parametrize("fail_sync", size([25], [10, 14, 25, 40, 60]))
def test_a_failed_sync_and_death_behind_it(shim_library: Path, tmp_path: Path, fail_sync: int) -> None:
    """Conformance #26: what callers were told, what was delivered and what is found after restart agree."""
    traces: list[Path] = []

    lose_power_under_load(Service(tmp_path, REACTOR), shim_library, traces, fail_sync)

    for trace in traces:
        assert assert_replies_follow_syncs(read_trace(trace)) > 0


def test_without_syncs_the_test_above_fails(shim_library: Path, tmp_path: Path) -> None:
    traces: list[Path] = []

    with pytest.raises(AssertionError, match="acknowledged mutations are lost"):
        lose_power_under_load(Service(tmp_path, UNSYNCED), shim_library, traces)

    with pytest.raises(AssertionError, match=r"before it was synced|no batch reaches"):
        assert_replies_follow_syncs(read_trace(traces[0]))
