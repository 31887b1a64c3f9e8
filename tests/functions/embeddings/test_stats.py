"""Totals of requests for embeddings: equal to a scan of the log, for each key and for all, after every write."""

import hashlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment
from tests.sizes import size

NOTHING = {"totalRequests": 0, "totalTokens": 0, "averageLatency": None, "p95Latency": None, "errorRate": None}
START = 1_000_000.0


async def embedding_key(admin: Caller) -> tuple[str, str]:
    limit = {"requests": 100_000, "windowSeconds": 60}
    made: Any = await admin.mutation("embeddings/keys:create", {"name": "k", "rateLimit": limit})
    return made["id"], hashlib.sha256(made["key"].encode()).hexdigest()


async def stats(caller: Caller, **args: Any) -> Any:
    return await caller.query(
        "embeddings/stats:getStats",
        args if "window" in args or "timeRange" in args else {"timeRange": {"start": 0}, **args},
    )


async def test_nothing_gives_nulls(admin: Caller) -> None:
    assert await stats(admin) == NOTHING
    id, _ = await embedding_key(admin)
    assert await stats(admin, keyId=id, window="1h") == NOTHING


async def test_requests_are_summed_up_by_key_and_in_total(deployment: MemoryDeployment, admin: Caller) -> None:
    first, second = await embedding_key(admin), await embedding_key(admin)
    requests = [(first[1], 100, 10, True), (first[1], 300, 30, False), (second[1], 50, 5, True), ("?", 1, 1, True)]
    for number, (key, latency, tokens, success) in enumerate(requests):
        args = {"apiKeyHash": key, "latencyMs": latency, "tokensUsed": tokens, "success": success, "batchSize": 1}
        await admin.mutation("embeddings/rateLimiting:logRequest", {**args, "requestId": str(number)})
    of_first = await stats(admin, keyId=first[0])
    assert of_first.pop("p95Latency") == pytest.approx(300, rel=0.05)
    assert of_first == {"totalRequests": 2, "totalTokens": 40, "averageLatency": 200, "errorRate": 0.5}
    total = await stats(admin)
    assert (total["totalRequests"], total["totalTokens"], total["errorRate"]) == (4, 46, 0.25)


async def test_a_rotated_key_keeps_its_totals(deployment: MemoryDeployment, admin: Caller) -> None:
    id, before = await embedding_key(admin)
    turned: Any = await admin.mutation("embeddings/keys:rotate", {"id": id})
    after = hashlib.sha256(turned["key"].encode()).hexdigest()
    request = {"batchSize": 1, "latencyMs": 1, "tokensUsed": 1, "success": True}
    for key in (before, after):
        await admin.mutation("embeddings/rateLimiting:logRequest", {**request, "requestId": key, "apiKeyHash": key})
    assert (await stats(admin, keyId=id))["totalRequests"] == 2


LOG = st.tuples(
    st.integers(0, 2), st.integers(0, 40), st.integers(0, 500_000), st.integers(0, 1000), st.booleans(), st.booleans()
)


@settings(max_examples=size(3, 50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(logs=st.lists(LOG, min_size=1, max_size=40), start=st.integers(-1, 41), span=st.integers(0, 42))
def test_totals_equal_a_scan(make_deployment: Any, logs: list[Any], start: int, span: int) -> None:
    """Also after logs were deleted, by whoever: the totals follow the table."""
    with make_deployment().blocking() as deployment:

        async def fill(ctx: Any) -> list[dict[str, Any]]:
            keys = [await ctx.db.insert("embeddingApiKeys", {**KEY, "keyHash": str(number)}) for number in range(3)]
            kept = []
            for number, (key, second, micros, tokens, success, is_deleted) in enumerate(logs):
                document = {
                    "requestId": str(number),
                    "apiKeyHash": str(key),
                    "keyId": keys[key],
                    "timestamp": START + second,
                    "batchSize": 1,
                    "latencyMs": micros / 1000,
                    "tokensUsed": tokens,
                    "success": success,
                    "model": "m",
                }
                id = await ctx.db.insert("embeddingRequests", document)
                if is_deleted:
                    await ctx.db.delete(id)
                else:
                    kept.append(document)
            return kept

        kept: Any = deployment.run(fill)
        admin = deployment.as_admin()
        begin, end = START + start, START + start + span
        within = [log for log in kept if begin <= log["timestamp"] < end]
        keys: set[str | None] = {None, *(log["keyId"] for log in kept)}
        for key in keys:
            wanted = [log for log in within if key in (None, log["keyId"])]
            args = {"timeRange": {"start": begin, "end": end}} | ({} if key is None else {"keyId": key})
            found: Any = admin.query("embeddings/stats:getStats", args)
            assert found["totalRequests"] == len(wanted)
            assert found["totalTokens"] == sum(log["tokensUsed"] for log in wanted)
            if wanted:
                latencies = sorted(log["latencyMs"] for log in wanted)
                assert found["averageLatency"] == pytest.approx(sum(latencies) / len(wanted), rel=1e-12)
                p95 = max(1.0, latencies[-(-95 * len(wanted) // 100) - 1])
                assert found["p95Latency"] == pytest.approx(p95, rel=0.051)
                assert found["errorRate"] == sum(not log["success"] for log in wanted) / len(wanted)


KEY = {
    "name": "k",
    "createdAt": 0,
    "requestCount": 0,
    "active": True,
    "rateLimit": {"requests": 10, "windowSeconds": 60},
}


async def test_a_question_costs_no_more_with_more_requests(deployment: MemoryDeployment, admin: Caller) -> None:
    _, key = await embedding_key(admin)
    count = size(300, 5000)

    async def fill(ctx: Any, first: int) -> None:
        for number in range(first, first + 100):
            request = {"requestId": str(number), "apiKeyHash": key, "timestamp": float(number), "batchSize": 1}
            more = {"latencyMs": 1.0 + number % 50, "tokensUsed": 1, "success": True, "model": "m"}
            await ctx.db.insert("embeddingRequests", {**request, **more})

    for first in range(0, count, 100):
        await deployment.run(lambda ctx, first=first: fill(ctx, first))
    with deployment.record_usage() as runs:
        found = await stats(admin, timeRange={"start": 7, "end": count - 7})
    assert found["totalRequests"] == count - 14
    assert runs[-1].documents_read < 40


async def test_numbers_have_to_be_possible(deployment: MemoryDeployment, admin: Caller) -> None:
    request = {"requestId": "a", "apiKeyHash": "h", "batchSize": 1, "latencyMs": 1, "tokensUsed": 1, "success": True}
    nan = float("nan")
    for change in ({"batchSize": 1.5}, {"batchSize": -1}, {"batchSize": nan}, {"latencyMs": -1}, {"tokensUsed": 0.5}):
        with pytest.raises(ReactorError) as refused:
            await admin.mutation("embeddings/rateLimiting:logRequest", {**request, **change})
        assert isinstance(refused.value.data, dict)
        assert refused.value.data["code"] == "INVALID_NUMBER"
    assert await stats(admin) == NOTHING
