"""Whether a key may be used now, for what, and how often: one implementation for both kinds of keys.

A key's limit is an account of the rate limiter, under the key's id: a rotation opens no second one. Answers are
returned and not raised, so that what is remembered of a failure is committed. Used by `api_keys`, `embeddings/` and the
admission over HTTP.
"""

import math
from typing import Any, Final, NamedTuple

from functions.model.auth_failures import record_failure
from functions.model.key_arguments import MAX_PERIOD_SECONDS
from functions.model.key_usage import record_use
from functions.model.keys import FoundKey, KeyTable, find_key, is_expired
from functions.model.limiter import API_KEY_LIMIT, EMBEDDING_KEY_LIMIT, Take, limiter
from functions.model.scopes import allows
from reactor import MutationCtx
from reactor.components.rate_limiter import SECOND, Config, FixedWindow, TokenBucket

NEVER_MS: Final = MAX_PERIOD_SECONDS * SECOND  # the wait of a key that allows no requests
RATE_LIMITED: Final = "API key rate limit exceeded"


class Verified(NamedTuple):
    """A key that was looked for: it may be used when `reason` is None. `retry_after` is in milliseconds."""

    key: FoundKey | None
    reason: str | None = None
    retry_after: float | None = None

    @property
    def refusal(self) -> dict[str, Any]:
        """What a caller is told when there is a `reason`: `{ok: false, reason, retryAfter?}`."""
        refusal: dict[str, Any] = {"ok": False, "reason": self.reason}
        return refusal if self.retry_after is None else {**refusal, "retryAfter": self.retry_after}


async def find_usable(
    ctx: MutationCtx,
    table: KeyTable,
    hash: str,
    scope: str | None = None,
    ip: str | None = None,
    user_agent: str | None = None,
) -> Verified:
    """Look for a key and check everything but its limit; a failure is recorded.

    An unknown key and an inactive one cost the same and give the same reason.

    Raises:
        ReactorError: code `INVALID_TEXT`.
    """
    key = await find_key(ctx, table, hash)
    if key is None or not key.document["active"]:
        reason = "invalid"
    elif is_expired(key, ctx.now()):
        reason = "expired"
    elif scope is not None and not allows(key.document.get("scopes", ()), scope):
        await record_use(ctx, key, ip, is_refused=True)
        reason = "scope"
    else:
        return Verified(key)
    retry_after = await record_failure(ctx, hash, ip, user_agent)
    return Verified(None if reason == "invalid" else key, reason, retry_after)


async def verify(
    ctx: MutationCtx,
    table: KeyTable,
    hash: str,
    scope: str | None = None,
    ip: str | None = None,
    user_agent: str | None = None,
) -> Verified:
    """Look for a key, check everything, take a token of its limit and count the use.

    Raises:
        ReactorError: code `INVALID_TEXT`.
    """
    found = await find_usable(ctx, table, hash, scope, ip, user_agent)
    if found.key is None or found.reason is not None:
        return found
    retry_after = await take_of(ctx, found.key)
    await record_use(ctx, found.key, ip, is_refused=retry_after is not None)
    return found if retry_after is None else Verified(found.key, "rate_limited", retry_after)


async def take_of(ctx: MutationCtx, key: FoundKey, *, afterwards: bool = False) -> float | None:
    """Take a token of a key's limit; return None when there was one or no limit, else how long to wait.

    With `afterwards` the request has been made: it counts, also where there was no token left.
    """
    take = key_take(key, ctx.now())
    if take is None:
        return None
    if is_closed(key):
        return NEVER_MS
    status = await limiter.limit(ctx, take.name, take.key, config=take.config, reserve=afterwards)
    return None if status.ok else status.retry_after


class Budget(NamedTuple):
    """What is left of a key's limit: `remaining` requests, all of them again at `reset_at`. None: there is no limit."""

    remaining: float | None
    reset_at: float | None


async def budget_of(ctx: Any, key: FoundKey) -> Budget:
    """Return what is left of a key's limit now."""
    now = ctx.now()
    take = key_take(key, now)
    if take is None:
        return Budget(None, None)
    if is_closed(key):
        return Budget(0.0, None)
    reading = await limiter.get_value(ctx, take.name, take.key, config=take.config)
    left = reading.check(now)
    used = take.config.most - left.value
    if isinstance(take.config, FixedWindow):
        windows = max(1, math.ceil(used / take.config.rate)) if used > 0 else 0
        return Budget(max(0.0, math.floor(left.value)), left.ts + windows * take.config.period if windows else now)
    return Budget(max(0.0, math.floor(left.value)), now + used * take.config.period / take.config.rate)


def key_take(key: FoundKey, now: float) -> Take | None:
    """Return one token of a key's limit, or None when it has none. A window begins with the first request in it."""
    limit = key.document.get("rateLimit")
    if limit is None:
        return None
    requests = max(1.0, limit["requests"])  # the limiter knows no limit of 0: see `is_closed`
    config: Config
    if "windowSeconds" in limit:
        config = FixedWindow(requests, limit["windowSeconds"] * SECOND, start=now)
        return Take(EMBEDDING_KEY_LIMIT, key.id, config, RATE_LIMITED)
    config = TokenBucket(requests, limit["period"] * SECOND)
    return Take(API_KEY_LIMIT, key.id, config, RATE_LIMITED)


def is_closed(key: FoundKey) -> bool:
    """Tell whether a key's limit allows no request at all."""
    limit = key.document.get("rateLimit")
    return limit is not None and limit["requests"] < 1
