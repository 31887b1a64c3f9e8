"""Tokens that come back, and estimates that are settled when the work is done."""

from typing import Any

import pytest

from reactor.components.rate_limiter import Status, TokenBucket
from tests.components.rate_limiter.calls import KINDS, MINUTE, config_of_kind, do, put, rows

by_kind = pytest.mark.parametrize("kind", KINDS)


async def left(deployment: Any) -> list[float]:
    return sorted(row["value"] for row in await rows(deployment))


@by_kind
async def test_credit_gives_back_as_much_as_fits(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 10, MINUTE)
    await do(deployment, "limit", "a", count=8, config=config)
    await do(deployment, "credit", "a", count=3, config=config)
    assert await left(deployment) == [5]
    await do(deployment, "credit", "a", count=100, config=config)
    assert await left(deployment) == [10]
    with pytest.raises(ValueError, match="exceeds 10"):
        await do(deployment, "limit", "a", count=11, config=config)


@by_kind
async def test_credit_pays_a_debt_as_of_now(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 10, MINUTE)
    await do(deployment, "limit", "a", count=25, reserve=True, config=config)
    await deployment.advance(minutes=1)
    await do(deployment, "credit", "a", count=2, config=config)
    assert await left(deployment) == [-3]


async def test_credit_to_an_unused_limit_writes_nothing(deployment: Any) -> None:
    await do(deployment, "credit", "a", count=3, config=TokenBucket(10, MINUTE))
    assert await rows(deployment) == []


async def test_credit_goes_to_the_emptiest_shard_first_and_not_to_unused_ones(deployment: Any) -> None:
    for shard, value in enumerate([1.0, -2.0, 5.0, 0.0]):
        await put(deployment, value, shard=shard)
    await do(deployment, "credit", "a", count=9, config=TokenBucket(15, MINUTE, shards=3))
    assert [row["value"] for row in await rows(deployment)] == [3.0, 5.0, 5.0, 0.0]


@pytest.mark.parametrize("count", [-1, float("nan")])
async def test_a_credit_is_a_number_of_tokens(deployment: Any, count: float) -> None:
    with pytest.raises(ValueError, match="count must be 0 or more"):
        await do(deployment, "credit", "a", count=count, config=TokenBucket(1, MINUTE))


@pytest.mark.parametrize("shards", [1, 4])
async def test_settling_leaves_what_taking_the_right_number_would_have(deployment: Any, shards: int) -> None:
    config = TokenBucket(100, MINUTE, shards=shards)
    for used in (5, 10, 20):
        await do(deployment, "limit", "a", count=10, config=config)
        assert await do(deployment, "settle", "a", taken=10, used=used, config=config) == Status(True)
        assert sum(await left(deployment)) == pytest.approx(100 / shards * len(await left(deployment)) - used)
        await do(deployment, "reset", "a", config=config)


async def test_settling_for_nothing_cancels(deployment: Any) -> None:
    config = TokenBucket(1, MINUTE)
    await do(deployment, "limit", "a", config=config)
    await do(deployment, "settle", "a", taken=1, used=0, config=config)
    assert (await do(deployment, "limit", "a", config=config)).ok


async def test_what_was_used_beyond_the_estimate_is_a_debt_without_bound(deployment: Any) -> None:
    config = TokenBucket(10, MINUTE, max_reserved=5)
    await do(deployment, "limit", "a", count=10, config=config)
    settled = await do(deployment, "settle", "a", taken=10, used=30, config=config)
    assert settled == Status(True, 2 * MINUTE)
    assert await left(deployment) == [-20]
