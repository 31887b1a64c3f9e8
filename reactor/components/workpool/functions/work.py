"""Work as users of a pool have it: enqueue, cancel, status."""

from typing import Any

from reactor import MutationCtx, QueryCtx, internal, internal_mutation, mutation, query, v
from reactor.components.workpool.functions.config import checked
from reactor.components.workpool.schema import fn_type, on_complete, retry_behavior
from reactor.components.workpool.settings import bounded_time
from reactor.components.workpool.work import end_work, find_work, insert_work, loop, set_parallelism

ITEM = {
    "fnType": fn_type,
    "fnHandle": v.string(),
    "fnName": v.string(),
    "fnArgs": v.any(),
    "runAt": v.number(),
    "priority": v.number(),
    "onComplete": v.optional(on_complete),
    "retryBehavior": v.optional(retry_behavior),
}


@mutation(args={**ITEM, "maxParallelism": v.number()}, returns=v.string())
async def enqueue(ctx: MutationCtx, /, **item: Any) -> str:
    """Add one piece of work; return its id."""
    (work_id,) = await enqueue_batch(ctx, max_parallelism=item.pop("maxParallelism"), items=[item])
    return work_id


@mutation(args={"items": v.array(v.object(ITEM)), "maxParallelism": v.number()}, returns=v.array(v.string()))
async def enqueue_batch(ctx: MutationCtx, items: list[dict[str, Any]], max_parallelism: float) -> list[str]:
    """Add work; return the ids."""
    if await set_parallelism(ctx, checked(max_parallelism)):
        await loop.ping(ctx)
    now = ctx.now()
    times = [bounded_time(item["runAt"], now) for item in items]
    ids = [await insert_work(ctx, item, time) for item, time in zip(items, times, strict=True)]
    if times:
        await loop.ping(ctx, at=min(times))
    return ids


@mutation(args={"workId": v.string()}, returns=v.null())
async def cancel(ctx: MutationCtx, work_id: str) -> None:
    """End work that waits, as canceled; have what runs not be tried again."""
    work = await find_work(ctx, work_id)
    if work is not None:
        await _cancel(ctx, work)


@mutation(args={"limit": v.optional(v.integer()), "before": v.optional(v.number())}, returns=v.null())
async def cancel_all(ctx: MutationCtx, limit: int = 64, before: float | None = None) -> None:
    """Cancel all work that was added up to a time, by default all that there is."""
    if limit < 1:
        raise ValueError(f"cancel_all takes at least one at a time, not limit={limit}.")
    newest = await ctx.db.query("work").order("desc").first()
    if newest is not None:
        await _cancel_page(ctx, limit, newest["_creationTime"] if before is None else before, 0.0)


@internal_mutation(args={"limit": v.integer(), "before": v.number(), "after": v.number()})
async def cancel_more(ctx: MutationCtx, limit: int, before: float, after: float) -> None:
    """Cancel the next page of it."""
    await _cancel_page(ctx, limit, before, after)


@query(args={"id": v.string()})
async def status(ctx: QueryCtx, id: str) -> dict[str, Any]:
    """Return whether work waits, runs or has ended."""
    work = await find_work(ctx, id)
    if work is None:
        return {"state": "finished"}
    running = await ctx.db.query("running").with_index("by_work", workId=work["_id"]).unique()
    return {"state": "pending" if running is None else "running", "previousAttempts": work["attempts"]}


@query(args={"ids": v.array(v.string())})
async def status_batch(ctx: QueryCtx, ids: list[str]) -> list[dict[str, Any]]:
    """Return the same for many."""
    return [await status(ctx, id) for id in ids]


async def _cancel_page(ctx: MutationCtx, limit: int, before: float, after: float) -> None:
    page = (
        await ctx.db.query("work")
        .with_index("by_creation_time", lambda q: q.gt("_creationTime", after).lte("_creationTime", before))
        .take(limit)
    )
    for work in page:
        await _cancel(ctx, work)
    if len(page) == limit:
        args = {"limit": limit, "before": before, "after": page[-1]["_creationTime"]}
        await ctx.scheduler.run_after(0, internal.work.cancel_more, args)


async def _cancel(ctx: MutationCtx, work: dict[str, Any]) -> None:
    if work.get("canceled"):
        return
    pending = await ctx.db.query("pendingStart").with_index("by_work", workId=work["_id"]).unique()
    if pending is None:
        await ctx.db.patch(work["_id"], {"canceled": True})
        return
    await ctx.db.delete(pending["_id"])
    await end_work(ctx, work, {"kind": "canceled"})
