"""Alerts: what somebody should look at, raised at most once an hour for each kind and subject.

Raised in the transaction that found the reason. Where the environment variable ALERT_WEBHOOK_URL is set, each is sent
there as JSON, by an action that is tried again when the receiver does not answer.
"""

from typing import Any, Final, Literal

from functions import audit
from functions.access import CallerMutationCtx, CallerQueryCtx, admin_mutation, admin_query
from reactor import MutationCtx, ReactorError, undefined, v

Kind = Literal["bot_attack", "auth_failures", "key_expiring", "key_anomaly", "limit_exhausted"]
Severity = Literal["info", "warning", "critical"]

HOUR_MS: Final = 3_600_000.0
MAX_ALERTS: Final = 1000


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
    return await ctx.db.insert("alerts", alert)


@admin_query(
    name="list",
    args={
        "limit": v.optional(v.integer()),
        "since": v.optional(v.number()),
        "unacknowledgedOnly": v.optional(v.boolean()),
    },
    returns=v.array(v.any()),
)
async def list_alerts(
    ctx: CallerQueryCtx, limit: int = 100, since: float = 0.0, unacknowledged_only: bool = False
) -> list[dict[str, Any]]:
    """Return the newest alerts first; `limit` is 1 to 1,000."""
    if unacknowledged_only:
        alerts = ctx.db.query("alerts").with_index(
            "by_acknowledged", lambda q: q.eq("acknowledgedAt", undefined).gte("timestamp", since)
        )
    else:
        alerts = ctx.db.query("alerts").with_index("by_timestamp", lambda q: q.gte("timestamp", since))
    return await alerts.order("desc").take(min(max(limit, 1), MAX_ALERTS))


@admin_mutation(args={"id": v.id("alerts")}, returns=v.boolean())
async def acknowledge(ctx: CallerMutationCtx, id: str) -> bool:
    """Mark an alert as seen; return whether it was not yet.

    Raises:
        ReactorError: code `NO_SUCH_ALERT`.
    """
    alert = await ctx.db.get(id)
    if alert is None:
        raise ReactorError({"code": "NO_SUCH_ALERT", "message": f"There is no alert with the id {id!r}."})
    if "acknowledgedAt" in alert:
        return False
    await ctx.db.patch(id, {"acknowledgedAt": ctx.now()})
    await audit.record(ctx, ctx.caller.name, "alerts.acknowledge", id, {"kind": alert["kind"]})
    return True
