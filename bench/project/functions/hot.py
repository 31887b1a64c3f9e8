"""One hot document: incremented by hand, and by the rate limiter."""

from reactor import components, mutation, query, v
from reactor.components.rate_limiter import WEEK, FixedWindow, RateLimiter

LIMITS = 1e9
LIMITER = RateLimiter(components.rate_limiter, {"calls": FixedWindow(LIMITS, 10_000 * WEEK, start=0)})


@mutation(args={"name": v.string()}, returns=v.boolean())
async def increment(ctx, name):
    """Add one to the balance of an account, which is made when there is none."""
    account = await ctx.db.query("accounts").with_index("by_name", name=name).unique()
    if account is None:
        await ctx.db.insert("accounts", {"name": name, "balance": 1})
    else:
        await ctx.db.patch(account["_id"], {"balance": account["balance"] + 1})
    return True


@mutation(args={"name": v.string()}, returns=v.boolean())
async def limit(ctx, name):
    """Take one token of many."""
    status = await LIMITER.limit(ctx, "calls", key=name)
    return status.ok


@query(args={"name": v.string()}, returns=v.array(v.number()))
async def counted(ctx, name):
    """Return what both have counted."""
    account = await ctx.db.query("accounts").with_index("by_name", name=name).unique()
    reading = await LIMITER.get_value(ctx, "calls", key=name)
    return [account["balance"], LIMITS - reading.value]
