"""The server dies under load and comes back; and it ends when asked to. Official clients see no more than a pause."""

import random
import signal
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.crash.load import CLIENTS, Load, Service, check_end, check_kept, serving, stored
from tests.server.projects import raw_client
from tests.servers import running
from tests.sizes import size

ROUNDS = size(2, 50)
SEED = 20261121
MUTATIONS = size(75, 200)  # acknowledged to each client, between two events
UNDER_WAY = 500


def test_kill_9_under_load(tmp_path: Path) -> None:
    with serving(Service(tmp_path)) as service:
        load = Load(service.url, ROUNDS)
        with running(load.program):
            chance = random.Random(SEED)
            for _ in range(ROUNDS):
                load.wait_for_more(chance.randrange(1, MUTATIONS))
                service.kill()
                acknowledged = load.acknowledged()
                service.start()
                check_kept(service.url, acknowledged)
                load.wait_for_more(1)

            assert check_end(load, service.url) >= 2 * ROUNDS * CLIENTS
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


@pytest.mark.asyncio
async def test_a_server_that_ends_has_told_all_it_did(tmp_path: Path) -> None:
    """Of mutations under way when the signal comes, exactly those that took effect were answered."""
    with serving(Service(tmp_path)) as service:
        answered: list[str] = []
        async with raw_client(service.url) as client:
            await client.connect()
            for number in range(UNDER_WAY):
                await client.mutate(number, "pairs:write", marker=str(number))
            with suppress(ConnectionClosed):
                while response := await client.receive_type("MutationResponse"):
                    if not answered:
                        service.server.process.send_signal(signal.SIGTERM)
                    answered.append(str(response["requestId"]))
            assert client.socket.close_code == 1001  # "going away"
        assert service.server.finish() == 0
        service.close()
        service.start()
        for found in stored(service.url).values():
            assert found == Counter(answered)
