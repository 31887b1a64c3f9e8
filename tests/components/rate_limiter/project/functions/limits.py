"""Functions that ask for tokens, for tests that need a path, a socket or an HTTP request."""

from typing import Any

from reactor import action, components, mutation, query, v
from reactor.components.rate_limiter import (
    MINUTE,
    SECOND,
    FixedWindow,
    RateLimiter,
    TokenBucket,
    config_of,
)

limiter = RateLimiter(
    components.rate_limiter,
    {
        "ten": TokenBucket(10, 10 * MINUTE),
        "messages": TokenBucket(10, MINUTE),
        "windows": FixedWindow(10, MINUTE),
        "fast": TokenBucket(1, SECOND),
        "hidden": TokenBucket(1, MINUTE),
        "sharded": TokenBucket(40, MINUTE, shards=4),
    },
)


async def key_of(ctx: Any, given: str | None) -> str | None:
    identity = await ctx.auth.get_user_identity()
    return "anonymous" if identity is None else identity["subject"]


get_rate_limit, get_server_time = limiter.hook_api("messages", names=["windows", "sharded", "fast"])
of_user = limiter.hook_api("messages", key=key_of).get_rate_limit
of_client = limiter.hook_api("messages", key=lambda ctx, given: given).get_rate_limit
of_all = limiter.hook_api("messages", key="all").get_rate_limit
of_ten = limiter.hook_api("ten").get_rate_limit
inline = limiter.hook_api("inline", config=TokenBucket(5, MINUTE)).get_rate_limit


@mutation(args={"name": v.string(), "key": v.optional(v.string()), "count": v.optional(v.number())})
async def take(ctx, name, key=None, count=1):
    """Return whether the tokens were there, and how long to wait."""
    status = await limiter.limit(ctx, name, key, count)
    return [status.ok, status.retry_after]


@mutation(args={"config": v.any()})
async def take_queued(ctx, config):
    """Take from an asynchronous limit, and do something behind it."""
    status = await limiter.limit(ctx, "a", config=config_of(config))
    await ctx.db.query("nothing").collect()
    return status.ok


@query(args={"name": v.string()})
async def left(ctx, name):
    """Return whether there is a token."""
    return (await limiter.check(ctx, name)).ok


@action(args={"name": v.string()})
async def take_twice(ctx, name):
    """Take in two transactions of an action."""
    return [(await limiter.limit(ctx, name)).ok for _ in range(2)]
