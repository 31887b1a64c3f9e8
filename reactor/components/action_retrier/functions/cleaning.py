"""Runs are forgotten a week after their end."""

from typing import Final

from reactor import MutationCtx, internal, internal_mutation
from reactor.components.scheduled import DAY_MS

WEEK_MS: Final = 7 * DAY_MS
PAGE: Final = 1024


@internal_mutation
async def forget(ctx: MutationCtx) -> None:
    """Delete a page of old runs, and go on until there is none left."""
    old = ctx.db.query("runs").with_index(
        "by_state", lambda q: q.eq("state.type", "completed").lt("state.completedAt", ctx.now() - WEEK_MS)
    )
    page = await old.take(PAGE)
    for run in page:
        await ctx.db.delete(run["_id"])
    if len(page) == PAGE:
        await ctx.scheduler.run_after(0, internal.cleaning.forget)
