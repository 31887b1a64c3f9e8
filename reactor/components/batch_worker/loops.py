"""Loops as documents: how one is woken, and how its next step and its monitor are scheduled.

Used by the functions of the component.
"""

import math
from typing import Any, Final

from reactor import MutationCtx, QueryCtx, internal
from reactor.components.scheduled import FURTHEST_MS

MONITOR_LAG_MS: Final = 60_000.0


async def worker_of(ctx: QueryCtx, name: str) -> dict[str, Any] | None:
    """Return the rarely changed document of a loop, if there is one."""
    return await ctx.db.query("workers").with_index("by_name", name=name).unique()


async def loop_of(ctx: QueryCtx, name: str) -> dict[str, Any]:
    """Return the often changed document of a loop that exists."""
    loop = await ctx.db.query("loops").with_index("by_name", name=name).unique()
    assert loop is not None
    return loop


async def wake(ctx: MutationCtx, worker: dict[str, Any], time: float) -> None:
    """Schedule the next step for `time` instead of the one that is scheduled."""
    loop = await disarm(ctx, worker["name"])
    await schedule(ctx, worker, loop, max(time, ctx.now()), {})


async def disarm(ctx: MutationCtx, name: str) -> dict[str, Any]:
    """Cancel the next step, unless it is the one that runs now; return the loop."""
    loop = await loop_of(ctx, name)
    scheduled = await ctx.db.system.get(loop["stepId"]) if "stepId" in loop else None
    if scheduled is not None and scheduled["state"]["kind"] == "pending":
        await ctx.scheduler.cancel(loop["stepId"])
    return loop


async def schedule(
    ctx: MutationCtx,
    worker: dict[str, Any],
    loop: dict[str, Any],
    time: float,
    changes: dict[str, Any],
    *,
    is_busy: bool = False,
) -> None:
    """Schedule the next step, make other `changes` of the loop, and have the monitor follow.

    Pings wake a loop early that waits, and leave one alone that is busy.
    """
    now = ctx.now()
    # Clocks are coarser than numbers: a step that came a little early would find nothing to be due yet.
    time = math.ceil(min(time, now + FURTHEST_MS)) if time > now else now
    status: dict[str, Any] = {"kind": "running"} if is_busy or time <= now else {"kind": "waiting", "until": time}
    if status != worker["status"]:
        await ctx.db.patch(worker["_id"], {"status": status})
    step_id = await ctx.scheduler.run_at(time, internal.steps.step, name=worker["name"])
    changes = {**changes, "stepId": step_id, **await follow(ctx, worker, loop, time)}
    await ctx.db.patch(loop["_id"], changes)


async def follow(ctx: MutationCtx, worker: dict[str, Any], loop: dict[str, Any], time: float) -> dict[str, Any]:
    """Have the monitor look when the step at `time` should be over, and return what changes of the loop.

    One that comes earlier stays: it will look again later.
    """
    wanted = time + lag_of(worker)
    if wanted >= loop.get("monitorTime", wanted + 1):
        return {}
    if "monitorId" in loop:
        await ctx.scheduler.cancel(loop["monitorId"])
    monitor_id = await ctx.scheduler.run_at(wanted, internal.steps.monitor, name=worker["name"])
    return {"monitorId": monitor_id, "monitorTime": wanted}


def lag_of(worker: dict[str, Any]) -> float:
    """Return after how long a worker that failed is called again, in milliseconds."""
    lag: float = worker["config"].get("monitorLagMs", MONITOR_LAG_MS)
    return lag
