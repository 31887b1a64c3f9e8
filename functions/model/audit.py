"""The audit log: who changed what, written in the same transaction as the change.

So there is no entry of a change that was not made, and no change without its entry. Entries stay until the retention of
`auditLog` removes them. Administrators read it through `functions/audit`.
"""

from typing import Any

from reactor import MutationCtx


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
