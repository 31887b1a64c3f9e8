"""The worker of the pool's loop: starts what is due while there is room, and asks for jobs that have vanished.

It alone starts jobs, one run of it at a time, so there are never more than the pool allows. Whatever it would have to
wait for, new work, an end, more room, pings the loop.
"""

import logging
from typing import Any

from reactor import MutationCtx, internal, internal_mutation, v
from reactor.components.batch_worker import idle, work
from reactor.components.scheduled import is_under_way
from reactor.components.workpool.settings import BATCH, DUE_BATCH, RECOVERY_AGAIN_MS, RECOVERY_BATCH, RECOVERY_MS
from reactor.components.workpool.work import end_attempt, find_work, parallelism

log = logging.getLogger(__name__)


@internal_mutation(args={"name": v.string()})
async def main(ctx: MutationCtx, name: str) -> dict[str, Any]:
    """Do one step, and say when the next one is due."""
    now = ctx.now()
    coming = ctx.db.query("pendingStart").with_index("by_time", lambda q: q.eq("isDue", False).lte("time", now))
    became_due = await coming.take(DUE_BATCH)
    for pending in became_due:
        await ctx.db.patch(pending["_id"], {"isDue": True})
    if len(became_due) == DUE_BATCH:
        return work()  # nothing starts before all are known that might go first

    await _recover(ctx)
    room = await parallelism(ctx) - await ctx.db.query("running").count()
    if room > 0:
        due = await ctx.db.query("pendingStart").with_index("by_rank", isDue=True).take(min(room, BATCH))
        for pending in due:
            await _start(ctx, pending)
        if len(due) == BATCH:
            return work()
    checks = await ctx.db.query("running").with_index("by_check").first()
    later = await ctx.db.query("pendingStart").with_index("by_time", isDue=False).first() if room > 0 else None
    times = [] if checks is None else [checks["checkTime"]]
    times += [] if later is None else [later["time"]]
    return idle(timeout_ms=min(times) - now) if times else idle()


async def _start(ctx: MutationCtx, pending: dict[str, Any]) -> None:
    now = ctx.now()
    args = {"workId": pending["workId"], "attempt": pending["attempt"]}
    wrapper = internal.jobs.run_action if pending["fnType"] == "action" else internal.jobs.run_transaction
    await ctx.db.delete(pending["_id"])
    scheduled_id = await ctx.scheduler.run_after(0, wrapper, args)
    await ctx.db.insert(
        "running",
        {
            "workId": pending["workId"],
            "scheduledId": scheduled_id,
            "started": now,
            "checkTime": now + RECOVERY_MS,
        },
    )


async def _recover(ctx: MutationCtx) -> None:
    """End the attempts of jobs that have run for long and whose scheduled function is no more."""
    now = ctx.now()
    old = ctx.db.query("running").with_index("by_check", lambda q: q.lte("checkTime", now))
    for running in await old.take(RECOVERY_BATCH):
        scheduled = await ctx.db.system.get(running["scheduledId"])
        if is_under_way(scheduled):
            await ctx.db.patch(running["_id"], {"checkTime": now + RECOVERY_AGAIN_MS})
            continue
        error = "Scheduled job not found"
        if scheduled is not None:
            state = scheduled["state"]
            error = "Canceled via scheduler" if state["kind"] == "canceled" else state.get("error", "It said nothing")
        found = await find_work(ctx, running["workId"])
        assert found is not None, "what runs is work"
        log.error("job %s of %s has vanished: %s", running["workId"], found["fnName"], error)
        await end_attempt(ctx, found["_id"], found["attempts"], {"kind": "failed", "error": error})
