"""The class with which an application follows who is present."""

from typing import Any, Final, NotRequired, TypedDict, cast

from reactor import undefined
from reactor.components.contexts import ReadCtx, WriteCtx

LISTED: Final = 104


class Tokens(TypedDict):
    """What a heartbeat is answered with: the room's token is to watch it, the session's to end it."""

    roomToken: str
    sessionToken: str


class UserState(TypedDict):
    """A user in a room. `lastDisconnected` is 0 for one who is online; `data` is what the application has set."""

    userId: str
    online: bool
    lastDisconnected: float
    data: NotRequired[Any]


class RoomState(TypedDict):
    """A room of a user."""

    roomId: str
    online: bool
    lastDisconnected: float
    data: NotRequired[Any]


Users = list[UserState]
Rooms = list[RoomState]


class Presence:
    """Who is in which room: `presence = Presence(components.presence)`.

    The component knows nobody: functions of the application check who calls before they pass on what they say.
    """

    def __init__(self, component: Any) -> None:
        self.component = component

    async def heartbeat(
        self, ctx: WriteCtx, room_id: str, user_id: str, session_id: str, interval: float = 10_000.0, /
    ) -> Tokens:
        """Say that a user is in a room, by one session; the next heartbeat comes after `interval` milliseconds.

        Two and a half intervals without one end the session, and the user's last session the presence.

        Raises:
            ValueError: the session is of another user or room, or the interval is no span of time.
        """
        args = {"roomId": room_id, "userId": user_id, "sessionId": session_id, "interval": interval}
        return cast(Tokens, await ctx.run_mutation(self.component.rooms.heartbeat, args))

    async def list(self, ctx: ReadCtx, room_token: str, limit: int = LISTED, /) -> Users:
        """Return the users of a room: those online, then the others, the latest first. [] for an unknown token.

        Who has the token may look; all of a room have the same, so that one live query serves them.
        """
        return cast(Users, await ctx.run_query(self.component.rooms.list, roomToken=room_token, limit=limit))

    async def disconnect(self, ctx: WriteCtx, session_token: str, /) -> None:
        """End a session at once. Whoever has its token may; a token that is not known changes nothing."""
        await ctx.run_mutation(self.component.rooms.disconnect, sessionToken=session_token)

    async def update_room_user(self, ctx: WriteCtx, room_id: str, user_id: str, data: Any = undefined, /) -> None:
        """Set the data that is shown with a user in a room, or without `data` show none.

        Raises:
            ValueError: the user was never in the room.
        """
        args = {"roomId": room_id, "userId": user_id}
        given = args if data is undefined else {**args, "data": data}
        await ctx.run_mutation(self.component.rooms.update_room_user, given)

    async def list_room(
        self, ctx: ReadCtx, room_id: str, /, *, online_only: bool = False, limit: int = LISTED
    ) -> Users:
        """Return the users of a room by its id, for code that checks who may see them."""
        args = {"roomId": room_id, "onlineOnly": online_only, "limit": limit}
        return cast(Users, await ctx.run_query(self.component.rooms.list_room, args))

    async def list_user(
        self, ctx: ReadCtx, user_id: str, /, *, online_only: bool = False, limit: int = LISTED
    ) -> Rooms:
        """Return the rooms of a user, those where the user is online first."""
        args = {"userId": user_id, "onlineOnly": online_only, "limit": limit}
        return cast(Rooms, await ctx.run_query(self.component.rooms.list_user, args))

    async def remove_room_user(self, ctx: WriteCtx, room_id: str, user_id: str, /) -> None:
        """Forget a user in a room, with all sessions there. The next heartbeat brings the user back."""
        await ctx.run_mutation(self.component.rooms.remove_room_user, roomId=room_id, userId=user_id)

    async def remove_room(self, ctx: WriteCtx, room_id: str, /) -> None:
        """Forget a room with everybody in it, a large one by and by. Its token is good for nothing any more."""
        await ctx.run_mutation(self.component.rooms.remove_room, roomId=room_id)
