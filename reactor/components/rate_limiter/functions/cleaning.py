"""Deleting documents, a page in each transaction, so that nobody waits long."""

import math
from typing import Any, Final

from reactor import MutationCtx, QueryCtx, internal, internal_mutation, internal_query, v
from reactor.components.rate_limiter.arithmetic import State, project, share_of
from reactor.components.rate_limiter.configs import CONFIG, Config, FixedWindow, config_of

PAGE: Final = 100
LIMITS: Final = v.array(v.object({"name": v.string(), "config": CONFIG}))


@internal_mutation(args={"before": v.number()}, returns=v.null())
async def clear_page(ctx: MutationCtx, before: float) -> None:
    """Delete the newest documents made up to the time `before`, and go on with those before them."""
    made = ctx.db.query("rateLimits").with_index("by_creation_time", lambda q: q.lte("_creationTime", before))
    page = await made.order("desc").take(PAGE)
    for document in page:
        await ctx.db.delete(document["_id"])
    if len(page) == PAGE:
        await ctx.scheduler.run_after(0, internal.cleaning.clear_page, before=before)


@internal_query(args={"after": v.optional(v.number())})
async def page_after(ctx: QueryCtx, after: float = -math.inf) -> list[dict[str, Any]]:
    """Return the oldest documents made after a time."""
    made = ctx.db.query("rateLimits").with_index("by_creation_time", lambda q: q.gt("_creationTime", after))
    return await made.take(PAGE)


@internal_mutation(args={"limits": LIMITS, "before": v.number(), "after": v.optional(v.number())}, returns=v.null())
async def sweep_page(ctx: MutationCtx, limits: list[dict[str, Any]], before: float, after: float = -math.inf) -> None:
    """Delete those documents of a page, last changed before a time, that say the same as none would; then go on."""
    configs = {limit["name"]: config_of(limit["config"]) for limit in limits}
    # Stale: a page also has documents that are changed all the time. To delete one is to depend on it.
    page: list[dict[str, Any]] = await ctx.stale.run_query(page_after, after=after)
    for document in page:
        config = configs.get(document["name"])
        if config is not None and _is_idle(document, config, before, ctx.now()):
            await ctx.db.delete(document["_id"])
    if len(page) == PAGE:
        last = page[-1]["_creationTime"]
        await ctx.scheduler.run_after(0, internal.cleaning.sweep_page, limits=limits, before=before, after=last)


def _is_idle(document: dict[str, Any], config: Config, before: float, now: float) -> bool:
    if document["ts"] > before:
        return False
    if isinstance(config, FixedWindow) and config.start is None:
        return False  # the document also says when its windows begin
    share = share_of(config)
    return project(State(document["value"], document["ts"]), share, now).value >= share.capacity
