"""Sessions: one tab of a user in a room. What begins with the first one and ends with the last."""

from typing import Any

from reactor import MutationCtx, QueryCtx

Document = dict[str, Any]


async def find_session(ctx: QueryCtx, session_id: str) -> Document | None:
    """Return a session, or None."""
    return await ctx.db.query("sessions").with_index("by_session_id", sessionId=session_id).unique()


async def find_user(ctx: QueryCtx, room_id: str, user_id: str) -> Document | None:
    """Return what is known of a user in a room, or None for one who was never there."""
    return await ctx.db.query("presence").with_index("by_room_user", roomId=room_id, userId=user_id).unique()


async def arrive(ctx: MutationCtx, room_id: str, user_id: str) -> None:
    """Make a user online. Nothing is written for one who is: whoever watches the room has no news."""
    user = await find_user(ctx, room_id, user_id)
    if user is None:
        there = {"roomId": room_id, "userId": user_id, "online": True, "lastDisconnected": 0.0}
        await ctx.db.insert("presence", there)
    elif not user["online"]:
        await ctx.db.patch(user["_id"], {"online": True, "lastDisconnected": 0.0})


async def end_session(ctx: MutationCtx, session: Document) -> None:
    """Forget a session and its token; with the last one in the room the user goes offline."""
    await ctx.db.delete(session["_id"])
    tokens = ctx.db.query("sessionTokens").with_index("by_session_id", sessionId=session["sessionId"])
    token = await tokens.unique()
    if token is not None:
        await ctx.db.delete(token["_id"])
    room_id, user_id = session["roomId"], session["userId"]
    others = ctx.db.query("sessions").with_index("by_room_user", roomId=room_id, userId=user_id)
    if await others.first() is None:
        user = await find_user(ctx, room_id, user_id)
        if user is not None and user["online"]:
            await ctx.db.patch(user["_id"], {"online": False, "lastDisconnected": ctx.now()})
