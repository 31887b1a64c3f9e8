"""Kept results: when they are found, who wins, what is forgotten, and one call at a time."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from reactor import ReactorError, components
from reactor.components.action_cache import ActionCache, client
from reactor.testing.deployment import MemoryDeployment

MINUTE = 60_000
A = {"text": "a"}


async def fetch(deployment: MemoryDeployment, args: Any = A, verb: str = "fetch", **options: Any) -> Any:
    """Return the number of the run that gave the result."""
    return await deployment.action(f"ai:{verb}", args=args, options=options)


async def rows(deployment: MemoryDeployment, table: str) -> list[Any]:
    found: Any = await deployment.component("action_cache").query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def test_the_action_runs_once_for_equal_arguments(deployment: MemoryDeployment) -> None:
    assert await fetch(deployment, {"text": "a", "n": 1}) == 1
    assert await fetch(deployment, {"n": 1, "text": "a"}) == 1
    assert await fetch(deployment, {"text": "a", "n": None}) == 2
    assert await fetch(deployment, {"text": "a"}) == 3
    assert await fetch(deployment, {"text": "a"}, "fetch_for_ever") == 4, "another name is another result"
    long = {"text": "x" * 200_000}
    assert [await fetch(deployment, long), await fetch(deployment, long)] == [5, 5]
    names = {row["name"] for row in await rows(deployment, "values")}
    assert names == {"ai:embed", "v1"}


async def test_a_result_is_good_until_its_time_is_over(deployment: MemoryDeployment) -> None:
    assert await fetch(deployment) == 1
    deployment.clock.advance(milliseconds=MINUTE - 1)
    assert await fetch(deployment) == 1
    deployment.clock.advance(milliseconds=1)
    assert await fetch(deployment) == 2
    assert len(await rows(deployment, "values")) == 1 == len(await rows(deployment, "metadata"))


async def test_the_shorter_of_both_times_counts(deployment: MemoryDeployment) -> None:
    """And asking for a shorter one leaves the stored one as it is."""
    assert await fetch(deployment, verb="fetch_for_ever") == 1
    deployment.clock.advance(milliseconds=10)
    assert await fetch(deployment, verb="fetch_for_ever", ttl=11) == 1
    assert await rows(deployment, "metadata") == [], "a get with a time adds none"
    assert await fetch(deployment, verb="fetch_for_ever", ttl=10) == 2
    deployment.clock.advance(milliseconds=10)
    assert await fetch(deployment, verb="fetch_for_ever") == 3, "the new one was stored with the time asked for"
    assert await fetch(deployment, ttl=MINUTE) == 4
    deployment.clock.advance(milliseconds=MINUTE)
    assert await fetch(deployment, ttl=10 * MINUTE) == 5, "a longer one can't revive it"


async def test_by_force(deployment: MemoryDeployment) -> None:
    assert await fetch(deployment) == 1
    assert await fetch(deployment, force=True) == 2
    assert await fetch(deployment) == 2
    assert len(await rows(deployment, "values")) == 1


async def test_errors_are_not_kept(deployment: MemoryDeployment) -> None:
    for verb in ("fetch", "fetch_single"):
        for _ in range(2):
            with pytest.raises(ReactorError):
                await fetch(deployment, {"text": "bad"}, verb)
    assert await deployment.query("ai:runs") == 4
    assert await rows(deployment, "values") == [] == await rows(deployment, "leases")


async def test_of_two_who_store_the_first_wins(deployment: MemoryDeployment) -> None:
    cache = deployment.component("action_cache")
    call = {"name": "n", "args": {}}
    assert await cache.mutation("values:put", {**call, "value": 1, "ttl": None}) == {"cacheHit": False}
    assert await cache.mutation("values:put", {**call, "value": 2, "ttl": None}) == {"cacheHit": True}
    assert await cache.query("values:get", {**call, "ttl": None}) == {"kind": "hit", "value": 1}
    assert await cache.mutation("values:put", {**call, "value": 3, "ttl": 5}) == {"cacheHit": False}, (
        "now one that expires"
    )
    deployment.clock.advance(seconds=10)
    missed: Any = await cache.query("values:get", {**call, "ttl": None})
    assert missed["kind"] == "miss"
    put = {**call, "ttl": 5, "expiredEntry": missed["expiredEntry"]}
    assert await cache.mutation("values:put", {**put, "value": 4}) == {"cacheHit": False}
    assert await cache.mutation("values:put", {**put, "value": 5}) == {"cacheHit": True}, (
        "he has seen another one expired"
    )
    assert await cache.query("values:get", {**call, "ttl": None}) == {"kind": "hit", "value": 4}
    found: Any = await cache.query("values:get", {**call, "ttl": 0})
    assert found["kind"] == "miss"


async def test_removing(deployment: MemoryDeployment) -> None:
    await fetch(deployment)
    await deployment.mutation("ai:remove", args={"text": "other"})
    assert await fetch(deployment) == 1
    await deployment.mutation("ai:remove", args=A)
    assert await rows(deployment, "values") == [] == await rows(deployment, "metadata")
    assert await fetch(deployment) == 2


async def test_removing_a_name_in_batches(deployment: MemoryDeployment) -> None:
    """Of the size that was asked for, to the last one."""
    for number in range(7):
        await fetch(deployment, {"text": str(number)}, "fetch_for_ever")
    await fetch(deployment)
    await deployment.mutation("ai:remove_name", batch_size=3)
    await deployment.finish_all_scheduled_functions()
    assert [row["name"] for row in await rows(deployment, "values")] == ["ai:embed"]
    jobs: Any = await deployment.component("action_cache").query(
        lambda ctx: ctx.db.system.query("_scheduled_functions").collect()
    )
    assert [job["args"][0]["batchSize"] for job in jobs if "batchSize" in job["args"][0]] == [3, 3]


async def test_removing_everything(deployment: MemoryDeployment) -> None:
    await deployment.action("ai:remove_everything")
    for number in range(5):
        await fetch(deployment, {"text": str(number)})
    first = await rows(deployment, "values")
    deployment.clock.advance(seconds=1)
    await fetch(deployment, verb="fetch_for_ever")
    await deployment.action("ai:remove_everything", before=first[3]["_creationTime"])
    await deployment.finish_all_scheduled_functions()
    assert len(await rows(deployment, "values")) == 2 == len(await rows(deployment, "metadata")) + 1
    await deployment.action("ai:remove_everything")
    await deployment.finish_all_scheduled_functions()
    assert await rows(deployment, "values") == [] == await rows(deployment, "metadata")


async def test_what_has_expired_is_purged_once_a_day(deployment: MemoryDeployment) -> None:
    for number in range(25):
        await fetch(deployment, {"text": str(number)})
    lease = {"name": "n", "args": {}, "holder": "h", "leaseMs": 1}
    await deployment.component("action_cache").mutation("values:acquire", lease)
    await fetch(deployment, verb="fetch_for_ever")
    await deployment.advance(hours=24)
    assert [row["name"] for row in await rows(deployment, "values")] == ["v1"]
    assert await rows(deployment, "metadata") == [] == await rows(deployment, "leases")


async def test_one_at_a_time(deployment: MemoryDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second caller, told that the first is at it, lets the first one end; were it not told, it would run, too."""
    begun, gate, real_sleep = threading.Event(), threading.Event(), asyncio.sleep

    async def work(text: str) -> None:
        if begun.is_set():
            gate.set()
        begun.set()
        await asyncio.to_thread(gate.wait, 20)

    async def told(seconds: float) -> None:
        gate.set()
        await real_sleep(0)

    monkeypatch.setattr(deployment.module("functions.ai"), "work", work)
    monkeypatch.setattr(client, "asyncio", SimpleNamespace(sleep=told))
    first = asyncio.create_task(fetch(deployment, verb="fetch_single"))
    await asyncio.to_thread(begun.wait, 20)
    others = [fetch(deployment, verb="fetch_single", force=force) for force in (False, True, False)]
    assert await asyncio.gather(first, *others) == [1, 1, 1, 1]
    assert await rows(deployment, "leases") == []


async def test_a_lease_whose_holder_was_lost_keeps_nobody_waiting(deployment: MemoryDeployment) -> None:
    cache = deployment.component("action_cache")
    call = {"name": "single", "args": A}
    lost = {**call, "holder": "lost", "leaseMs": MINUTE}
    assert await cache.mutation("values:acquire", lost) == "acquired"
    assert await cache.mutation("values:acquire", {**lost, "holder": "other"}) == "busy"
    deployment.clock.advance(milliseconds=MINUTE)
    assert await fetch(deployment, verb="fetch_single") == 1
    assert await cache.mutation("values:acquire", {**lost, "holder": "other"}) == "changed"
    await cache.mutation("values:release", {**call, "holder": "lost"})
    assert await fetch(deployment, verb="fetch_single") == 1


async def test_a_span_is_not_negative(deployment: MemoryDeployment) -> None:
    with pytest.raises(ValueError, match="ttl is a span of time"):
        await fetch(deployment, ttl=-1)
    with pytest.raises(ValueError, match="single_flight is a span of time"):
        ActionCache(components.action_cache, action="x", single_flight=float("nan"))
