"""The steps of a loop: a scheduled mutation that calls the worker and schedules the next one.

Promises that at most one step of a loop is scheduled and not yet over, since whoever schedules one has cancelled the
one before in the same transaction. A worker that raises is called again after `monitorLagMs`, by the step itself; one
that takes the whole step with it, by running too long for instance, by the monitor, which follows the step at that
distance while there is one.
"""

import logging
import math
from typing import Any, Final

from reactor import MutationCtx, QueryCtx, internal, internal_mutation, undefined, v
from reactor.components.scheduled import FURTHEST_MS, find_under_way

MONITOR_LAG_MS: Final = 60_000.0

log = logging.getLogger(__name__)


@internal_mutation(args={"name": v.string()})
async def step(ctx: MutationCtx, name: str) -> None:
    """Call the worker once, and schedule what its answer asks for."""
    worker, loop = await worker_of(ctx, name), await loop_of(ctx, name)
    assert worker is not None
    this = loop["stepId"]
    changes: dict[str, Any] = {}
    try:
        args = {"name": name, "cursor": loop["cursor"]} if "cursor" in loop else {"name": name}
        answer = checked(await ctx.run_mutation(worker["worker"], args))
        if "error" in loop:
            changes["error"] = undefined
    except Exception as error:
        lag = lag_of(worker)
        log.error("batch worker %r failed and is called again in %g s: %r", name, lag / 1000, error)
        changes["error"] = f"{type(error).__name__}: {error}"
        answer = {"kind": "work", "debounceMs": lag}
    if "cursor" in answer:
        changes["cursor"] = answer["cursor"]

    worker, loop = await worker_of(ctx, name), await loop_of(ctx, name)
    assert worker is not None
    now = ctx.now()
    if worker["status"]["kind"] == "stopped" or loop["stepId"] != this:  # by the worker itself
        await ctx.db.patch(loop["_id"], changes)
    elif answer["kind"] == "work":
        pause = answer.get("debounceMs", worker["config"].get("debounceMs", 0.0))
        await _schedule(ctx, worker, loop, now + pause, changes, is_busy=True)
    elif "timeoutMs" in answer:
        await _schedule(ctx, worker, loop, now + answer["timeoutMs"], changes)
    else:
        await ctx.db.patch(worker["_id"], {"status": {"kind": "idle"}})
        if changes:
            await ctx.db.patch(loop["_id"], changes)


@internal_mutation(args={"name": v.string()})
async def monitor(ctx: MutationCtx, name: str) -> None:
    """Schedule a step if the one that should have come has not; end when the loop has nothing to do."""
    worker, loop = await worker_of(ctx, name), await loop_of(ctx, name)
    assert worker is not None
    gone = {"monitorId": undefined, "monitorTime": undefined}
    if worker["status"]["kind"] in ("idle", "stopped"):
        await ctx.db.patch(loop["_id"], gone)
        return
    del loop["monitorId"], loop["monitorTime"]
    scheduled = await find_under_way(ctx, loop["stepId"])
    if scheduled is not None:
        changes = await _follow(ctx, worker, loop, max(scheduled["scheduledTime"], ctx.now()))
        await ctx.db.patch(loop["_id"], changes)
    else:
        log.error("batch worker %r has lost its next step, which is scheduled again", name)
        await _schedule(ctx, worker, loop, ctx.now(), {})


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
    await _schedule(ctx, worker, loop, max(time, ctx.now()), {})


async def disarm(ctx: MutationCtx, name: str) -> dict[str, Any]:
    """Cancel the next step, unless it is the one that runs now; return the loop."""
    loop = await loop_of(ctx, name)
    scheduled = await ctx.db.system.get(loop["stepId"]) if "stepId" in loop else None
    if scheduled is not None and scheduled["state"]["kind"] == "pending":
        await ctx.scheduler.cancel(loop["stepId"])
    return loop


async def _schedule(
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
    changes = {**changes, "stepId": step_id, **await _follow(ctx, worker, loop, time)}
    await ctx.db.patch(loop["_id"], changes)


async def _follow(ctx: MutationCtx, worker: dict[str, Any], loop: dict[str, Any], time: float) -> dict[str, Any]:
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


def checked(answer: Any) -> dict[str, Any]:
    """Return what a worker has answered.

    Raises:
        TypeError: it is none of the answers that there are.
    """
    if not isinstance(answer, dict) or answer.get("kind") not in ("work", "idle"):
        raise TypeError(f"A worker returns work(...) or idle(...), not {answer!r}")
    return answer
