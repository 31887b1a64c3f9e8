"""Alerts as administrators see them: listed and acknowledged, and sent to a webhook as JSON.

What raises them is `model/alerts`.
"""

import asyncio
import json
import logging
import urllib.request
from typing import Any, Final
from urllib.parse import urlsplit

from functions.access import CallerMutationCtx, CallerQueryCtx, admin_mutation, admin_query
from functions.model import audit
from functions.model.alerts import WEBHOOK_URL
from reactor import ActionCtx, QueryCtx, ReactorError, internal_action, internal_query, undefined, v

MAX_ALERTS: Final = 1000
WEBHOOK_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


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


@internal_action(args={"id": v.id("alerts")}, returns=v.boolean())
async def deliver(ctx: ActionCtx, id: str) -> bool:
    """Send an alert to the webhook; return False if there is none, or no alert any more.

    The receiver may get one twice: its `id` tells.

    Raises:
        OSError: the receiver did not take it.
    """
    url, alert = ctx.env.get(WEBHOOK_URL), await ctx.run_query(get, id=id)
    if url is None or alert is None:
        return False
    if urlsplit(url).scheme not in ("http", "https"):
        log.error("the environment variable %s is no http or https URL; alerts are not sent", WEBHOOK_URL)
        return False
    body = {"id": id, **{name: value for name, value in alert.items() if not name.startswith("_")}}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    await asyncio.to_thread(_send, request)
    return True


def _send(request: urllib.request.Request) -> None:
    with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS):
        pass
