"""Counts beans."""

from reactor import ActionCtx, MutationCtx, action, components, mutation
from reactor.components.sharded_counter import ShardedCounter

counter = ShardedCounter(components.sharded_counter, default_shards=2)


@mutation
async def add_in_turn(ctx: MutationCtx, counts: list[float]) -> None:
    """Add, one call after the other."""
    for count in counts:
        await counter.add(ctx, "beans", count)


@action
async def add_in_action(ctx: ActionCtx, counts: list[float]) -> float:
    """Add, each in a transaction of its own."""
    for count in counts:
        await counter.add(ctx, "beans", count)
    return await counter.count(ctx, "beans")
