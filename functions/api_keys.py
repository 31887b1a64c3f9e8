"""Keys of the API: who has one may call the functions and providers that its scopes name.

The key itself is shown once, when it is made or rotated; what is stored is its SHA-256, which nobody is shown.
"""

from typing import Any, Final

from functions.access import CallerMutationCtx, CallerQueryCtx, admin_mutation, admin_query, keys_mutation
from functions.model import audit
from functions.model.key_arguments import days_ms, require_limit
from functions.model.keys import (
    API_KEYS,
    GRACE_MS,
    POLICY_DAYS,
    FoundKey,
    hash_of,
    insert_key,
    load_key,
    revoke_key,
    rotate_key,
    shown,
)
from functions.model.scopes import require_scopes
from functions.model.spans import DAY_MS, HOUR_MS
from functions.model.texts import require_names
from functions.model.verification import budget_of
from functions.model.verification import verify as verify_key
from reactor import v

MAX_LISTED: Final = 1000
MAX_USAGE_DAYS: Final = 90

NEW_KEY: Final = v.object(
    {"id": v.id("apiKeys"), "key": v.string(), "prefix": v.string(), "expiresAt": v.nullable(v.number())}
)


@admin_mutation(
    args={
        "name": v.string(),
        "userId": v.string(),
        "scopes": v.array(v.string()),
        "rateLimit": v.optional(v.object({"requests": v.number(), "period": v.number()})),
        "expiresInDays": v.optional(v.number()),
    },
    returns=NEW_KEY,
)
async def create(
    ctx: CallerMutationCtx,
    name: str,
    user_id: str,
    scopes: list[str],
    rate_limit: dict[str, float] | None = None,
    expires_in_days: float = POLICY_DAYS,
) -> dict[str, Any]:
    """Make a key and return it, this once.

    Args:
        scopes: what it is good for, such as `analytics:write`; `*` ends a segment, as in `embeddings:*`. None: nothing.
        rate_limit: `{requests, period}`, the period in seconds. Without it the key has no limit of its own.
        expires_in_days: until it has to be rotated.

    Raises:
        ReactorError: code `INVALID_TEXT`, `INVALID_NUMBER` or `INVALID_SCOPE`.
    """
    require_names({"name": name, "userId": user_id})
    require_scopes(scopes)
    fields: dict[str, Any] = {"name": name, "userId": user_id, "scopes": scopes}
    if rate_limit is not None:
        require_limit(rate_limit, "period")
        fields["rateLimit"] = rate_limit
    expires_at = ctx.now() + days_ms("expiresInDays", expires_in_days)
    key = await insert_key(ctx, API_KEYS, {**fields, "expiresAt": expires_at})
    await audit.record(ctx, ctx.caller.name, "apiKeys.create", key.id, {"prefix": key.prefix, "scopes": scopes})
    return key.answer


@keys_mutation(
    args={
        "key": v.string(),
        "scope": v.optional(v.string()),
        "ip": v.optional(v.string()),
        "userAgent": v.optional(v.string()),
    },
    returns=v.union(
        v.object(
            {
                "ok": v.literal(True),
                "id": v.id("apiKeys"),
                "userId": v.string(),
                "scopes": v.array(v.string()),
                "remaining": v.nullable(v.number()),
                "resetAt": v.nullable(v.number()),
            }
        ),
        v.object({"ok": v.literal(False), "reason": v.string(), "retryAfter": v.optional(v.number())}),
    ),
)
async def verify(
    ctx: CallerMutationCtx, key: str, scope: str | None = None, ip: str | None = None, user_agent: str | None = None
) -> dict[str, Any]:
    """Tell whether a key may be used now, for `scope` if it is given, and count the use.

    Returns:
        `{ok: true, id, userId, scopes, remaining, resetAt}`, the last two null for a key without a limit; or
        `{ok: false, reason, retryAfter?}`, the reason being `invalid` (unknown or revoked), `expired`, `scope` or
        `rate_limited`.
    """
    verified = await verify_key(ctx, API_KEYS, hash_of(key), scope, ip, user_agent)
    if verified.key is None or verified.reason is not None:
        return verified.refusal
    budget = await budget_of(ctx, verified.key)
    document = verified.key.document
    return {
        "ok": True,
        "id": verified.key.id,
        "userId": document["userId"],
        "scopes": document["scopes"],
        "remaining": budget.remaining,
        "resetAt": budget.reset_at,
    }


@admin_mutation(
    args={"id": v.id("apiKeys"), "graceHours": v.optional(v.number()), "expiresInDays": v.optional(v.number())},
    returns=NEW_KEY,
)
async def rotate(
    ctx: CallerMutationCtx, id: str, grace_hours: float = GRACE_MS / HOUR_MS, expires_in_days: float = POLICY_DAYS
) -> dict[str, Any]:
    """Give a key a new secret and return it, this once. The old one stays good for the hours of grace.

    Raises:
        ReactorError: code `NO_SUCH_KEY`, `KEY_REVOKED` or `INVALID_NUMBER`.
    """
    grace = days_ms("graceHours", grace_hours / 24, least=0.0)
    key = await rotate_key(ctx, API_KEYS, id, grace, days_ms("expiresInDays", expires_in_days))
    await audit.record(ctx, ctx.caller.name, "apiKeys.rotate", id, {"prefix": key.prefix, "graceHours": grace_hours})
    return key.answer


@admin_mutation(args={"id": v.id("apiKeys")}, returns=v.boolean())
async def revoke(ctx: CallerMutationCtx, id: str) -> bool:
    """End a key at once, with the secret it had before; return whether it was active.

    Raises:
        ReactorError: code `NO_SUCH_KEY`.
    """
    was_active = await revoke_key(ctx, API_KEYS, id)
    if was_active:
        await audit.record(ctx, ctx.caller.name, "apiKeys.revoke", id)
    return was_active


@admin_query(
    name="list",
    args={"userId": v.optional(v.string()), "limit": v.optional(v.integer())},
    returns=v.array(v.any()),
)
async def list_keys(ctx: CallerQueryCtx, user_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Return keys, those of one owner if it is given, the newest first; of their secrets the first 8 characters."""
    keys = ctx.db.query("apiKeys")
    if user_id is not None:
        keys = keys.with_index("by_user", userId=user_id)
    found = await keys.order("desc").take(min(max(limit, 1), MAX_LISTED))
    return [shown(FoundKey(document, False, API_KEYS)) for document in found]


@admin_query(
    args={"id": v.id("apiKeys"), "days": v.optional(v.integer())},
    returns=v.array(v.object({"day": v.number(), "requests": v.number(), "refused": v.number()})),
)
async def usage(ctx: CallerQueryCtx, id: str, days: int = 30) -> list[dict[str, float]]:
    """Return how often a key was used on each of the last `days` days (UTC, 1 to 90), today included, oldest first.

    Raises:
        ReactorError: code `NO_SUCH_KEY`.
    """
    await load_key(ctx, API_KEYS, id)
    today = ctx.now() - ctx.now() % DAY_MS
    first = today - (min(max(days, 1), MAX_USAGE_DAYS) - 1) * DAY_MS
    hours = ctx.db.query("keyUsage").with_index("by_key", lambda q: q.eq("keyId", id).gte("timestamp", first))
    totals: dict[float, dict[str, float]] = {}
    for day in range(round((today - first) / DAY_MS) + 1):
        start = first + day * DAY_MS
        totals[start] = {"day": start, "requests": 0, "refused": 0}
    async for hour in hours:
        total = totals.get(hour["timestamp"] - hour["timestamp"] % DAY_MS)
        if total is not None:
            total["requests"] += hour["requests"]
            total["refused"] += hour["refused"]
    return list(totals.values())
