"""Alerts: what somebody should look at, raised at most once an hour for each kind and subject.

Raised in the transaction that found the reason. Where the environment variable ALERT_WEBHOOK_URL is set, each is sent
there as JSON, by an action that is tried again a few times when the receiver does not take it.
"""

import asyncio
import json
import logging
import urllib.request
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from functions import audit
from functions._spans import HOUR_MS
from functions.access import CallerMutationCtx, CallerQueryCtx, admin_mutation, admin_query
from reactor import (
    ActionCtx,
    MutationCtx,
    QueryCtx,
    ReactorError,
    internal,
    internal_action,
    internal_query,
    undefined,
    v,
)

Kind = Literal["bot_attack", "auth_failures", "key_expiring", "key_anomaly", "limit_exhausted"]
Severity = Literal["info", "warning", "critical"]

MAX_ALERTS: Final = 1000
WEBHOOK_URL: Final = "ALERT_WEBHOOK_URL"
WEBHOOK_SECONDS: Final = 10.0
WEBHOOK_ATTEMPTS: Final = 6
FIRST_RETRY_MS: Final = 1000.0  # each further one waits four times as long

_logger: Final = logging.getLogger(__name__)


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
        await ctx.scheduler.run_after(0, internal.alerts.deliver, id=id)
    return id


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


@internal_query(args={"id": v.id("alerts")}, returns=v.any())
async def get(ctx: QueryCtx, id: str) -> dict[str, Any] | None:
    """Return an alert, or None."""
    return await ctx.db.get(id)


@internal_action(args={"id": v.id("alerts"), "attempt": v.optional(v.integer())}, returns=v.boolean())
async def deliver(ctx: ActionCtx, id: str, attempt: int = 1) -> bool:
    """Send an alert to the webhook; return whether it was taken. If it was not, try again later.

    The receiver may get one twice: its `id` tells.
    """
    url, alert = ctx.env.get(WEBHOOK_URL), await ctx.run_query(get, id=id)
    if url is None or alert is None:
        return False
    if urlsplit(url).scheme not in ("http", "https"):
        _logger.error("the environment variable %s is no http or https URL; alerts are not sent", WEBHOOK_URL)
        return False
    body = {"id": id, **{name: value for name, value in alert.items() if not name.startswith("_")}}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        await asyncio.to_thread(_send, request)
        return True
    except OSError as error:  # URLError and a timeout are ones
        _logger.warning("attempt %d to send alert %s failed: %s", attempt, id, error)
    if attempt < WEBHOOK_ATTEMPTS:
        wait = FIRST_RETRY_MS * 4 ** (attempt - 1)
        await ctx.scheduler.run_after(wait, internal.alerts.deliver, id=id, attempt=attempt + 1)
    return False


def _send(request: urllib.request.Request) -> None:
    with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS):
        pass
