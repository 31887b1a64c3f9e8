"""Several limits at once: all of them, or none."""

from typing import Any

import pytest

from reactor import components
from reactor.components.rate_limiter import FixedWindow, RateLimiter, Status, TokenBucket
from reactor.errors import ReactorError
from tests.components.rate_limiter.calls import MINUTE, do, rows

LIMITER = RateLimiter(
    components.rate_limiter,
    {
        "everybody": TokenBucket(10, MINUTE),
        "user": TokenBucket(2, MINUTE),
        "slow": TokenBucket(1, 10 * MINUTE),
        "queued": TokenBucket(1, MINUTE, apply_updates="asynchronously"),
    },
)


async def take(deployment: Any, *requests: Any, method: str = "limit_all", **options: Any) -> Any:
    return await do(deployment, method, requests, limiter=LIMITER, **options)


async def left(deployment: Any) -> dict[str, float]:
    return {row["name"]: row["value"] for row in await rows(deployment)}


async def test_when_all_are_granted_all_are_taken(deployment: Any) -> None:
    taken = await take(deployment, ("everybody", {"count": 3}), ("user", {"key": "ann"}))
    assert (taken.ok, taken.retry_after, taken.statuses) == (True, None, (Status(True), Status(True)))
    assert await left(deployment) == {"everybody": 7, "user": 1}


async def test_when_one_is_refused_none_is_taken_and_the_longest_wait_counts(deployment: Any) -> None:
    await take(deployment, ("user", {"count": 2}), ("slow", {}))
    before = await left(deployment)
    refused = await take(deployment, ("everybody", {}), ("user", {}), ("slow", {}))
    assert not refused.ok
    assert refused.retry_after == 10 * MINUTE
    assert refused.statuses == (Status(True), Status(False, MINUTE / 2), Status(False, 10 * MINUTE))
    assert await left(deployment) == before


async def test_one_limit_named_twice_is_taken_from_twice(deployment: Any) -> None:
    assert (await take(deployment, ("user", {}), ("user", {}))).ok
    assert await left(deployment) == {"user": 0}
    await do(deployment, "reset", "user", limiter=LIMITER)
    refused = await take(deployment, ("user", {}), ("user", {}), ("user", {}))
    assert [status.ok for status in refused.statuses] == [True, True, False]
    assert await left(deployment) == {}


async def test_throwing_names_the_longest_wait(deployment: Any) -> None:
    await take(deployment, ("user", {"count": 2}), ("slow", {}))
    with pytest.raises(ReactorError) as failure:
        await take(deployment, ("everybody", {}), ("user", {}), ("slow", {}), throws=True)
    assert failure.value.data == {"kind": "RateLimited", "name": "slow", "retryAfter": 10 * MINUTE}


async def test_a_reservation_s_wait_counts_only_when_nothing_is_refused(deployment: Any) -> None:
    reserved = await take(deployment, ("slow", {"count": 2, "reserve": True}), ("user", {"count": 2}))
    assert (reserved.ok, reserved.retry_after) == (True, 10 * MINUTE)
    refused = await take(deployment, ("slow", {"count": 2, "reserve": True}), ("user", {}))
    assert (refused.ok, refused.retry_after) == (False, MINUTE / 2)


async def test_checking_takes_nothing(deployment: Any) -> None:
    for _ in range(3):
        assert (await take(deployment, ("user", {"count": 2}), method="check_all")).ok
    assert await rows(deployment) == []


async def test_none_at_all_is_granted(deployment: Any) -> None:
    assert (await take(deployment)).ok


async def test_an_asynchronous_limit_can_t_be_one_of_several(deployment: Any) -> None:
    with pytest.raises(ValueError, match="queued is applied asynchronously"):
        await take(deployment, ("user", {}), ("queued", {}))
    with pytest.raises(TypeError, match="keys"):
        await take(deployment, ("user", {"keys": "ann"}))


async def test_an_inline_config_works_here_too(deployment: Any) -> None:
    config = FixedWindow(1, MINUTE, start=0)
    assert (await take(deployment, ("other", {"config": config}))).ok
    assert not (await take(deployment, ("other", {"config": config}))).ok
