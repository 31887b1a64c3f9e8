"""One attempt of a run, how it writes down its end, and the heartbeat that misses it."""

from typing import Any

from reactor import (
    ActionCtx,
    MutationCtx,
    QueryCtx,
    internal,
    internal_action,
    internal_mutation,
    internal_query,
    v,
)
from reactor.components.action_retrier.runs import (
    TRANSIENT,
    beat,
    end_attempt,
    end_run,
    find_run,
    present_run,
)
from reactor.components.action_retrier.schema import result as result_validator
from reactor.components.scheduled import is_under_way

ATTEMPT = {"runId": v.string(), "attempt": v.integer()}


@internal_action(args=ATTEMPT)
async def execute(ctx: ActionCtx, run_id: str, attempt: int) -> None:
    """Run the action once, and write down what it came to."""
    call = await ctx.run_query(internal.attempts.load, runId=run_id, attempt=attempt)
    if call is None:
        return
    result: dict[str, Any]
    try:
        result = {"type": "success", "returnValue": await ctx.run_action(call["handle"], call["args"])}
    except Exception as error:
        result = {"type": "failed", "error": str(error)}
    await ctx.run_mutation(internal.attempts.finish, runId=run_id, attempt=attempt, result=result)


@internal_query(args=ATTEMPT)
async def load(ctx: QueryCtx, run_id: str, attempt: int) -> dict[str, Any] | None:
    """Return what an attempt is to run, or None when it is not the present one."""
    run = await present_run(ctx, run_id, attempt)
    return None if run is None else {"handle": run["functionHandle"], "args": run["functionArgs"]}


@internal_mutation(args={**ATTEMPT, "result": result_validator})
async def finish(ctx: MutationCtx, run_id: str, attempt: int, result: dict[str, Any]) -> None:
    """Take the end of an attempt, unless the run has ended or gone on without it."""
    run = await present_run(ctx, run_id, attempt)
    if run is not None:
        await end_attempt(ctx, run, result)


@internal_mutation(args={"runId": v.string()})
async def heartbeat(ctx: MutationCtx, run_id: str) -> None:
    """See whether the present attempt of a run is still to come, or runs; if it can't end any more, end it."""
    run = await find_run(ctx, run_id)
    if run is None or run["state"]["type"] != "inProgress":
        return
    scheduled = await ctx.db.system.get(run["state"]["schedulerId"])
    kind = None if scheduled is None else scheduled["state"]["kind"]
    if scheduled is not None and is_under_way(scheduled):
        await beat(ctx, run_id, max(ctx.now(), scheduled["scheduledTime"]))
    elif kind == "canceled":
        await end_run(ctx, run, {"type": "canceled"})
    elif kind == "success":
        raise RuntimeError(f"An attempt of run {run_id} has succeeded without saying how it ended.")
    else:
        await end_attempt(ctx, run, {"type": "failed", "error": TRANSIENT})
        await beat(ctx, run_id, ctx.now())
