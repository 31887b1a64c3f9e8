"""Heartbeats, leaving, removing and waiting in any order, against a dict of sessions.

Intervals and waits are such that deadlines lie whole seconds apart, so that the pause between two batches of the worker
never shows.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment
from tests.sizes import size

FOLDER = Path(__file__).parent / "project"
ROOMS = st.sampled_from(["r1", "r2"])
USERS = st.sampled_from(["ann", "bob", "cem"])
TABS = st.sampled_from(["1", "2"])
INTERVALS = st.sampled_from([4000, 8000, 20_000])

_project: list[Project] = []


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    _project.append(ProjectLoader(FOLDER).load())
    yield
    _project.pop().release()


class PresenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        self.deployment = self.closing.enter_context(MemoryDeployment(_project[0], FOLDER).blocking())
        self.sessions: dict[str, tuple[str, str, float, str]] = {}  # room, user, deadline, token
        self.known: dict[tuple[str, str], float] = {}  # when each was last disconnected
        self.tokens: dict[str, str] = {}

    @property
    def now(self) -> float:
        return float(self.deployment.clock.now_ms)

    def end(self, session: str, at: float) -> None:
        room, user, _, _ = self.sessions.pop(session)
        if not any(other[:2] == (room, user) for other in self.sessions.values()):
            self.known[room, user] = at

    @rule(room=ROOMS, user=USERS, tab=TABS, interval=INTERVALS)
    def beat(self, room: str, user: str, tab: str, interval: int) -> None:
        session = f"{room} {user} {tab}"
        args = {"roomId": room, "userId": user, "sessionId": session, "interval": interval}
        tokens: Any = self.deployment.mutation("presence:heartbeat", args)
        if session in self.sessions:
            assert tokens["sessionToken"] == self.sessions[session][3]
        assert self.tokens.setdefault(room, tokens["roomToken"]) == tokens["roomToken"]
        self.sessions[session] = room, user, self.now + 2.5 * interval, tokens["sessionToken"]
        self.known[room, user] = 0

    @rule(room=ROOMS, user=USERS, tab=TABS)
    def leave(self, room: str, user: str, tab: str) -> None:
        session = f"{room} {user} {tab}"
        token = self.sessions[session][3] if session in self.sessions else "unknown"
        self.deployment.mutation("presence:disconnect", {"sessionToken": token})
        if session in self.sessions:
            self.end(session, self.now)

    @rule(seconds=st.sampled_from([2, 6, 30]))
    def wait(self, seconds: int) -> None:
        self.deployment.advance(seconds=seconds)
        for session in sorted(self.sessions, key=lambda session: self.sessions[session][2]):
            deadline = self.sessions[session][2]
            if deadline <= self.now:
                self.end(session, deadline)

    @rule(room=ROOMS, user=USERS)
    def remove(self, room: str, user: str) -> None:
        self.deployment.mutation("presence:remove_user", {"room": room, "user": user})
        self.sessions = {name: one for name, one in self.sessions.items() if one[:2] != (room, user)}
        self.known.pop((room, user), None)

    @rule(room=ROOMS)
    def remove_room(self, room: str) -> None:
        self.deployment.mutation("presence:remove_room", {"room": room})
        self.sessions = {name: one for name, one in self.sessions.items() if one[0] != room}
        self.known = {key: last for key, last in self.known.items() if key[0] != room}
        self.tokens.pop(room, None)

    @invariant()
    def those_are_present_who_should_be(self) -> None:
        component = self.deployment.component("presence")
        for room in ("r1", "r2"):
            listed: Any = self.deployment.query("presence:list", {"roomToken": self.tokens.get(room, "")})
            expected = {user: last for (where, user), last in self.known.items() if where == room}
            assert {user["userId"]: user["lastDisconnected"] for user in listed} == expected
            here = {user for where, user, _, _ in self.sessions.values() if where == room}
            assert {user["userId"] for user in listed if user["online"]} == here
            order = [(not user["online"], -user["lastDisconnected"]) for user in listed]
            assert order == sorted(order)
        stored: Any = component.query(lambda ctx: ctx.db.query("sessions").collect())
        assert {one["sessionId"]: one["deadline"] for one in stored} == {
            name: one[2] for name, one in self.sessions.items()
        }
        assert component.query(lambda ctx: ctx.db.query("sessionTokens").count()) == len(stored)

    def teardown(self) -> None:
        self.closing.close()


TestPresence = PresenceMachine.TestCase
TestPresence.settings = settings(max_examples=size(12, 300), stateful_step_count=size(20, 50))
