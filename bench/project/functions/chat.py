"""Messages in channels, for the fan-out benchmark."""

from reactor import mutation, query, v


@mutation(args={"channel": v.string(), "number": v.number()})
async def send(ctx, channel, number):
    await ctx.db.insert("messages", {"channel": channel, "body": "hello", "number": number})


@query(args={"channel": v.string()})
async def latest(ctx, channel):
    message = await ctx.db.query("messages").with_index("by_channel", channel=channel).order("desc").first()
    return None if message is None else message["number"]
