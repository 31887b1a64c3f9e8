"""Many at a time, clocks that go back, and reservations that are due one after the other."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reactor import components
from reactor.client import Client
from reactor.components.rate_limiter import RateLimiter, TokenBucket
from reactor.errors import WriteConflict
from reactor.server.app import Deployment
from tests.components.rate_limiter.calls import KINDS, MINUTE, config_of_kind, do, rows
from tests.engine.work import HandClock
from tests.servers import copy_project, running, start_dev
from tests.sizes import size

CLIENTS = 16
CALLS = size(10, 100)  # of each client


async def test_of_a_hundred_at_a_time_exactly_ten_are_served(deployment: Any) -> None:
    taken = await asyncio.gather(*(deployment.mutation("limits:take", {"name": "ten"}) for _ in range(100)))
    assert [ok for ok, _ in taken].count(True) == 10
    assert [row["value"] for row in await rows(deployment)] == [0]


async def test_actions_take_in_transactions_of_their_own(deployment: Any) -> None:
    taken = await asyncio.gather(*(deployment.action("limits:take_twice", {"name": "ten"}) for _ in range(8)))
    assert sorted(ok for both in taken for ok in both) == [False] * 6 + [True] * 10


async def test_shards_together_give_no_more_than_their_sum(deployment: Any) -> None:
    taken = await asyncio.gather(*(deployment.mutation("limits:take", {"name": "sharded"}) for _ in range(100)))
    served = [ok for ok, _ in taken].count(True)
    left = sum(row["value"] for row in await rows(deployment))
    assert served == 40 - left
    assert left < 40 / 2, "of two that are picked by chance one is taken, or both together"


@pytest.mark.timeout(120)
@pytest.mark.asyncio
async def test_clients_of_a_server_never_get_more_than_there_is(folder: Path, tmp_path: Path) -> None:
    """Over real sockets, each with calls of its own under way; a burst is the capacity, and refill is measured."""
    server = await asyncio.to_thread(start_dev, copy_project(folder, tmp_path / "app"))
    with running(server):

        async def one(number: int) -> list[Any]:
            async with Client(server.url) as client:
                calls = (client.mutation("limits:take", {"name": "ten"}) for _ in range(CALLS))
                everybody = list(await asyncio.gather(*calls))
                calls = (client.mutation("limits:take", {"name": "hidden", "key": str(number)}) for _ in range(CALLS))
                return [everybody, list(await asyncio.gather(*calls))]

        async with Client(server.url) as client:
            begin: Any = await client.mutation("limits:getServerTime", {})
            answers = await asyncio.gather(*map(one, range(CLIENTS)))
            end: Any = await client.mutation("limits:getServerTime", {})

    def served(found: Any) -> int:
        return [ok for ok, _ in found].count(True)

    in_all = sum(served(everybody) for everybody, _ in answers)
    refilled = (end - begin) / MINUTE  # one token a minute, of either limit
    assert 10 <= in_all <= 10 + refilled
    assert all(1 <= served(own) <= 1 + refilled for _, own in answers)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 10, MINUTE)
    await do(deployment, "limit", "a", count=4, config=config)
    written = deployment.clock.now_ms
    deployment.clock._now_ns -= 3_600_000_000_000
    assert (await do(deployment, "limit", "a", count=6, config=config)).ok
    assert [(row["value"], row["ts"]) for row in await rows(deployment)] == [(0, written)]
    refused = await do(deployment, "limit", "a", count=10, config=config)
    assert (refused.ok, refused.retry_after) == (False, pytest.approx(3_600_000 + MINUTE))
    deployment.clock._now_ns += 3_600_000_000_000
    await deployment.advance(minutes=1)
    assert (await do(deployment, "limit", "a", count=10, config=config)).ok


@pytest.mark.asyncio
async def test_a_server_that_comes_back_with_an_earlier_clock_gives_nothing_twice(folder: Path, tmp_path: Path) -> None:
    clock = HandClock()
    answers = []
    for _ in range(3):
        async with Deployment(folder, data=tmp_path / "data", clock=clock) as deployment:
            for _ in range(5):
                taken: Any = await deployment.mutation("limits:take", {"name": "ten"})
                answers.append(taken[0])
        clock.ns -= 86_400 * 10**9
    assert answers == [True] * 10 + [False] * 5


async def test_reservations_are_due_at_times_of_their_own(deployment: Any) -> None:
    """Whoever comes later waits longer, by the time its tokens take, and nobody twice."""
    config = TokenBucket(1, MINUTE)
    due = []
    for _ in range(10):
        status = await do(deployment, "limit", "a", reserve=True, config=config)
        assert status.ok
        due.append(deployment.clock.now_ms + (status.retry_after or 0))
        await deployment.advance(seconds=7)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert gaps == [pytest.approx(MINUTE)] * 9


async def test_what_loses_to_others_on_every_attempt_is_a_503(deployment: Any, monkeypatch: Any) -> None:
    """The guarded endpoint does not fail because its limiter is busy, and lets nobody through either."""

    def lost(*_: Any) -> None:
        raise WriteConflict("on purpose")

    monkeypatch.setattr(deployment.module("functions.limits").limiter, "_for", lost)
    response = await deployment.fetch("/contended")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


async def test_a_mutation_that_is_run_again_takes_once(deployment: Any) -> None:
    async with deployment.hold("limits:take", {"name": "ten"}, at=1) as held:
        await deployment.mutation("limits:take", {"name": "ten", "count": 3})
        await held.finish()
    assert [row["value"] for row in await rows(deployment)] == [6]
    limiter = RateLimiter(components.rate_limiter, {"ten": TokenBucket(10, 10 * MINUTE)})
    assert (await do(deployment, "check", "ten", count=6, limiter=limiter)).ok
