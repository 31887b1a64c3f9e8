"""Transfers between accounts: two index lookups and two patches, as Convex's own benchmark does it."""

from reactor import mutation, query, v


@mutation(args={"count": v.integer(), "balance": v.number()})
async def open_accounts(ctx, count, balance):
    for number in range(count):
        await ctx.db.insert("accounts", {"name": f"account-{number}", "balance": balance})


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


@query(returns=v.number())
async def total(ctx):
    balances = [account["balance"] async for account in ctx.db.query("accounts")]
    return sum(balances)
