"""What a dashboard shows: totals per minute that follow every write of a log, and cost what there is to show."""

import random
from collections import defaultdict
from math import ceil
from typing import Any

import pytest

from reactor import ReactorError
from reactor.testing.deployment import MemoryDeployment

MINUTE = 60_000.0
HOUR = 60 * MINUTE
REQUEST: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt",
    "fingerprint": "f",
    "ip": "127.0.0.1",
    "success": True,
    "latencyMs": 100,
}
NOTHING = {
    "totalRequests": 0,
    "successRate": None,
    "averageLatency": None,
    "p95Latency": None,
    "totalTokens": 0,
    "totalCost": 0,
}


async def fill(deployment: MemoryDeployment, requests: list[dict[str, Any]]) -> None:
    await deployment.mutation("ai/analytics:log_ai_requests", {"requests": requests})


async def minutes(deployment: MemoryDeployment, **args: Any) -> Any:
    return await deployment.as_admin().query("monitoring:providerMinutes", {"provider": "openai", **args})


def expected(logs: list[dict[str, Any]]) -> dict[float, dict[str, Any]]:
    """Sum up logs the slow way: each minute by itself, percentiles of all latencies."""
    by_minute = defaultdict(list)
    for log in logs:
        by_minute[log["timestamp"] // MINUTE * MINUTE].append(log)
    return {
        minute: {
            "totalRequests": len(found),
            "successRate": sum(log["success"] for log in found) / len(found),
            "averageLatency": sum(log["latencyMs"] for log in found) / len(found),
            "p95Latency": sorted(log["latencyMs"] for log in found)[ceil(0.95 * len(found)) - 1],
            "totalTokens": sum(log.get("tokensUsed", 0) for log in found),
            "totalCost": sum(log.get("cost", 0) for log in found),
        }
        for minute, found in by_minute.items()
    }


async def check(deployment: MemoryDeployment, start: float) -> None:
    """Compare all minutes with a scan of the logs."""
    logs: Any = await deployment.query(
        lambda ctx: ctx.db.query("aiRequestLogs").with_index("by_provider", provider="openai").collect()
    )
    wanted = expected(logs)
    shown = await minutes(deployment, timeRange={"start": start})
    assert [entry.pop("minute") for entry in shown] == sorted(wanted)
    for entry, (_, exact) in zip(shown, sorted(wanted.items()), strict=True):
        assert entry.pop("p95Latency") == pytest.approx(exact.pop("p95Latency"), rel=0.0501)
        assert entry == exact


async def test_each_minute_follows_every_write(deployment: MemoryDeployment) -> None:
    """Whole latencies and tokens, and costs of halves, so that the slow sums are exact as well."""
    chance = random.Random(7)
    start = deployment.clock.now_ms // MINUTE * MINUTE
    requests = [
        {
            **REQUEST,
            "provider": chance.choice(["openai", "groq"]),
            "timestamp": start + chance.randrange(int(HOUR / 6)),
            "success": chance.random() < 0.8,
            "latencyMs": chance.randrange(20_000) + 1,
            "tokensUsed": chance.randrange(1000),
            "cost": chance.randrange(10) / 2,
            "requestId": f"r{number}",
        }
        for number in range(300)
    ]
    await fill(deployment, requests)
    await check(deployment, start)
    for request in chance.sample(requests, 40):
        corrected = {"latencyMs": chance.randrange(90_000) + 1, "success": chance.random() < 0.5, "cost": 2.5}
        await deployment.as_admin().mutation(
            "ai/analytics:correctAIRequest", {"requestId": request["requestId"], **corrected}
        )
    await check(deployment, start)
    logs: Any = await deployment.query(lambda ctx: ctx.db.query("aiRequestLogs").collect())
    for log in chance.sample(logs, 250):
        await deployment.run(lambda ctx, id=log["_id"]: ctx.db.delete(id))
    await check(deployment, start)
    stored: Any = await deployment.query(lambda ctx: ctx.db.query("aiRequestMinutes").collect())
    assert all(all(minute["latencies"].values()) for minute in stored)  # empty buckets are not kept


async def test_a_change_of_what_does_not_count_meets_no_total(deployment: MemoryDeployment) -> None:
    await fill(deployment, [REQUEST])
    log: Any = await deployment.query(lambda ctx: ctx.db.query("aiRequestLogs").first())
    with deployment.record_usage() as runs:
        await deployment.run(lambda ctx: ctx.db.patch(log["_id"], {"error": "timeout"}))
    assert [run.documents_written for run in runs] == [1]


async def test_minutes_of_a_range(deployment: MemoryDeployment) -> None:
    start = deployment.clock.now_ms // MINUTE * MINUTE
    await fill(deployment, [{**REQUEST, "timestamp": start + number * MINUTE + 30_000} for number in range(5)])
    span = {"start": start + MINUTE + 40_000, "end": start + 3 * MINUTE}
    assert [entry["minute"] for entry in await minutes(deployment, timeRange=span)] == [
        start + MINUTE,  # whole, though the range begins within
        start + 2 * MINUTE,
    ]
    assert len(await minutes(deployment, window="1h")) == 5
    assert await minutes(deployment, timeRange={"start": start + HOUR}) == []


async def test_a_range_has_at_most_a_day_of_minutes(deployment: MemoryDeployment) -> None:
    start = deployment.clock.now_ms // MINUTE * MINUTE
    for part in range(0, 1500, 250):
        await fill(deployment, [{**REQUEST, "timestamp": start + (part + n) * MINUTE} for n in range(250)])
    assert len(await minutes(deployment, timeRange={"start": start + 1, "end": start + 24 * HOUR + 1})) == 1441
    with pytest.raises(ReactorError) as refused:
        await minutes(deployment, timeRange={"start": start})
    assert refused.value.data["code"] == "INVALID_RANGE"


async def test_the_dashboard_shows_all_providers(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    assert (await admin.query("monitoring:dashboard", {}))["total"] == NOTHING  # type: ignore[index,call-overload]
    now = deployment.clock.now_ms
    await fill(
        deployment,
        [
            {**REQUEST, "timestamp": now - 2 * HOUR},
            {**REQUEST, "timestamp": now - 50 * MINUTE, "tokensUsed": 3},
            {**REQUEST, "timestamp": now, "success": False},
            {**REQUEST, "timestamp": now, "provider": "groq", "latencyMs": 500, "cost": 0.1},
        ],
    )
    shown: Any = await admin.query("monitoring:dashboard", {"window": "1h"})
    assert shown["total"]["totalRequests"] == 3
    assert shown["total"]["p95Latency"] == pytest.approx(500, rel=0.05)
    groq, openai = shown["providers"]
    assert (groq["provider"], groq["totalRequests"], groq["totalCost"]) == ("groq", 1, 0.1)
    assert (openai["provider"], openai["totalRequests"], openai["successRate"]) == ("openai", 2, 0.5)
    assert [(entry["totalRequests"], entry["totalTokens"]) for entry in openai["minutes"]] == [(1, 3), (1, 0)]
    shown = await admin.query("monitoring:dashboard", {"window": "6h"})
    assert shown["total"]["totalRequests"] == 4


async def test_the_dashboard_costs_its_minutes_and_not_its_requests(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    now = deployment.clock.now_ms
    async with admin.subscribe("monitoring:dashboard", {}) as live:
        await live.next()
        for _ in range(3):
            await fill(deployment, [{**REQUEST, "timestamp": now - n % 10 * MINUTE} for n in range(200)])
        assert (await live.settled())["total"]["totalRequests"] == 600  # type: ignore[index,call-overload]
        with deployment.record_usage() as runs:
            await fill(deployment, [{**REQUEST, "timestamp": now}])
            assert (await live.settled())["total"]["totalRequests"] == 601  # type: ignore[index,call-overload]
    assert [run.documents_read for run in runs if run.path == "monitoring:dashboard"] == [10]


async def test_the_latest_requests_are_listed_in_pages(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    now = deployment.clock.now_ms
    await fill(
        deployment,
        [{**REQUEST, "timestamp": now + n, "provider": "groq" if n % 3 else "openai"} for n in range(30)],
    )
    seen, cursor = [], None
    while True:
        options = {"numItems": 7, "cursor": cursor}
        page: Any = await admin.query("monitoring:recentRequests", {"paginationOpts": options})
        seen += [log["timestamp"] - now for log in page["page"]]
        if page["isDone"]:
            break
        cursor = page["continueCursor"]
    assert seen == list(range(29, -1, -1))
    options = {"numItems": 4, "cursor": None}
    page = await admin.query("monitoring:recentRequests", {"paginationOpts": options, "provider": "openai"})
    assert [log["timestamp"] - now for log in page["page"]] == [27, 24, 21, 18]


@pytest.mark.parametrize(
    ("function", "args"),
    [
        ("monitoring:dashboard", {}),
        ("monitoring:providerMinutes", {"provider": "openai", "window": "1h"}),
        ("monitoring:recentRequests", {"paginationOpts": {"numItems": 1, "cursor": None}}),
    ],
)
async def test_nobody_looks_without_being_let_in(
    deployment: MemoryDeployment, function: str, args: dict[str, Any]
) -> None:
    with pytest.raises(ReactorError) as refused:
        await deployment.query(function, args)
    assert refused.value.data["code"] == "UNAUTHORIZED"
    await deployment.with_identity({"scope": "analytics:read"}).query(function, args)
