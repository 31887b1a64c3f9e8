"""The audit log as administrators see it. What writes it is `model/audit`."""

from typing import Any, Final

from functions.access import CallerQueryCtx, admin_query
from reactor import v

MAX_ENTRIES: Final = 1000


@admin_query(
    name="list",
    args={"limit": v.optional(v.integer()), "target": v.optional(v.string()), "since": v.optional(v.number())},
    returns=v.array(v.any()),
)
async def list_entries(
    ctx: CallerQueryCtx, limit: int = 100, target: str | None = None, since: float = 0.0
) -> list[dict[str, Any]]:
    """Return the newest entries first, of one target if it is given; `limit` is 1 to 1,000."""
    if target is None:
        entries = ctx.db.query("auditLog").with_index("by_timestamp", lambda q: q.gte("timestamp", since))
    else:
        entries = ctx.db.query("auditLog").with_index(
            "by_target", lambda q: q.eq("target", target).gte("timestamp", since)
        )
    return await entries.order("desc").take(min(max(limit, 1), MAX_ENTRIES))
