"""Registering crons and running them: for each one scheduled function waits for the next slot, and schedules the next.

Promises that two runs of one cron are never under way at a time, that a slot runs at most once, and that registering
and deleting are a part of the caller's transaction. Other code calls these by their names; applications use `Crons`.
"""

from typing import Any, Final

from reactor import Error, MutationCtx, QueryCtx, internal, internal_mutation, mutation, query, v
from reactor.components.crons.schedules import MISSED, SCHEDULE, Schedule, check_schedule, next_slot
from reactor.components.scheduled import FURTHEST_MS, find_under_way

CATCH_UP_MS: Final = 1000.0  # until a missed slot looks again whether the run before it has ended
CHECKED_AT_ONCE: Final = 100

IDENTIFIER: Final = v.union(v.object({"id": v.string()}), v.object({"name": v.string()}))
CRON: Final = v.object(
    {
        "id": v.string(),
        "name": v.optional(v.string()),
        "functionHandle": v.string(),
        "args": v.any(),
        "schedule": SCHEDULE,
        "missed": v.optional(MISSED),
    }
)

Document = dict[str, Any]


@mutation(
    args={
        "name": v.optional(v.string()),
        "functionHandle": v.string(),
        "args": v.any(),
        "schedule": SCHEDULE,
        "missed": v.optional(MISSED),
    },
    returns=v.string(),
)
async def register(
    ctx: MutationCtx,
    function_handle: str,
    args: Any,
    schedule: Schedule,
    name: str | None = None,
    missed: str = "once",
) -> str:
    """Register a cron, to run at the next slot from now on; return its id.

    Raises:
        ValueError: the name is taken, or the schedule has no slots.
    """
    check_schedule(schedule, ctx.now())
    document = {"functionHandle": function_handle, "args": args, "schedule": schedule, "missed": missed}
    if name is not None:
        if await _find(ctx, {"name": name}) is not None:
            raise ValueError(f'Cron with name "{name}" already exists')
        document["name"] = name
    cron_id = await ctx.db.insert("crons", document)
    await _wait_for(ctx, cron_id, next_slot(schedule, ctx.now()))
    return cron_id


@query(args={}, returns=v.array(CRON))
async def list(ctx: QueryCtx) -> Any:
    """Return all crons, the oldest first."""
    return [_shown(document) async for document in ctx.db.query("crons")]


@query(args={"identifier": IDENTIFIER}, returns=v.nullable(CRON))
async def get(ctx: QueryCtx, identifier: Document) -> Document | None:
    """Return a cron, or null."""
    document = await _find(ctx, identifier)
    return None if document is None else _shown(document)


@mutation(args={"identifier": IDENTIFIER}, returns=v.null())
async def delete(ctx: MutationCtx, identifier: Document) -> None:
    """Unregister a cron, and cancel what it has scheduled.

    Raises:
        ValueError: there is none.
    """
    document = await _find(ctx, identifier)
    if document is None:
        ((kind, value),) = identifier.items()
        raise ValueError(f'Cron with {kind} "{value}" not found')
    await ctx.db.delete(document["_id"])
    for job in (document.get("schedulerJobId"), document.get("executionJobId")):
        if job is not None:
            await _cancel(ctx, job)


@internal_mutation(args={"id": v.string(), "slot": v.number()}, returns=v.null())
async def rescheduler(ctx: MutationCtx, id: str, slot: float) -> None:
    """Run a cron whose slot has come, and wait for the next one."""
    document = await ctx.db.get("crons", id)
    if document is None:
        return
    schedule, now, missed = document["schedule"], ctx.now(), document.get("missed", "once")
    if slot > now:  # too far away to be scheduled in one go
        await _wait_for(ctx, id, slot)
        return
    following = next_slot(schedule, slot)
    is_behind = following <= now
    is_running = await find_under_way(ctx, document.get("executionJobId")) is not None
    if is_behind and missed == "all" and is_running:
        await _wait_for(ctx, id, slot, until=now + CATCH_UP_MS)
        return
    if not is_running and not (is_behind and missed == "skip"):
        run = await ctx.scheduler.run_after(0, document["functionHandle"], document["args"])
        await ctx.db.patch(id, {"executionJobId": run})
    await _wait_for(ctx, id, following if missed == "all" else next_slot(schedule, slot, beyond=now))


@internal_mutation(args={"after": v.optional(v.number())}, returns=v.null())
async def rearm(ctx: MutationCtx, after: float | None = None) -> None:
    """Find crons that wait for no slot, whatever has ended their waiting, and let them wait for the next future one."""
    documents = ctx.db.query("crons")
    if after is not None:
        documents = documents.with_index("by_creation_time", lambda q: q.gt("_creationTime", after))
    found = await documents.take(CHECKED_AT_ONCE)
    for document in found:
        if await find_under_way(ctx, document.get("schedulerJobId")) is None:
            await _wait_for(ctx, document["_id"], next_slot(document["schedule"], ctx.now()))
    if len(found) == CHECKED_AT_ONCE:
        await ctx.scheduler.run_after(0, rearm, after=found[-1]["_creationTime"])


async def _find(ctx: QueryCtx, identifier: Document) -> Document | None:
    if "name" in identifier:
        return await ctx.db.query("crons").with_index("by_name", name=identifier["name"]).unique()
    cron_id = ctx.db.normalize_id("crons", identifier["id"])
    return None if cron_id is None else await ctx.db.get(cron_id)


async def _wait_for(ctx: MutationCtx, cron_id: str, slot: float, until: float | None = None) -> None:
    """Let a scheduled function wait for a slot, or look at it again at `until`."""
    time = min(slot, ctx.now() + FURTHEST_MS) if until is None else until
    job = await ctx.scheduler.run_at(time, internal.registry.rescheduler, {"id": cron_id, "slot": slot})
    await ctx.db.patch(cron_id, {"schedulerJobId": job})


async def _cancel(ctx: MutationCtx, job_id: str) -> None:
    if await find_under_way(ctx, job_id) is not None:
        try:
            await ctx.scheduler.cancel(job_id)
        except Error:
            pass  # it is the run that deletes its own cron, which can't be cancelled and ends anyway


def _shown(document: Document) -> Document:
    hidden = ("schedulerJobId", "executionJobId")
    shown = {field: value for field, value in document.items() if field[0] != "_" and field not in hidden}
    return {"id": document["_id"], **shown}
