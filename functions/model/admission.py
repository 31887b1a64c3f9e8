"""Whether a request to an AI provider is let in: the one implementation, for functions and for HTTP.

In this order: is there such a provider, is it a bot, is there a token of every limit that applies. Only when all have
one are they taken; a denial takes nothing, and tells the longest wait. What is noticed of bots is committed, so the
caller returns the answer and does not raise. Used by `functions/ai/limits`.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from functions.model import alerts
from functions.model.addresses import address_key
from functions.model.bots import record_event
from functions.model.limiter import Denial, Take, limiter, take_all, takes_of
from functions.model.limits import GLOBAL, IP, PROVIDERS, SHARED_BY_ALL, SUSPICIOUS, USER
from functions.model.spans import HOUR_MS, MINUTE_MS
from reactor import MutationCtx

BOT: Final = re.compile(
    "bot|crawler|spider|scraper|headless|selenium|puppeteer|playwright|GPTBot|Claude-Web|ChatGPT|CCBot|anthropic-ai"
    "|PerplexityBot",
    re.IGNORECASE,
)
LOOKED_AT: Final = 20  # events: of a client that is noticed so often, one denial more or less is no matter
NOTED: Final = 20  # events of one address within a minute: who changes the user agent all the time fills no table
UNKNOWN_PROVIDER: Final = "Unknown provider"
BOT_DETECTED: Final = "Bot detected"


def is_bot(user_agent: str) -> bool:
    """Tell whether a user agent names a bot. "CUBOT", a phone, does; an empty one, curl and libraries don't."""
    return BOT.search(user_agent) is not None


def denied(reason: str, retry_after: float | None = None) -> dict[str, Any]:
    """Return a denial as callers get it; `retryAfter` is in milliseconds."""
    answer: dict[str, Any] = {"allowed": False, "reason": reason}
    return answer if retry_after is None else {**answer, "retryAfter": retry_after}


async def admit(
    ctx: MutationCtx,
    *,
    provider: str,
    user_id: str | None = None,
    ip: str | None = None,
    fingerprint: str | None = None,
    user_agent: str = "",
    is_authenticated: bool = False,
    further: Sequence[Take] = (),
) -> dict[str, Any]:
    """Let a request in, or say why not, as `{allowed, reason?, retryAfter?}`.

    Args:
        user_id: who asks. With an address both limits apply.
        ip: where from.
        fingerprint: of the client.
        is_authenticated: the client itself has a valid API key: a fingerprint, which many share, does not block it.
        further: tokens that are wanted beside those of the provider's limits, and taken with them or not at all.

    Raises:
        ReactorError: code `INVALID_SETTING`.
    """
    limit = PROVIDERS.get(provider)
    if limit is None:
        return denied(UNKNOWN_PROVIDER)
    if is_bot(user_agent):
        return await _refuse_bot(ctx, fingerprint or "", ip or "", user_agent, is_authenticated)
    if fingerprint and not is_authenticated and await _is_blocked(ctx, fingerprint):
        return denied(BOT_DETECTED)
    wanted: list[tuple[str, str | None, str]] = [
        (GLOBAL, None, "Global rate limit exceeded"),
        (limit, None, f"{provider} rate limit exceeded"),
    ]
    if user_id is not None:
        wanted.append((USER, user_id, "User rate limit exceeded"))
    address = address_key(ip)
    if address is not None:
        wanted.append((IP, address, "IP rate limit exceeded"))
    denial = await take_all(ctx, [*takes_of(ctx.env, *wanted), *further])
    if denial is None:
        return {"allowed": True}
    await _note(ctx, denial, fingerprint, ip or "", user_agent, is_authenticated)
    return denied(denial.reason, denial.retry_after)


async def _refuse_bot(
    ctx: MutationCtx, fingerprint: str, ip: str, user_agent: str, is_authenticated: bool
) -> dict[str, Any]:
    wait = await _wait_of_noted(ctx, ip)
    if wait is not None:
        return denied(BOT_DETECTED, wait)
    status = await limiter.limit(ctx, SUSPICIOUS, fingerprint)
    verdict = await record_event(
        ctx,
        fingerprint=fingerprint,
        ip=ip,
        user_agent=user_agent,
        detection_type="bot_useragent",
        is_authenticated=is_authenticated,
    )
    if verdict.action == "blocked":
        data = {"fingerprint": fingerprint, "ip": ip, "userAgent": user_agent[:200]}
        await alerts.raise_alert(ctx, "bot_attack", "warning", verdict.subject, data)
    return denied(BOT_DETECTED, None if status.ok else status.retry_after)


async def _is_blocked(ctx: MutationCtx, fingerprint: str) -> bool:
    """Tell whether the last that was done about a client, within the hour, was to block it."""
    last = await _newest(ctx, fingerprint, ctx.now() - HOUR_MS)
    return last is not None and last["action"] == "blocked"


async def _newest(ctx: MutationCtx, fingerprint: str, since: float) -> dict[str, Any] | None:
    events = ctx.db.query("botDetectionEvents").with_index(
        "by_fingerprint", lambda q: q.eq("fingerprint", fingerprint).gte("timestamp", since)
    )
    return await events.order("desc").first()


async def _note(
    ctx: MutationCtx, denial: Denial, fingerprint: str | None, ip: str, user_agent: str, is_authenticated: bool
) -> None:
    """Record a denial: at most once a minute for each client, or the limits would multiply what they should lessen."""
    if fingerprint and await _newest_denial(ctx, fingerprint) is None and await _wait_of_noted(ctx, ip) is None:
        await record_event(
            ctx,
            fingerprint=fingerprint,
            ip=ip,
            user_agent=user_agent,
            detection_type="rate_limit",
            is_authenticated=is_authenticated,
        )
    for name in denial.names:
        if name in SHARED_BY_ALL:
            await alerts.raise_alert(ctx, "limit_exhausted", "warning", name, {"retryAfter": denial.retry_after})


async def _wait_of_noted(ctx: MutationCtx, ip: str) -> float | None:
    """Return None while there is room for another event of an address, else how long there is none."""
    address, minute_ago = address_key(ip), ctx.now() - MINUTE_MS
    if address is None:
        return None
    events = ctx.db.query("botDetectionEvents").with_index(
        "by_ip", lambda q: q.eq("ip", address).gt("timestamp", minute_ago)
    )
    newest = await events.order("desc").take(NOTED)
    return newest[-1]["timestamp"] - minute_ago if len(newest) == NOTED else None


async def _newest_denial(ctx: MutationCtx, fingerprint: str) -> dict[str, Any] | None:
    """Return the newest event of a denial within the last minute."""
    events = ctx.db.query("botDetectionEvents").with_index(
        "by_fingerprint", lambda q: q.eq("fingerprint", fingerprint).gt("timestamp", ctx.now() - MINUTE_MS)
    )
    newest = await events.order("desc").take(LOOKED_AT)
    return next((event for event in newest if event["detectionType"] == "rate_limit"), None)
