"""Analytics of the requests made to AI providers: one log per request, totals over any time range, and bots.

A client of the official JavaScript library calls these as `api.ai.analytics.logAIRequest`, `getProviderStats`,
`detectBotPatterns` and `getBotEvents`. Who may call is said in `functions/access`: those that write take the scope
`analytics:write`, those that read `analytics:read`, and corrections an admin key.
"""

from collections.abc import Mapping
from typing import Any, Final

from functions.access import (
    CallerMutationCtx,
    CallerQueryCtx,
    admin_mutation,
    analytics_mutation,
    analytics_query,
)
from functions.model import audit
from functions.model.addresses import remembered
from functions.model.amounts import require_finite, summary_of
from functions.model.bots import DetectionType, record_event
from functions.model.request_logs import REQUEST_FIELDS, checked, find_log, insert_logs, total_of
from functions.model.spans import HOUR_MS, minute_of, span_of, time_range, window
from reactor import MutationCtx, ReactorError, internal_mutation, v
from schema import bot_action, detection_type

MAX_EVENTS: Final = 1000


@analytics_mutation(args=REQUEST_FIELDS, returns=v.null())
async def log_ai_request(ctx: CallerMutationCtx, /, **request: Any) -> None:
    """Record one finished request, successful or not, at the present time.

    With a `requestId` it is recorded once, however often it is sent. An error is cut to 1,000 characters.

    Raises:
        ReactorError: code `INVALID_NUMBER`: latency, tokens or cost is negative, not finite or too large, or tokens are
            no whole number; `INVALID_TEXT`: a name is too long, or there is no provider or model.
    """
    await insert_logs(ctx, [{**request, "timestamp": ctx.now()}])


@internal_mutation(
    args={"requests": v.array(v.object({**REQUEST_FIELDS, "timestamp": v.optional(v.number())}))},
    returns=v.integer(),
)
async def log_ai_requests(ctx: MutationCtx, requests: list[dict[str, Any]]) -> int:
    """Record many requests in one transaction, each at its `timestamp` or else now; return how many were new.

    For history that is filled in later, and for callers that collect what they log.
    """
    now = ctx.now()
    return await insert_logs(ctx, [{"timestamp": now, **request} for request in requests])


@admin_mutation(
    args={
        "requestId": v.optional(v.string()),
        "id": v.optional(v.id("aiRequestLogs")),
        "success": v.optional(v.boolean()),
        "tokensUsed": v.optional(v.number()),
        "latencyMs": v.optional(v.number()),
        "cost": v.optional(v.number()),
    },
    returns=v.null(),
)
async def correct_ai_request(
    ctx: CallerMutationCtx, /, request_id: str | None = None, id: str | None = None, **numbers: Any
) -> None:
    """Correct the numbers of a log, named by its id or its `requestId`. What is not given stays.

    Raises:
        ReactorError: code `NO_SUCH_LOG`, or `INVALID_NUMBER`.
    """
    log = await ctx.db.get(id) if id is not None else await find_log(ctx, request_id or "")
    if log is None:
        raise ReactorError({"code": "NO_SUCH_LOG", "message": "There is no log with this id or requestId."})
    corrected = checked(numbers)
    await ctx.db.patch(log["_id"], corrected)
    before = {name: log[name] for name in corrected if name in log}
    await audit.record(
        ctx, ctx.caller.name, "aiRequestLogs.correct", log["_id"], {"before": before, "after": corrected}
    )


@analytics_query(
    args={"provider": v.string(), "timeRange": v.optional(time_range), "window": v.optional(window)},
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
async def get_provider_stats(
    ctx: CallerQueryCtx, provider: str, time_range: Mapping[str, Any] | None = None, window: str | None = None
) -> dict[str, Any]:
    """Sum up a provider's requests with start <= timestamp < end, in logarithmic time, exactly.

    The range is half-open, so that adjacent ranges count each request once; without `end` it stays open and a
    subscription sees new requests. `window`, such as `"1h"`, stands for an open range that begins so long ago, on a
    whole minute. The rate and the average over no requests are `null`.

    Raises:
        ReactorError: code `INVALID_RANGE`: both or none of timeRange and window are given; `INVALID_NUMBER`: an end of
            the range is not finite.
    """
    return summary_of(await total_of(ctx, provider, span_of(ctx, time_range, window)))


@analytics_mutation(
    args={
        "fingerprint": v.string(),
        "ip": v.string(),
        "userAgent": v.string(),
        "detectionType": detection_type,
        "authenticated": v.optional(v.boolean()),
        "distinctMinutes": v.optional(v.boolean()),
    },
    returns=v.object({"action": bot_action, "previousAttempts": v.number()}),
)
async def detect_bot_patterns(
    ctx: CallerMutationCtx,
    fingerprint: str,
    ip: str,
    user_agent: str,
    detection_type: DetectionType,
    authenticated: bool = False,
    distinct_minutes: bool = False,
) -> dict[str, Any]:
    """Record that a client was noticed, and say what to do: it is blocked from its twelfth event within an hour.

    `previousAttempts` is how many events there were before, of its fingerprint or its address, whichever are more; 12
    stands for 12 or more. Say `authenticated` of a client with a valid API key: it is blocked for its address only.

    Raises:
        ReactorError: code `INVALID_TEXT`.
    """
    verdict = await record_event(
        ctx,
        fingerprint=fingerprint,
        ip=ip,
        user_agent=user_agent,
        detection_type=detection_type,
        is_authenticated=authenticated,
        distinct_minutes=distinct_minutes,
    )
    return {"action": verdict.action, "previousAttempts": verdict.previous_attempts}


@analytics_query(
    args={
        "limit": v.optional(v.integer()),
        "since": v.optional(v.number()),
        "fingerprint": v.optional(v.string()),
        "ip": v.optional(v.string()),
        "detectionType": v.optional(detection_type),
        "action": v.optional(bot_action),
    },
    returns=v.array(v.any()),
)
async def get_bot_events(
    ctx: CallerQueryCtx, /, limit: int = 100, since: float | None = None, **wanted: str
) -> list[dict[str, Any]]:
    """Return the newest events first: `limit` (1 to 1,000) of those that are wanted, since a time or within an hour.

    Raises:
        ReactorError: code `INVALID_NUMBER`.
    """
    if not 1 <= limit <= MAX_EVENTS:
        message = f"limit is {limit}, and must be from 1 to {MAX_EVENTS}"
        raise ReactorError({"code": "INVALID_NUMBER", "argument": "limit", "message": message})
    since = minute_of(ctx.now() - HOUR_MS) if since is None else since
    require_finite("since", since)
    if "ip" in wanted:
        wanted["ip"] = remembered(wanted["ip"]) or ""
    client = next((field for field in ("fingerprint", "ip") if field in wanted), None)
    events = ctx.db.query("botDetectionEvents")
    if client is None:
        events = events.with_index("by_timestamp", lambda q: q.gte("timestamp", since))
    else:
        events = events.with_index(f"by_{client}", lambda q: q.eq(client, wanted[client]).gte("timestamp", since))
    # What is not wanted is left out before `limit` counts, so that nobody gets fewer than there are.
    return (
        await events.order("desc")
        .where(lambda event: all(event[field] == value for field, value in wanted.items()))
        .take(limit)
    )
