"""Loops as their users have them: ping, stop, start, status."""

from typing import Any

from reactor import MutationCtx, QueryCtx, mutation, query, v
from reactor.components.batch_worker.loops import disarm, loop_of, wake, worker_of
from reactor.components.batch_worker.schema import config as config_validator


@mutation(
    args={
        "name": v.string(),
        "worker": v.string(),
        "config": v.optional(config_validator),
        "at": v.optional(v.number()),
    },
    returns=v.null(),
)
async def ping(
    ctx: MutationCtx, name: str, worker: str, config: dict[str, float] | None = None, at: float = 0.0
) -> None:
    """Have the worker of a loop called soon, or at the time `at` at the latest; make the loop if there is none."""
    wanted = {"worker": worker, "config": config or {}}
    found = await worker_of(ctx, name)
    if found is None:
        found = {"name": name, "status": {"kind": "idle"}, **wanted}
        found["_id"] = await ctx.db.insert("workers", found)
        await ctx.db.insert("loops", {"name": name})
    elif any(found[field] != value for field, value in wanted.items()):
        await ctx.db.patch(found["_id"], wanted)
        found |= wanted
    status = found["status"]
    if status["kind"] == "idle" or (status["kind"] == "waiting" and max(at, ctx.now()) < status["until"]):
        await wake(ctx, found, at)


@mutation(args={"name": v.string()}, returns=v.null())
async def stop(ctx: MutationCtx, name: str) -> None:
    """Have the worker of a loop called no more, whoever pings."""
    found = await worker_of(ctx, name)
    if found is not None and found["status"]["kind"] != "stopped":
        await disarm(ctx, name)
        await ctx.db.patch(found["_id"], {"status": {"kind": "stopped"}})


@mutation(args={"name": v.string()}, returns=v.null())
async def start(ctx: MutationCtx, name: str) -> None:
    """Go on after `stop`, with a look at the queue."""
    found = await worker_of(ctx, name)
    if found is not None and found["status"]["kind"] == "stopped":
        await wake(ctx, found, ctx.now())


@query(args={"name": v.string()})
async def status(ctx: QueryCtx, name: str) -> dict[str, Any] | None:
    """Return what a loop does, and what the last run of its worker failed with."""
    found = await worker_of(ctx, name)
    if found is None:
        return None
    error = (await loop_of(ctx, name)).get("error")
    return dict(found["status"]) if error is None else {**found["status"], "error": error}
