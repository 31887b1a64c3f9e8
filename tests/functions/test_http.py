"""`POST /ai/{provider}`: admission over HTTP, with the statuses that clients of HTTP expect."""

import asyncio
from typing import Any

import pytest

from reactor import Error
from reactor.errors import TooManyRequests, WriteConflict
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment

BROWSER = {"User-Agent": "Mozilla/5.0"}


async def post(caller: Any, provider: str = "openai", key: str | None = None, **headers: str) -> Any:
    own = {} if key is None else {"X-API-Key": key}
    sent = {**BROWSER, **own, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await caller.fetch(f"/ai/{provider}", method="POST", headers=sent)


async def key_for(admin: Caller, *scopes: str, **more: Any) -> Any:
    args = {"name": "n", "userId": "ann", "scopes": list(scopes or ("ai:*",)), **more}
    return await admin.mutation("apiKeys:create", args)


async def drain(deployment: MemoryDeployment, name: str, count: float, key: str | None = None) -> None:
    limiter = deployment.module("functions.model.limiter").limiter

    async def take(ctx: Any) -> bool:
        return bool((await limiter.limit(ctx, name, key, count)).ok)

    assert await deployment.run(take)


async def rows(deployment: MemoryDeployment, table: str) -> list[dict[str, Any]]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def test_a_request_is_let_in(deployment: MemoryDeployment, admin: Caller) -> None:
    key = (await key_for(admin))["key"]
    answer = await post(deployment, key=key)
    assert (answer.status_code, answer.json()) == (200, {"allowed": True})
    assert "retry-after" not in answer.headers
    bearer = await post(deployment, Authorization=f"Bearer {key}")
    assert bearer.status_code == 200


async def test_defect_34_retry_after_is_in_seconds(deployment: MemoryDeployment, admin: Caller) -> None:
    key = (await key_for(admin))["key"]
    for wait, expected in ((36_000, "36"), (35_001, "36"), (35_000, "35"), (1, "1")):
        user = await key_for(admin, rateLimit={"requests": 1, "period": wait / 1000})
        assert (await post(deployment, key=user["key"])).status_code == 200
        denied = await post(deployment, key=user["key"])
        assert (denied.status_code, denied.headers["retry-after"]) == (429, expected)
        assert denied.json()["retryAfter"] == pytest.approx(wait)
    await drain(deployment, "openaiRequests", 496)
    denied = await post(deployment, key=key)
    assert denied.status_code == 429
    assert denied.json() == {"allowed": False, "reason": "openai rate limit exceeded", "retryAfter": 120}
    assert denied.headers["retry-after"] == "1"


async def test_an_unknown_provider_is_a_bad_request(deployment: MemoryDeployment, admin: Caller) -> None:
    key = (await key_for(admin))["key"]
    for provider in ("globalAI", "userAI", "__proto__", "", "openai/", "openai/x", "%6fpen"):
        answer = await post(deployment, provider, key=key)
        assert (answer.status_code, answer.json()) == (400, {"allowed": False, "reason": "Unknown provider"})


async def test_who_is_not_let_in(deployment: MemoryDeployment, admin: Caller) -> None:
    revoked = await key_for(admin)
    await admin.mutation("apiKeys:revoke", {"id": revoked["id"]})
    expired = await key_for(admin, expiresInDays=1)
    await deployment.advance(days=1)
    missing = await post(deployment)
    assert (missing.status_code, missing.json()["reason"]) == (401, "API key required")
    answers = [await post(deployment, key=key) for key in ("rk_unknown", revoked["key"], expired["key"], "")]
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (401, '{"allowed":false,"reason":"Invalid API key"}')
    }
    assert len(await rows(deployment, "embeddingAuthFailures")) == 4
    narrow = await key_for(admin, "ai:groq")
    assert (await post(deployment, "openai", key=narrow["key"])).status_code == 403
    assert (await post(deployment, "groq", key=narrow["key"])).status_code == 200


async def test_users_and_admins_are_let_in_by_their_identity(deployment: MemoryDeployment, admin: Caller) -> None:
    assert (await post(admin)).status_code == 200
    ann = deployment.with_identity({"name": "Ann", "subject": "ann", "issuer": "https://i", "scope": "ai:openai"})
    assert (await post(ann)).status_code == 200
    assert (await post(ann, "groq")).status_code == 403
    await drain(deployment, "userAIRequests", 99, "https://i|ann")
    assert (await post(ann)).json()["reason"] == "User rate limit exceeded"
    await deployment.env.set("AI_PUBLIC_LOGGING", "true")
    assert (await post(deployment)).status_code == 200


async def test_guessing_keys_is_slowed_down(deployment: MemoryDeployment, admin: Caller) -> None:
    good = (await key_for(admin))["key"]
    await deployment.env.set("TRUSTED_PROXIES", "1")
    statuses = [
        (await post(deployment, key=f"rk_{guess}", X_Forwarded_For="192.0.2.1")).status_code for guess in range(12)
    ]
    assert statuses == [401] * 10 + [429] * 2
    assert (await post(deployment, key=good, X_Forwarded_For="192.0.2.1")).status_code == 200


async def test_a_bot_is_refused(deployment: MemoryDeployment, admin: Caller) -> None:
    key = (await key_for(admin))["key"]
    answer = await post(deployment, key=key, User_Agent="GPTBot/1.0")
    assert (answer.status_code, answer.json()) == (403, {"allowed": False, "reason": "Bot detected"})
    (event,) = await rows(deployment, "botDetectionEvents")
    assert event["detectionType"] == "bot_useragent"


async def test_a_fingerprint_alone_blocks_nobody_who_has_a_key(deployment: MemoryDeployment, admin: Caller) -> None:
    """It is a few headers, which everybody with the same browser sends."""
    module = deployment.module("functions.model.fingerprint")
    event = {"fingerprint": module.fingerprint_of({"userAgent": "Mozilla/5.0"}), "ip": "", "userAgent": "x"}
    for _ in range(12):
        await admin.mutation("ai/analytics:detectBotPatterns", {**event, "detectionType": "suspicious_pattern"})
    assert (await post(deployment, key=(await key_for(admin))["key"])).status_code == 200
    assert (await post(admin)).status_code == 403


async def test_defect_35_a_denied_request_is_decided_before_any_work(
    deployment: MemoryDeployment, admin: Caller
) -> None:
    """Admission logs no request: who does the work logs it once, with what it took."""
    key = (await key_for(admin))["key"]
    await post(deployment, key=key)
    assert await rows(deployment, "aiRequestLogs") == []


async def test_defect_36_the_address_is_that_of_the_trusted_proxy(deployment: MemoryDeployment, admin: Caller) -> None:
    await deployment.env.set("TRUSTED_PROXIES", "1")
    await drain(deployment, "ipAIRequests", 1000, "192.0.2.1")
    denied = await post(admin, X_Forwarded_For="6.6.6.6, 192.0.2.1")
    assert denied.json()["reason"] == "IP rate limit exceeded"
    assert (await post(admin, X_Forwarded_For="192.0.2.1, 192.0.2.9")).status_code == 200


async def test_concurrent_requests_never_exceed_a_keys_limit(deployment: MemoryDeployment, admin: Caller) -> None:
    key = (await key_for(admin, rateLimit={"requests": 5, "period": 3600}))["key"]
    answers = await asyncio.gather(*(post(deployment, key=key) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 15
    left = await deployment.query(lambda ctx: global_left(deployment, ctx))
    assert left == 9995  # a denial of the key's own limit took no token of the others


async def global_left(deployment: MemoryDeployment, ctx: Any) -> Any:
    reading = await deployment.module("functions.model.limiter").limiter.get_value(ctx, "globalAIRequests")
    return reading.check(ctx.now()).value


async def test_a_key_that_allows_nothing(deployment: MemoryDeployment, admin: Caller) -> None:
    key = (await key_for(admin, rateLimit={"requests": 0, "period": 60}))["key"]
    assert (await post(deployment, key=key)).status_code == 429


@pytest.mark.parametrize("error", [WriteConflict("lost"), TooManyRequests("full")])
async def test_conflicts_that_do_not_end_are_no_server_error(deployment: MemoryDeployment, error: Error) -> None:
    http = deployment.module("functions.http")

    class Ctx:
        def __init__(self) -> None:
            self.env: dict[str, str] = {}

        def run_mutation(self, *args: Any) -> Any:
            raise error

    request = http.Request(
        {
            "type": "http",
            "method": "POST",
            "path": "/ai/openai",
            "headers": [],
            "query_string": b"",
            "server": ("x", 80),
            "scheme": "http",
        }
    )
    answer = await http.admission.handler(Ctx(), request)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
