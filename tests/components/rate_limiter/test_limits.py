"""Limits over documents: what a request takes, what it leaves, and what it answers."""

import math
from typing import Any

import pytest

from reactor import components
from reactor.components.rate_limiter import RateLimiter, Status, TokenBucket, is_rate_limit_error, jitter
from reactor.errors import ReactorError
from tests.components.rate_limiter.calls import KINDS, MINUTE, config_of_kind, do, put, rows

by_kind = pytest.mark.parametrize("kind", KINDS)


@by_kind
async def test_the_first_request_makes_one_document(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE)
    assert await do(deployment, "limit", "a", config=config) == Status(True)
    assert await rows(deployment) == [{"name": "a", "shard": 0, "value": 0, "ts": deployment.clock.now_ms}]


@by_kind
async def test_without_tokens_a_request_waits_a_period_and_writes_nothing(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE)
    await do(deployment, "limit", "a", config=config)
    before = await rows(deployment)
    assert await do(deployment, "limit", "a", config=config) == Status(False, MINUTE)
    assert await rows(deployment) == before
    await deployment.advance(minutes=1)
    assert (await do(deployment, "limit", "a", config=config)).ok


@by_kind
async def test_keys_count_by_themselves_and_the_empty_one_is_a_key(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE)
    for key in ("x", "y", "", None):
        assert (await do(deployment, "limit", "a", key, config=config)).ok, key
        assert not (await do(deployment, "check", "a", key, config=config)).ok, key
    assert [row.get("key") for row in await rows(deployment)] == ["x", "y", "", None]


@by_kind
async def test_a_debt_of_one_takes_two_periods(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE)
    assert await do(deployment, "limit", "a", "k", 2, reserve=True, config=config) == Status(True, MINUTE)
    assert await do(deployment, "limit", "a", "k", config=config) == Status(False, 2 * MINUTE)
    assert (await do(deployment, "limit", "a", "other", config=config)).ok


@by_kind
async def test_a_capacity_of_3_is_a_burst_of_3(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE, 3)
    assert (await do(deployment, "check", "a", count=3, config=config)).ok
    await put(deployment, 2)
    assert await do(deployment, "limit", "a", count=3, config=config) == Status(False, MINUTE)


async def test_six_seconds_after_taking_5_of_10_a_bucket_has_6(deployment: Any) -> None:
    config = TokenBucket(10, MINUTE)
    await do(deployment, "limit", "a", count=5, config=config)
    await deployment.advance(seconds=6)
    assert (await do(deployment, "limit", "a", count=6, config=config)).ok
    [row] = await rows(deployment)
    assert row["value"] == 0


@by_kind
async def test_a_minute_after_taking_5_of_10_there_are_10_again(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 10, MINUTE)
    await do(deployment, "limit", "a", count=5, config=config)
    await deployment.advance(minutes=1)
    await do(deployment, "limit", "a", count=6, config=config)
    before = await rows(deployment)
    assert before[0]["value"] == 4
    denied = await do(deployment, "limit", "a", count=10, config=config)
    assert denied == Status(False, MINUTE if kind is not TokenBucket else 36_000)
    assert await rows(deployment) == before


@by_kind
async def test_reservations_go_into_debt_one_after_the_other(deployment: Any, kind: Any) -> None:
    """6 are left of 10 a minute: 16 have to wait a minute, and 5 more half a minute later another one, or longer."""
    config = config_of_kind(deployment, kind, 10, MINUTE)
    await put(deployment, 6)
    assert await do(deployment, "limit", "a", count=16, reserve=True, config=config) == Status(True, MINUTE)
    assert [row["value"] for row in await rows(deployment)] == [-10]
    await deployment.advance(seconds=30)
    later = await do(deployment, "limit", "a", count=5, reserve=True, config=config)
    is_bucket = kind is TokenBucket
    assert later == Status(True, MINUTE if is_bucket else 90_000)
    assert [row["value"] for row in await rows(deployment)] == [-10 if is_bucket else -15]


@by_kind
async def test_without_a_bound_any_number_is_reserved(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE)
    reserved = await do(deployment, "limit", "a", count=100, reserve=True, config=config)
    assert reserved == Status(True, 99 * MINUTE)
    denied = await do(deployment, "limit", "a", config=config)
    assert not denied.ok
    assert denied.retry_after > reserved.retry_after


@by_kind
async def test_a_bounded_reservation_goes_as_deep_as_that(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE, max_reserved=1)
    assert (await do(deployment, "limit", "a", count=2, reserve=True, config=config)).ok
    assert not (await do(deployment, "limit", "a", config=config)).ok
    assert not (await do(deployment, "limit", "a", reserve=True, config=config)).ok


async def test_a_bound_of_0_reserves_nothing(deployment: Any) -> None:
    config = TokenBucket(1, MINUTE, max_reserved=0)
    assert (await do(deployment, "limit", "a", reserve=True, config=config)).ok
    assert not (await do(deployment, "limit", "a", reserve=True, config=config)).ok


@pytest.mark.parametrize("method", ["limit", "check"])
@pytest.mark.parametrize(
    ("options", "count", "reserve", "text"),
    [
        ({}, 4, False, r"Rate limit a count 4 exceeds 1\."),
        ({"capacity": 2.5}, 3, False, r"Rate limit a count 3 exceeds 2\.5\."),
        ({"max_reserved": 2}, 4, True, r"Rate limit a count 4 exceeds 3\.00\."),
        ({"capacity": 10, "shards": 2}, 6, False, r"Rate limit a count 6 exceeds 5 per 2 shards\."),
        ({"capacity": 10, "shards": 5}, 5, False, r"Rate limit a count 5 exceeds 4 per 5 shards\."),
        (
            {"capacity": 10, "max_reserved": 10, "shards": 5},
            9,
            True,
            r"Rate limit a count 9 exceeds 8\.00 per 5 shards",
        ),
        ({}, -1, False, "count must be 0 or more"),
        ({}, math.nan, False, "count must be 0 or more"),
        ({}, math.inf, True, "count must be 0 or more"),
    ],
)
async def test_a_count_that_can_never_be_given_is_a_mistake(
    deployment: Any, method: str, options: Any, count: float, reserve: bool, text: str
) -> None:
    config = TokenBucket(1, MINUTE, **options)
    with pytest.raises(ValueError, match=text):
        await do(deployment, method, "a", count=count, reserve=reserve, config=config)


@by_kind
async def test_check_takes_nothing_limit_takes_and_reset_gives_back(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE)
    for _ in range(3):
        assert await do(deployment, "check", "a", config=config) == Status(True)
    assert await rows(deployment) == []
    await do(deployment, "limit", "a", config=config)
    await do(deployment, "limit", "a", "k", config=config)
    await do(deployment, "reset", "a", config=config)
    assert [row.get("key") for row in await rows(deployment)] == ["k"]
    assert (await do(deployment, "limit", "a", config=config)).ok


@by_kind
async def test_throwing_has_exactly_the_data_of_the_original(deployment: Any, kind: Any) -> None:
    config = config_of_kind(deployment, kind, 1, MINUTE)
    await do(deployment, "limit", "a", config=config, throws=True)
    for method in ("limit", "check"):
        with pytest.raises(ReactorError) as failure:
            await do(deployment, method, "a", config=config, throws=True)
        assert failure.value.data == {"kind": "RateLimited", "name": "a", "retryAfter": MINUTE}
        assert is_rate_limit_error(failure.value)


async def test_a_reservation_that_throws_is_taken_back(deployment: Any) -> None:
    """Also when the caller goes on: otherwise it would have paid for what it does not know of."""
    config = TokenBucket(1, MINUTE)
    await put(deployment, 0)
    limiter = RateLimiter(components.rate_limiter, {"a": config})

    async def caught(ctx: Any) -> None:
        with pytest.raises(ReactorError):
            await limiter.limit(ctx, "a", reserve=True, throws=True)

    await deployment.run(caught)
    assert [row["value"] for row in await rows(deployment)] == [0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ReactorError({"kind": "RateLimited", "name": "a", "retryAfter": 1}), True),
        (ReactorError({"kind": "Other"}), False),
        (ReactorError("RateLimited"), False),
        (ValueError("RateLimited"), False),
        (None, False),
    ],
)
def test_only_that_kind_of_error_is_one(error: Any, expected: bool) -> None:
    assert is_rate_limit_error(error) is expected


async def test_a_count_of_0_asks_for_debt_and_stores_the_refill(deployment: Any) -> None:
    config = TokenBucket(10, MINUTE)
    await put(deployment, 5)
    await deployment.advance(seconds=6)
    assert await do(deployment, "limit", "a", count=0, config=config) == Status(True)
    assert await rows(deployment) == [{"name": "a", "shard": 0, "value": 6, "ts": deployment.clock.now_ms}]
    await do(deployment, "limit", "a", count=7, reserve=True, config=config)
    assert await do(deployment, "limit", "a", count=0, config=config) == Status(False, 6000)


async def test_a_name_without_a_config_is_a_mistake_and_an_inline_config_goes_first(deployment: Any) -> None:
    with pytest.raises(ValueError, match=r"^Rate limit b not defined\. .* Defined: a"):
        await do(deployment, "limit", "b", limiter=RateLimiter(components.rate_limiter, {"a": TokenBucket(1, MINUTE)}))
    limiter = RateLimiter(components.rate_limiter, {"a": TokenBucket(1, MINUTE)})
    assert (await do(deployment, "limit", "a", count=5, config=TokenBucket(5, MINUTE), limiter=limiter)).ok


async def test_a_later_config_clamps_what_is_left(deployment: Any) -> None:
    await do(deployment, "limit", "a", count=2, config=TokenBucket(100, MINUTE))
    with pytest.raises(ValueError, match="exceeds 3"):
        await do(deployment, "limit", "a", count=4, config=TokenBucket(3, MINUTE))
    assert (await do(deployment, "limit", "a", count=3, config=TokenBucket(3, MINUTE))).ok
    assert [row["value"] for row in await rows(deployment)] == [0]


async def test_a_failing_caller_gets_its_tokens_back(deployment: Any) -> None:
    limiter = RateLimiter(components.rate_limiter, {"a": TokenBucket(1, MINUTE)})

    async def fails(ctx: Any) -> None:
        await limiter.limit(ctx, "a")
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        await deployment.run(fails)
    assert (await do(deployment, "limit", "a", limiter=limiter)).ok


async def test_two_mounts_never_meet(deployment: Any) -> None:
    config = TokenBucket(1, MINUTE)
    other = RateLimiter(components.other)
    assert (await do(deployment, "limit", "a", config=config)).ok
    assert (await do(deployment, "limit", "a", config=config, limiter=other)).ok
    assert len(await rows(deployment, component="other")) == 1


async def test_wrong_numbers_from_other_code_are_refused_by_the_component(deployment: Any) -> None:
    wire = {"kind": "token bucket", "rate": math.nan, "period": 1000}
    with pytest.raises(ValueError, match="rate"):
        await deployment.mutation(components.rate_limiter.limits.rate_limit, {"name": "a", "config": wire})


async def test_other_code_calls_the_component_with_json(deployment: Any) -> None:
    """Absent fields are absent: nothing is null."""
    wire = {"kind": "fixed window", "rate": 1, "period": 1000, "start": 0}
    limiter = deployment.component("rate_limiter")
    assert await limiter.mutation("limits:rateLimit", {"name": "a", "config": wire}) == {"ok": True}
    denied = await limiter.mutation("limits:rateLimit", {"name": "a", "config": wire})
    assert denied == {"ok": False, "retryAfter": 1000 - deployment.clock.now_ms % 1000}
    assert await limiter.mutation("limits:getServerTime", {}) == deployment.clock.now_ms


def test_jitter_spreads_those_who_wait() -> None:
    waits = {jitter(1000, 500) for _ in range(100)}
    assert len(waits) > 90
    assert all(1000 <= wait < 1500 for wait in waits)
