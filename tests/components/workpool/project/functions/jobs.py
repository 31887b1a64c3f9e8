"""Jobs of each kind and mood, and the ends that are told of them."""

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

from reactor import (
    ActionCtx,
    MutationCtx,
    QueryCtx,
    ReactorError,
    action,
    components,
    internal,
    internal_action,
    internal_mutation,
    internal_query,
)
from reactor.components.workpool import NonRetryableError, RetryBehavior, Workpool, on_complete_args

DONE = internal.jobs.done


class Gates:
    """Actions that wait to be told how they end, and how many of them run."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.waiting: dict[str, Future[str]] = {}
        self.active = 0
        self.most = 0

    def enter(self, name: str) -> "Future[str]":
        with self.lock:
            self.active += 1
            self.most = max(self.most, self.active)
            gate = self.waiting[name] = Future()
            return gate

    def leave(self, name: str) -> None:
        with self.lock:
            self.active -= 1
            del self.waiting[name]


gates = Gates()


@internal_action
async def gated(ctx: ActionCtx, name: str) -> str:
    """Wait until the test says how to end: `fail` and `fatal` raise."""
    gate = gates.enter(name)
    try:
        outcome = await asyncio.wrap_future(gate)
    finally:
        gates.leave(name)
    if outcome == "fail":
        raise ValueError(name)
    if outcome == "fatal":
        raise NonRetryableError(name)
    return outcome


@internal_action
async def act(ctx: ActionCtx, name: str) -> str:
    """Leave a mark."""
    await ctx.run_mutation(internal.jobs.effect, name=name)
    return name


@internal_action
async def fail(ctx: ActionCtx, name: str) -> None:
    """Leave a mark, and fail."""
    await ctx.run_mutation(internal.jobs.effect, name=name)
    raise ReactorError({"code": name})


@internal_action
async def fail_for_good(ctx: ActionCtx, name: str) -> None:
    """Leave a mark, and fail in a way that no repetition mends."""
    await ctx.run_mutation(internal.jobs.effect, name=name)
    raise NonRetryableError(name)


@internal_mutation
async def effect(ctx: MutationCtx, name: str) -> str:
    """Leave a mark."""
    await ctx.db.insert("effects", {"name": name, "time": ctx.now()})
    return name


@internal_mutation
async def broken(ctx: MutationCtx, name: str) -> None:
    """Leave no mark."""
    await effect(ctx, name)
    raise ValueError("undone")


@internal_query
async def count(ctx: QueryCtx, name: str) -> float:
    """Count marks."""
    return float(len([row for row in await ctx.db.query("effects").collect() if row["name"] == name]))


@internal_mutation(args=on_complete_args())
async def done(ctx: MutationCtx, workId: str, result: dict[str, Any], context: Any = "none") -> None:
    """Be told of an end."""
    row = {"workId": workId, "result": result}
    await ctx.db.insert("ends", row if context == "none" else {**row, "context": context})


@internal_mutation(args=on_complete_args())
async def failing_done(ctx: MutationCtx, workId: str, result: dict[str, Any], context: Any = None) -> None:
    """Fail to be told in the transaction of the end, and not by itself."""
    await ctx.db.insert("ends", {"workId": workId, "result": "of the first call"})
    if not await ctx.db.query("effects").collect():
        await ctx.db.insert("effects", {"name": "undone", "time": 0})
        raise ValueError("not now")


@internal_mutation(args=on_complete_args())
async def endless_done(ctx: MutationCtx, workId: str, result: dict[str, Any], context: Any = None) -> None:
    """Never end."""
    while True:
        pass


@internal_mutation
async def enqueue(
    ctx: MutationCtx,
    job: str,
    kind: str = "action",
    names: list[str] | None = None,
    most: int = 10,
    retry: Any = None,
    told: bool = True,
    options: dict[str, Any] | None = None,
) -> list[str]:
    """Enqueue a job under each name."""
    pool = Workpool(components.workpool, max_parallelism=most)
    given: dict[str, Any] = {"on_complete": DONE} if told else {}
    given |= options or {}
    if kind == "action":
        given["retry"] = RetryBehavior(**retry) if isinstance(retry, dict) else retry
    batch = [{"name": name} for name in names or ["job"]]
    ids: list[str] = await getattr(pool, f"enqueue_{kind}_batch")(ctx, f"jobs:{job}", batch, **given)
    return ids


@action
async def enqueue_from_action(ctx: ActionCtx, name: str) -> str:
    """Enqueue in a transaction of its own."""
    return await Workpool(components.workpool).enqueue_mutation(ctx, effect, {"name": name}, on_complete=done)


@internal_mutation
async def cancel(ctx: MutationCtx, work: str) -> None:
    """Cancel work."""
    await Workpool(components.workpool).cancel(ctx, work)


@internal_mutation
async def cancel_all(ctx: MutationCtx, limit: int) -> None:
    """Cancel everything."""
    await Workpool(components.workpool).cancel_all(ctx, limit=limit)


@internal_mutation
async def set_most(ctx: MutationCtx, value: int) -> None:
    """Change how many may run."""
    await Workpool(components.workpool).set_max_parallelism(ctx, value)


@internal_query
async def status(ctx: QueryCtx, work: str) -> Any:
    """Say what becomes of work."""
    return await Workpool(components.workpool).status(ctx, work)


@internal_query
async def statuses(ctx: QueryCtx, works: list[str]) -> Any:
    """Say the same of many."""
    return await Workpool(components.workpool).status_batch(ctx, works)
