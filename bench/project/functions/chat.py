"""Messages in channels, for the fan-out benchmark."""

from reactor import mutation, query, v


@mutation(args={"channel": v.string(), "number": v.number()})
async def send(ctx, channel, number):
    await ctx.db.insert("messages", {"channel": channel, "body": "hello", "number": number})


@query(args={"channel": v.string()})
async def latest(ctx, channel):
    message = await ctx.db.query("messages").with_index("by_channel", channel=channel).order("desc").first()
    return None if message is None else message["number"]


@mutation(args={"channel": v.string(), "first": v.integer(), "count": v.integer()})
async def fill(ctx, channel, first, count):
    for number in range(first, first + count):
        await ctx.db.insert("messages", {"channel": channel, "body": "hello, this is a message", "number": number})


@query(args={"number": v.number()})
async def numbered(ctx, number):
    """A point read: one document by its number."""
    return await ctx.db.query("messages").with_index("by_number", number=number).first()


@query(args={"channel": v.string(), "salt": v.number()})
async def sum_of(ctx, channel, salt):
    """Read every document of a channel. `salt` makes it another question each time."""
    messages = ctx.db.query("messages").with_index("by_channel", channel=channel)
    return sum([message["number"] async for message in messages]) + salt


@query(args={"channel": v.string(), "salt": v.number()})
async def many_of(ctx, channel, salt):
    """Read every document of a channel at once, and return as many as a list may hold."""
    messages = await ctx.db.query("messages").with_index("by_channel", channel=channel).collect()
    return messages[:8000]


@query
async def count(ctx):
    return await ctx.db.query("messages").count()
