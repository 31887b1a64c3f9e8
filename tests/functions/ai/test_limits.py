"""Admission: `ai/limits:checkRequestLimits`, decided and counted in one transaction."""

import asyncio
from typing import Any

import pytest

from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment
from tests.sizes import size

ALLOWED = {"allowed": True}


async def check(caller: Caller, provider: str = "openai", **args: Any) -> Any:
    return await caller.mutation("ai/limits:checkRequestLimits", {"provider": provider, **args})


async def left(deployment: MemoryDeployment, name: str, key: str | None = None) -> float:
    """Return how many tokens a limit has now."""
    module = deployment.module("functions.model.limiter")

    async def read(ctx: Any) -> Any:
        reading = await module.limiter.get_value(ctx, name, key)
        return reading.check(ctx.now()).value

    found: Any = await deployment.query(read)
    return float(found)


async def drain(deployment: MemoryDeployment, name: str, count: float, key: str | None = None) -> None:
    """Take tokens of a limit."""
    module = deployment.module("functions.model.limiter")
    status = await deployment.run(lambda ctx: taken(ctx, module, name, count, key))
    assert status


async def taken(ctx: Any, module: Any, name: str, count: float, key: str | None) -> bool:
    return bool((await module.limiter.limit(ctx, name, key, count)).ok)


async def rows(deployment: MemoryDeployment, table: str) -> list[dict[str, Any]]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def test_a_request_takes_a_token_of_each_limit_that_applies(deployment: MemoryDeployment, admin: Caller) -> None:
    assert await check(admin, "groq", userId="ann", ip="192.0.2.1") == ALLOWED
    assert await left(deployment, "globalAIRequests") == 9999
    assert await left(deployment, "groqRequests") == 299
    assert await left(deployment, "userAIRequests", "ann") == 99
    assert await left(deployment, "ipAIRequests", "192.0.2.1") == 999
    assert await left(deployment, "openaiRequests") == 500


REASONS = [
    ("globalAIRequests", None, 10_000, "Global rate limit exceeded"),
    ("openaiRequests", None, 500, "openai rate limit exceeded"),
    ("userAIRequests", "ann", 100, "User rate limit exceeded"),
    ("ipAIRequests", "192.0.2.1", 1000, "IP rate limit exceeded"),
]


@pytest.mark.parametrize("first", range(len(REASONS)), ids=[name for name, *_ in REASONS])
async def test_the_first_limit_that_fails_gives_the_reason(
    deployment: MemoryDeployment, admin: Caller, first: int
) -> None:
    waits = []
    for name, key, count, _ in REASONS[first:]:
        await drain(deployment, name, count, key)
        alone = await deployment.query(lambda ctx, n=name, k=key: waiting(ctx, deployment, n, k))
        waits.append(alone)
    denied = await check(admin, userId="ann", ip="192.0.2.1")
    assert denied == {"allowed": False, "reason": REASONS[first][3], "retryAfter": max(waits)}  # type: ignore[type-var]


async def waiting(ctx: Any, deployment: MemoryDeployment, name: str, key: str | None) -> Any:
    status = await deployment.module("functions.model.limiter").limiter.check(ctx, name, key)
    assert not status.ok
    return status.retry_after


async def test_a_denied_request_succeeds_after_its_wait(deployment: MemoryDeployment, admin: Caller) -> None:
    await drain(deployment, "userAIRequests", 100, "ann")
    denied = await check(admin, userId="ann")
    assert denied["retryAfter"] == 36_000  # 100 an hour
    await deployment.advance(milliseconds=35_999)
    assert not (await check(admin, userId="ann"))["allowed"]
    await deployment.advance(milliseconds=1)
    assert await check(admin, userId="ann") == ALLOWED


async def test_a_denial_is_recorded_once_a_minute_and_only_with_a_fingerprint(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    await drain(deployment, "userAIRequests", 100, "ann")
    await check(admin, userId="ann")
    assert await rows(deployment, "botDetectionEvents") == []
    for _ in range(3):
        await check(admin, userId="ann", fingerprint="f")
    (event,) = await rows(deployment, "botDetectionEvents")
    assert (event["detectionType"], event["fingerprint"]) == ("rate_limit", "f")
    await deployment.advance(minutes=1)
    await drain(deployment, "userAIRequests", 1, "ann")
    await check(admin, userId="ann", fingerprint="f")
    assert len(await rows(deployment, "botDetectionEvents")) == 2


async def test_a_shared_limit_that_is_exhausted_raises_an_alert(deployment: MemoryDeployment, admin: Caller) -> None:
    await drain(deployment, "perplexityRequests", 100)
    await drain(deployment, "userAIRequests", 100, "ann")
    for _ in range(3):
        await check(admin, "perplexity", userId="ann")
    (alert,) = await rows(deployment, "alerts")
    assert (alert["kind"], alert["subject"]) == ("limit_exhausted", "perplexityRequests")


@pytest.mark.parametrize("shards", [None, "3"])
async def test_concurrent_admissions_never_exceed_the_limit(
    deployment: MemoryDeployment, admin: Caller, shards: str | None
) -> None:
    await deployment.env.update({"RATE_LIMIT_GLOBAL_REQUESTS": "25", "RATE_LIMIT_SHARDS": shards})
    answers = await asyncio.gather(*(check(admin, userId=f"u{n % 3}") for n in range(size(60, 600))))
    allowed = sum(answer["allowed"] for answer in answers)
    assert allowed == 25 if shards is None else 20 <= allowed <= 25
    assert {answer.get("reason") for answer in answers} == {None, "Global rate limit exceeded"}
    used = [100 - await left(deployment, "userAIRequests", f"u{n}") for n in range(3)]
    assert sum(used) == allowed  # what was denied has taken nothing


@pytest.mark.parametrize("tokens", [-1, float("nan"), float("inf")])
async def test_an_estimate_has_to_be_one(admin: Caller, tokens: float) -> None:
    assert await check(admin, tokens=0) == ALLOWED
    with pytest.raises(ReactorError, match="tokens"):
        await check(admin, tokens=tokens)


BOTS = ["GPTBot/1.0", "ClaudeBot/1.0", "HeadlessChrome", "CUBOT X30", "my-CRAWLER", "anthropic-ai", "Claude-Web/1"]
OTHERS = ["", "curl/8.5.0", "python-requests/2.31", "Mozilla/5.0 (X11; Linux x86_64)"]


async def test_user_agents_of_bots(deployment: MemoryDeployment) -> None:
    is_bot = deployment.module("functions.model.admission").is_bot
    assert [agent for agent in BOTS if not is_bot(agent)] == []
    assert [agent for agent in OTHERS if is_bot(agent)] == []


async def test_a_client_that_is_blocked_is_refused_until_the_hour_is_over(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    event = {"fingerprint": "f", "ip": "", "userAgent": "x", "detectionType": "suspicious_pattern"}
    for _ in range(11):
        await admin.mutation("ai/analytics:detectBotPatterns", event)
    assert await check(admin, fingerprint="f") == ALLOWED  # challenged, which is the caller's matter
    await admin.mutation("ai/analytics:detectBotPatterns", event)
    assert await check(admin, fingerprint="f") == {"allowed": False, "reason": "Bot detected"}
    assert await check(admin, fingerprint="g") == ALLOWED
    await deployment.advance(hours=1, milliseconds=1)
    assert await check(admin, fingerprint="f") == ALLOWED


async def test_the_fingerprint_may_come_from_the_headers(deployment: MemoryDeployment, admin: Caller) -> None:
    await check(admin, headers={"userAgent": "GPTBot", "accept": "*/*"})
    await check(admin, userAgent="GPTBot")
    events = await rows(deployment, "botDetectionEvents")
    assert len({event["fingerprint"] for event in events}) == 2
    assert all(len(event["fingerprint"]) == 16 for event in events)
