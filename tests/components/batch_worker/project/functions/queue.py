"""A queue, a worker in each mood, and a queue of deadlines."""

from typing import Any

from reactor import MutationCtx, QueryCtx, components, internal, internal_mutation, internal_query
from reactor.components.batch_worker import BatchWorker, idle, work

BATCH = 3
drainer = BatchWorker(components.batch_worker, internal.queue.drain, name="drainer")
slow = BatchWorker(
    components.batch_worker, internal.queue.drain, name="slow", debounce_ms=5000.0, monitor_lag_ms=9000.0
)
clock = BatchWorker(components.batch_worker, internal.queue.ring, name="clock")
counter = BatchWorker(components.batch_worker, internal.queue.count_up, name="counter")
LOOPS = {"drainer": drainer, "slow": slow, "clock": clock, "counter": counter}


@internal_mutation
async def add(ctx: MutationCtx, items: list[float], loop: str = "drainer", fail: bool = False) -> None:
    """Add to the queue and wake its loop."""
    for item in items:
        await ctx.db.insert("queue", {"item": item})
    await LOOPS[loop].ping(ctx)
    if fail:
        raise ValueError("undone, the ping too")


@internal_mutation
async def drain(ctx: MutationCtx, name: str) -> dict[str, Any]:
    """Take a batch off the queue. Negative items are orders: -1 to fail, -2 to stop, -3 to add one."""
    batch = await ctx.db.query("queue").take(BATCH)
    if not batch:
        return idle()
    for row in batch:
        await ctx.db.delete(row["_id"])
        match row["item"]:
            case -1:
                raise ValueError("a bad item")
            case -2:
                await LOOPS[name].stop(ctx)
            case -3:
                await add(ctx, [100.0], name)
            case -4:
                await LOOPS[name].stop(ctx)
                await LOOPS[name].start(ctx)
    await ctx.db.insert("batches", {"time": ctx.now(), "items": [row["item"] for row in batch]})
    return work()


@internal_mutation
async def set_timer(ctx: MutationCtx, due: float) -> None:
    """Have something happen at a time."""
    await ctx.db.insert("timers", {"due": due})
    await clock.ping(ctx, at=due)


@internal_mutation
async def ring(ctx: MutationCtx, name: str) -> dict[str, Any]:
    """Note the timers that are due, and sleep until the next one."""
    now = ctx.now()
    due = await ctx.db.query("timers").with_index("by_due", lambda q: q.lte("due", now)).collect()
    for timer in due:
        await ctx.db.delete(timer["_id"])
    if due:
        await ctx.db.insert("batches", {"time": now, "items": [timer["due"] for timer in due]})
    coming = await ctx.db.query("timers").with_index("by_due").first()
    return idle() if coming is None else idle(timeout_ms=coming["due"] - now)


@internal_mutation
async def count_up(ctx: MutationCtx, name: str, cursor: float = 0.0) -> dict[str, Any]:
    """Count to three, kept in the cursor."""
    await ctx.db.insert("batches", {"time": ctx.now(), "items": [cursor]})
    return work(cursor=cursor + 1) if cursor < 2 else idle(cursor=0.0)


@internal_mutation
async def wrong(ctx: MutationCtx, name: str) -> None:
    """Answer nothing."""


@internal_mutation
async def ping(ctx: MutationCtx, loop: str) -> None:
    """Wake a loop."""
    await LOOPS[loop].ping(ctx)


@internal_mutation
async def ping_wrong(ctx: MutationCtx) -> None:
    """Wake a worker that answers nothing."""
    await BatchWorker(components.batch_worker, wrong, name="wrong").ping(ctx)


@internal_mutation
async def stop(ctx: MutationCtx, loop: str) -> None:
    """Stop a loop."""
    await LOOPS[loop].stop(ctx)


@internal_mutation
async def start(ctx: MutationCtx, loop: str) -> None:
    """Start a loop again."""
    await LOOPS[loop].start(ctx)


@internal_query
async def status(ctx: QueryCtx, loop: str) -> Any:
    """Say what a loop does."""
    return await LOOPS[loop].status(ctx)
