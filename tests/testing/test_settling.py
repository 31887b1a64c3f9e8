"""Settling: a live query counts as up to date only from the timestamp that was asked for."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from reactor.errors import Unavailable
from reactor.runtime.calls import Call
from reactor.runtime.results import QueryResult
from reactor.server.callers import Feed


class Rounds:
    """Live queries that settle when the test says."""

    def __init__(self) -> None:
        self.result: QueryResult | None = None

    def subscribe(self, call: Call, observer: Any, journal: str | None) -> Any:
        return self

    def unsubscribe(self, handle: Any) -> None: ...
    def request_settle(self, observer: Any) -> None: ...
    def forget(self, observer: Any) -> None: ...


@pytest.mark.asyncio
async def test_a_round_that_began_before_settles_nothing() -> None:
    rounds = Rounds()
    backend: Any = SimpleNamespace(live=rounds, durable_ts=lambda: 10)  # what it uses of a `Backend`
    feed = Feed(backend, Call("m:f", b"{}"), set())
    settling = asyncio.ensure_future(feed.subscription.settled())
    await asyncio.sleep(0)

    rounds.result = QueryResult(b"1.0", None, (), 1)
    feed.settled(9)
    await asyncio.sleep(0)
    assert not settling.done(), "9 is before 10, which was durable when it was asked"

    rounds.result = QueryResult(b"2.0", None, (), 2)
    feed.settled(10)
    assert await settling == 2.0

    waiting = asyncio.ensure_future(feed.subscription.is_unchanged())
    await asyncio.sleep(0)
    feed.end()
    with pytest.raises(Unavailable):
        await waiting
