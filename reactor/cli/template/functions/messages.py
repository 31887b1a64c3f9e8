"""Messages of a chat: clients call these as `messages:send` and `messages:list_messages`."""

from reactor import ReactorError, mutation, query, v

LONGEST = 500


@query(args={"channel": v.string(), "limit": v.optional(v.integer())})
async def list_messages(ctx, channel, limit=50):
    """Return the latest messages of a channel, newest first. Subscribers get every change to them."""
    return await ctx.db.query("messages").with_index("by_channel", channel=channel).order("desc").take(limit)


@mutation(args={"channel": v.string(), "author": v.string(), "body": v.string()})
async def send(ctx, channel, author, body):
    """Add a message. It is on disk before the caller hears so."""
    if len(body) > LONGEST:
        raise ReactorError({"code": "TOO_LONG", "max": LONGEST})
    return await ctx.db.insert("messages", {"channel": channel, "author": author, "body": body})
