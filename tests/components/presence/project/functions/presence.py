"""What an application exports for browsers, and what tests call besides."""

from typing import Any

from reactor import ReactorError, components, internal_mutation, internal_query, mutation, query, v
from reactor.components.presence import Presence

presence = Presence(components.presence)


@mutation(args={"roomId": v.string(), "userId": v.string(), "sessionId": v.string(), "interval": v.number()})
async def heartbeat(ctx: Any, room_id: str, user_id: str, session_id: str, interval: float) -> Any:
    if user_id == "nobody":
        raise ReactorError("Unauthenticated")
    return await presence.heartbeat(ctx, room_id, user_id, session_id, interval)


@query(args={"roomToken": v.string()}, name="list")
async def list_users(ctx: Any, room_token: str) -> Any:
    return await presence.list(ctx, room_token)


@mutation(args={"sessionToken": v.string()})
async def disconnect(ctx: Any, session_token: str) -> None:
    await presence.disconnect(ctx, session_token)


@internal_mutation
async def update(ctx: Any, room: str, user: str, data: Any = None) -> None:
    await (presence.update_room_user(ctx, room, user, data) if data else presence.update_room_user(ctx, room, user))


@internal_query
async def room(ctx: Any, room: str, online_only: bool = False, limit: int = 104) -> Any:
    return await presence.list_room(ctx, room, online_only=online_only, limit=limit)


@internal_query
async def user(ctx: Any, user: str, online_only: bool = False, limit: int = 104) -> Any:
    return await presence.list_user(ctx, user, online_only=online_only, limit=limit)


@internal_mutation
async def remove_user(ctx: Any, room: str, user: str) -> None:
    await presence.remove_room_user(ctx, room, user)


@internal_mutation
async def remove_room(ctx: Any, room: str) -> None:
    await presence.remove_room(ctx, room)
