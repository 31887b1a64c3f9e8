"""Documents that nobody needs any more: which go, which stay, and that nobody notices."""

from typing import Any

import pytest

from reactor import components
from reactor.components.rate_limiter import FixedWindow, RateLimiter, TokenBucket
from tests.components.rate_limiter.calls import MINUTE, do, rows

LIMITER = RateLimiter(
    components.rate_limiter,
    {
        "bucket": TokenBucket(10, MINUTE),
        "shards": TokenBucket(12, MINUTE, shards=3),
        "start": FixedWindow(10, MINUTE, start=0),
        "phase": FixedWindow(10, MINUTE),
    },
)


async def sweep(deployment: Any, **options: Any) -> None:
    await do(deployment, "sweep", limiter=LIMITER, **options)
    await deployment.finish_in_progress_scheduled_functions()


async def names(deployment: Any) -> list[str]:
    return sorted({row["name"] for row in await rows(deployment)})


async def test_a_document_goes_when_everything_has_come_back(deployment: Any) -> None:
    for name in ("bucket", "shards", "start", "phase"):
        await do(deployment, "limit", name, "k", limiter=LIMITER)
    await do(deployment, "limit", "unknown", config=TokenBucket(1, 1000), limiter=LIMITER)
    await sweep(deployment)
    assert await names(deployment) == ["bucket", "phase", "shards", "start", "unknown"]
    await deployment.advance(minutes=1)
    await sweep(deployment, older_than=2 * MINUTE)
    assert await names(deployment) == ["bucket", "phase", "shards", "start", "unknown"]
    await sweep(deployment)
    assert await names(deployment) == ["phase", "unknown"]


async def test_what_is_swept_answers_as_before(deployment: Any) -> None:
    await do(deployment, "limit", "bucket", count=10, limiter=LIMITER)
    await deployment.advance(seconds=59)
    await sweep(deployment)
    refused = await do(deployment, "check", "bucket", count=10, limiter=LIMITER)
    assert (refused.ok, refused.retry_after) == (False, pytest.approx(1000))
    await deployment.advance(seconds=1)
    await sweep(deployment)
    assert await rows(deployment) == []
    assert (await do(deployment, "limit", "bucket", count=10, limiter=LIMITER)).ok


async def test_a_thousand_keys_are_swept_page_by_page(deployment: Any) -> None:
    async def take(ctx: Any) -> None:
        for key in range(1000):
            assert (await LIMITER.limit(ctx, "bucket", str(key))).ok

    await deployment.run(take)
    assert len(await rows(deployment)) == 1000
    await deployment.advance(minutes=1)
    await do(deployment, "limit", "bucket", "7", 10, limiter=LIMITER)
    await sweep(deployment)
    assert [row["key"] for row in await rows(deployment)] == ["7"]


async def test_clearing_takes_everything_up_to_a_time(deployment: Any) -> None:
    async def take(ctx: Any, keys: int, name: str) -> None:
        for key in range(keys):
            await LIMITER.limit(ctx, name, str(key))

    await deployment.run(lambda ctx: take(ctx, 250, "bucket"))
    between = deployment.clock.now_ms + 1
    await deployment.advance(seconds=1)
    await deployment.run(lambda ctx: take(ctx, 3, "phase"))
    await do(deployment, "clear_all", before=between, limiter=LIMITER)
    await deployment.finish_in_progress_scheduled_functions()
    assert await names(deployment) == ["phase"]
    await deployment.advance(seconds=1)
    await do(deployment, "clear_all", limiter=LIMITER)
    await deployment.finish_in_progress_scheduled_functions()
    assert await rows(deployment) == []
