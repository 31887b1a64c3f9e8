"""Keys of the embeddings service: made, verified, rotated and revoked like those of the API, in a table of their own.

They have no scopes, and always a limit, whose window begins with the first request in it.
"""

from typing import Any, Final

from functions.access import CallerMutationCtx, CallerQueryCtx, admin_mutation, admin_query, keys_mutation
from functions.model import audit
from functions.model.embedding_logs import count_of
from functions.model.key_arguments import days_ms, require_limit
from functions.model.keys import (
    EMBEDDING_KEYS,
    GRACE_MS,
    POLICY_DAYS,
    FoundKey,
    hash_of,
    insert_key,
    revoke_key,
    rotate_key,
    shown,
)
from functions.model.spans import HOUR_MS
from functions.model.texts import require_names
from functions.model.verification import budget_of
from functions.model.verification import verify as verify_key
from reactor import v

MAX_LISTED: Final = 200  # each has a counter of its own to be read

NEW_KEY: Final = v.object(
    {"id": v.id("embeddingApiKeys"), "key": v.string(), "prefix": v.string(), "expiresAt": v.nullable(v.number())}
)


@admin_mutation(
    args={
        "name": v.string(),
        "rateLimit": v.object({"requests": v.number(), "windowSeconds": v.number()}),
        "expiresInDays": v.optional(v.number()),
    },
    returns=NEW_KEY,
)
async def create(
    ctx: CallerMutationCtx, name: str, rate_limit: dict[str, float], expires_in_days: float = POLICY_DAYS
) -> dict[str, Any]:
    """Make a key and return it, this once.

    Raises:
        ReactorError: code `INVALID_TEXT` or `INVALID_NUMBER`.
    """
    require_names({"name": name})
    require_limit(rate_limit, "windowSeconds")
    expires_at = ctx.now() + days_ms("expiresInDays", expires_in_days)
    fields = {"name": name, "rateLimit": rate_limit, "requestCount": 0, "expiresAt": expires_at}
    key = await insert_key(ctx, EMBEDDING_KEYS, fields)
    await audit.record(ctx, ctx.caller.name, "embeddingKeys.create", key.id, {"prefix": key.prefix})
    return key.answer


@keys_mutation(
    args={"key": v.string(), "ip": v.optional(v.string()), "userAgent": v.optional(v.string())},
    returns=v.union(
        v.object(
            {
                "ok": v.literal(True),
                "id": v.id("embeddingApiKeys"),
                "remaining": v.nullable(v.number()),
                "resetAt": v.nullable(v.number()),
            }
        ),
        v.object({"ok": v.literal(False), "reason": v.string(), "retryAfter": v.optional(v.number())}),
    ),
)
async def verify(
    ctx: CallerMutationCtx, key: str, ip: str | None = None, user_agent: str | None = None
) -> dict[str, Any]:
    """Tell whether a key may be used now, and count the use.

    Returns:
        `{ok: true, id, remaining, resetAt}`, or `{ok: false, reason, retryAfter?}`, the reason being `invalid` (unknown
        or revoked), `expired` or `rate_limited`.
    """
    verified = await verify_key(ctx, EMBEDDING_KEYS, hash_of(key), None, ip, user_agent)
    if verified.key is None or verified.reason is not None:
        return verified.refusal
    budget = await budget_of(ctx, verified.key)
    return {"ok": True, "id": verified.key.id, "remaining": budget.remaining, "resetAt": budget.reset_at}


@admin_mutation(
    args={
        "id": v.id("embeddingApiKeys"),
        "graceHours": v.optional(v.number()),
        "expiresInDays": v.optional(v.number()),
    },
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
    key = await rotate_key(ctx, EMBEDDING_KEYS, id, grace, days_ms("expiresInDays", expires_in_days))
    details = {"prefix": key.prefix, "graceHours": grace_hours}
    await audit.record(ctx, ctx.caller.name, "embeddingKeys.rotate", id, details)
    return key.answer


@admin_mutation(args={"id": v.id("embeddingApiKeys")}, returns=v.boolean())
async def revoke(ctx: CallerMutationCtx, id: str) -> bool:
    """End a key at once, with the secret it had before; return whether it was active.

    Raises:
        ReactorError: code `NO_SUCH_KEY`.
    """
    was_active = await revoke_key(ctx, EMBEDDING_KEYS, id)
    if was_active:
        await audit.record(ctx, ctx.caller.name, "embeddingKeys.revoke", id)
    return was_active


@admin_query(name="list", args={"limit": v.optional(v.integer())}, returns=v.array(v.any()))
async def list_keys(ctx: CallerQueryCtx, limit: int = 100) -> list[dict[str, Any]]:
    """Return keys, the newest first, with how many requests were logged of each, and the first 8 characters of it."""
    found = await ctx.db.query("embeddingApiKeys").order("desc").take(min(max(limit, 1), MAX_LISTED))
    keys = [FoundKey(document, False, EMBEDDING_KEYS) for document in found]
    return [{**shown(key), "requestCount": await count_of(ctx, key)} for key in keys]
