"""Work as documents: how it comes to be, waits, and ends. Used by the functions of the component."""

import logging
from typing import Any

from reactor import MutationCtx, QueryCtx, components, internal
from reactor.components.batch_worker import BatchWorker
from reactor.components.scheduled import backoff_ms
from reactor.components.workpool.settings import DEFAULT_PARALLELISM, INLINE_BYTES, PAYLOAD_BYTES, size_of

log = logging.getLogger(__name__)

loop = BatchWorker(components.batch_worker, internal.loop.main, monitor_lag_ms=120_000)


async def find_work(ctx: QueryCtx, work_id: str) -> dict[str, Any] | None:
    """Return work that has not ended, or None."""
    known = ctx.db.normalize_id("work", work_id)
    return None if known is None else await ctx.db.get(known)


async def parallelism(ctx: QueryCtx) -> int:
    """Return how many jobs may run at a time."""
    found = await ctx.db.query("globals").unique()
    return DEFAULT_PARALLELISM if found is None else int(found["maxParallelism"])


async def set_parallelism(ctx: MutationCtx, value: int) -> bool:
    """Store how many jobs may run at a time; return whether that is a change."""
    found = await ctx.db.query("globals").unique()
    if found is None:
        await ctx.db.insert("globals", {"maxParallelism": value})
    elif found["maxParallelism"] != value:
        await ctx.db.patch(found["_id"], {"maxParallelism": value})
    else:
        return False
    return True


async def insert_work(ctx: MutationCtx, item: dict[str, Any], time: float) -> str:
    """Store new work, which waits until `time`; return its id.

    Raises:
        ValueError: arguments or context are too large.
    """
    work = {name: value for name, value in item.items() if name != "runAt"}
    callback = dict(work.get("onComplete", {}))
    parts = {"argsId": work["fnArgs"], "contextId": callback.get("context")}
    sizes = {name: size_of(value) for name, value in parts.items()}
    for name, size in sizes.items():
        if size > PAYLOAD_BYTES:
            what = "arguments" if name == "argsId" else "on_complete context"
            raise ValueError(
                f"The {what} of {work['fnName']} take {size} bytes, more than {PAYLOAD_BYTES}: keep what is large in "
                "documents or files, and pass its id."
            )
    if sum(sizes.values()) >= INLINE_BYTES:
        work["argsId"] = await ctx.db.insert("payloads", {"value": work.pop("fnArgs")})
        if "context" in callback:
            work["contextId"] = await ctx.db.insert("payloads", {"value": callback.pop("context")})
            work["onComplete"] = callback
    work_id = await ctx.db.insert("work", {**work, "attempts": 0})
    await wait(ctx, {**work, "_id": work_id, "attempts": 0}, time)
    return work_id


async def wait(ctx: MutationCtx, work: dict[str, Any], time: float) -> None:
    """Put work into the queue, to start from `time` on."""
    await ctx.db.insert(
        "pendingStart",
        {
            "workId": work["_id"],
            "fnType": work["fnType"],
            "attempt": work["attempts"],
            "isDue": time <= ctx.now(),
            "rank": 0.0 - work["priority"],  # 0.0 and -0.0 are two places in an index
            "time": time,
        },
    )


async def args_of(ctx: QueryCtx, work: dict[str, Any]) -> Any:
    """Return the arguments of work."""
    return work["fnArgs"] if "fnArgs" in work else await _payload(ctx, work["argsId"])


async def end_attempt(
    ctx: MutationCtx,
    work_id: str,
    attempt: int,
    result: dict[str, Any],
    *,
    is_final: bool = False,
    is_callback_later: bool = False,
) -> None:
    """Take what an attempt came to: try again, or end the work. An attempt that is not the present one is ignored.

    `is_final` says that to try again would be no use; `is_callback_later` keeps `on_complete` out of this transaction.
    There is room for another job then, so the loop is woken when one waits.
    """
    work = await find_work(ctx, work_id)
    if work is None or work["attempts"] != attempt:
        log.warning("work %s: attempt %d ended, but is not the present one", work_id, attempt)
        return
    running = await ctx.db.query("running").with_index("by_work", workId=work["_id"]).unique()
    if running is None:
        log.warning("work %s: attempt %d ended, but does not run", work_id, attempt)
        return
    await ctx.db.delete(running["_id"])
    work["attempts"] += 1
    behavior = work.get("retryBehavior")
    can_retry = behavior is not None and work["attempts"] < behavior["maxAttempts"] and not work.get("canceled")
    if behavior is not None and can_retry and result["kind"] == "failed" and not is_final:
        time = ctx.now() + backoff_ms(behavior["initialBackoffMs"], behavior["base"], work["attempts"] - 1)
        await ctx.db.patch(work["_id"], {"attempts": work["attempts"]})
        await wait(ctx, work, time)
    else:
        await end_work(ctx, work, result, is_callback_later=is_callback_later)
    for is_due in (True, False):
        waiting = await ctx.db.query("pendingStart").with_index("by_time", isDue=is_due).first()
        if waiting is not None:
            await loop.ping(ctx, at=waiting["time"])
            return


async def end_work(
    ctx: MutationCtx, work: dict[str, Any], result: dict[str, Any], *, is_callback_later: bool = False
) -> None:
    """Delete work, and tell its `on_complete` what it came to.

    What that raises undoes what it wrote, and nothing else; it is then called once more, by itself.
    """
    callback = work.get("onComplete")
    args: dict[str, Any] | None = None
    if callback is not None and result["kind"] not in callback.get("excludeKinds", ()):
        args = {"workId": work["_id"], "result": result}
        if "contextId" in work:
            args["context"] = await _payload(ctx, work["contextId"])
        elif "context" in callback:
            args["context"] = callback["context"]
    for payload in ("argsId", "contextId"):
        if payload in work:
            await ctx.db.delete(work[payload])
    await ctx.db.delete(work["_id"])
    if callback is None or args is None:
        return
    if not is_callback_later:
        try:
            await ctx.run_mutation(callback["fnHandle"], args)
            return
        except Exception as error:
            log.error("on_complete of %s (%s) failed, and is called once more: %r", work["fnName"], work["_id"], error)
    await ctx.scheduler.run_after(0, callback["fnHandle"], args)


async def _payload(ctx: QueryCtx, payload_id: str) -> Any:
    payload = await ctx.db.get(payload_id)
    assert payload is not None, "payloads live as long as their work"
    return payload["value"]
