"""The defects of the seed's limits, keys and embeddings, by the rows of the specification's table: what is required."""

import asyncio
import hashlib
from typing import Any

import pytest

from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment

SECOND, MINUTE, HOUR = 1000.0, 60_000.0, 3_600_000.0
ALLOWED = {"allowed": True}
INVALID = {"allowed": False, "reason": "Invalid API key"}
REQUEST: dict[str, Any] = {"batchSize": 1, "latencyMs": 100, "tokensUsed": 10, "success": True}


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def embedding_key(admin: Caller, requests: float = 10, window: float = 60, **more: Any) -> tuple[str, str]:
    """Make a key; return its id and its hash."""
    limit = {"requests": requests, "windowSeconds": window}
    made: Any = await admin.mutation("embeddings/keys:create", {"name": "k", "rateLimit": limit, **more})
    return made["id"], hash_of(made["key"])


async def shown(caller: Caller, key: str, **args: Any) -> Any:
    return await caller.query("embeddings/rateLimiting:checkRateLimit", {"keyHash": key, **args})


async def admit(caller: Caller, key: str, **args: Any) -> Any:
    return await caller.mutation("embeddings/rateLimiting:admit", {"keyHash": key, **args})


async def log(caller: Caller, key: str, request: str, **changes: Any) -> Any:
    args = {**REQUEST, "requestId": request, "apiKeyHash": key, **changes}
    return await caller.mutation("embeddings/rateLimiting:logRequest", args)


async def fail(caller: Caller, key: str, **args: Any) -> None:
    await caller.mutation("embeddings/rateLimiting:logAuthFailure", {"keyHash": key, **args})


async def check(caller: Caller, provider: str = "openai", **args: Any) -> Any:
    return await caller.mutation("ai/limits:checkRequestLimits", {"provider": provider, **args})


async def rows(deployment: MemoryDeployment, table: str) -> list[dict[str, Any]]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def left(deployment: MemoryDeployment, name: str, key: str | None = None) -> float:
    limiter = deployment.module("functions.model.limiter").limiter

    async def read(ctx: Any) -> float:
        return float((await limiter.get_value(ctx, name, key)).check(ctx.now()).value)

    found: Any = await deployment.query(read)
    return float(found)


async def drain(deployment: MemoryDeployment, name: str, count: float, key: str | None = None) -> None:
    limiter = deployment.module("functions.model.limiter").limiter

    async def take(ctx: Any) -> bool:
        return bool((await limiter.limit(ctx, name, key, count)).ok)

    assert await deployment.run(take)


async def test_defect_15_the_decision_is_a_mutation(deployment: MemoryDeployment, admin: Caller) -> None:
    """What a query says goes stale with time; `admit` decides by the time it is asked."""
    _, key = await embedding_key(admin, requests=1)
    assert await admit(admin, key) == {"allowed": True, "remaining": 0}
    async with admin.subscribe("embeddings/rateLimiting:checkRateLimit", {"keyHash": key}) as live:
        exceeded: Any = await live.settled()
        assert exceeded == {
            "allowed": False,
            "reason": "Rate limit exceeded",
            "resetAt": deployment.clock.now_ms + MINUTE,
        }
        await deployment.advance(milliseconds=exceeded["resetAt"] - deployment.clock.now_ms)
        assert await admit(admin, key) == {"allowed": True, "remaining": 0}  # whatever the subscription shows


async def test_defect_16_window_cannot_widen_a_limit(deployment: MemoryDeployment, admin: Caller) -> None:
    _, key = await embedding_key(admin, requests=1, window=60)
    await admit(admin, key)
    for window in (0, -1, 1, 59.999, 1e9):
        with pytest.raises(ReactorError) as refused:
            await shown(admin, key, window=window)
        assert isinstance(refused.value.data, dict)
        assert refused.value.data["code"] == "WINDOW_NOT_CONFIGURED"
    assert not (await shown(admin, key, window=60))["allowed"]
    assert await shown(admin, key, window=60) == await shown(admin, key)
    assert await shown(admin, "unknown", window=60) == INVALID


async def test_defect_17_reset_at_is_the_moment_of_the_next_request(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    await deployment.advance(milliseconds=12_345)
    _, key = await embedding_key(admin, requests=2, window=60)
    begin = deployment.clock.now_ms
    await admit(admin, key)
    await deployment.advance(seconds=20)
    await admit(admin, key)
    await deployment.advance(seconds=20)
    denied = await admit(admin, key)
    assert denied == {"allowed": False, "reason": "Rate limit exceeded", "resetAt": begin + MINUTE}
    assert await shown(admin, key) == denied
    await deployment.advance(milliseconds=begin + MINUTE - deployment.clock.now_ms - 1)
    assert await shown(admin, key) == denied
    assert await admit(admin, key) == denied
    await deployment.advance(milliseconds=1)
    assert (await shown(admin, key, window=60))["allowed"]  # another question: the answer to that one is kept a while
    assert (await admit(admin, key))["allowed"]


async def test_defect_18_remaining_counts_the_request_that_is_asked_about(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    _, key = await embedding_key(admin, requests=3)
    for remaining in (2, 1, 0):
        assert await shown(admin, key) == {"allowed": True, "remaining": remaining}
        assert await admit(admin, key) == {"allowed": True, "remaining": remaining}
    assert not (await shown(admin, key))["allowed"]
    _, closed = await embedding_key(admin, requests=0)
    nothing = {"allowed": False, "reason": "Rate limit exceeded", "resetAt": None}
    assert await shown(admin, closed) == nothing
    assert await admit(admin, closed) == nothing


async def test_defect_19_parallel_requests_never_exceed_the_limit(deployment: MemoryDeployment, admin: Caller) -> None:
    _, key = await embedding_key(admin, requests=10)
    answers = await asyncio.gather(*(admit(admin, key) for _ in range(40)))
    assert sum(answer["allowed"] for answer in answers) == 10


async def test_defect_19_who_logs_without_asking_is_counted(deployment: MemoryDeployment, admin: Caller) -> None:
    """The seed's callers ask the query and log afterwards; who was let in is not counted again."""
    _, key = await embedding_key(admin, requests=3)
    await admit(admin, key, requestId="a")
    await log(admin, key, "a")
    assert await shown(admin, key) == {"allowed": True, "remaining": 1}
    await log(admin, key, "b")
    assert await shown(admin, key) == {"allowed": True, "remaining": 0}
    await log(admin, key, "c")
    await log(admin, key, "d")  # it has been made, so it counts, in the next window
    denied = await shown(admin, key)
    assert denied["resetAt"] == deployment.clock.now_ms + MINUTE
    await deployment.advance(minutes=1)
    assert await shown(admin, key) == {"allowed": True, "remaining": 1}


async def test_defect_20_a_decision_costs_the_same_with_any_number_of_requests(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    _, key = await embedding_key(admin, requests=100_000)
    costs = []
    for round in range(3):
        for request in range(10):
            await log(admin, key, f"{round} {request}")
        with deployment.record_usage() as runs:
            await admit(admin, key)
            await shown(admin, key)
        costs.append([run.documents_read for run in runs])
    assert costs[0] == costs[1] == costs[2]
    assert max(costs[0]) < 10


async def test_defect_21_a_hash_belongs_to_one_key(
    deployment: MemoryDeployment, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = deployment.module("functions.model.keys")
    monkeypatch.setattr(keys.secrets, "token_urlsafe", lambda size: "not random")
    await embedding_key(admin)
    with pytest.raises(ReactorError, match="KEY_EXISTS"):
        await embedding_key(admin)
    assert len(await rows(deployment, "embeddingApiKeys")) == 1


async def test_defect_22_one_answer_for_unknown_inactive_and_expired_keys(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    revoked_id, revoked = await embedding_key(admin)
    _, expired = await embedding_key(admin, expiresInDays=1)
    assert (await shown(admin, revoked))["allowed"]
    await admin.mutation("embeddings/keys:revoke", {"id": revoked_id})
    await deployment.advance(days=1)
    for ask in (shown, admit):
        with deployment.record_usage() as runs:
            answers = [await ask(admin, key) for key in ("unknown", revoked, expired)]
        assert answers == [INVALID] * 3
        reads = [run.documents_read for run in runs if "rateLimiting" in run.path]
        assert len(set(reads)) == 1


async def test_defect_23_a_request_does_not_write_the_document_of_its_key(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    id, key = await embedding_key(admin, requests=1000)
    used = []
    for second in range(0, 150, 10):
        await log(admin, key, f"r{second}")
        (document,) = await rows(deployment, "embeddingApiKeys")
        used.append(document["lastUsed"])
        await deployment.advance(seconds=10)
    assert len(set(used)) == 3  # at most once a minute
    (listed,) = await admin.query("embeddings/keys:list")  # type: ignore[misc]
    assert listed["requestCount"] == 15
    assert document["requestCount"] == 0
    await log(admin, "unknown", "x")
    logged = {row["requestId"]: row for row in await rows(deployment, "embeddingRequests")}
    assert logged["x"]["unknownKey"] is True
    assert logged["r0"]["keyId"] == id


async def test_defect_24_a_request_is_logged_once(deployment: MemoryDeployment, admin: Caller) -> None:
    _, key = await embedding_key(admin)
    first = await log(admin, key, "a")
    assert await log(admin, key, "a", tokensUsed=999) == first
    assert await asyncio.gather(*(log(admin, key, "a") for _ in range(5))) == [first] * 5
    (row,) = await rows(deployment, "embeddingRequests")
    assert row["tokensUsed"] == 10
    assert (await shown(admin, key))["remaining"] == 8
    total: Any = await admin.query("embeddings/stats:getStats", {"window": "1h"})
    assert total["totalRequests"] == 1


async def test_defect_25_the_model_may_be_given(deployment: MemoryDeployment, admin: Caller) -> None:
    await log(admin, "h", "a")
    await log(admin, "h", "b", model="bge-m3")
    assert [row["model"] for row in await rows(deployment, "embeddingRequests")] == ["self-hosted", "bge-m3"]


async def test_defect_26_the_eleventh_failure_within_an_hour_is_flagged(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    for _ in range(10):
        await fail(admin, "h" * 64)
    assert await rows(deployment, "alerts") == []
    assert await rows(deployment, "botDetectionEvents") == []
    await fail(admin, "h" * 64)
    (event,) = await rows(deployment, "botDetectionEvents")
    assert (event["detectionType"], event["action"]) == ("suspicious_pattern", "blocked")
    (alert,) = await rows(deployment, "alerts")
    assert (alert["kind"], alert["subject"]) == ("auth_failures", "key:hhhhhhhh")
    await fail(admin, "other" * 10)
    assert len(await rows(deployment, "botDetectionEvents")) == 1


async def test_defect_26_an_hour_is_an_hour(deployment: MemoryDeployment, admin: Caller) -> None:
    """Ten of an hour ago count no more; spread over the hour, the eleventh is flagged as in a burst."""
    for _ in range(10):
        await fail(admin, "old")
    await deployment.advance(hours=1, milliseconds=1)
    await fail(admin, "old")
    assert await rows(deployment, "alerts") == []
    for _ in range(10):
        await fail(admin, "slow")
        await deployment.advance(minutes=5)
    assert await rows(deployment, "alerts") == []
    await fail(admin, "slow")
    assert len(await rows(deployment, "alerts")) == 1


async def test_defect_26_who_varies_the_key_is_known_by_the_address(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    for guess in range(10):
        await fail(admin, f"guess {guess}", ip="192.0.2.1")
    assert await rows(deployment, "alerts") == []
    await fail(admin, "guess 10", ip="192.0.2.1")
    (alert,) = await rows(deployment, "alerts")
    assert alert["subject"] == "192.0.2.1"
    for guess in range(11):  # IPv6: the last 64 bits are free to choose
        await fail(admin, f"guess6 {guess}", ip=f"2001:db8::{guess}")
    assert len(await rows(deployment, "alerts")) == 2


async def test_defect_27_nobody_forges_failures(deployment: MemoryDeployment) -> None:
    with pytest.raises(ReactorError, match="UNAUTHORIZED"):
        await fail(deployment, "h")
    assert await rows(deployment, "embeddingAuthFailures") == []


async def test_defect_28_admission_is_one_mutation(deployment: MemoryDeployment, admin: Caller) -> None:
    with deployment.record_usage() as runs:
        assert await check(admin, userId="ann", ip="192.0.2.1") == ALLOWED
    assert [run.path for run in runs] == ["ai/limits:checkRequestLimits"]


async def test_defect_29_the_global_limit_trips(deployment: MemoryDeployment, admin: Caller) -> None:
    await deployment.env.set("RATE_LIMIT_GLOBAL_REQUESTS", "3")
    answers = [await check(admin) for _ in range(4)]
    assert answers[:3] == [ALLOWED] * 3
    assert answers[3]["reason"] == "Global rate limit exceeded"


async def test_defect_30_a_denial_takes_no_token(deployment: MemoryDeployment, admin: Caller) -> None:
    await drain(deployment, "userAIRequests", 100, "ann")
    for _ in range(3):
        assert (await check(admin, userId="ann", ip="192.0.2.1"))["reason"] == "User rate limit exceeded"
    await check(admin, userAgent="GPTBot")  # nor does a bot
    assert await left(deployment, "globalAIRequests") == 10_000
    assert await left(deployment, "openaiRequests") == 500
    assert await left(deployment, "ipAIRequests", "192.0.2.1") == 1000


PROVIDERS = {
    **{name: f"{name}Requests" for name in ("openai", "openrouter", "groq", "perplexity", "ollama", "lmstudio")},
    **{name: f"{name}Requests" for name in ("serper", "duckduckgo")},
    "brave": "braveSearchRequests",
    "embeddings": "selfHostedEmbeddings",
    "self-hosted": "selfHostedEmbeddings",
}
STRANGERS = [
    "globalAI",
    "userAI",
    "ipAI",
    "failedAuth",
    "braveSearch",
    "__proto__",
    "constructor",
    "",
    "OpenAI",
    "openai ",
]


async def test_defect_31_providers_are_those_of_a_list(deployment: MemoryDeployment, admin: Caller) -> None:
    for provider, limit in PROVIDERS.items():
        before = await left(deployment, limit)
        assert await check(admin, provider) == ALLOWED
        assert await left(deployment, limit) == before - 1
    for provider in STRANGERS:
        assert await check(admin, provider, userAgent="GPTBot", userId="ann") == {
            "allowed": False,
            "reason": "Unknown provider",
        }
    assert await left(deployment, "globalAIRequests") == 10_000 - len(PROVIDERS)
    assert await rows(deployment, "botDetectionEvents") == []


async def test_defect_32_an_address_has_a_limit(deployment: MemoryDeployment, admin: Caller) -> None:
    await drain(deployment, "ipAIRequests", 1000, "192.0.2.1")
    for more in ({}, {"userId": "ann"}):
        assert (await check(admin, ip="192.0.2.1", **more))["reason"] == "IP rate limit exceeded"
    assert await check(admin, ip="192.0.2.2") == ALLOWED
    for unknown in ("unknown", "", "not an address"):  # what many share limits nobody
        assert await check(admin, ip=unknown) == ALLOWED


async def test_defect_33_a_bot_is_recorded_and_told_to_wait_when_it_goes_on(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    bot = {"userAgent": "GPTBot/1.0", "fingerprint": "f"}
    answers = [await check(admin, **bot) for _ in range(6)]
    assert answers[:5] == [{"allowed": False, "reason": "Bot detected"}] * 5
    assert answers[5]["reason"] == "Bot detected"
    assert 0 < answers[5]["retryAfter"] <= MINUTE
    events = await rows(deployment, "botDetectionEvents")
    assert [event["detectionType"] for event in events] == ["bot_useragent"] * 6
    for _ in range(6):
        await check(admin, **bot)
    actions = [event["action"] for event in await rows(deployment, "botDetectionEvents")]
    assert actions == ["allowed"] * 6 + ["challenged"] * 5 + ["blocked"]
    (alert,) = await rows(deployment, "alerts")
    assert (alert["kind"], alert["subject"]) == ("bot_attack", "f")


async def test_defect_37_keys_are_made_and_their_period_is_seconds(deployment: MemoryDeployment, admin: Caller) -> None:
    limit = {"requests": 2, "period": 60}
    args = {"name": "n", "userId": "u", "scopes": ["a:b"], "rateLimit": limit}
    made: Any = await admin.mutation("apiKeys:create", args)
    results = [await admin.mutation("apiKeys:verify", {"key": made["key"]}) for _ in range(3)]
    assert [result["remaining"] for result in results[:2]] == [1, 0]  # type: ignore[index,call-overload]
    assert results[2] == {"ok": False, "reason": "rate_limited", "retryAfter": 30 * SECOND}


async def test_defect_38_both_tables_of_keys_behave_alike(deployment: MemoryDeployment, admin: Caller) -> None:
    kinds = {
        "apiKeys": {"name": "n", "userId": "u", "scopes": []},
        "embeddings/keys": {"name": "n", "rateLimit": {"requests": 5, "windowSeconds": 60}},
    }
    for module, args in kinds.items():
        made: Any = await admin.mutation(f"{module}:create", args)
        assert made["expiresAt"] == deployment.clock.now_ms + 30 * 24 * HOUR
        assert set(made) == {"id", "key", "prefix", "expiresAt"}
        turned: Any = await admin.mutation(f"{module}:rotate", {"id": made["id"]})
        for key in (made["key"], turned["key"]):
            answer: Any = await admin.mutation(f"{module}:verify", {"key": key})
            assert (answer["ok"], answer["id"]) == (True, made["id"])
        assert await admin.mutation(f"{module}:revoke", {"id": made["id"]}) is True
        assert await admin.mutation(f"{module}:revoke", {"id": made["id"]}) is False
        for key in (made["key"], turned["key"], "unknown"):
            assert await admin.mutation(f"{module}:verify", {"key": key}) == {"ok": False, "reason": "invalid"}


async def test_defect_39_logs_show_eight_characters_of_a_hash(
    deployment: MemoryDeployment, admin: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    secret = hash_of("guess")
    for _ in range(11):
        await fail(admin, secret, ip="192.0.2.1")
    assert secret[:8] in caplog.text
    assert secret[:9] not in caplog.text
    assert secret[:9] not in str(await rows(deployment, "alerts"))
    assert secret[:9] not in str(await rows(deployment, "botDetectionEvents"))


async def test_defect_43_there_is_one_limiter(deployment: MemoryDeployment) -> None:
    names = ("functions.model.admission", "functions.model.verification", "functions.model.auth_failures")
    assert len({id(deployment.module(name).limiter) for name in names}) == 1
