"""What a session needs from the world around it, as ports.

Sessions know sockets, functions and live queries only in this form, so tests can drive them without any of the three.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from reactor.auth.identity import Identity
from reactor.errors import Error
from reactor.runtime.calls import Call, Outcome
from reactor.runtime.rounds import LiveHandle, Observer

CheckAdmin = Callable[[str, Mapping[str, Any] | None], Identity]
"""Gives the identity of an admin key, acting as the user with the given attributes."""

CheckToken = Callable[[str, Callable[[Identity | Error], None]], Callable[[], None]]
"""Calls back with whose token this is, or why that can't be said: at once if it is known, else once the keys of the
token's issuer are there. Returns what takes that back."""


class Outlet(Protocol):
    """Where messages go; see `outbox`."""

    transitions: int

    def put(self, frame: bytes) -> None: ...
    def put_transition(self, frames: list[bytes]) -> None: ...
    def close(self, code: int | None, reason: str = "") -> None: ...
    def wake(self) -> None: ...


class Functions(Protocol):
    """Runs mutations and actions: `ran` when a mutation has run, `done` when it is durable, or an action has ended;
    neither from inside these methods."""

    def submit_mutation(self, call: Call, done: Callable[[Outcome], None], ran: Callable[[], None]) -> None: ...
    def submit_action(self, call: Call, done: Callable[[Outcome], None]) -> None: ...


class Live(Protocol):
    """Keeps live queries; calls `settled` on the observer, never from inside these methods."""

    def subscribe(self, call: Call, observer: Observer, journal: str | None) -> LiveHandle: ...
    def unsubscribe(self, handle: LiveHandle) -> None: ...
    def request_settle(self, observer: Observer) -> None: ...
    def forget(self, observer: Observer) -> None: ...
