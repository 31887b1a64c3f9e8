"""Keys that were presented and are not good: what is remembered of it, and when it looks like an attack.

Ten of them within an hour, of one key or from one address, are mistakes; the eleventh is flagged: it is logged, stored
as an event of a blocked client, and raises an alert. Who tries another key each time is known by the address. Of who
goes on, one failure a minute is remembered: trying costs nothing, and must not fill tables. Used by `api_keys`,
`embeddings/` and the admission over HTTP.
"""

import logging
from typing import Any, Final

from functions.model import alerts
from functions.model.addresses import address_key, remembered
from functions.model.keys import PREFIX_LENGTH
from functions.model.limiter import limiter
from functions.model.limits import FAILED_AUTH
from functions.model.spans import HOUR_MS, MINUTE_MS
from functions.model.texts import USER_AGENT_LENGTH, require_names
from reactor import MutationCtx

FLAGGED_AFTER: Final = 10  # failures within the hour; the next one is flagged
ENOUGH: Final = FLAGGED_AFTER + 1  # failures that are looked at: more change nothing

log = logging.getLogger(__name__)


async def record_failure(
    ctx: MutationCtx, key_hash: str, ip: str | None = None, user_agent: str | None = None
) -> float | None:
    """Store a failure, and do what follows when there were too many; of too many, those of a minute count as one.

    Returns:
        How many milliseconds whoever failed should wait, if there were too many; None while there were not.

    Raises:
        ReactorError: code `INVALID_TEXT`.
    """
    require_names({"keyHash": key_hash, "ip": ip})
    now, address = ctx.now(), remembered(ip)
    # The hash of a guess tells nothing of who guesses, so the limit is that of the address where there is one.
    account = address_key(ip) or key_hash
    earlier = [await _recent(ctx, "by_key", "keyHash", key_hash)]
    if address is not None:
        earlier.append(await _recent(ctx, "by_ip", "ip", address))
    if any(len(times) > FLAGGED_AFTER and now - times[0] < MINUTE_MS for times in earlier):
        return (await limiter.check(ctx, FAILED_AUTH, account)).retry_after or HOUR_MS / FLAGGED_AFTER
    agent = None if user_agent is None else user_agent[:USER_AGENT_LENGTH]
    failure = {"keyHash": key_hash, "timestamp": now, "ip": address, "userAgent": agent}
    await ctx.db.insert("embeddingAuthFailures", {name: value for name, value in failure.items() if value is not None})
    status = await limiter.limit(ctx, FAILED_AUTH, account)
    if max(map(len, earlier)) < FLAGGED_AFTER and status.ok:
        return None
    shown = key_hash[:PREFIX_LENGTH]
    subject = f"key:{shown}" if address is None else address
    log.warning("more than %d failed authentications of %s within an hour, key hash %s…", 10, subject, shown)
    await ctx.db.insert(
        "botDetectionEvents",
        {
            "timestamp": now,
            "fingerprint": f"key:{shown}",
            "ip": address or "",
            "userAgent": agent or "",
            "detectionType": "suspicious_pattern",
            "action": "blocked",
        },
    )
    await alerts.raise_alert(ctx, "auth_failures", "warning", subject, {"keyHashPrefix": shown})
    return status.retry_after or HOUR_MS / FLAGGED_AFTER


async def _recent(ctx: MutationCtx, index: str, field: str, value: Any) -> list[float]:
    """Return when the failures within the hour were, the newest first."""
    failures = ctx.db.query("embeddingAuthFailures").with_index(
        index, lambda q: q.eq(field, value).gte("timestamp", ctx.now() - HOUR_MS)
    )
    return [failure["timestamp"] for failure in await failures.order("desc").take(ENOUGH)]
