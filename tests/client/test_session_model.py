"""The session and its live queries against a model server, over connections that fail at any point.

Whatever is lost on the way, a mutation takes effect once and in order, its caller sees its effects, an action runs at
most once, and a live query ends at the truth. What an optimistic update shows is seen from the call on, without a gap,
until the mutation has failed; and no longer than the mutation is unfinished.
"""

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reactor.client.live import LiveQueries
from reactor.client.optimistic import LocalStore
from reactor.client.outcome import Outcome
from reactor.client.session import Answered, QueryChanged, Session, SessionEvent, TokenAccepted, TokenRefused
from reactor.errors import ConnectionLost, Error, ReactorError
from reactor.values.types import undefined
from tests.client.model import APPEND, APPEND_REFUSED, LIST, RUN, ModelConnection, ModelServer
from tests.sizes import size

SESSION_ID = "b1350d76-3c69-4e7e-8fa0-bc64ddce0796"


class View:
    """A reader of the list that remembers what it was told."""

    def __init__(self, queries: LiveQueries) -> None:
        self.queries = queries
        self.query_id = queries.open(LIST, b"{}", self)
        self.seen = queries.result(self.query_id)

    def refresh(self) -> None:
        self.seen = self.queries.result(self.query_id)

    def fail(self, error: Error) -> None:
        raise AssertionError(error)

    def end(self, error: Error | None) -> None:
        raise AssertionError(error)


def append_locally(store: LocalStore, args: dict[str, Any]) -> None:
    items = store.get_query(LIST)
    if items is not undefined:
        items.append(args["item"])
        store.set_query(LIST, None, items)


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
        self.queries = LiveQueries(self.session)
        self.views: list[View] = []
        self.truth: Any = None  # what the server said last about the list, to the views
        self.shown: dict[int, int] = {}  # unfinished mutations with an update, and their items
        self.refused: set[int] = set()  # request ids

    # What a user does.

    @rule()
    def mutate(self) -> None:
        request_id = self.session.mutate(APPEND, b'{"item":%d}' % self.next_item)
        self.mutations[request_id] = self.next_item
        self.next_item += 1

    @rule(refused=st.booleans())
    def mutate_optimistically(self, refused: bool) -> None:
        path = APPEND_REFUSED if refused else APPEND
        request_id = self.queries.mutate(path, b'{"item":%d}' % self.next_item, append_locally)
        self.shown[request_id] = self.next_item
        if refused:
            self.refused.add(request_id)
        else:
            self.mutations[request_id] = self.next_item
        self.next_item += 1

    @rule()
    def open_view(self) -> None:
        self.views.append(View(self.queries))

    @rule(pick=st.integers(0, 100))
    def close_view(self, pick: int) -> None:
        if self.views:
            view = self.views.pop(pick % len(self.views))
            self.queries.close(view.query_id, view)
            if not self.views:
                self.truth = None

    @rule()
    def act(self) -> None:
        request_id = self.session.act(RUN, b'{"item":%d}' % self.next_item)
        self.actions[request_id] = self.next_item
        self.next_item += 1

    @rule(pick=st.integers(0, 100))
    def abandon(self, pick: int) -> None:
        open_ids = sorted({*self.mutations, *self.actions, *self.refused})
        if open_ids:
            request_id = open_ids[pick % len(open_ids)]
            if request_id not in self.answers and self.session.abandon(request_id):
                self.refused.discard(request_id)
                self.abandoned.add((self.mutations | self.actions | self.shown)[request_id])
                self.mutations.pop(request_id, None)
                self.actions.pop(request_id, None)
                self.shown.pop(request_id, None)
                self.queries.step({}, [request_id])

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
        viewed = {view.query_id for view in self.views}
        changed = {event.query_id: event.outcome for event in events if isinstance(event, QueryChanged)}
        finished = [event.request_id for event in events if isinstance(event, Answered)]
        for query_id in viewed.intersection(changed):
            self.truth = changed[query_id].unwrap()
        for request_id in finished:
            item = self.shown.pop(request_id, None)
            if item is not None and request_id not in self.refused and self.truth is not None:
                assert item in self.truth, "its effects arrive in the step that takes its preview away"
        self.queries.step(changed, finished)
        for event in events:
            match event:
                case Answered(request_id=request_id, outcome=outcome):
                    assert request_id not in self.answers, "answered twice"
                    self.answers[request_id] = outcome
                    if request_id in self.refused:
                        assert isinstance(error_of(outcome), ReactorError)
                        continue
                    self.check_own_write_is_visible(request_id, outcome)
                case QueryChanged(query_id=query_id, outcome=outcome):
                    assert query_id in self.live or query_id in viewed
                    if query_id in self.live:
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

    @invariant()
    def views_show_the_truth_and_what_is_under_way(self) -> None:
        for view in self.views:
            assert view.seen == self.queries.result(view.query_id), "readers are told of every difference"
            if self.truth is None:
                assert view.seen is None
            else:
                assert view.seen is not None
                assert view.seen.unwrap() == [*self.truth, *self.shown.values()]

    def teardown(self) -> None:
        """A connection that works at last brings everything to its end."""
        self.session.set_token("alice")
        self.drop(None)
        self.connect()
        for _ in range(1000):
            self.send(1000)
            self.deliver(1000)
            asked = len(self.mutations) + len(self.actions) + len(self.refused)
            if self.session.is_caught_up and len(self.answers) == asked:
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
        assert not self.shown
        self.views_show_the_truth_and_what_is_under_way()
        assert not self.views or self.truth == self.server.items
        assert self.session.unfinished_mutations == self.session.unfinished_actions == 0
        self.session.drop_requests()


def error_of(outcome: Outcome) -> Error | None:
    try:
        outcome.unwrap()
    except Error as error:
        return error
    return None


FlakyConnections.TestCase.settings = settings(
    max_examples=size(60, 1000), stateful_step_count=size(40, 100), deadline=None
)
TestFlakyConnections = FlakyConnections.TestCase
