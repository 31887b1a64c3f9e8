"""Heartbeats, lists and leaving. Other code calls these by their names; applications use `Presence`.

Promises that a heartbeat of a session that is known writes that session and nothing else, so that no list changes and
no two users are in each other's way.
"""

import math
import uuid
from typing import Any, Final

from reactor import MutationCtx, QueryCtx, components, internal, mutation, query, undefined, v
from reactor.components.batch_worker import BatchWorker
from reactor.components.presence.sessions import arrive, end_session, find_session, find_user

MISSED_BEATS: Final = 2.5  # after so many intervals without a heartbeat a session is over
LISTED: Final = 104
REMOVED_AT_ONCE: Final = 64

expiry: Final = BatchWorker(components.batch_worker, internal.expiry.expire, name="expiry", debounce_ms=1000)

STATE: Final = {"online": v.boolean(), "lastDisconnected": v.number(), "data": v.optional(v.any())}
IN_ROOM: Final = v.array(v.object({"userId": v.string(), **STATE}))
OF_USER: Final = v.array(v.object({"roomId": v.string(), **STATE}))

Document = dict[str, Any]


@mutation(
    args={
        "roomId": v.string(),
        "userId": v.string(),
        "sessionId": v.string(),
        "interval": v.optional(v.number()),
    },
    returns=v.object({"roomToken": v.string(), "sessionToken": v.string()}),
)
async def heartbeat(
    ctx: MutationCtx, room_id: str, user_id: str, session_id: str, interval: float = 10_000.0
) -> Document:
    """Keep a session alive for two and a half intervals; return the tokens of its room and of itself.

    Raises:
        ValueError: the session is of another user or room, or the interval is no span of time.
    """
    if not (math.isfinite(interval) and interval > 0):
        raise ValueError(f"The interval of heartbeats is a positive number of milliseconds, not {interval!r}.")
    deadline = ctx.now() + MISSED_BEATS * interval
    session = await find_session(ctx, session_id)
    if session is None:
        fields = {"roomId": room_id, "userId": user_id, "sessionId": session_id, "deadline": deadline}
        await ctx.db.insert("sessions", fields)
        await arrive(ctx, room_id, user_id)
    elif (session["roomId"], session["userId"]) != (room_id, user_id):
        raise ValueError(f"Session {session_id!r} is of another user or room: each tab needs a session id of its own.")
    else:
        await ctx.db.patch(session["_id"], {"deadline": deadline})
    if session is None or deadline < session["deadline"]:
        await expiry.ping(ctx, at=deadline)
    return {
        "roomToken": await _token(ctx, "roomTokens", "by_room", {"roomId": room_id}),
        "sessionToken": await _token(ctx, "sessionTokens", "by_session_id", {"sessionId": session_id}),
    }


@query(args={"roomToken": v.string(), "limit": v.optional(v.integer())}, returns=IN_ROOM)
async def list(ctx: QueryCtx, room_token: str, limit: int = LISTED) -> Any:
    """Return the users of a room, those online first, then the others, the latest first; [] for an unknown token."""
    found = await ctx.db.query("roomTokens").with_index("by_token", token=room_token).unique()
    return [] if found is None else await _room(ctx, found["roomId"], False, limit)


@mutation(args={"sessionToken": v.string()}, returns=v.null())
async def disconnect(ctx: MutationCtx, session_token: str) -> None:
    """End a session. An unknown token is that of one that has ended."""
    found = await ctx.db.query("sessionTokens").with_index("by_token", token=session_token).unique()
    session = None if found is None else await find_session(ctx, found["sessionId"])
    if session is not None:
        await end_session(ctx, session)


@mutation(args={"roomId": v.string(), "userId": v.string(), "data": v.optional(v.any())}, returns=v.null())
async def update_room_user(ctx: MutationCtx, room_id: str, user_id: str, data: Any = undefined) -> None:
    """Set what is shown with a user in a room, or without `data` show nothing.

    Raises:
        ValueError: the user was never in the room.
    """
    user = await find_user(ctx, room_id, user_id)
    if user is None:
        raise ValueError(f"User {user_id!r} was never in room {room_id!r}: send a heartbeat first.")
    await ctx.db.patch(user["_id"], {"data": data})


@query(
    args={"roomId": v.string(), "onlineOnly": v.optional(v.boolean()), "limit": v.optional(v.integer())},
    returns=IN_ROOM,
)
async def list_room(ctx: QueryCtx, room_id: str, online_only: bool = False, limit: int = LISTED) -> Any:
    """Return the users of a room, as `list` does, for those who need no token."""
    return await _room(ctx, room_id, online_only, limit)


@query(
    args={"userId": v.string(), "onlineOnly": v.optional(v.boolean()), "limit": v.optional(v.integer())},
    returns=OF_USER,
)
async def list_user(ctx: QueryCtx, user_id: str, online_only: bool = False, limit: int = LISTED) -> Any:
    """Return the rooms of a user, those where the user is online first."""
    equal: Document = {"userId": user_id, "online": True} if online_only else {"userId": user_id}
    rooms = await ctx.db.query("presence").with_index("by_user", **equal).order("desc").take(limit)
    return [_shown(room, "roomId") for room in rooms]


@mutation(args={"roomId": v.string(), "userId": v.string()}, returns=v.null())
async def remove_room_user(ctx: MutationCtx, room_id: str, user_id: str) -> None:
    """Forget a user in a room, with all sessions there."""
    await _remove(ctx, room_id, user_id)


@mutation(args={"roomId": v.string()}, returns=v.null())
async def remove_room(ctx: MutationCtx, room_id: str) -> None:
    """Forget a room: its token and some users now, the others by the scheduler."""
    token = await ctx.db.query("roomTokens").with_index("by_room", roomId=room_id).unique()
    if token is not None:
        await ctx.db.delete(token["_id"])
    users = await ctx.db.query("presence").with_index("by_room", roomId=room_id).take(REMOVED_AT_ONCE)
    for user in users:
        await _remove(ctx, room_id, user["userId"])
    if len(users) == REMOVED_AT_ONCE:
        await ctx.scheduler.run_after(0, remove_room, {"roomId": room_id})


async def _remove(ctx: MutationCtx, room_id: str, user_id: str) -> None:
    user = await find_user(ctx, room_id, user_id)
    if user is not None:
        await ctx.db.delete(user["_id"])
    sessions = ctx.db.query("sessions").with_index("by_room_user", roomId=room_id, userId=user_id)
    for session in await sessions.collect():
        await end_session(ctx, session)


async def _room(ctx: QueryCtx, room_id: str, online_only: bool, limit: int) -> Any:
    equal: Document = {"roomId": room_id, "online": True} if online_only else {"roomId": room_id}
    users = await ctx.db.query("presence").with_index("by_room", **equal).order("desc").take(limit)
    return [_shown(user, "userId") for user in users]


async def _token(ctx: MutationCtx, table: str, index: str, of: Document) -> str:
    """Return the token of a room or a session, which is made at the first heartbeat and stays."""
    found = await ctx.db.query(table).with_index(index, **of).unique()
    if found is not None:
        return str(found["token"])
    token = str(uuid.uuid4())
    await ctx.db.insert(table, {**of, "token": token})
    return token


def _shown(document: Document, who: str) -> Document:
    return {field: document[field] for field in (who, "online", "lastDisconnected", "data") if field in document}
