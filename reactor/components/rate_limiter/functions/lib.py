"""What applications call: the functions of the component, with arguments and results as JSON.

Each is one transaction, or a part of the caller's. Wrong arguments raise `ValueError`: they are mistakes of a program.
"""

from typing import Any

from reactor import MutationCtx, QueryCtx, mutation, query, undefined, v
from reactor.components.rate_limiter.arithmetic import Decision
from reactor.components.rate_limiter.configs import CONFIG, config_of
from reactor.components.rate_limiter.ledger import Ledger
from reactor.components.rate_limiter.readings import READING, read
from reactor.components.rate_limiter.requests import REQUEST, Request, request_of, take
from reactor.components.rate_limiter.status import STATUS, rate_limited, wire_status

LIMIT = {**REQUEST, "throws": v.optional(v.boolean())}


@query(args=LIMIT, returns=STATUS)
async def check_rate_limit(ctx: QueryCtx, /, *, throws: bool = False, **request: Any) -> dict[str, Any]:
    """Return what `rate_limit` would, and take nothing."""
    asked = request_of(request)
    decision = await take(Ledger(ctx, asked.name, asked.key), asked, ctx.now())
    return _answer(asked, decision, throws)


@mutation(args=LIMIT, returns=STATUS)
async def rate_limit(ctx: MutationCtx, /, *, throws: bool = False, **request: Any) -> dict[str, Any]:
    """Take tokens if they are there. With `throws`, raise when the caller would have to wait; then nothing is taken."""
    asked = request_of(request)
    ledger = Ledger(ctx, asked.name, asked.key)
    decision = await take(ledger, asked, ctx.now())
    answer = _answer(asked, decision, throws)
    if decision.ok:
        await ledger.write()
    return answer


@query(
    args={
        "name": v.string(),
        "key": v.optional(v.string()),
        "config": CONFIG,
        "sampleShards": v.optional(v.number()),
    },
    returns=READING,
)
async def get_value(
    ctx: QueryCtx, *, name: str, config: Any, key: str | None = None, sample_shards: float = 1
) -> dict[str, Any]:
    """Return what was left after the last change."""
    return await read(Ledger(ctx, name, key), config_of(config), sample_shards)


@mutation(args={"name": v.string(), "key": v.optional(v.string()), "config": v.optional(CONFIG)}, returns=v.null())
async def reset_rate_limit(ctx: MutationCtx, *, name: str, key: str | None = None, config: Any = None) -> None:
    """Forget what was taken with this very key, in all shards; without a key, what was taken without one."""
    rows = ctx.db.query("rateLimits").with_index("name", name=name, key=undefined if key is None else key)
    for row in await rows.collect():
        await ctx.db.delete(row["_id"])


@mutation(args={}, returns=v.number())
async def get_server_time(ctx: MutationCtx) -> float:
    """Return what time it is here, for clients that compute a limit themselves."""
    return ctx.now()


def _answer(request: Request, decision: Decision, throws: bool) -> dict[str, Any]:
    if throws and decision.retry_after:
        raise rate_limited(request.name, decision.retry_after)
    return wire_status(decision.ok, decision.retry_after)
