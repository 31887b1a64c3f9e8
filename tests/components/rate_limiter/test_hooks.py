"""What clients see of a limit: readings, how they go on with them, and what they may not ask for."""

from typing import Any

import pytest

from reactor.components.rate_limiter import FixedWindow, Reading, TokenBucket, config_of
from tests.components.rate_limiter.calls import MINUTE, do, put, rows


@pytest.mark.parametrize("config", [TokenBucket(10, MINUTE), TokenBucket(10, MINUTE, shards=5)], ids=repr)
async def test_an_unused_limit_has_everything(deployment: Any, config: Any) -> None:
    reading = await do(deployment, "get_value", "a", config=config)
    assert (reading.value, reading.ts, reading.per_shard) == (10, 0, False)
    assert reading.config == TokenBucket(10, MINUTE, 10, shards=config.shards)
    assert reading.check(deployment.clock.now_ms).value == 10


async def test_what_was_taken_is_missing(deployment: Any) -> None:
    config = TokenBucket(10, MINUTE)
    await do(deployment, "limit", "a", count=4, config=config)
    reading = await do(deployment, "get_value", "a", config=config)
    assert (reading.value, reading.ts, reading.shard) == (6, deployment.clock.now_ms, 0)


@pytest.mark.parametrize("start", [None, 0])
async def test_a_window_says_when_it_began(deployment: Any, start: Any) -> None:
    config = FixedWindow(10, MINUTE, start=start)
    assert (await do(deployment, "get_value", "a", config=config)).config.start == 0
    await do(deployment, "limit", "a", count=4, config=config)
    reading = await do(deployment, "get_value", "a", config=config)
    [row] = await rows(deployment)
    assert (reading.value, reading.ts) == (6, row["ts"])
    assert reading.config.start == (row["ts"] if start is None else 0)
    assert reading.check(row["ts"] + MINUTE).value == 10


async def test_the_fullest_shard_of_those_that_are_looked_at_speaks_for_all(deployment: Any) -> None:
    config = TokenBucket(30, MINUTE, shards=3)
    for shard, value in enumerate([1.0, 7.0, 4.0]):
        await put(deployment, value, shard=shard)
    reading = await do(deployment, "get_value", "a", config=config, sample_shards=3)
    assert (reading.value, reading.shard, reading.per_shard) == (7, 1, True)
    assert reading.check(deployment.clock.now_ms).value == 21
    assert reading.check(deployment.clock.now_ms + 6000).value == pytest.approx(24)
    looked_at = {(await do(deployment, "get_value", "a", config=config)).shard for _ in range(60)}
    assert looked_at == {0, 1, 2}


async def test_shards_are_compared_as_of_the_newest_change(deployment: Any) -> None:
    """Not as of now: then the same documents would not always give the same reading."""
    config = TokenBucket(30, MINUTE, shards=3)
    now = deployment.clock.now_ms
    for shard, (value, ago) in enumerate([(1.0, 60_000), (5.0, 0), (3.0, 0)]):
        await put(deployment, value, shard=shard, ts=now - ago)
    reading = await do(deployment, "get_value", "a", config=config, sample_shards=9)
    assert (reading.shard, reading.value, reading.ts) == (0, 1, now - 60_000)


def reading(value: float) -> Reading:
    return Reading(value, 1e12, 0, TokenBucket(10, MINUTE, 10), False)


def test_a_client_with_tokens_goes_ahead_and_one_without_knows_when() -> None:
    assert (reading(8).check(1e12, 1).ok, reading(8).check(1e12, 1).retry_at) == (True, None)
    assert (reading(0).check(1e12, 1).ok, reading(0).check(1e12, 1).retry_at) == (False, 1e12 + 6000)


def test_a_client_whose_clock_is_wrong_gets_times_of_its_own_clock() -> None:
    offset = 3_600_000
    check = reading(0).check(1e12 - offset, 1, offset=offset)
    assert (check.ok, check.ts, check.retry_at) == (False, 1e12 - offset, 1e12 - offset + 6000)


async def test_the_exported_functions_give_json_without_nulls(deployment: Any) -> None:
    await deployment.mutation("limits:take", {"name": "messages", "count": 4})
    assert await deployment.query("limits:getRateLimit", {}) == {
        "value": 6,
        "ts": deployment.clock.now_ms,
        "shard": 0,
        "perShard": False,
        "config": {"kind": "token bucket", "rate": 10, "period": MINUTE, "capacity": 10, "shards": 1},
    }
    assert await deployment.mutation("limits:getServerTime", {}) == deployment.clock.now_ms


async def test_time_alone_changes_no_reading_and_a_request_does(deployment: Any) -> None:
    async with deployment.subscribe("limits:getRateLimit", {}) as live:
        assert (await live.settled())["value"] == 10
        await deployment.advance(minutes=5)
        assert await live.is_unchanged()
        await deployment.mutation("limits:take", {"name": "messages", "count": 4})
        assert (await live.settled())["value"] == 6


async def test_a_client_asks_only_for_limits_that_are_shown_and_brings_no_config(deployment: Any) -> None:
    generous = {"kind": "token bucket", "rate": 1e9, "period": 1}
    asked: Any = await deployment.query("limits:getRateLimit", {"name": "windows", "config": generous})
    assert config_of(asked["config"]) == FixedWindow(10, MINUTE, 10, start=0)
    for hidden in ("hidden", "nonsense"):
        with pytest.raises(ValueError, match=f"{hidden} is not shown to clients"):
            await deployment.query("limits:getRateLimit", {"name": hidden, "config": generous})
    inline: Any = await deployment.query("limits:inline", {"name": "inline"})
    assert inline["value"] == 5
    sample: Any = await deployment.query("limits:getRateLimit", {"name": "sharded", "sampleShards": 1e9})
    assert sample["value"] == 40


async def test_whose_tokens_are_shown_is_said_by_the_application(deployment: Any) -> None:
    for key, count in (("ann", 1), ("bob", 2), ("all", 3), ("anonymous", 4)):
        await deployment.mutation("limits:take", {"name": "messages", "key": key, "count": count})

    async def value(path: str, caller: Any = deployment, **args: str) -> float:
        found: Any = await caller.query(f"limits:{path}", args)
        return float(found["value"])

    with pytest.raises(ValueError, match=r"^To allow client-provided key, provide a key function"):
        await value("getRateLimit", key="ann")
    assert await value("ofAll", key="ann") == 7
    assert await value("ofClient", key="bob") == 8
    assert await value("ofClient") == 10
    assert await value("ofUser", key="bob") == 6
    assert await value("ofUser", deployment.with_identity({"subject": "ann"}), key="bob") == 9
