"""The 30 days of a key: alerts before its end, and inactive after it."""

from typing import Any

import pytest

from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment

DAY = 86_400_000.0
KINDS: dict[str, dict[str, Any]] = {
    "apiKeys": {"name": "n", "userId": "ann", "scopes": []},
    "embeddings/keys": {"name": "n", "rateLimit": {"requests": 5, "windowSeconds": 60}},
}
TABLES = {"apiKeys": "apiKeys", "embeddings/keys": "embeddingApiKeys"}


async def rows(deployment: MemoryDeployment, table: str) -> list[dict[str, Any]]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def sweep(deployment: MemoryDeployment) -> None:
    for table in TABLES.values():
        await deployment.run_cron(f"expiry of {table}")


@pytest.mark.parametrize("module", KINDS)
async def test_the_life_of_a_key(deployment: MemoryDeployment, admin: Caller, module: str) -> None:
    made: Any = await admin.mutation(f"{module}:create", KINDS[module])
    seen = []
    for day in range(34):
        await sweep(deployment)
        alerts = [(alert["data"]["days"], alert["severity"]) for alert in await rows(deployment, "alerts")]
        (document,) = await rows(deployment, TABLES[module])
        seen.append((day, alerts, document["active"]))
        deployment.clock.advance(days=1)
    early, late = (7, "info"), (1, "warning")
    assert seen == [
        (day, [early] * (day >= 23) + [late] * (day >= 29), day < 31)  # a day of grace after its end
        for day in range(34)
    ]
    assert {alert["subject"] for alert in await rows(deployment, "alerts")} == {made["id"]}
    entries: Any = await admin.query("audit:list", {"target": made["id"], "limit": 1})
    assert (entries[0]["actor"], entries[0]["action"]) == ("system", f"{TABLES[module]}.expire")


async def test_a_rotated_key_begins_anew(deployment: MemoryDeployment, admin: Caller) -> None:
    made: Any = await admin.mutation("apiKeys:create", {**KINDS["apiKeys"], "expiresInDays": 5})
    await sweep(deployment)
    assert len(await rows(deployment, "alerts")) == 1
    await admin.mutation("apiKeys:rotate", {"id": made["id"], "expiresInDays": 10})
    deployment.clock.advance(days=2)
    await sweep(deployment)
    assert len(await rows(deployment, "alerts")) == 1
    deployment.clock.advance(days=1)
    await sweep(deployment)
    assert len(await rows(deployment, "alerts")) == 2


async def test_many_keys_take_many_transactions(deployment: MemoryDeployment, admin: Caller) -> None:
    async def fill(ctx: Any) -> None:
        for number in range(250):
            key = {"key": str(number), "name": "n", "userId": "u", "scopes": [], "active": True}
            await ctx.db.insert("apiKeys", {**key, "expiresAt": ctx.now() + DAY})

    await deployment.run(fill)
    await deployment.run(lambda ctx: ctx.db.insert("apiKeys", {**FOREVER}))
    await sweep(deployment)
    await deployment.finish_in_progress_scheduled_functions()
    assert len(await rows(deployment, "alerts")) == 250


FOREVER = {"key": "x", "name": "n", "userId": "u", "scopes": [], "active": True}


async def test_the_grace_is_a_setting(deployment: MemoryDeployment, admin: Caller) -> None:
    await admin.mutation("apiKeys:create", {**KINDS["apiKeys"], "expiresInDays": 1})
    await deployment.env.set("KEY_EXPIRY_GRACE_HOURS", "0")
    deployment.clock.advance(days=1)
    await sweep(deployment)
    (document,) = await rows(deployment, "apiKeys")
    assert not document["active"]
    await deployment.env.set("KEY_EXPIRY_GRACE_HOURS", "soon")
    await admin.mutation("apiKeys:create", {**KINDS["apiKeys"], "expiresInDays": 1})
    with pytest.raises(ReactorError, match="KEY_EXPIRY_GRACE_HOURS"):
        await sweep(deployment)
