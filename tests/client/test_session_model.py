"""The session against a model server, over connections that fail at any point.

Whatever is lost on the way, a mutation takes effect once and in order, its caller sees its effects, an action runs at
most once, and a live query ends at the truth.
"""

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reactor.client.outcome import Outcome
from reactor.client.session import Answered, QueryChanged, Session, SessionEvent, TokenAccepted, TokenRefused
from reactor.errors import ConnectionLost
from tests.client.model import APPEND, LIST, RUN, ModelConnection, ModelServer
from tests.sizes import size

SESSION_ID = "b1350d76-3c69-4e7e-8fa0-bc64ddce0796"


class FlakyConnections(RuleBasedStateMachine):
    """Frames travel one at a time in each direction; a drop loses all that are on their way."""

    def __init__(self) -> None:
        super().__init__()
        self.server = ModelServer(refused_tokens={"bad"})
        self.session = Session(SESSION_ID)
        self.connection: ModelConnection | None = None
        self.upstream: deque[bytes] = deque()
        self.downstream: deque[bytes] = deque()
        self.next_item = 0
        self.mutations: dict[int, int] = {}  # request id -> item
        self.actions: dict[int, int] = {}
        self.abandoned: set[int] = set()  # items
        self.answers: dict[int, Outcome] = {}
        self.live: list[int] = []
        self.results: dict[int, Any] = {}
        self.wanted_token: str | None = None

    # What a user does.

    @rule()
    def mutate(self) -> None:
        request_id = self.session.mutate(APPEND, b'{"item":%d}' % self.next_item)
        self.mutations[request_id] = self.next_item
        self.next_item += 1

    @rule()
    def act(self) -> None:
        request_id = self.session.act(RUN, b'{"item":%d}' % self.next_item)
        self.actions[request_id] = self.next_item
        self.next_item += 1

    @rule(pick=st.integers(0, 100))
    def abandon(self, pick: int) -> None:
        open_ids = sorted(set(self.mutations) | set(self.actions))
        if open_ids:
            request_id = open_ids[pick % len(open_ids)]
            if request_id not in self.answers and self.session.abandon(request_id):
                self.abandoned.add((self.mutations | self.actions)[request_id])
                self.mutations.pop(request_id, None)
                self.actions.pop(request_id, None)

    @rule(shared=st.booleans())
    def subscribe(self, shared: bool) -> None:
        self.live.append(self.session.subscribe(LIST, shared=shared))

    @rule(pick=st.integers(0, 100))
    def unsubscribe(self, pick: int) -> None:
        if self.live:
            query_id = self.live.pop(pick % len(self.live))
            self.session.unsubscribe(query_id)
            if query_id not in self.live:
                self.results.pop(query_id, None)

    @rule(token=st.sampled_from(["alice", "bob", None, "bad"]))
    def set_token(self, token: str | None) -> None:
        self.wanted_token = token
        self.session.set_token(token)

    @rule()
    def hold(self) -> None:
        self.session.hold()

    # What a network does.

    @rule()
    def connect(self) -> None:
        if self.connection is None:
            self.connection = ModelConnection(self.server)
            self.session.opened(0)

    @rule(reason=st.sampled_from(["closed with code 1006", "", None]))
    def drop(self, reason: str | None) -> None:
        self.connection = None
        self.upstream.clear()
        self.downstream.clear()
        self.handle(self.session.closed(reason))

    @rule(count=st.integers(1, 6))
    def send(self, count: int) -> None:
        self.upstream.extend(self.session.take_frames())
        while self.upstream and count and self.connection is not None and not self.connection.closing:
            self.downstream.extend(self.connection.receive(self.upstream.popleft()))
            count -= 1

    @rule(count=st.integers(1, 6))
    def deliver(self, count: int) -> None:
        while self.downstream and count:
            self.handle(self.session.receive(self.downstream.popleft()))
            count -= 1

    @rule()
    def someone_else_appends(self) -> None:
        self.server.append("other", None)
        if self.connection is not None and not self.connection.closing:
            self.downstream.append(self.connection.transition())

    def handle(self, events: list[SessionEvent]) -> None:
        for event in events:
            match event:
                case Answered(request_id=request_id, outcome=outcome):
                    assert request_id not in self.answers, "answered twice"
                    self.answers[request_id] = outcome
                    self.check_own_write_is_visible(request_id, outcome)
                case QueryChanged(query_id=query_id, outcome=outcome):
                    assert query_id in self.live
                    self.results[query_id] = outcome.unwrap()
                case TokenRefused():
                    # What a shell does: take the connection down, then choose another identity.
                    self.drop("AuthError")
                    self.set_token(None)
                    return
                case TokenAccepted():
                    pass
                case _:
                    raise AssertionError(event)

    def check_own_write_is_visible(self, request_id: int, outcome: Outcome) -> None:
        if request_id in self.mutations:
            assert outcome.error is None
            for query_id in self.live:
                if query_id in self.results:
                    assert self.mutations[request_id] in self.results[query_id]

    # What must hold.

    @invariant()
    def nothing_is_applied_twice(self) -> None:
        own = [item for item in self.server.items if item != "other"]
        assert own == sorted(set(own)), "mutations run once, in the order of their calls"
        assert len(self.server.actions) == len(set(self.server.actions))
        assert not self.abandoned.intersection(own)
        assert not self.abandoned.intersection(self.server.actions)

    def teardown(self) -> None:
        """A connection that works at last brings everything to its end."""
        self.session.set_token("alice")
        self.drop(None)
        self.connect()
        for _ in range(1000):
            self.send(1000)
            self.deliver(1000)
            if self.session.is_caught_up and len(self.answers) == len(self.mutations) + len(self.actions):
                break
        assert self.session.is_caught_up
        assert [item for item in self.server.items if item != "other"] == list(self.mutations.values())
        for request_id, item in self.mutations.items():
            position = self.answers[request_id].unwrap()
            assert self.server.items[int(position) - 1] == item
        for request_id, item in self.actions.items():
            outcome = self.answers[request_id]
            if isinstance(outcome.error, ConnectionLost):
                continue
            assert outcome.unwrap() == item
            assert item in self.server.actions
        assert all(self.results[query_id] == self.server.items for query_id in self.live)
        self.session.drop_requests()


FlakyConnections.TestCase.settings = settings(
    max_examples=size(60, 1000), stateful_step_count=size(40, 100), deadline=None
)
TestFlakyConnections = FlakyConnections.TestCase
