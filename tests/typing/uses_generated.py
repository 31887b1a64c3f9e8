"""What type checkers make of generated types. A line that must not check names why: mypy's code, then pyright's."""

# ruff: noqa: B018, E501
# fmt: off

from datetime import timedelta
from typing import Any, assert_type

from _generated import (
    ActionCtx,
    ChannelsDoc,
    ChannelsFields,
    ChannelsId,
    MessagesDoc,
    MessagesId,
    MutationCtx,
    QueryCtx,
    TableNames,
    api,
    internal,
)

from functions.messages import list_bodies
from reactor import Int64, undefined
from reactor.client import BlockingClient, Client
from reactor.testing.deployment import MemoryDeployment


async def in_a_query(ctx: QueryCtx, channel: ChannelsId, message: MessagesId) -> None:
    assert_type(await ctx.run_query(api.messages.list_bodies, channel=channel, limit=3), list[str])
    assert_type(await ctx.run_query(api.messages.list_bodies, {"channel": channel}), list[str])
    assert_type(await ctx.run_query(list_bodies, channel=channel), list[str])
    assert_type((await ctx.run_query(api.deep.nested.getURL))["in"], bytes)
    await ctx.run_query(api.messages.list_bodies, chanel=channel)  # expect: call-overload | reportCallIssue
    await ctx.run_query(api.messages.list_bodies, {"chanel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue
    await ctx.run_query(api.messages.list_bodies, {"channel": message})  # expect: call-overload | reportArgumentType,reportCallIssue
    await ctx.run_query(api.messages.list_bodies, channel=channel, limit="3")  # expect: call-overload | reportCallIssue
    await ctx.run_query(api.messages.list_bodies)  # expect: call-overload | reportCallIssue
    await ctx.run_query(api.messages.send, {"body": "x"})  # expect: call-overload | reportArgumentType,reportCallIssue
    api.messages.list_bodys  # expect: attr-defined | reportAttributeAccessIssue,reportUnknownMemberType
    api.messages.notify  # expect: attr-defined | reportAttributeAccessIssue,reportUnknownMemberType
    (await ctx.run_query(api.messages.list_bodies, channel=channel)).upper()  # expect: attr-defined | reportAttributeAccessIssue,reportUnknownMemberType


async def documents(ctx: QueryCtx, channel: ChannelsId, name: TableNames) -> ChannelsDoc | None:
    assert_type(await ctx.db.get(channel), ChannelsDoc | None)
    messages = ctx.db.query("messages").with_index("by_channel", channel=channel).order("desc")
    assert_type(await messages.collect(), list[MessagesDoc])
    async for message in ctx.db.query("messages"):
        assert_type(message["likes"], Int64)
        message["boddy"]  # expect: typeddict-item | reportGeneralTypeIssues
        message["author"]["age"] + "x"  # expect: operator | reportOperatorIssue,reportTypedDictNotRequiredAccess
    async for shape in ctx.db.query("shapes"):
        if shape["kind"] == "circle":
            assert_type(shape["radius"], float)
    assert_type(await ctx.db.query("things").first(), dict[str, Any] | None)
    ctx.db.query("mesages")  # expect: call-overload | reportArgumentType,reportCallIssue
    ctx.db.query("messages").with_index("by_chanel")  # expect: arg-type | reportArgumentType
    await ctx.db.get("messages", channel)  # expect: call-overload | reportArgumentType,reportCallIssue
    await ctx.db.get("some text")  # expect: call-overload | reportArgumentType,reportCallIssue
    ctx.db.insert  # expect: attr-defined | reportAttributeAccessIssue,reportUnknownMemberType
    ctx.db.normalize_id("chanels", "text")  # expect: call-overload | reportArgumentType,reportCallIssue
    return await ctx.db.query("messages").first()  # expect: return-value | reportReturnType


async def writes(ctx: MutationCtx, channel: ChannelsId, message: MessagesId) -> None:
    fields: ChannelsFields = {"name": "general"}
    assert_type(await ctx.db.insert("channels", fields), ChannelsId)
    await ctx.db.patch(channel, {"topic": undefined})
    await ctx.db.patch("channels", channel, {"name": "other"})
    await ctx.db.replace(channel, {"name": "other"})
    await ctx.db.delete(message)
    await ctx.db.without_triggers.delete("messages", message)
    await documents(ctx, channel, "shapes")
    await ctx.scheduler.run_after(timedelta(seconds=1), internal.messages.notify, {"message": message})
    await ctx.db.insert("chanels", {"name": "general"})  # expect: call-overload | reportArgumentType,reportCallIssue
    await ctx.db.insert("channels", {"nam": "general"})  # expect: call-overload | reportArgumentType,reportCallIssue
    await ctx.db.patch(channel, {"name": undefined})  # expect: call-overload | reportArgumentType,reportCallIssue
    await ctx.db.delete("messages", channel)  # expect: call-overload | reportArgumentType,reportCallIssue
    await ctx.scheduler.run_after(0, internal.messages.notify, mesage=message)  # expect: call-overload | reportCallIssue
    await ctx.scheduler.run_after(0, api.messages.list_bodies, {"channel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue


async def in_an_action(ctx: ActionCtx, channel: ChannelsId) -> None:
    author = {"name": "Ann"}
    assert_type(await ctx.run_mutation(api.messages.make_channel, name="x"), Any)
    sent = await ctx.run_mutation(api.messages.send, channel_id=channel, body="x", author={"name": "Ann"}, likes=3)
    assert_type(sent, MessagesId)
    assert_type(await ctx.run_action(api.messages.count, count=1), Int64)
    await ctx.run_mutation(api.messages.send, channel_id=channel, body="x", author=author)  # expect: call-overload | reportCallIssue
    await ctx.run_mutation(api.messages.list_bodies, {"channel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue


async def in_a_test(deployment: MemoryDeployment, channel: ChannelsId) -> None:
    assert_type(await deployment.query(api.messages.list_bodies, {"channel": channel}), list[str])
    assert_type(await deployment.query(api.messages.list_bodies, channel=channel), list[str])
    assert_type(await deployment.with_identity({}).query(api.messages.channel, {"id": channel}), ChannelsDoc | None)
    assert_type(await deployment.action(api.messages.count, {"count": 3}), Int64)
    await deployment.mutation(internal.messages.notify, {"message": MessagesId("x")})
    deployment.subscribe(api.messages.list_bodies, channel=channel)
    await deployment.query(api.messages.list_bodies, {"chanel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue
    await deployment.query(api.messages.send, {"channel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue
    await deployment.mutation(api.messages.send, body=3)  # expect: call-overload | reportCallIssue
    deployment.subscribe(api.messages.list_bodies, channel=3)  # expect: call-overload | reportCallIssue
    await deployment.query("messages:list_bodies", {"anything": "goes"})


async def with_clients(client: Client, blocking: BlockingClient, channel: ChannelsId) -> None:
    assert_type(await client.query(api.messages.list_bodies, {"channel": channel}), list[str])
    assert_type(blocking.query(api.messages.list_bodies, {"channel": channel}), list[str])
    assert_type(blocking.query(api.messages.list_bodies, {"channel": channel}, timeout=3), list[str])
    assert_type(await client.action(api.messages.count, {"count": 1.5}), Int64)
    author = {"name": "Ann"}
    await client.mutation(
        api.messages.send, {"channelId": channel, "body": "x", "author": {"name": "Ann"}, "tags": ("a", "b")}
    )
    client.subscribe(api.messages.list_bodies, {"channel": channel})
    await client.query(api.messages.list_bodies, {"chanel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue
    blocking.query(api.messages.list_bodies, {"chanel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue
    await client.query(api.messages.list_bodies)  # expect: call-overload | reportCallIssue
    await client.mutation(api.messages.list_bodies, {"channel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue
    await client.mutation(api.messages.send, {"channelId": channel, "author": author})  # expect: call-overload | reportArgumentType,reportCallIssue
    client.subscribe(api.messages.send, {"channel": channel})  # expect: call-overload | reportArgumentType,reportCallIssue
    tags: list[int] = await client.query(api.messages.list_bodies, {"channel": channel})  # expect: call-overload | reportAssignmentType
    print(tags)
