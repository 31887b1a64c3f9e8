"""Limits of requests to AI providers. `checkRequestLimits` decides about one request and counts it.

The limits and their overrides by environment variables stand in `_catalog`, the order of the decision in `_admission`.
"""

from collections.abc import Mapping
from typing import Any

from functions._limiter import take_each
from functions.access import CallerMutationCtx, CallerQueryCtx, limits_mutation, limits_query
from functions.ai._admission import admit
from functions.ai._catalog import wire_limits
from functions.ai.fingerprint import HEADER_FIELDS, fingerprint_of
from reactor import MutationCtx, ReactorError, internal_mutation, v

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
        ReactorError: code `INVALID_NUMBER` or `INVALID_SETTING`.
    """
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


@internal_mutation(args={"takes": v.array(v.any())}, returns=v.null())
async def take_all_or_raise(ctx: MutationCtx, takes: list[dict[str, Any]]) -> None:
    """Take one token of each limit; see `_limiter.take_all`, whose part of a transaction this is."""
    await take_each(ctx, takes)
