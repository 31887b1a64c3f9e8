"""Functions of every kind; their bodies are checked with the generated types of `ctx`, too."""

from typing import Any

from _generated import ActionCtx, ChannelsDoc, ChannelsId, MutationCtx, QueryCtx, api, internal

from reactor import action, internal_mutation, mutation, query, v


@query(args={"channel": v.id("channels"), "limit": v.optional(v.integer())}, returns=v.array(v.string()))
async def list_bodies(ctx: QueryCtx, channel: ChannelsId, limit: int = 50) -> list[str]:
    found = await ctx.db.query("messages").with_index("by_channel", channel=channel).take(limit)
    return [message["body"] for message in found]


@mutation(
    args={
        "channelId": v.id("channels"),
        "body": v.string(),
        "tags": v.optional(v.array(v.string())),
        "author": v.object({"name": v.string()}),
        "embedding": v.optional(v.array(v.number())),
        "likes": v.optional(v.int64()),
    },
    returns=v.id("messages"),
)
async def send(ctx: MutationCtx, /, channel_id: ChannelsId, body: str, author: dict[str, Any], **others: Any) -> str:
    message = await ctx.db.insert(
        "messages",
        {
            "channel": channel_id,
            "author": {"name": author["name"]},
            "body": body,
            "likes": 0,
            "embedding": [],
            "kind": "text",
            "from": None,
        },
    )
    await ctx.scheduler.run_after(0, internal.messages.notify, message=message)
    return message


@internal_mutation(args={"message": v.id("messages")}, returns=v.null())
async def notify(ctx: MutationCtx, message: str) -> None: ...


@action(args={"count": v.number()}, returns=v.int64())
async def count(ctx: ActionCtx, count: float) -> int:
    return int(count)


@query
async def channel(ctx: QueryCtx, id: ChannelsId) -> ChannelsDoc | None:
    return await ctx.db.get(id)


@mutation(args={"name": v.string()})
async def make_channel(ctx: MutationCtx, name: str) -> ChannelsId:
    return await ctx.db.insert("channels", {"name": name})


@query(name="default", args=v.any())
async def anything(ctx: QueryCtx, /, **args: Any) -> Any:
    return await ctx.run_query(api.messages.list_bodies, args)  # type: ignore[call-overload]  # any value
