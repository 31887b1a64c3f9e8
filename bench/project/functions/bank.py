"""Transfers between accounts: two index lookups and two patches, as Convex's own benchmark does it."""

from reactor import mutation, query, v


@mutation(args={"first": v.integer(), "count": v.integer(), "balance": v.number()})
async def open_accounts(ctx, first, count, balance):
    for number in range(first, first + count):
        await ctx.db.insert("accounts", {"name": f"account-{number:06d}", "balance": balance})


@mutation(args={"source": v.string(), "target": v.string(), "amount": v.number()}, returns=v.boolean())
async def transfer(ctx, source, target, amount):
    """Return whether money moved: not when the source has too little."""
    giver = await ctx.db.query("accounts").with_index("by_name", name=source).unique()
    taker = await ctx.db.query("accounts").with_index("by_name", name=target).unique()
    if giver["balance"] < amount:
        return False
    await ctx.db.patch(giver["_id"], {"balance": giver["balance"] - amount})
    await ctx.db.patch(taker["_id"], {"balance": taker["balance"] + amount})
    return True


@query(args={"first": v.integer(), "count": v.integer()}, returns=v.number())
async def total(ctx, first, count):
    """Return the sum of the balances of some accounts; all are more than one query may read."""
    accounts = ctx.db.query("accounts").with_index(
        "by_name", lambda q: q.gte("name", f"account-{first:06d}").lt("name", f"account-{first + count:06d}")
    )
    return sum([account["balance"] async for account in accounts])
