"""Runs as documents: how an attempt comes to be, fails, and how a run ends. Used by the functions of the component."""

import logging
import random
from typing import Any, Final

from reactor import MutationCtx, QueryCtx, internal
from reactor.components.scheduled import backoff_ms

HEARTBEAT_MS: Final = 10_000.0
TRANSIENT: Final = "Transient error when executing action"

log = logging.getLogger(__name__)


async def find_run(ctx: QueryCtx, run_id: str) -> dict[str, Any] | None:
    """Return a run, or None."""
    known = ctx.db.normalize_id("runs", run_id)
    return None if known is None else await ctx.db.get(known)


async def present_run(ctx: QueryCtx, run_id: str, attempt: int) -> dict[str, Any] | None:
    """Return the run that waits for this attempt, or None when it has ended or gone on without it."""
    run = await find_run(ctx, run_id)
    is_present = run is not None and run["state"]["type"] == "inProgress" and run["numFailures"] == attempt
    return run if is_present else None


async def load_run(ctx: QueryCtx, run_id: str) -> dict[str, Any]:
    """Return a run.

    Raises:
        ValueError: there is none.
    """
    run = await find_run(ctx, run_id)
    if run is None:
        raise ValueError(f"Run {run_id} not found. One that has ended is forgotten after a week.")
    return run


async def begin_attempt(ctx: MutationCtx, run: dict[str, Any], time: float) -> None:
    """Schedule the attempt whose number is that of the failures so far."""
    args = {"runId": run["_id"], "attempt": run["numFailures"]}
    state = {**run["state"], "schedulerId": await ctx.scheduler.run_at(time, internal.attempts.execute, args)}
    await ctx.db.patch(run["_id"], {"state": state, "numFailures": run["numFailures"]})


async def beat(ctx: MutationCtx, run_id: str, time: float) -> None:
    """Have a heartbeat some seconds after `time`."""
    await ctx.scheduler.run_at(time + HEARTBEAT_MS * (0.5 + random.random()), internal.attempts.heartbeat, runId=run_id)


async def end_attempt(ctx: MutationCtx, run: dict[str, Any], result: dict[str, Any]) -> None:
    """Take what the present attempt of a run came to: try again, or end the run."""
    options, failures = run["options"], run["numFailures"]
    if result["type"] != "failed" or failures >= options["maxFailures"]:
        await end_run(ctx, run, result)
        return
    log.warning("attempt %d of run %s failed: %s", failures + 1, run["_id"], result["error"])
    wait = backoff_ms(options["initialBackoffMs"], options["base"], failures + 1)
    await begin_attempt(ctx, {**run, "numFailures": failures + 1}, ctx.now() + wait)


async def end_run(ctx: MutationCtx, run: dict[str, Any], result: dict[str, Any]) -> None:
    """End a run, and tell its `on_complete`. What that raises undoes what it wrote, and nothing else."""
    completed = {"type": "completed", "completedAt": ctx.now(), "result": result}
    await ctx.db.patch(run["_id"], {"state": completed})
    if "onComplete" not in run["options"]:
        return
    try:
        await ctx.run_mutation(run["options"]["onComplete"], {"runId": run["_id"], "result": result})
    except Exception as error:
        log.error("on_complete of run %s failed: %r", run["_id"], error)
