"""Unusual use of a key: far more requests, many failures, many new addresses; each by its threshold, exactly."""

import hashlib
from typing import Any

import pytest

from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment

HOUR = 3_600_000.0


async def used(
    deployment: MemoryDeployment, hours_ago: int, requests: int, refused: int = 0, addresses: list[str] | None = None
) -> None:
    """Let a key have been used in an hour; 1 is the last whole one."""

    async def insert(ctx: Any) -> None:
        hour = ctx.now() // HOUR * HOUR - hours_ago * HOUR
        usage = {"keyId": "k", "timestamp": hour, "requests": requests, "refused": refused}
        await ctx.db.insert("keyUsage", {**usage, "addresses": addresses or []})

    await deployment.run(insert)


async def found(deployment: MemoryDeployment) -> list[set[str]]:
    await deployment.run_cron("anomalies of keys")
    await deployment.finish_in_progress_scheduled_functions()
    alerts: Any = await deployment.query(lambda ctx: ctx.db.query("alerts").collect())
    assert {alert["kind"] for alert in alerts} <= {"key_anomaly"}
    return [set(alert["data"]) - {"hour"} for alert in alerts]


@pytest.mark.parametrize(("requests", "expected"), [(100, []), (101, [{"requests"}])])
async def test_a_quiet_key_may_be_used_a_hundred_times(
    deployment: MemoryDeployment, requests: int, expected: list[set[str]]
) -> None:
    await used(deployment, 1, requests)
    assert await found(deployment) == expected


@pytest.mark.parametrize(("requests", "expected"), [(500, []), (501, [{"requests"}])])
async def test_a_busy_key_may_be_used_five_times_as_often_as_usual(
    deployment: MemoryDeployment, requests: int, expected: list[set[str]]
) -> None:
    for hours_ago in range(2, 26):
        await used(deployment, hours_ago, 100)
    await used(deployment, 26, 100_000)  # longer ago than a day
    await used(deployment, 1, requests)
    assert await found(deployment) == expected


@pytest.mark.parametrize(
    ("requests", "refused", "expected"), [(19, 19, []), (20, 10, []), (20, 11, [{"errors"}]), (100, 51, [{"errors"}])]
)
async def test_more_than_half_of_twenty_may_not_fail(
    deployment: MemoryDeployment, requests: int, refused: int, expected: list[set[str]]
) -> None:
    await used(deployment, 1, requests, refused)
    assert await found(deployment) == expected


@pytest.mark.parametrize(("new", "expected"), [(10, []), (11, [{"newAddresses"}])])
async def test_ten_addresses_may_be_new(deployment: MemoryDeployment, new: int, expected: list[set[str]]) -> None:
    known = [f"192.0.2.{number}" for number in range(20)]
    await used(deployment, 5, 1, addresses=known)
    await used(deployment, 1, 1, addresses=known + [f"198.51.100.{number}" for number in range(new)])
    assert await found(deployment) == expected


async def test_only_the_last_whole_hour_is_looked_at(deployment: MemoryDeployment) -> None:
    await used(deployment, 0, 1000)
    await used(deployment, 2, 1000)
    assert await found(deployment) == []


async def test_thresholds_are_settings(deployment: MemoryDeployment) -> None:
    await used(deployment, 1, 6, 3, ["192.0.2.1", "192.0.2.2"])
    changes: dict[str, str | None] = {
        "KEY_ANOMALY_REQUESTS": "5",
        "KEY_ANOMALY_ERROR_RATE": "0.4",
        "KEY_ANOMALY_ERROR_REQUESTS": "6",
        "KEY_ANOMALY_NEW_ADDRESSES": "1",
    }
    await deployment.env.update(changes)
    assert await found(deployment) == [{"requests", "errors", "newAddresses"}]


async def test_failed_embeddings_count_as_errors(deployment: MemoryDeployment, admin: Caller) -> None:
    limit = {"requests": 1000, "windowSeconds": 60}
    made: Any = await admin.mutation("embeddings/keys:create", {"name": "k", "rateLimit": limit})
    key = hashlib.sha256(made["key"].encode()).hexdigest()
    request = {"apiKeyHash": key, "batchSize": 1, "latencyMs": 1, "tokensUsed": 1}
    for number in range(20):
        args = {**request, "requestId": str(number), "success": number < 9}
        await admin.mutation("embeddings/rateLimiting:logRequest", args)
    await deployment.advance(hours=1)  # the cron runs on the way
    assert await found(deployment) == [{"errors"}]
