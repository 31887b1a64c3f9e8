"""Analytics of the requests made to AI providers: one row per request, and totals over a time range.

A client of the official JavaScript library calls these as `api.ai.analytics.logAIRequest` and `getProviderStats`.
"""

import math
from typing import Any

from reactor import MutationCtx, QueryCtx, ReactorError, mutation, query, v

COST_DIGITS = 6  # sums of float costs drift; a millionth of a currency unit is below any provider's price


@mutation(
    args={
        "provider": v.string(),
        "model": v.string(),
        "userId": v.optional(v.string()),
        "fingerprint": v.string(),
        "ip": v.string(),
        "success": v.boolean(),
        "error": v.optional(v.string()),
        "tokensUsed": v.optional(v.number()),
        "latencyMs": v.number(),
        "cost": v.optional(v.number()),
    },
    returns=v.null(),
)
async def log_ai_request(
    ctx: MutationCtx,
    provider: str,
    model: str,
    fingerprint: str,
    ip: str,
    success: bool,
    latency_ms: float,
    user_id: str | None = None,
    error: str | None = None,
    tokens_used: float | None = None,
    cost: float | None = None,
) -> None:
    """Record one finished request, successful or not, at the present time.

    Raises:
        ReactorError: code `INVALID_NUMBER`; latency, tokens or cost is negative or not finite.
    """
    require_amount("latencyMs", latency_ms)
    require_amount("tokensUsed", tokens_used)
    require_amount("cost", cost)
    optional = {"userId": user_id, "error": error, "tokensUsed": tokens_used, "cost": cost}
    await ctx.db.insert(
        "aiRequestLogs",
        {
            "timestamp": ctx.now(),
            "provider": provider,
            "model": model,
            "fingerprint": fingerprint,
            "ip": ip,
            "success": success,
            "latencyMs": latency_ms,
            **{field: value for field, value in optional.items() if value is not None},
        },
    )


@query(
    args={
        "provider": v.string(),
        "timeRange": v.object({"start": v.number(), "end": v.optional(v.number())}),
    },
    returns=v.object(
        {
            "totalRequests": v.number(),
            "successRate": v.nullable(v.number()),
            "averageLatency": v.nullable(v.number()),
            "totalTokens": v.number(),
            "totalCost": v.number(),
        }
    ),
)
async def get_provider_stats(ctx: QueryCtx, provider: str, time_range: dict[str, float]) -> dict[str, Any]:
    """Sum up a provider's requests with start <= timestamp < end.

    The range is half-open, so that adjacent ranges count each request once; without `end` it stays open and a
    subscription sees new requests. Round `start` to the minute to share one live query among many callers. The rate
    and the average over no requests are `null`.

    Raises:
        ReactorError: code `INVALID_NUMBER`; an end of the range is not finite.
    """
    start, end = time_range["start"], time_range.get("end")
    require_finite("timeRange.start", start)
    if end is not None:
        require_finite("timeRange.end", end)

    def in_range(q: Any) -> Any:
        after_start = q.eq("provider", provider).gte("timestamp", start)
        return after_start if end is None else after_start.lt("timestamp", end)

    requests = successes = 0
    latency = tokens = cost = 0.0
    async for request in ctx.db.query("aiRequestLogs").with_index("by_provider", in_range):
        requests += 1
        successes += request["success"]
        latency += request["latencyMs"]
        tokens += request.get("tokensUsed", 0.0)
        cost += request.get("cost", 0.0)
    return {
        "totalRequests": requests,
        "successRate": successes / requests if requests else None,
        "averageLatency": latency / requests if requests else None,
        "totalTokens": tokens,
        "totalCost": round(cost, COST_DIGITS),
    }


def require_finite(name: str, value: float) -> None:
    """Refuse NaN and infinities, which would make every sum they enter meaningless."""
    if not math.isfinite(value):
        raise ReactorError({"code": "INVALID_NUMBER", "argument": name, "message": f"{name} must be finite"})


def require_amount(name: str, value: float | None) -> None:
    """Refuse what can be no amount: a negative number, NaN, an infinity. None is an absent argument."""
    if value is None:
        return
    require_finite(name, value)
    if value < 0:
        raise ReactorError({"code": "INVALID_NUMBER", "argument": name, "message": f"{name} must not be negative"})
