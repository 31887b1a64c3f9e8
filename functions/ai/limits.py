"""Limits of requests to AI providers. `checkRequestLimits` decides about one request and counts it.

The limits and their overrides by environment variables stand in `_catalog`, the order of the decision in `_admission`.
"""

from collections.abc import Mapping
from typing import Any, Final

from functions.access import PUBLIC_LOGGING, CallerMutationCtx, CallerQueryCtx, limits_mutation, limits_query
from functions.model.admission import BOT_DETECTED, UNKNOWN_PROVIDER, admit, denied
from functions.model.fingerprint import HEADER_FIELDS, fingerprint_of
from functions.model.key_usage import record_use
from functions.model.keys import API_KEYS, hash_of
from functions.model.limits import PROVIDERS, wire_limits
from functions.model.scopes import scopes_of
from functions.model.texts import require_names
from functions.model.verification import NEVER_MS, RATE_LIMITED, find_usable, is_closed, key_take
from reactor import MutationCtx, ReactorError, internal_mutation, v

UNKNOWN: Final = "unknown"  # all clients without an address are one, for what is remembered of wrong keys
ADMISSION = v.object({"allowed": v.boolean(), "reason": v.optional(v.string()), "retryAfter": v.optional(v.number())})


@limits_mutation(
    args={
        "provider": v.string(),
        "userId": v.optional(v.string()),
        "ip": v.optional(v.string()),
        "headers": v.optional(HEADER_FIELDS),
        "fingerprint": v.optional(v.string()),
        "userAgent": v.optional(v.string()),
        "tokens": v.optional(v.number()),
    },
    returns=ADMISSION,
)
async def check_request_limits(
    ctx: CallerMutationCtx,
    provider: str,
    user_id: str | None = None,
    ip: str | None = None,
    headers: Mapping[str, str] | None = None,
    fingerprint: str | None = None,
    user_agent: str | None = None,
    tokens: float | None = None,
) -> dict[str, Any]:
    """Let a request in, or say why not: `{allowed: false, reason, retryAfter?}`, with the wait in milliseconds.

    All limits that apply are asked in one transaction; a denial takes no token of any of them. `fingerprint` goes
    before that of `headers`, `userAgent` before that in `headers`. `tokens`, an estimate of what the model will read
    and write, has to be a number that can be one; no limit counts it yet.

    Raises:
        ReactorError: code `INVALID_NUMBER`, `INVALID_TEXT` or `INVALID_SETTING`.
    """
    require_names({"userId": user_id, "ip": ip, "fingerprint": fingerprint})
    if tokens is not None and not 0 <= tokens < 1e12:
        message = f"tokens is {tokens:g}; an estimate is 0 or more"
        raise ReactorError({"code": "INVALID_NUMBER", "argument": "tokens", "message": message})
    sent = dict(headers or {})
    agent = sent.get("userAgent", "") if user_agent is None else user_agent
    if fingerprint is None and (headers is not None or user_agent is not None):
        fingerprint = fingerprint_of({**sent, "userAgent": agent})
    return await admit(ctx, provider=provider, user_id=user_id, ip=ip, fingerprint=fingerprint, user_agent=agent)


@limits_query(returns=v.record(v.string(), v.any()))
async def limits(ctx: CallerQueryCtx) -> dict[str, Any]:
    """Return the fifteen limits by name, with what environment variables change.

    Raises:
        ReactorError: code `INVALID_SETTING`.
    """
    return wire_limits(ctx.env)


@internal_mutation(
    args={
        "provider": v.string(),
        "headers": HEADER_FIELDS,
        "ip": v.optional(v.string()),
        "apiKey": v.optional(v.string()),
    },
    returns=v.object({"status": v.number(), "body": ADMISSION}),
)
async def admit_request(
    ctx: MutationCtx, provider: str, headers: dict[str, str], ip: str | None = None, api_key: str | None = None
) -> dict[str, Any]:
    """Decide about an HTTP request; return the status of its response, and the body.

    Let in are those with an API key or a user's token that has the scope `ai:` and the provider, and admins. A key's
    own limit counts beside the others: a token of each is taken, or none.

    Raises:
        ReactorError: code `INVALID_SETTING`.
    """
    if provider not in PROVIDERS:
        return _answer(400, denied(UNKNOWN_PROVIDER))
    scope, agent = f"ai:{provider}", headers.get("userAgent", "")
    user_id: str | None = None
    key = None
    if api_key is not None:
        found = await find_usable(ctx, API_KEYS, hash_of(api_key), scope, ip or UNKNOWN, agent)
        if found.reason == "scope":
            return _answer(403, denied(f"This key has no scope {scope}"))
        if found.key is None or found.reason is not None:
            wrong = "Invalid API key"
            if found.retry_after is not None:
                return _answer(429, denied(wrong, found.retry_after))
            return _answer(401, denied(wrong))
        key, user_id = found.key, found.key.document["userId"]
    elif not ctx.auth.is_admin:
        identity = await ctx.auth.get_user_identity()
        if identity is not None and scope not in scopes_of(identity):
            return _answer(403, denied(f"This token has no scope {scope}"))
        if identity is not None:
            user_id = identity["tokenIdentifier"]
        elif ctx.env.get(PUBLIC_LOGGING) != "true":
            return _answer(401, denied("API key required"))
    if key is not None and is_closed(key):
        return _answer(429, denied(RATE_LIMITED, NEVER_MS))
    take = None if key is None else key_take(key, ctx.now())
    admission = await admit(
        ctx,
        provider=provider,
        user_id=user_id,
        ip=ip,
        fingerprint=fingerprint_of(headers),
        user_agent=agent,
        is_authenticated=key is not None,
        further=[] if take is None else [take],
    )
    if key is not None:
        await record_use(ctx, key, ip, is_refused=not admission["allowed"])
    if admission["allowed"]:
        return _answer(200, admission)
    return _answer(403 if admission["reason"] == BOT_DETECTED else 429, admission)


def _answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"status": status, "body": body}
