"""Kept values: finding, storing and forgetting them, and the leases of those who compute them.

Promises that there is one value for each name and arguments, that of two who store one the first wins unless the second
has seen it expired, and that what is about expiry goes with the value. Other code calls these by their names;
applications use `ActionCache`.
"""

from typing import Any, Final

from reactor import MutationCtx, QueryCtx, internal_mutation, mutation, query, v
from reactor.components.action_cache.expiry import has_expired
from reactor.components.action_cache.keys import key_of

PURGED_AT_ONCE: Final = 10  # values may be large
CALL: Final = {"name": v.string(), "args": v.any()}

Document = dict[str, Any]


@query(
    args={**CALL, "ttl": v.nullable(v.number())},
    returns=v.union(
        v.object({"kind": v.literal("hit"), "value": v.any()}),
        v.object({"kind": v.literal("miss"), "expiredEntry": v.optional(v.string())}),
    ),
)
async def get(ctx: QueryCtx, name: str, args: Any, ttl: float | None) -> Document:
    """Return the value kept for a call unless it is older than `ttl`; 0 finds none, but names the entry.

    As every query that looks at the clock, it may answer as it did some seconds ago; `find` leaves that to the caller.
    """
    found = await _entry(ctx, name, key_of(args))
    if found is None:
        return {"kind": "miss"}
    if has_expired(found["_creationTime"], await _expires_at(ctx, found), ttl, ctx.now()):
        return {"kind": "miss", "expiredEntry": found["_id"]}
    return {"kind": "hit", "value": found["value"]}


@query(
    args=CALL,
    returns=v.nullable(
        v.object({"id": v.string(), "value": v.any(), "creationTime": v.number(), "expiresAt": v.optional(v.number())})
    ),
)
async def find(ctx: QueryCtx, name: str, args: Any) -> Document | None:
    """Return what is kept for a call, however old, or null."""
    found = await _entry(ctx, name, key_of(args))
    if found is None:
        return None
    shown = {"id": found["_id"], "value": found["value"], "creationTime": found["_creationTime"]}
    expires_at = await _expires_at(ctx, found)
    return shown if expires_at is None else {**shown, "expiresAt": expires_at}


@mutation(
    args={
        **CALL,
        "value": v.any(),
        "ttl": v.nullable(v.number()),
        "expiredEntry": v.optional(v.string()),
        "holder": v.optional(v.string()),
    },
    returns=v.object({"cacheHit": v.boolean()}),
)
async def put(
    ctx: MutationCtx,
    name: str,
    args: Any,
    value: Any,
    ttl: float | None,
    expired_entry: str | None = None,
    holder: str | None = None,
) -> Document:
    """Keep a value for a call, for `ttl` milliseconds or for ever, and end the lease of `holder`.

    Somebody else's value stays, which is `cacheHit`: one that is not `expiredEntry`, and for ever or not like this one.
    """
    key = key_of(args)
    if holder is not None:
        await _release(ctx, name, key, holder)
    present = await _entry(ctx, name, key)
    if present is not None:
        if present["_id"] != expired_entry and ("metadataId" in present) == (ttl is not None):
            return {"cacheHit": True}
        await _forget(ctx, present)
    value_id = await ctx.db.insert("values", {"name": name, "key": key, "value": value})
    if ttl is not None:
        metadata = await ctx.db.insert("metadata", {"valueId": value_id, "expiresAt": ctx.now() + ttl})
        await ctx.db.patch(value_id, {"metadataId": metadata})
    return {"cacheHit": False}


@mutation(
    args={**CALL, "holder": v.string(), "leaseMs": v.number(), "expiredEntry": v.optional(v.string())},
    returns=v.union(v.literal("acquired"), v.literal("busy"), v.literal("changed")),
)
async def acquire(
    ctx: MutationCtx, name: str, args: Any, holder: str, lease_ms: float, expired_entry: str | None = None
) -> str:
    """Become the one who computes the value of a call, unless somebody else does, or has since."""
    key = key_of(args)
    lease = await _lease(ctx, name, key)
    if lease is not None and lease["expiresAt"] > ctx.now() and lease["holder"] != holder:
        return "busy"
    present = await _entry(ctx, name, key)
    if present is not None and present["_id"] != expired_entry:
        return "changed"
    mine = {"name": name, "key": key, "holder": holder, "expiresAt": ctx.now() + lease_ms}
    if lease is None:
        await ctx.db.insert("leases", mine)
    else:
        await ctx.db.replace(lease["_id"], mine)
    return "acquired"


@mutation(args={**CALL, "holder": v.string()}, returns=v.null())
async def release(ctx: MutationCtx, name: str, args: Any, holder: str) -> None:
    """Give up a lease, if it is still one's own."""
    await _release(ctx, name, key_of(args), holder)


@mutation(args=CALL, returns=v.null())
async def remove(ctx: MutationCtx, name: str, args: Any) -> None:
    """Forget the value of a call."""
    found = await _entry(ctx, name, key_of(args))
    if found is not None:
        await _forget(ctx, found)


@mutation(args={"name": v.string(), "batchSize": v.optional(v.integer())}, returns=v.null())
async def remove_all_for_name(ctx: MutationCtx, name: str, batch_size: int = 100) -> None:
    """Forget all values of a name, `batchSize` in one transaction."""
    found = await ctx.db.query("values").with_index("by_key", name=name).take(batch_size)
    for entry in found:
        await _forget(ctx, entry)
    if len(found) == batch_size:
        await ctx.scheduler.run_after(0, remove_all_for_name, {"name": name, "batchSize": batch_size})


@mutation(args={"before": v.optional(v.number()), "batchSize": v.optional(v.integer())}, returns=v.null())
async def remove_all(ctx: MutationCtx, before: float | None = None, batch_size: int = 100) -> None:
    """Forget all values stored up to a time, by default those there are, `batchSize` in one transaction."""
    if before is None:
        newest = await ctx.db.query("values").order("desc").first()
        if newest is None:
            return
        before = newest["_creationTime"]
    old = ctx.db.query("values").with_index("by_creation_time", lambda q: q.lte("_creationTime", before))
    found = await old.take(batch_size)
    for entry in found:
        await _forget(ctx, entry)
    if len(found) == batch_size:
        await ctx.scheduler.run_after(0, remove_all, {"before": before, "batchSize": batch_size})


@internal_mutation(args={}, returns=v.null())
async def purge(ctx: MutationCtx) -> None:
    """Forget what has expired, some at a time until nothing is left."""
    metadata = ctx.db.query("metadata").with_index("by_expires_at", lambda q: q.lte("expiresAt", ctx.now()))
    leases = ctx.db.query("leases").with_index("by_expires_at", lambda q: q.lte("expiresAt", ctx.now()))
    expired, given_up = await metadata.take(PURGED_AT_ONCE), await leases.take(PURGED_AT_ONCE)
    for one in expired:
        await ctx.db.delete(one["valueId"])
        await ctx.db.delete(one["_id"])
    for lease in given_up:
        await ctx.db.delete(lease["_id"])
    if PURGED_AT_ONCE in (len(expired), len(given_up)):
        await ctx.scheduler.run_after(0, purge)


async def _entry(ctx: QueryCtx, name: str, key: str) -> Document | None:
    return await ctx.db.query("values").with_index("by_key", name=name, key=key).unique()


async def _lease(ctx: QueryCtx, name: str, key: str) -> Document | None:
    return await ctx.db.query("leases").with_index("by_key", name=name, key=key).unique()


async def _expires_at(ctx: QueryCtx, entry: Document) -> float | None:
    metadata = await ctx.db.get(entry["metadataId"]) if "metadataId" in entry else None
    return None if metadata is None else float(metadata["expiresAt"])


async def _release(ctx: MutationCtx, name: str, key: str, holder: str) -> None:
    lease = await _lease(ctx, name, key)
    if lease is not None and lease["holder"] == holder:
        await ctx.db.delete(lease["_id"])


async def _forget(ctx: MutationCtx, entry: Document) -> None:
    await ctx.db.delete(entry["_id"])
    if "metadataId" in entry:
        await ctx.db.delete(entry["metadataId"])
