"""Actions that fail so often, and runs of them."""

import os
import signal
from typing import Any

from reactor import (
    ActionCtx,
    MutationCtx,
    QueryCtx,
    components,
    internal,
    internal_action,
    internal_mutation,
    internal_query,
)
from reactor.components.action_retrier import ActionRetrier, on_complete_args

retrier = ActionRetrier(components.action_retrier)


@internal_action
async def fail_first(ctx: ActionCtx, name: str, failures: int) -> str:
    """Fail so often, then succeed."""
    attempts = await ctx.run_mutation(internal.jobs.attempted, name=name)
    if attempts <= failures:
        raise ValueError(f"{name} failed {attempts}")
    return name


@internal_action
async def die_once(ctx: ActionCtx, name: str) -> str:
    """Take the process with it the first time."""
    if await ctx.run_mutation(internal.jobs.attempted, name=name) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


@internal_mutation
async def attempted(ctx: MutationCtx, name: str) -> int:
    """Note an attempt; return which it is."""
    await ctx.db.insert("attempts", {"name": name, "time": ctx.now()})
    return len([row for row in await ctx.db.query("attempts").collect() if row["name"] == name])


@internal_mutation(args=on_complete_args())
async def done(ctx: MutationCtx, runId: str, result: dict[str, Any]) -> None:
    """Be told of an end."""
    await ctx.db.insert("ends", {"runId": runId, "result": result})


@internal_mutation(args=on_complete_args())
async def failing_done(ctx: MutationCtx, runId: str, result: dict[str, Any]) -> None:
    """Fail to be told."""
    await done(ctx, runId=runId, result=result)
    raise ValueError("not now")


@internal_mutation
async def run(
    ctx: MutationCtx,
    name: str = "a",
    failures: int = 0,
    action: str = "fail_first",
    at: float | None = None,
    after: float | None = None,
    told: str = "done",
    options: dict[str, Any] | None = None,
) -> str:
    """Run an action."""
    args = {"name": name, "failures": failures} if action == "fail_first" else {"name": name}
    given = {"on_complete": f"jobs:{told}", **(options or {})}
    if at is not None:
        return await retrier.run_at(ctx, at, f"jobs:{action}", args, **given)
    if after is not None:
        return await retrier.run_after(ctx, after, f"jobs:{action}", args, **given)
    return await retrier.run(ctx, f"jobs:{action}", args, **given)


@internal_query
async def status(ctx: QueryCtx, run: str) -> Any:
    """Say what becomes of a run."""
    return await retrier.status(ctx, run)


@internal_mutation
async def cancel(ctx: MutationCtx, run: str) -> bool:
    """Cancel a run."""
    return await retrier.cancel(ctx, run)


@internal_mutation
async def cleanup(ctx: MutationCtx, run: str) -> None:
    """Forget a run."""
    await retrier.cleanup(ctx, run)
