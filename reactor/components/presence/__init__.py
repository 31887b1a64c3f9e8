"""Presence: who is in which room, and when who has left was last there.

Browsers send heartbeats; when they stop, or say that they leave, the user goes offline. A user with several tabs is
online until the last of them is gone. Works with the React hook of the npm package `@convex-dev/presence`.

See `docs/components/presence.md`.
"""

from reactor import define_component
from reactor.components import batch_worker
from reactor.components.presence.client import Presence, RoomState, Tokens, UserState

component = define_component(__name__)
component.use(batch_worker)

__all__ = ["Presence", "RoomState", "Tokens", "UserState", "component"]
