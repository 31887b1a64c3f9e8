"""The jobs: what runs one attempt of one piece of work, and writes down what it came to.

A mutation and its end are one transaction. An action's end is a transaction of its own; one that never comes is found
by the loop (`loop`). An attempt that is not the present one does nothing.
"""

import logging
from typing import Any

from reactor import (
    ActionCtx,
    MutationCtx,
    QueryCtx,
    ReactorError,
    internal,
    internal_action,
    internal_mutation,
    internal_query,
    v,
)
from reactor.components.workpool.client import NON_RETRYABLE
from reactor.components.workpool.schema import result as result_validator
from reactor.components.workpool.work import args_of, end_attempt, find_work

ATTEMPT = {"workId": v.string(), "attempt": v.integer()}

log = logging.getLogger(__name__)


@internal_mutation(args=ATTEMPT)
async def run_transaction(ctx: MutationCtx, work_id: str, attempt: int) -> None:
    """Run a mutation or query, and end the attempt."""
    work = await find_work(ctx, work_id)
    if work is None or work["attempts"] != attempt:
        return
    run = ctx.run_query if work["fnType"] == "query" else ctx.run_mutation
    result: dict[str, Any]
    try:
        result = {"kind": "success", "returnValue": await run(work["fnHandle"], await args_of(ctx, work))}
    except Exception as error:
        log.error("%s failed: %r", work["fnName"], error)
        result = {"kind": "failed", "error": str(error)}
    await end_attempt(ctx, work_id, attempt, result)


@internal_action(args=ATTEMPT)
async def run_action(ctx: ActionCtx, work_id: str, attempt: int) -> None:
    """Run an action, and end the attempt."""
    job = await ctx.run_query(internal.jobs.load, workId=work_id, attempt=attempt)
    if job is None:
        return
    end: dict[str, Any] = {"workId": work_id, "attempt": attempt, "isFinal": False}
    try:
        end["result"] = {"kind": "success", "returnValue": await ctx.run_action(job["fnHandle"], job["fnArgs"])}
    except Exception as error:
        log.error("attempt %d of %s failed: %r", attempt + 1, job["fnName"], error)
        end["result"] = {"kind": "failed", "error": str(error)}
        end["isFinal"] = is_non_retryable(error)
    try:
        await ctx.run_mutation(internal.jobs.complete, end)
    except Exception as error:  # with an on_complete that takes the transaction with it, say
        log.error("%s ended, but its on_complete can't run with that: %r", job["fnName"], error)
        await ctx.run_mutation(internal.jobs.complete, {**end, "isCallbackLater": True})


@internal_query(args=ATTEMPT)
async def load(ctx: QueryCtx, work_id: str, attempt: int) -> dict[str, Any] | None:
    """Return what an attempt is to run, or None when it is not the present one."""
    work = await find_work(ctx, work_id)
    if work is None or work["attempts"] != attempt:
        return None
    return {"fnHandle": work["fnHandle"], "fnName": work["fnName"], "fnArgs": await args_of(ctx, work)}


@internal_mutation(
    args={
        **ATTEMPT,
        "result": result_validator,
        "isFinal": v.boolean(),
        "isCallbackLater": v.optional(v.boolean()),
    }
)
async def complete(
    ctx: MutationCtx,
    work_id: str,
    attempt: int,
    result: dict[str, Any],
    is_final: bool,
    is_callback_later: bool = False,
) -> None:
    """End an attempt of an action."""
    await end_attempt(ctx, work_id, attempt, result, is_final=is_final, is_callback_later=is_callback_later)


def is_non_retryable(error: Exception) -> bool:
    """Whether an action has said that to try it again would be no use."""
    return isinstance(error, ReactorError) and isinstance(error.data, dict) and NON_RETRYABLE in error.data
