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


@internal_mutation(
    args={
        "limits": LIMITS,
        "before": v.number(),
        "after": v.optional(v.number()),
        "forgetPhases": v.optional(v.boolean()),
    },
    returns=v.null(),
)
async def sweep_page(
    ctx: MutationCtx,
    limits: list[dict[str, Any]],
    before: float,
    after: float = -math.inf,
    forget_phases: bool = False,
) -> None:
    """Delete those documents of a page, last changed before a time, that say the same as none would; then go on.

    With `forget_phases` also those that say nothing else than when a window begins.
    """
    configs = {limit["name"]: config_of(limit["config"]) for limit in limits}
    # Stale: a page also has documents that are changed all the time. To delete one is to depend on it.
    page: list[dict[str, Any]] = await ctx.stale.run_query(page_after, after=after)
    for document in page:
        config = configs.get(document["name"])
        if config is not None and _is_idle(document, config, before, ctx.now(), forget_phases):
            await ctx.db.delete(document["_id"])
    if len(page) == PAGE:
        last = page[-1]["_creationTime"]
        args = {"limits": limits, "before": before, "after": last, "forgetPhases": forget_phases}
        await ctx.scheduler.run_after(0, internal.cleaning.sweep_page, args)


def _is_idle(document: dict[str, Any], config: Config, before: float, now: float, forget_phases: bool) -> bool:
    # The document of a window without a start also says when it begins. Once a whole one has passed in which nothing
    # was taken, another phase lets nobody have more than two windows that meet.
    has_phase = isinstance(config, FixedWindow) and config.start is None
    if document["ts"] > (before - 2 * config.period if has_phase else before) or (has_phase and not forget_phases):
        return False
    share = share_of(config)
    return project(State(document["value"], document["ts"]), share, now).value >= share.capacity
