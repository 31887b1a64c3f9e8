"""`migrations:v1_to_v2`: what the seed's application has stored, as this one stores it."""

import math
from typing import Any

import pytest

from reactor.testing.deployment import MemoryDeployment

HASH = "0123456789abcdef" * 4
LOG = {"provider": "openai", "model": "m", "fingerprint": "f", "ip": "192.0.2.1", "success": True}
COUNT = 230


async def rows(deployment: MemoryDeployment, table: str) -> list[dict[str, Any]]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def seed(deployment: MemoryDeployment) -> None:
    """Insert documents as the seed's functions wrote them, past all totals."""

    async def fill(ctx: Any) -> None:
        db = ctx.db.without_triggers
        key = {"key": HASH, "name": "n", "userId": "u", "scopes": ["*:*"], "active": True}
        await db.insert("apiKeys", key)
        limit = {"requests": 5, "windowSeconds": 60}
        known = {"keyHash": HASH, "name": "e", "createdAt": 5, "requestCount": 7, "active": True, "rateLimit": limit}
        await db.insert("embeddingApiKeys", known)
        request = {"batchSize": 1, "tokensUsed": 3, "success": True, "model": "self-hosted", "timestamp": 1000.0}
        for number, owner in enumerate((HASH, HASH, "gone")):
            more = {"requestId": str(number), "apiKeyHash": owner, "latencyMs": 10.0}
            await db.insert("embeddingRequests", {**request, **more})
        for number in range(COUNT):
            more = {"timestamp": 1000.0 + number, "latencyMs": number / 3, "cost": 0.1}
            await db.insert("aiRequestLogs", {**LOG, **more})
        await db.insert(
            "aiRequestLogs", {**LOG, "timestamp": 1.0, "latencyMs": -5, "cost": math.nan, "tokensUsed": 1.5}
        )

    await deployment.run(fill)


async def totals(deployment: MemoryDeployment) -> Any:
    admin = deployment.as_admin()
    args = {"provider": "openai", "timeRange": {"start": 0}}
    everything = {"timeRange": {"start": 0}}
    return [
        await admin.query("ai/analytics:getProviderStats", args),
        await admin.query("monitoring:provider_minutes", args),
        await admin.query("embeddings/stats:getStats", everything),
    ]


async def test_defect_42_the_migration_fills_in_and_counts(deployment: MemoryDeployment) -> None:
    await seed(deployment)
    assert (await totals(deployment))[0]["totalRequests"] == 0
    await deployment.mutation("migrations:v1_to_v2", {})
    await deployment.mutation("ai/analytics:log_ai_requests", {"requests": [{**LOG, "latencyMs": 1, "cost": 0.1}]})
    await deployment.finish_in_progress_scheduled_functions()

    stats, minutes, embeddings = await totals(deployment)
    logs = await rows(deployment, "aiRequestLogs")
    assert stats["totalRequests"] == len(logs) == COUNT + 2  # one was logged meanwhile
    assert stats["totalCost"] == pytest.approx((COUNT + 1) * 0.1, abs=1e-9)
    assert stats["totalTokens"] == sum(log.get("tokensUsed", 0) for log in logs) == 2
    assert sum(minute["totalRequests"] for minute in minutes) == COUNT + 2
    assert (embeddings["totalRequests"], embeddings["totalTokens"]) == (3, 9)

    (key,), (service,) = await rows(deployment, "apiKeys"), await rows(deployment, "embeddingApiKeys")
    assert (key["createdAt"], key["prefix"]) == (key["_creationTime"], HASH[:8])
    assert service["prefix"] == HASH[:8]
    owners = [(log.get("keyId"), log.get("unknownKey")) for log in await rows(deployment, "embeddingRequests")]
    assert owners == [(service["_id"], None)] * 2 + [(None, True)]
    (listed,) = await deployment.as_admin().query("embeddings/keys:list")  # type: ignore[misc]
    assert listed["requestCount"] == 7  # the seed has counted those already


async def test_defect_42_repeated_it_changes_nothing(deployment: MemoryDeployment) -> None:
    await seed(deployment)
    for _ in range(2):
        await deployment.mutation("migrations:v1_to_v2", {})
        await deployment.finish_in_progress_scheduled_functions()
    once = await totals(deployment)
    await deployment.mutation("migrations:v1_to_v2", {"reset": True})
    await deployment.finish_in_progress_scheduled_functions()
    assert await totals(deployment) == once
    assert once[0]["totalRequests"] == COUNT + 1


async def test_defect_42_what_was_counted_is_forgotten_with_its_log(deployment: MemoryDeployment) -> None:
    await seed(deployment)
    await deployment.mutation("migrations:v1_to_v2", {})
    await deployment.finish_in_progress_scheduled_functions()

    async def clear(ctx: Any) -> None:
        for table in ("aiRequestLogs", "embeddingRequests"):
            for document in await ctx.db.query(table).collect():
                await ctx.db.delete(document["_id"])

    await deployment.run(clear)
    stats, minutes, embeddings = await totals(deployment)
    assert (stats["totalRequests"], minutes, embeddings["totalRequests"]) == (0, [], 0)


async def test_defect_42_logs_that_are_not_counted_yet_are_corrected_and_deleted(deployment: MemoryDeployment) -> None:
    """What the seed has written is in nobody's way before the migration has run, and the totals are right behind it."""
    admin = deployment.as_admin()
    await seed(deployment)
    await deployment.mutation(
        "ai/analytics:log_ai_requests", {"requests": [{**LOG, "latencyMs": 1, "timestamp": 1500}]}
    )
    oldest, *_, last = sorted(await rows(deployment, "aiRequestLogs"), key=lambda log: log["timestamp"])
    newest, other, _ = await rows(deployment, "embeddingRequests")
    assert last["timestamp"] == 1500
    await admin.mutation("ai/analytics:correctAIRequest", {"id": oldest["_id"], "latencyMs": 20, "cost": 0.5})

    async def change_embeddings(ctx: Any) -> None:
        await ctx.db.patch(newest["_id"], {"tokensUsed": 100})
        await ctx.db.delete(other["_id"])

    await deployment.run(change_embeddings)
    before, _, embeddings = await totals(deployment)
    assert (before["totalRequests"], before["averageLatency"], embeddings["totalRequests"]) == (1, 1, 0)
    await deployment.mutation("migrations:v1_to_v2", {})
    await deployment.finish_in_progress_scheduled_functions()
    stats, _, embeddings = await totals(deployment)
    assert stats["totalRequests"] == COUNT + 2
    assert stats["totalCost"] == pytest.approx(COUNT * 0.1 + 0.5, abs=1e-9)
    assert (embeddings["totalRequests"], embeddings["totalTokens"]) == (2, 103)


@pytest.mark.parametrize("is_migrated", [False, True])
async def test_defect_42_retention_deletes_what_is_counted_and_what_is_not(
    deployment: MemoryDeployment, is_migrated: bool
) -> None:
    await seed(deployment)
    if is_migrated:
        await deployment.mutation("migrations:v1_to_v2", {})
        await deployment.finish_in_progress_scheduled_functions()
    now = deployment.clock.now_ms
    both = [{**LOG, "latencyMs": 1, "timestamp": time} for time in (1000, now)]
    await deployment.mutation("ai/analytics:log_ai_requests", {"requests": both})
    for table in ("aiRequestLogs", "embeddingRequests"):
        await deployment.run_cron(f"retention of {table}")
    await deployment.finish_in_progress_scheduled_functions()
    assert [log["timestamp"] for log in await rows(deployment, "aiRequestLogs")] == [now]
    assert await rows(deployment, "embeddingRequests") == []
    stats, minutes, embeddings = await totals(deployment)
    assert (stats["totalRequests"], embeddings["totalRequests"]) == (1, 0)
    assert [minute["totalRequests"] for minute in minutes] == [1]
