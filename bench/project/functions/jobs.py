"""Scheduled functions, for the benchmark of many that are due together."""

from reactor import internal, internal_mutation, mutation, query, v


@mutation(args={"at": v.number(), "numbers": v.array(v.integer()), "gap": v.number()})
async def schedule(ctx, at, numbers, gap):
    """Schedule one job for each number, due `gap` milliseconds apart in the order of the numbers."""
    for number in numbers:
        await ctx.scheduler.run_at(at + gap * number, internal.jobs.done, {"number": number})


@internal_mutation(args={"number": v.integer()})
async def done(ctx, number):
    await ctx.db.insert("messages", {"channel": "jobs", "body": "done", "number": number})


@query(args={"first": v.integer(), "count": v.integer(), "channel": v.string()})
async def order(ctx, first, count, channel):
    """The numbers of the jobs that have run, in the order in which they did."""
    messages = await ctx.db.query("messages").with_index("by_channel", channel=channel).take(first + count)
    return [message["number"] for message in messages[first:]]


@query(args={})
async def left(ctx):
    """How many jobs have not ended."""
    rows = await ctx.db.system.query("_scheduled_functions").collect()
    return len([row for row in rows if row["state"]["kind"] == "pending"])


@query(args={"channel": v.string()})
async def how_many(ctx, channel):
    return await ctx.db.query("messages").with_index("by_channel", channel=channel).count()
