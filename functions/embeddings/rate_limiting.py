"""Limits, logs and failed authentications of the embeddings service.

A service asks `admit` before it works, which decides and counts in one transaction, and `logRequest` afterwards.
`checkRateLimit` only shows what is left. Who logs without having asked is counted all the same, then.
"""

import math
from typing import Any, Final

from functions.access import CallerMutationCtx, CallerQueryCtx, embeddings_mutation, embeddings_query
from functions.model.auth_failures import record_failure
from functions.model.embedding_logs import REQUEST_FIELDS, find_admission, find_request, insert_request
from functions.model.key_usage import record_use
from functions.model.keys import EMBEDDING_KEYS, find_key, is_valid
from functions.model.limiter import limiter
from functions.model.texts import require_names
from functions.model.verification import budget_of, find_usable, is_closed, key_take, take_of
from reactor import ReactorError, v

INVALID_KEY: Final = "Invalid API key"
EXCEEDED: Final = "Rate limit exceeded"

DECISION: Final = v.object(
    {
        "allowed": v.boolean(),
        "reason": v.optional(v.string()),
        "remaining": v.optional(v.number()),
        "resetAt": v.optional(v.nullable(v.number())),
    }
)


@embeddings_query(args={"keyHash": v.string(), "window": v.optional(v.number())}, returns=DECISION)
async def check_rate_limit(ctx: CallerQueryCtx, key_hash: str, window: float | None = None) -> dict[str, Any]:
    """Show what is left of a key's limit: `{allowed, reason?, remaining?, resetAt?}`. Takes nothing; see `admit`.

    `remaining` counts the request that is to be made. Of a limit that is reached `resetAt` is when the next request may
    be made; a subscription is not told when that time comes, its client waits for it by itself. A key that is unknown,
    inactive or expired gives the same answer.

    Args:
        window: the key's own window, in seconds. There is no other.

    Raises:
        ReactorError: code `WINDOW_NOT_CONFIGURED`: `window` is another one than the key's.
    """
    key = await find_key(ctx, EMBEDDING_KEYS, key_hash)
    if key is None or not is_valid(key, ctx.now()):
        return {"allowed": False, "reason": INVALID_KEY}
    configured = key.document["rateLimit"]["windowSeconds"]
    if window is not None and window != configured:
        message = f"The window of this key is {configured:g} seconds and not {window:g}; leave the argument out."
        raise ReactorError({"code": "WINDOW_NOT_CONFIGURED", "configured": configured, "message": message})
    take = key_take(key, ctx.now())
    if take is None or is_closed(key):
        return {"allowed": False, "reason": EXCEEDED, "resetAt": None}
    reading = await limiter.get_value(ctx, take.name, take.key, config=take.config)
    left = reading.check(ctx.now(), 1)
    if left.ok:
        return {"allowed": True, "remaining": math.floor(left.value)}
    return {"allowed": False, "reason": EXCEEDED, "resetAt": left.retry_at}


@embeddings_mutation(
    args={
        "keyHash": v.string(),
        "requestId": v.optional(v.string()),
        "ip": v.optional(v.string()),
        "userAgent": v.optional(v.string()),
    },
    returns=DECISION,
)
async def admit(
    ctx: CallerMutationCtx,
    key_hash: str,
    request_id: str | None = None,
    ip: str | None = None,
    user_agent: str | None = None,
) -> dict[str, Any]:
    """Let a request of a key in and count it, or say why not: `{allowed, reason?, remaining?, resetAt?}`.

    Args:
        request_id: that of `logRequest`, which then knows that the request was counted. Asking again with the same one
            counts nothing.

    Raises:
        ReactorError: code `INVALID_TEXT`.
    """
    require_names({"keyHash": key_hash, "requestId": request_id})
    found = await find_usable(ctx, EMBEDDING_KEYS, key_hash, None, ip, user_agent)
    if found.key is None or found.reason is not None:
        return {"allowed": False, "reason": INVALID_KEY}
    if request_id is None or await find_admission(ctx, found.key, request_id) is None:
        retry_after = await take_of(ctx, found.key)
        await record_use(ctx, found.key, ip, is_refused=retry_after is not None)
        if retry_after is not None:
            reset_at = None if is_closed(found.key) else ctx.now() + retry_after
            return {"allowed": False, "reason": EXCEEDED, "resetAt": reset_at}
        if request_id is not None:
            admission = {"keyId": found.key.id, "requestId": request_id, "timestamp": ctx.now()}
            await ctx.db.insert("embeddingAdmissions", admission)
    budget = await budget_of(ctx, found.key)
    return {"allowed": True, "remaining": budget.remaining}


@embeddings_mutation(args=REQUEST_FIELDS, returns=v.id("embeddingRequests"))
async def log_request(
    ctx: CallerMutationCtx,
    request_id: str,
    api_key_hash: str,
    batch_size: float,
    latency_ms: float,
    tokens_used: float,
    success: bool,
    error: str | None = None,
    model: str = "self-hosted",
) -> str:
    """Record a finished request, and return its id; one that was recorded before is left as it is.

    A request of a key that is not known is recorded with `unknownKey`.

    Raises:
        ReactorError: code `INVALID_TEXT` or `INVALID_NUMBER`.
    """
    require_names({"requestId": request_id, "apiKeyHash": api_key_hash, "model": model})
    before = await find_request(ctx, request_id)
    if before is not None:
        return str(before["_id"])
    key = await find_key(ctx, EMBEDDING_KEYS, api_key_hash)
    if key is not None:
        admission = await find_admission(ctx, key, request_id)
        if admission is not None:
            await ctx.db.delete(admission["_id"])
        else:
            await take_of(ctx, key, afterwards=True)
            await record_use(ctx, key, None, is_refused=False)
    return await insert_request(
        ctx,
        key,
        {
            "requestId": request_id,
            "apiKeyHash": api_key_hash,
            "batchSize": batch_size,
            "latencyMs": latency_ms,
            "tokensUsed": tokens_used,
            "success": success,
            "model": model,
        },
        error,
    )


@embeddings_mutation(
    args={"keyHash": v.string(), "ip": v.optional(v.string()), "userAgent": v.optional(v.string())}, returns=v.null()
)
async def log_auth_failure(
    ctx: CallerMutationCtx, key_hash: str, ip: str | None = None, user_agent: str | None = None
) -> None:
    """Record that a key was presented which is not good. The eleventh within an hour is flagged.

    Raises:
        ReactorError: code `INVALID_TEXT`.
    """
    await record_failure(ctx, key_hash, ip, user_agent)
