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


def swept(deployment: Any) -> dict[str, Any]:
    config = {"kind": "token bucket", "rate": 10, "period": MINUTE}
    return {"limits": [{"name": "bucket", "config": config}], "before": deployment.clock.now_ms}


def component(deployment: Any) -> Any:
    return deployment.component("rate_limiter")


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


async def test_phases_are_forgotten_when_a_whole_window_has_passed_unused(deployment: Any) -> None:
    """Two windows that meet are the most that anybody gets, however often it is swept."""
    taken_at: list[float] = []
    for _ in range(300):
        await deployment.advance(seconds=2)
        await sweep(deployment, forget_phases=True)
        while len(taken_at) < 60 and (await do(deployment, "limit", "phase", "k", limiter=LIMITER)).ok:
            taken_at.append(deployment.clock.now_ms)
    assert len(taken_at) == 60
    for first, last in zip(taken_at, taken_at[20:], strict=False):
        assert last - first >= MINUTE, "more than two windows within one"
    assert await rows(deployment) == []


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


async def test_who_comes_while_it_is_swept_is_not_forgotten(deployment: Any) -> None:
    for key in ("busy", "idle"):
        await do(deployment, "limit", "bucket", key, limiter=LIMITER)
    await deployment.advance(minutes=1)
    async with deployment.hold("cleaning:sweep_page", swept(deployment), at=2, by=component(deployment)) as held:
        await do(deployment, "limit", "bucket", "busy", limiter=LIMITER)
        await held.finish()
        assert held.attempts == 2
    assert [(row["key"], row["value"]) for row in await rows(deployment)] == [("busy", 9)]


async def test_busy_documents_are_no_reason_to_sweep_again(deployment: Any) -> None:
    await do(deployment, "limit", "bucket", "busy", 10, limiter=LIMITER)
    await do(deployment, "limit", "bucket", "idle", limiter=LIMITER)
    await deployment.advance(seconds=30)
    async with deployment.hold("cleaning:sweep_page", swept(deployment), at=2, by=component(deployment)) as held:
        await do(deployment, "limit", "bucket", "busy", limiter=LIMITER)
        await held.finish()
        assert held.attempts == 1
    assert [(row["key"], row["value"]) for row in await rows(deployment)] == [("busy", 4)]


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
