"""The audit log: who changed what, written in the same transaction as the change.

So there is no entry of a change that was not made, and no change without its entry. Entries stay until the retention of
`auditLog` removes them.
"""

from typing import Any

from functions.access import CallerQueryCtx, admin_query
from reactor import MutationCtx, v

MAX_ENTRIES = 1000


async def record(ctx: MutationCtx, actor: str, action: str, target: str, data: dict[str, Any] | None = None) -> None:
    """Append an entry.

    Args:
        actor: `ctx.caller.name`, or `system` for what runs by itself.
        action: what was done, such as `apiKeys.revoke`.
        target: what it was done to, such as the id of a document.
        data: what else there is to know. No secrets and no hashes.
    """
    entry = {"timestamp": ctx.now(), "actor": actor, "action": action, "target": target, "data": data or {}}
    await ctx.db.insert("auditLog", entry)


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
