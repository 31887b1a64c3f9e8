"""The server dies under load and comes back; and it ends when asked to. Official clients notice no more than a pause."""

import signal
from itertools import pairwise
from pathlib import Path

from tests.crash.load import Load, Service, check_end, check_kept, serving
from tests.servers import running
from tests.sizes import size

ROUNDS = size(2, 10)
MUTATIONS = size(150, 400)  # acknowledged between two deaths


def test_kill_9_under_load(tmp_path: Path) -> None:
    with serving(Service(tmp_path)) as service:
        load = Load(service.url, ROUNDS)
        with running(load.program):
            for _ in range(ROUNDS):
                load.wait_for_more(MUTATIONS)
                service.kill()
                acknowledged = load.acknowledged()
                service.start()
                check_kept(service.url, acknowledged)
                load.wait_for_more(MUTATIONS)

            written = check_end(load, service.url); print("written", written)
            assert written >= 2 * ROUNDS * MUTATIONS
        for results in load.seen().values():
            assert results[-1][1] == ROUNDS + 1, "each client has connected once per start of the server"
            assert all(before <= after for before, after in pairwise(results)), "a live query went back in time"


def test_a_server_that_is_asked_to_end(tmp_path: Path) -> None:
    """It answers what it took and exits well; what came too late is done by the next one, once."""
    with serving(Service(tmp_path)) as service:
        load = Load(service.url, 1)
        with running(load.program):
            load.wait_for_more(MUTATIONS)
            assert service.server.end(signal.SIGTERM) == 0
            assert service.server.err == []
            acknowledged = load.acknowledged()
            service.close()
            service.start()
            check_kept(service.url, acknowledged)
            load.wait_for_more(MUTATIONS)
            check_end(load, service.url)
