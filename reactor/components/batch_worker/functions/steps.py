"""The steps of a loop: a scheduled mutation that calls the worker and schedules the next one.

Promises that at most one step of a loop is scheduled and not yet over, since whoever schedules one has cancelled the
one before in the same transaction. A worker that raises is called again after `monitorLagMs`, by the step itself; one
that takes the whole step with it, by running too long for instance, by the monitor, which follows the step at that
distance while there is one.
"""

import logging
from typing import Any

from reactor import MutationCtx, internal_mutation, undefined, v
from reactor.components.batch_worker.loops import follow, lag_of, loop_of, schedule, worker_of
from reactor.components.scheduled import find_under_way

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
        await schedule(ctx, worker, loop, now + pause, changes, is_busy=True)
    elif "timeoutMs" in answer:
        await schedule(ctx, worker, loop, now + answer["timeoutMs"], changes)
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
        changes = await follow(ctx, worker, loop, max(scheduled["scheduledTime"], ctx.now()))
        await ctx.db.patch(loop["_id"], changes)
    else:
        log.error("batch worker %r has lost its next step, which is scheduled again", name)
        await schedule(ctx, worker, loop, ctx.now(), {})


def checked(answer: Any) -> dict[str, Any]:
    """Return what a worker has answered.

    Raises:
        TypeError: it is none of the answers that there are.
    """
    if not isinstance(answer, dict) or answer.get("kind") not in ("work", "idle"):
        raise TypeError(f"A worker returns work(...) or idle(...), not {answer!r}")
    return answer
