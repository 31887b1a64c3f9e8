"""Limits that are applied asynchronously: what is taken at once, what is written later, and in which order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor import components
from reactor.components.rate_limiter import RateLimiter, Status, TokenBucket, wire_of
from reactor.components.rate_limiter.arithmetic import State
from reactor.components.rate_limiter.updates import folded
from reactor.errors import ReactorError
from tests.components.rate_limiter.calls import KINDS, MINUTE, config_of_kind, do, rows

PAUSE_MS = 100  # at most, until what is queued is applied
by_kind = pytest.mark.parametrize("kind", KINDS)


def queued(deployment: Any, kind: Any, *args: Any, **options: Any) -> Any:
    return config_of_kind(deployment, kind, *args, apply_updates="asynchronously", **options)


async def drained(deployment: Any) -> list[Any]:
    await deployment.advance(milliseconds=PAUSE_MS)
    assert await rows(deployment, "pendingUpdates") == []
    return await rows(deployment)


@by_kind
async def test_nothing_is_written_before_the_worker_has_run(deployment: Any, kind: Any) -> None:
    config = queued(deployment, kind, 3, MINUTE)

    async def take_three(ctx: Any) -> list[Any]:
        limiter = RateLimiter(components.rate_limiter, {"a": config})
        assert [await limiter.limit(ctx, "a") for _ in range(3)] == [Status(True)] * 3
        assert (await limiter.check(ctx, "a")).ok

    await deployment.run(take_three)
    [row] = await drained(deployment)
    assert (row["name"], row["shard"], row["value"]) == ("a", 0, 0)
    denied = await do(deployment, "check", "a", config=config)
    assert denied == Status(False, (MINUTE if kind is not TokenBucket else 20_000) - PAUSE_MS)


@by_kind
async def test_a_burst_may_take_too_much_and_then_nobody_gets_any(deployment: Any, kind: Any) -> None:
    config = queued(deployment, kind, 3, MINUTE)

    async def take_four(ctx: Any) -> None:
        limiter = RateLimiter(components.rate_limiter, {"a": config})
        for _ in range(4):
            assert (await limiter.limit(ctx, "a")).ok

    await deployment.run(take_four)
    before = await drained(deployment)
    assert [row["value"] for row in before] == [-1]
    assert not (await do(deployment, "limit", "a", config=config)).ok
    assert await drained(deployment) == before
    await deployment.advance(minutes=1)
    assert (await do(deployment, "limit", "a", config=config)).ok


@by_kind
async def test_a_reservation_is_a_debt_after_draining(deployment: Any, kind: Any) -> None:
    config = queued(deployment, kind, 3, MINUTE)
    reserved = await do(deployment, "limit", "a", count=5, reserve=True, config=config)
    assert reserved.ok
    assert reserved.retry_after > 0
    assert [row["value"] for row in await drained(deployment)] == [-2]


async def test_a_reset_is_queued_and_what_is_taken_behind_it_starts_fresh(deployment: Any) -> None:
    config = queued(deployment, TokenBucket, 3, MINUTE)
    limiter = RateLimiter(components.rate_limiter, {"a": config})
    await do(deployment, "limit", "a", count=3, config=config)
    await drained(deployment)

    async def reset_and_take(ctx: Any) -> None:
        await limiter.reset(ctx, "a")
        assert not (await limiter.limit(ctx, "a")).ok  # the reset is not applied yet
        await limiter.settle(ctx, "a", taken=0, used=1)

    await deployment.run(reset_and_take)
    assert [row["value"] for row in await drained(deployment)] == [2]
    await do(deployment, "reset", "a", config=config)
    assert await drained(deployment) == []


async def test_keys_are_separate_and_many_updates_of_one_are_one_write(deployment: Any) -> None:
    config = queued(deployment, TokenBucket, 100, MINUTE)
    limiter = RateLimiter(components.rate_limiter, {"a": config})

    async def take(ctx: Any) -> None:
        for key in ("x", "y") * 30:
            await limiter.limit(ctx, "a", key)

    await deployment.run(take)
    found: Any = await drained(deployment)
    assert {row["key"]: row["value"] for row in found} == {"x": 70, "y": 70}
    documents: Any = await deployment.component("rate_limiter").run(lambda ctx: ctx.db.query("rateLimits").collect())
    assert len(documents) == 2


async def queue(deployment: Any, config: TokenBucket, *updates: tuple[str, float, float], keys: Any = None) -> None:
    """Put (kind, count, seconds ago) into the queue, without waking the worker."""
    now = deployment.clock.now_ms

    async def insert(ctx: Any) -> None:
        for at, (kind, count, ago) in enumerate(updates):
            update = {"kind": kind, "name": "a", "count": count, "config": wire_of(config), "ts": now - ago * 1000}
            await ctx.db.insert("pendingUpdates", {"update": {**update, **({} if keys is None else {"key": keys[at]})}})

    await deployment.component("rate_limiter").run(insert)


async def drain(deployment: Any) -> Any:
    return await deployment.component("rate_limiter").mutation("pending:drain", {"name": "main"})


async def test_what_was_taken_counts_as_of_then(deployment: Any) -> None:
    """A bucket of 60 a minute which was emptied 10 seconds ago has 10 now."""
    config = queued(deployment, TokenBucket, 60, MINUTE)
    await queue(deployment, config, ("consume", 60, 10))
    await drain(deployment)
    assert await rows(deployment) == [{"name": "a", "shard": 0, "value": 0, "ts": deployment.clock.now_ms - 10_000}]
    assert (await do(deployment, "check", "a", count=10, config=config)).ok
    assert not (await do(deployment, "check", "a", count=11, config=config)).ok


async def test_an_update_from_before_a_reset_does_not_turn_time_back(deployment: Any) -> None:
    config = queued(deployment, TokenBucket, 60, MINUTE)
    await queue(deployment, config, ("consume", 60, 5), ("reset", 0, 2), ("consume", 10, 20))
    await drain(deployment)
    assert await rows(deployment) == [{"name": "a", "shard": 0, "value": 50, "ts": deployment.clock.now_ms - 2000}]


async def test_a_batch_is_bounded_by_updates(deployment: Any) -> None:
    config = queued(deployment, TokenBucket, 10_000, MINUTE)
    await queue(deployment, config, *[("consume", 1, 0)] * 1025, keys=[str(key) for key in range(1025)])
    assert await drain(deployment) == {"kind": "work"}
    assert len(await rows(deployment, "pendingUpdates")) == 1
    assert await drain(deployment) == {"kind": "work", "debounceMs": PAUSE_MS}
    assert await drain(deployment) == {"kind": "idle"}
    assert len(await rows(deployment)) == 1025


async def test_a_batch_is_bounded_by_what_may_be_read(deployment: Any) -> None:
    config = queued(deployment, TokenBucket, 100, MINUTE)
    for _ in range(5):
        await queue(deployment, config, *[("consume", 1, 0)] * 4, keys=["k" * 300_000] * 4)
    batches = 0
    while (await drain(deployment))["kind"] == "work":
        batches += 1
    assert batches == 5
    assert [row["value"] for row in await rows(deployment)] == [80]


async def test_credit_and_settling_are_queued(deployment: Any) -> None:
    config = queued(deployment, TokenBucket, 10, MINUTE, max_reserved=1)
    await do(deployment, "limit", "a", count=8, config=config)
    await do(deployment, "credit", "a", count=1, config=config)
    assert await do(deployment, "settle", "a", taken=8, used=5, config=config) == Status(True)
    assert [row["value"] for row in await drained(deployment)] == [6]
    await do(deployment, "settle", "a", taken=8, used=20, config=config)
    await do(deployment, "credit", "a", count=1, config=config)
    assert [row["value"] for row in await drained(deployment)] == [pytest.approx(-5, abs=0.1)]
    await do(deployment, "credit", "unused", count=1, config=config)
    assert len(await drained(deployment)) == 1


async def test_throwing_queues_nothing(deployment: Any) -> None:
    config = queued(deployment, TokenBucket, 1, MINUTE)
    await do(deployment, "limit", "a", config=config, throws=True)
    await drained(deployment)
    for options in ({}, {"reserve": True}):
        with pytest.raises(ReactorError) as failure:
            await do(deployment, "limit", "a", config=config, throws=True, **options)
        assert failure.value.data["retryAfter"] == pytest.approx(MINUTE - PAUSE_MS)
    assert await rows(deployment, "pendingUpdates") == []


async def test_callers_that_run_at_a_time_are_no_conflict(deployment: Any) -> None:
    """Each reads what all of them change, and none of them runs twice."""
    config = queued(deployment, TokenBucket, 10, MINUTE)
    await do(deployment, "limit", "a", config=config)
    await deployment.finish_in_progress_scheduled_functions()  # the worker is in its pause, and no ping has to wake it
    async with deployment.hold("limits:take_queued", {"config": wire_of(config)}, at=2) as held:
        await do(deployment, "limit", "a", config=config)
        await drained(deployment)
        await held.finish()
        assert held.attempts == 1
    assert [row["value"] for row in await drained(deployment)] == [pytest.approx(7, abs=0.1)]


@pytest.mark.parametrize("function", ["limits:rate_limit", "limits:reset_rate_limit", "pending:rate_limit"])
async def test_a_config_for_the_other_mode_is_a_mistake(deployment: Any, function: str) -> None:
    apply = "asynchronously" if function.startswith("limits") else "transactionally"
    config = {"kind": "token bucket", "rate": 1, "period": 1000, "applyUpdates": apply}
    with pytest.raises(ValueError, match=f"is applied {apply}"):
        await deployment.component("rate_limiter").mutation(function, {"name": "a", "config": config})


@pytest.mark.parametrize("options", [{"apply_updates": "asynchronously", "shards": 2}, {"apply_updates": "later"}])
@by_kind
def test_modes_that_there_are_not(kind: Any, options: Any) -> None:
    with pytest.raises(ValueError, match="asynchronously"):
        kind(1, 1000, **options)


T = 1_700_000_000_000
RATE = 10 / MINUTE
updates = st.lists(
    st.tuples(st.sampled_from(["consume", "credit", "reset"]), st.integers(0, 20), st.integers(0, 100_000)), max_size=30
)


@given(updates, st.one_of(st.none(), st.integers(-20, 10)))
def test_folding_is_applying_one_after_the_other(drawn: list[tuple[str, int, int]], begin: int | None) -> None:
    wire = {"kind": "token bucket", "rate": 10, "period": MINUTE, "applyUpdates": "asynchronously"}
    clock, value = T + 50_000 if begin is not None else 0, begin
    for kind, count, at in drawn:
        now = max(clock, T + at)
        if value is not None:
            value = min(10, value + (now - clock) * RATE)
        clock = now
        if kind == "reset":
            value = None
        elif kind == "consume":
            value = (10 if value is None else value) - count
        elif value is not None:
            value = min(10, value + count)
    batch = [{"kind": kind, "name": "a", "count": count, "config": wire, "ts": T + at} for kind, count, at in drawn]
    state = folded(None if begin is None else State(begin, T + 50_000), batch)
    assert (state is None) == (value is None)
    if state is not None:
        assert (state.value, state.ts) == (pytest.approx(value), clock if drawn else T + 50_000)
