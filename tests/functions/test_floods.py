"""Who may try as often as they like: what is remembered of them is bounded, and so is what is told of them."""

from typing import Any

import pytest

from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment

pytestmark = pytest.mark.asyncio

MINUTES = 30


async def rows(deployment: MemoryDeployment, table: str) -> list[dict[str, Any]]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def limits(deployment: MemoryDeployment) -> list[dict[str, Any]]:
    found: Any = await deployment.component("rate_limiter").run(lambda ctx: ctx.db.query("rateLimits").collect())
    return list(found)


async def guess(deployment: MemoryDeployment, number: int, address: str) -> int:
    headers = {"X-API-Key": f"rk_{number}", "X-Forwarded-For": address}
    return int((await deployment.fetch("/ai/openai", method="POST", headers=headers)).status_code)


async def flood(deployment: MemoryDeployment, address: Any) -> None:
    """Try another key ten times a minute, without any right to anything."""
    await deployment.env.set("TRUSTED_PROXIES", "1")
    for minute in range(MINUTES):
        statuses = {await guess(deployment, 10 * minute + number, address(number)) for number in range(10)}
        assert statuses <= ({401} if minute == 0 else {401, 429})
        await deployment.advance(minutes=1)


@pytest.mark.parametrize(
    "address", [lambda n: "192.0.2.1", lambda n: f"2001:db8::{n}", lambda n: f"no address {n % 2}"]
)
async def test_guessing_keys_fills_no_table(deployment: MemoryDeployment, address: Any) -> None:
    await flood(deployment, address)
    assert len(await rows(deployment, "embeddingAuthFailures")) <= 2 * (11 + MINUTES)
    assert len(await rows(deployment, "botDetectionEvents")) <= 2 * MINUTES
    assert 1 <= len(await rows(deployment, "alerts")) <= 2


async def test_a_key_that_is_good_again_is_let_in_beside_a_flood(deployment: MemoryDeployment, admin: Caller) -> None:
    args = {"name": "n", "userId": "ann", "scopes": ["ai:*"]}
    made: Any = await admin.mutation("apiKeys:create", args)
    await flood(deployment, lambda n: "192.0.2.1")
    headers = {"X-API-Key": made["key"], "X-Forwarded-For": "192.0.2.1"}
    assert (await deployment.fetch("/ai/openai", method="POST", headers=headers)).status_code == 200


async def test_clients_are_forgotten_when_they_have_everything_back(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    await deployment.env.set("RATE_LIMIT_WINDOW_HOURS", "48")
    await deployment.env.set("RATE_LIMIT_GLOBAL_REQUESTS", "20")
    for number in range(10):
        client = {"ip": f"192.0.2.{number}", "userId": f"user {number}"}
        await admin.mutation("ai/limits:checkRequestLimits", {"provider": "openai", **client})
        bot = {"fingerprint": f"f{number}", "userAgent": "GPTBot"}
        await admin.mutation("ai/limits:checkRequestLimits", {"provider": "openai", **bot})
        await guess(deployment, number, "")
        failure = {"keyHash": f"hash {number}"}
        await admin.mutation("embeddings/rateLimiting:logAuthFailure", failure)
    names = {"userAIRequests", "ipAIRequests", "suspiciousBehavior", "failedAuth"}
    assert {row["name"] for row in await limits(deployment)} > names
    await deployment.run_cron("limits of nobody any more")
    assert {row["name"] for row in await limits(deployment)} > names
    await deployment.advance(hours=4)
    await deployment.run_cron("limits of nobody any more")
    await deployment.finish_in_progress_scheduled_functions()
    left = await limits(deployment)
    assert {row["name"] for row in left} == {"globalAIRequests", "openaiRequests"}
    assert [row["value"] for row in left if row["name"] == "globalAIRequests"] == [10]


async def test_bots_that_change_their_name_raise_one_alert(deployment: MemoryDeployment, admin: Caller) -> None:
    for number in range(20):
        bot = {"userAgent": f"GPTBot/{number}", "ip": f"2001:db8::{number}"}  # one network
        await admin.mutation("ai/limits:checkRequestLimits", {"provider": "openai", **bot})
    (alert,) = await rows(deployment, "alerts")
    assert (alert["kind"], alert["subject"]) == ("bot_attack", "2001:db8::/64")
    network: Any = await admin.query("ai/analytics:getBotEvents", {"ip": "2001:db8::ffff"})
    assert len(network) == 20
    assert [event["action"] for event in network[:9]] == ["blocked"] * 9


@pytest.mark.parametrize("agent", ["GPTBot", "Mozilla"])
async def test_who_changes_the_user_agent_all_the_time_fills_no_table(
    deployment: MemoryDeployment, admin: Caller, agent: str
) -> None:
    """Neither as a bot nor beyond the limits; and a bot stays blocked all the while."""
    await deployment.env.set("RATE_LIMIT_GLOBAL_REQUESTS", "1")
    for minute in range(5):
        for number in range(40):
            asked = {"provider": "openai", "userAgent": f"{agent} {minute} {number}", "ip": "192.0.2.1"}
            answer: Any = await admin.mutation("ai/limits:checkRequestLimits", asked)
            assert not answer["allowed"] or (minute, number, agent) == (0, 0, "Mozilla")
            assert number < 20 or 0 < answer["retryAfter"]
        await deployment.advance(minutes=1)
    events = await rows(deployment, "botDetectionEvents")
    assert len(events) == 5 * 20
    assert [event["action"] for event in events[-20:]] == ["blocked"] * 20
    assert len(await limits(deployment)) <= 5 * 20 + 4


@pytest.mark.parametrize("name", ["userId", "ip", "fingerprint"])
async def test_who_asks_has_a_name_of_bounded_length(deployment: MemoryDeployment, admin: Caller, name: str) -> None:
    with pytest.raises(ReactorError, match="INVALID_TEXT"):
        await admin.mutation("ai/limits:checkRequestLimits", {"provider": "openai", name: "x" * 500_000})
    assert await limits(deployment) == []


async def test_an_empty_request_id_makes_no_two_requests_one(admin: Caller) -> None:
    log = {"provider": "p", "model": "m", "fingerprint": "f", "ip": "", "success": True, "latencyMs": 1}
    with pytest.raises(ReactorError, match="INVALID_TEXT"):
        await admin.mutation("ai/analytics:logAIRequest", {**log, "requestId": ""})
    with pytest.raises(ReactorError, match="INVALID_TEXT"):
        await admin.mutation("embeddings/rateLimiting:admit", {"keyHash": "h", "requestId": ""})
