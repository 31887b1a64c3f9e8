"""The counters: values that are spread over shards."""

import math
import random
from typing import Any

from reactor import MutationCtx, QueryCtx, ReactorError, mutation, query, v
from reactor.components.sharded_counter.spread import spread


@mutation(
    args={"name": v.string(), "count": v.number(), "shards": v.integer(), "shard": v.optional(v.integer())},
    returns=v.integer(),
)
def add(ctx: MutationCtx, name: str, count: float, shards: int, shard: int | None = None) -> int:
    """Add to one shard, by chance or as given; return which."""
    _check(shards)
    if not math.isfinite(count):
        raise ReactorError(f"a counter can't count {count}: only finite numbers add up")
    if shard is None:
        shard = random.randrange(shards)
    found = _shard(ctx, name, shard)
    if found is None:
        ctx.db.insert("counters", {"name": name, "value": count, "shard": shard})
    else:
        ctx.db.patch(found["_id"], {"value": found["value"] + count})
    return shard


@query(args={"name": v.string()}, returns=v.number())
def count(ctx: QueryCtx, name: str) -> float:
    """Return the sum of all shards there are; 0 for a name that never was."""
    return math.fsum(shard["value"] for shard in _all(ctx, name))


@query(args={"name": v.string(), "readFromShards": v.integer(), "shards": v.integer()}, returns=v.number())
def estimate_count(ctx: QueryCtx, name: str, read_from_shards: int, shards: int) -> float:
    """Return what all shards would hold if they held as much as some of them, chosen by chance."""
    _check(shards)
    size = min(max(read_from_shards, 1), shards)
    found = [_shard(ctx, name, shard) for shard in random.sample(range(shards), size)]
    return math.fsum(shard["value"] for shard in found if shard is not None) * shards / size


@mutation(args={"name": v.string(), "shards": v.integer()}, returns=v.null())
def rebalance(ctx: MutationCtx, name: str, shards: int) -> None:
    """Spread the value evenly over `shards` shards. What was whole stays whole."""
    _check(shards)
    found = {shard["shard"]: shard for shard in _all(ctx, name)}
    values = spread(math.fsum(shard["value"] for shard in found.values()), shards)
    for number, value in enumerate(values):
        if number in found:
            ctx.db.patch(found.pop(number)["_id"], {"value": value})
        else:
            ctx.db.insert("counters", {"name": name, "value": value, "shard": number})
    for shard in found.values():
        ctx.db.delete(shard["_id"])


@mutation(args={"name": v.string()}, returns=v.null())
def reset(ctx: MutationCtx, name: str) -> None:
    """Let the counter be 0."""
    for shard in _all(ctx, name):
        ctx.db.delete(shard["_id"])


def _check(shards: int) -> None:
    if shards < 1:
        raise ReactorError(f"a counter has 1 shard or more, not {shards}")


def _all(ctx: QueryCtx, name: str) -> list[dict[str, Any]]:
    found: Any = ctx.db.query("counters").with_index("name", name=name).collect()
    return list(found)


def _shard(ctx: QueryCtx, name: str, shard: int) -> dict[str, Any] | None:
    found: Any = ctx.db.query("counters").with_index("name", name=name, shard=shard).unique()
    return dict(found) if found is not None else None
