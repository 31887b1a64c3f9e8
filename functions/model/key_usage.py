"""How often each key is used: one document for each key and hour.

Written where keys are verified; read by `functions/api_keys` and `functions/anomalies`.
"""

from typing import Any, Final

from functions.model.addresses import address_key
from functions.model.keys import FoundKey
from functions.model.spans import HOUR_MS, MINUTE_MS
from reactor import MutationCtx

MAX_ADDRESSES: Final = 64  # that are remembered of an hour


async def record_use(ctx: MutationCtx, key: FoundKey, ip: str | None, *, is_refused: bool) -> None:
    """Count a use of a key, and note when it was, at most once a minute: a busy key is not written by every request."""
    now = ctx.now()
    hour = now - now % HOUR_MS
    address = address_key(ip)
    usage = await ctx.db.query("keyUsage").with_index("by_key", keyId=key.id, timestamp=hour).unique()
    if usage is None:
        addresses = [] if address is None else [address]
        first = {"keyId": key.id, "timestamp": hour, "requests": 1, "refused": int(is_refused), "addresses": addresses}
        await ctx.db.insert("keyUsage", first)
    else:
        changes: dict[str, Any] = {"requests": usage["requests"] + 1}
        if is_refused:
            changes["refused"] = usage["refused"] + 1
        known = usage["addresses"]
        if address is not None and address not in known and len(known) < MAX_ADDRESSES:
            changes["addresses"] = [*known, address]
        await ctx.db.patch(usage["_id"], changes)
    if not is_refused:
        await touch(ctx, key)


async def touch(ctx: MutationCtx, key: FoundKey) -> None:
    """Note that a key is used now, unless that was noted within the last minute."""
    last = key.document.get("lastUsed")
    if last is None or ctx.now() - last > MINUTE_MS:
        await ctx.db.patch(key.id, {"lastUsed": ctx.now()})
