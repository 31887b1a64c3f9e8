"""Alerts: what somebody should look at, raised at most once an hour for each kind and subject.

Raised in the transaction that found the reason. Where the environment variable ALERT_WEBHOOK_URL is set, each is sent
there, by an action that is tried again a few times when the receiver does not take it. Used by whatever finds a reason;
people see alerts through `functions/alerts`.
"""

from typing import Any, Final, Literal

from functions.model.spans import HOUR_MS
from reactor import MutationCtx, components, internal
from reactor.components.action_retrier import ActionRetrier

Kind = Literal["bot_attack", "auth_failures", "key_expiring", "key_anomaly", "limit_exhausted"]
Severity = Literal["info", "warning", "critical"]

WEBHOOK_URL: Final = "ALERT_WEBHOOK_URL"

# Waits of about 1, 4, 16, 64 and 256 seconds between the attempts.
_retrier: Final = ActionRetrier(components.action_retrier, initial_backoff_ms=250, base=4, max_failures=5)


async def raise_alert(
    ctx: MutationCtx, kind: Kind, severity: Severity, subject: str, data: dict[str, Any] | None = None
) -> str | None:
    """Store an alert and return its id, or None when there was one of this kind and subject within the last hour.

    Args:
        subject: what it is about, such as a fingerprint or the id of a key. No secrets and no whole hashes.
        data: what else there is to know.
    """
    now = ctx.now()
    recent = ctx.db.query("alerts").with_index(
        "by_kind_subject", lambda q: q.eq("kind", kind).eq("subject", subject).gt("timestamp", now - HOUR_MS)
    )
    if await recent.first() is not None:
        return None
    alert = {"timestamp": now, "kind": kind, "severity": severity, "subject": subject, "data": data or {}}
    id = await ctx.db.insert("alerts", alert)
    if WEBHOOK_URL in ctx.env:
        await _retrier.run(ctx, internal.alerts.deliver, {"id": id})
    return id
