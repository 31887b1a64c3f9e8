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
