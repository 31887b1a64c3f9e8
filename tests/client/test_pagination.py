"""A live list of pages against a model server: at every moment a prefix of the truth, without gap or overlap."""

import itertools
from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reactor.client.live import LiveQueries
from reactor.client.pagination import Pages, PaginatedResult, PaginationStatus
from reactor.client.session import QueryChanged, Session
from reactor.errors import FunctionError, InvalidArgument, ReactorError
from tests.client.model import LIST, PAGES, PAGES_REFUSED, ModelConnection, ModelServer
from tests.sizes import size

SESSION_ID = "b1350d76-3c69-4e7e-8fa0-bc64ddce0796"


class Lists:
    """A session, a connection whose frames arrive when the test says, and one list."""

    def __init__(self, *numbers: float, path: str = PAGES, initial: int = 3) -> None:
        self.server = ModelServer()
        self.server.items = list(numbers)
        self.session = Session(SESSION_ID)
        self.live = LiveQueries(self.session)
        self.connection = ModelConnection(self.server)
        self.session.opened(0)
        self.downstream: deque[tuple[bytes, list[float]]] = deque()  # frames, and the numbers when each was made
        self.truth: list[float] = []  # the numbers when the newest frame that arrived was made
        self.pages = Pages(self.live, path, {}, initial, itertools.count(), lambda: None)
        self.list = self.pages.subscription

    def send(self) -> None:
        for frame in self.session.take_frames():
            for answer in self.connection.receive(frame):
                self.downstream.append((answer, self.server.numbers()))

    def deliver(self) -> None:
        if self.downstream:
            frame, self.truth = self.downstream.popleft()
            events = self.session.receive(frame)
            self.live.step({event.query_id: event.outcome for event in events if isinstance(event, QueryChanged)}, ())

    def push(self) -> None:
        if self.connection._queries:  # else it says nothing about the list
            self.downstream.append((self.connection.transition(), self.server.numbers()))

    def settle(self) -> None:
        """Let everything arrive, and everything that follows from it."""
        for _ in range(100):
            self.send()
            if not self.downstream:
                return
            while self.downstream:
                self.deliver()
        raise AssertionError("never settles")

    def reconnect(self) -> None:
        self.downstream.clear()
        self.session.closed("closed with code 1006")
        self.connection = ModelConnection(self.server)
        self.session.opened(0)

    @property
    def shown(self) -> PaginatedResult:
        value: Any = self.list.value
        assert isinstance(value, PaginatedResult)
        return value


class LiveList(RuleBasedStateMachine):
    """Items come and go anywhere, pages are loaded and split, connections and cursors are lost."""

    def __init__(self) -> None:
        super().__init__()
        self.at = Lists(*range(0, 40, 4))

    @rule(number=st.integers(0, 60))
    def insert(self, number: int) -> None:
        self.at.server.append(float(number), None)

    @rule(number=st.integers(0, 60))
    def remove(self, number: int) -> None:
        self.at.server.items = [item for item in self.at.server.items if item != number]
        self.at.server.ts += 1000

    @rule(count=st.integers(1, 10))
    def load_more(self, count: int) -> None:
        before = self.at.list.status
        assert self.at.list.load_more(count) == (before is PaginationStatus.CAN_LOAD_MORE)

    @rule()
    def send(self) -> None:
        self.at.send()

    @rule()
    def push(self) -> None:
        self.at.push()

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.at.deliver()

    @rule()
    def reconnect(self) -> None:
        self.at.reconnect()

    @rule(rows=st.sampled_from([2, 5, 1000]))
    def limit_pages(self, rows: int) -> None:
        self.at.server.rows_per_page = rows

    @rule()
    def invalidate_cursors(self) -> None:
        self.at.server.cursors += 1
        self.at.server.ts += 1000

    @invariant()
    def the_list_is_a_prefix_of_one_moment(self) -> None:
        value: Any = self.at.list.value
        if value is not None:
            assert value.results == self.at.truth[: len(value.results)]
            if value.status is PaginationStatus.EXHAUSTED:
                assert value.results == self.at.truth

    def teardown(self) -> None:
        """At rest the list is what it says, and can be loaded to its end."""
        self.at.server.rows_per_page = 1000
        self.at.push()
        self.at.settle()
        for _ in range(100):
            self.the_list_is_a_prefix_of_one_moment()
            if not self.at.list.load_more(5):
                break
            self.at.settle()
        assert self.at.shown.results == self.at.server.numbers()
        assert self.at.list.status is PaginationStatus.EXHAUSTED
        self.at.list.close()
        self.at.send()
        assert not self.at.connection._queries, "a closed list leaves no live query behind"


LiveList.TestCase.settings = settings(max_examples=size(60, 1000), stateful_step_count=size(40, 100), deadline=None)
TestLiveList = LiveList.TestCase


def test_the_statuses_of_a_list() -> None:
    at = Lists(*range(5))
    assert at.list.status is PaginationStatus.LOADING_FIRST_PAGE
    assert at.list.value is None
    assert at.list.results == []
    assert not at.list.load_more(3)
    at.settle()
    assert at.shown == PaginatedResult([0, 1, 2], PaginationStatus.CAN_LOAD_MORE)

    assert at.list.load_more(2)
    assert at.shown == PaginatedResult([0, 1, 2], PaginationStatus.LOADING_MORE)
    assert not at.list.load_more(2)
    at.settle()
    assert at.shown == PaginatedResult([0, 1, 2, 3, 4], PaginationStatus.CAN_LOAD_MORE), "a full page may be the last"

    assert at.list.load_more(2)
    at.settle()
    assert at.shown == PaginatedResult([0, 1, 2, 3, 4], PaginationStatus.EXHAUSTED)
    assert not at.list.load_more(2)
    assert at.list.results == [0, 1, 2, 3, 4]
    at.list.close()
    assert not at.list.load_more(2)


def test_a_page_that_grew_is_replaced_by_its_halves() -> None:
    at = Lists(0, 1, 2, 100)
    at.settle()
    for number in (0.1, 0.2, 0.3, 0.4):
        at.server.append(number, None)
    at.push()
    at.deliver()
    assert at.list.results == [0, 0.1, 0.2, 0.3, 0.4, 1, 2]
    assert len(at.connection._queries) == 1

    at.send()
    assert len(at.connection._queries) == 3, "the page stays until both halves are there"
    at.settle()
    assert at.list.results == [0, 0.1, 0.2, 0.3, 0.4, 1, 2]
    assert len(at.connection._queries) == 2


def test_a_page_that_was_cut_short_is_not_shown() -> None:
    at = Lists(*range(8), initial=6)
    at.server.rows_per_page = 4
    at.send()
    at.deliver()
    at.deliver()
    assert at.list.status is PaginationStatus.LOADING_FIRST_PAGE
    at.settle()
    assert at.list.results == [0, 1, 2, 3]
    assert at.list.status is PaginationStatus.CAN_LOAD_MORE


def test_two_lists_of_one_client_share_no_pages() -> None:
    at = Lists(0, 1, 2, 3)
    ids = itertools.count(7)
    other = Pages(at.live, PAGES, {}, 3, ids, lambda: None)
    at.settle()
    assert len(at.connection._queries) == 2
    other.subscription.close()
    at.settle()
    assert len(at.connection._queries) == 1


def test_a_failure_reaches_the_reader_and_the_list_lives_on() -> None:
    at = Lists(path="log:none")
    at.settle()
    with pytest.raises(FunctionError):
        assert at.list.value
    assert not at.list.closed


def test_a_list_that_can_not_begin_is_not_begun_again_and_again() -> None:
    at = Lists(path=PAGES_REFUSED)
    at.settle()
    with pytest.raises(ReactorError):
        assert at.list.value


def test_a_function_that_does_not_paginate_is_named() -> None:
    at = Lists(1, path=LIST)
    at.settle()
    with pytest.raises(InvalidArgument, match=LIST):
        assert at.list.value


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_page_holds_at_least_one_item(count: Any) -> None:
    with pytest.raises(InvalidArgument, match="positive"):
        Lists(initial=count)
    with pytest.raises(InvalidArgument, match="positive"):
        Lists().list.load_more(count)
