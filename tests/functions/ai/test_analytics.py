"""The first functions of the AI-service application: what is recorded, and what is summed up."""

import math
from typing import Any

import pytest

from reactor import ReactorError
from reactor.errors import ArgumentsInvalid
from reactor.testing.deployment import MemoryDeployment

REQUEST = {
    "provider": "openai",
    "model": "gpt",
    "fingerprint": "f",
    "ip": "127.0.0.1",
    "success": True,
    "latencyMs": 100,
}
EMPTY = {"totalRequests": 0, "successRate": None, "averageLatency": None, "totalTokens": 0, "totalCost": 0}


async def log(deployment: MemoryDeployment, **changes: Any) -> None:
    assert await deployment.as_admin().mutation("ai/analytics:logAIRequest", {**REQUEST, **changes}) is None


async def stats(deployment: MemoryDeployment, start: float = 0, end: float | None = None, **changes: Any) -> Any:
    span = {"start": start} if end is None else {"start": start, "end": end}
    args = {"provider": "openai", "timeRange": span, **changes}
    return await deployment.as_admin().query("ai/analytics:getProviderStats", args)


async def rows(deployment: MemoryDeployment) -> Any:
    async def collect(ctx: Any) -> Any:
        return await ctx.db.query("aiRequestLogs").collect()

    return await deployment.run(collect)


async def test_nothing_gives_nulls_and_never_nan(deployment: MemoryDeployment) -> None:
    assert await stats(deployment) == EMPTY


async def test_a_request_is_recorded_at_the_present_time(deployment: MemoryDeployment) -> None:
    await log(deployment, userId="ann", error="slow", tokensUsed=7, cost=0.25)
    (row,) = await rows(deployment)
    assert row.pop("_id")
    assert row.pop("_creationTime") >= deployment.clock.now_ms
    assert row == {
        **REQUEST,
        "timestamp": deployment.clock.now_ms,
        "userId": "ann",
        "error": "slow",
        "tokensUsed": 7,
        "cost": 0.25,
    }


async def test_what_was_not_said_is_not_stored(deployment: MemoryDeployment) -> None:
    await log(deployment)
    (row,) = await rows(deployment)
    assert not {"userId", "error", "tokensUsed", "cost"} & row.keys()


async def test_requests_are_summed_up(deployment: MemoryDeployment) -> None:
    await log(deployment, latencyMs=100, tokensUsed=10, cost=0.1)
    await log(deployment, latencyMs=200, tokensUsed=5, cost=0.2, success=False)
    await log(deployment, latencyMs=300, cost=0)
    await log(deployment, provider="groq")
    assert await stats(deployment) == {
        "totalRequests": 3,
        "successRate": 2 / 3,
        "averageLatency": 200,
        "totalTokens": 15,
        "totalCost": 0.3,  # not 0.30000000000000004
    }


async def test_a_range_holds_its_start_and_not_its_end(deployment: MemoryDeployment) -> None:
    """So that a request on the boundary of two adjacent ranges counts in one of them."""
    start = deployment.clock.now_ms
    await log(deployment)
    deployment.clock.advance(seconds=1)
    await log(deployment)
    middle = deployment.clock.now_ms

    assert (await stats(deployment, start, middle))["totalRequests"] == 1
    assert (await stats(deployment, middle, middle + 1))["totalRequests"] == 1
    assert (await stats(deployment, start))["totalRequests"] == 2
    assert (await stats(deployment, middle))["totalRequests"] == 1


@pytest.mark.parametrize(("start", "end"), [(5.0, 5.0), (6.0, 5.0), (1e300, 0.0)])
async def test_a_range_that_ends_before_it_starts_is_empty(
    deployment: MemoryDeployment, start: float, end: float
) -> None:
    await log(deployment)
    assert await stats(deployment, start, end) == EMPTY


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_times_must_be_finite(deployment: MemoryDeployment, number: float) -> None:
    for span, name in (({"start": number}, "timeRange.start"), ({"start": 0, "end": number}, "timeRange.end")):
        with pytest.raises(ReactorError) as refused:
            await stats(deployment, timeRange=span)
        assert refused.value.data["code"] == "INVALID_NUMBER"
        assert refused.value.data["argument"] == name


@pytest.mark.parametrize("field", ["latencyMs", "tokensUsed", "cost"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1])
async def test_amounts_must_be_amounts(deployment: MemoryDeployment, field: str, number: float) -> None:
    with pytest.raises(ReactorError) as refused:
        await log(deployment, **{field: number})
    assert refused.value.data["argument"] == field
    assert await rows(deployment) == []


async def test_arguments_are_validated(deployment: MemoryDeployment) -> None:
    with pytest.raises(ArgumentsInvalid, match="latencyMs"):
        await log(deployment, latencyMs="100")


async def test_an_open_range_is_live(deployment: MemoryDeployment) -> None:
    args = {"provider": "openai", "timeRange": {"start": 0}}
    async with deployment.as_admin().subscribe("ai/analytics:getProviderStats", args) as live:
        assert await live.next() == EMPTY
        await log(deployment)
        assert (await live.next())["totalRequests"] == 1  # type: ignore[index]
