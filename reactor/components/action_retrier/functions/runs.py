"""Runs as users of a retrier have them: start, status, cancel, cleanup."""

from typing import Any

from reactor import MutationCtx, QueryCtx, mutation, query, v
from reactor.components.action_retrier.runs import beat, begin_attempt, end_run, find_run, load_run
from reactor.components.action_retrier.schema import options as options_validator

RUN = {"runId": v.string()}


@mutation(
    args={"functionHandle": v.string(), "functionArgs": v.any(), "options": options_validator}, returns=v.string()
)
async def start(ctx: MutationCtx, function_handle: str, function_args: dict[str, Any], options: dict[str, Any]) -> str:
    """Begin a run; return its id."""
    if not (options["base"] > 0 and options["initialBackoffMs"] >= 0 and options["maxFailures"] >= 0):
        raise ValueError(f"base is above 0, initialBackoffMs and maxFailures are not below: {options}.")
    now = ctx.now()
    time = max(now, options["runAt"]) if "runAt" in options else now + options.get("runAfter", 0.0)
    run: dict[str, Any] = {
        "functionHandle": function_handle,
        "functionArgs": function_args,
        "options": options,
        "state": {"type": "inProgress", "schedulerId": "", "startTime": now},
        "numFailures": 0,
    }
    run["_id"] = await ctx.db.insert("runs", run)
    await begin_attempt(ctx, run, time)
    await beat(ctx, run["_id"], time)
    return str(run["_id"])


@query(args=RUN)
async def status(ctx: QueryCtx, run_id: str) -> dict[str, Any]:
    """Return whether a run has ended, and how."""
    state = (await load_run(ctx, run_id))["state"]
    if state["type"] == "inProgress":
        return {"type": "inProgress"}
    return {"type": "completed", "result": state["result"]}


@mutation(args=RUN, returns=v.boolean())
async def cancel(ctx: MutationCtx, run_id: str) -> bool:
    """End a run as canceled, unless it has ended; return whether."""
    run = await find_run(ctx, run_id)
    if run is None or run["state"]["type"] != "inProgress":
        return False
    await ctx.scheduler.cancel(run["state"]["schedulerId"])
    await end_run(ctx, run, {"type": "canceled"})
    return True


@mutation(args=RUN, returns=v.null())
async def cleanup(ctx: MutationCtx, run_id: str) -> None:
    """Forget a run that has ended."""
    run = await load_run(ctx, run_id)
    if run["state"]["type"] != "completed":
        raise ValueError(f"Run {run_id} is in progress: cancel it first.")
    await ctx.db.delete(run["_id"])
