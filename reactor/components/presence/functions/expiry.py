"""The worker that ends sessions whose heartbeats have stopped. It sleeps until the earliest deadline there is."""

from typing import Any, Final

from reactor import MutationCtx, internal_mutation, v
from reactor.components.batch_worker import idle, work
from reactor.components.presence.sessions import end_session

ENDED_AT_ONCE: Final = 64


@internal_mutation(args={"name": v.string()}, returns=v.any())
async def expire(ctx: MutationCtx, name: str) -> dict[str, Any]:
    """End the sessions whose deadline has come; say when the next one comes."""
    due = ctx.db.query("sessions").with_index("by_deadline", lambda q: q.lte("deadline", ctx.now()))
    expired = await due.take(ENDED_AT_ONCE)
    for session in expired:
        await end_session(ctx, session)
    if len(expired) == ENDED_AT_ONCE:
        return work()
    earliest = await ctx.db.query("sessions").with_index("by_deadline").first()
    return idle() if earliest is None else idle(timeout_ms=earliest["deadline"] - ctx.now())
