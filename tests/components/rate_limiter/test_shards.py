"""Limits over several documents: which are asked, how two are combined, and that more is never given than by one."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.components.rate_limiter import FixedWindow, Status, TokenBucket
from reactor.components.rate_limiter.arithmetic import State
from reactor.components.rate_limiter.requests import Request, take
from reactor.errors import ReactorError
from tests.components.rate_limiter.calls import KINDS, MINUTE, config_of_kind, do, put, rows

by_kind = pytest.mark.parametrize("kind", KINDS)
by_shards = pytest.mark.parametrize("shards", [1, 2, 3, 4])


async def fill(deployment: Any, *values: float) -> None:
    for shard, value in enumerate(values):
        await put(deployment, value, shard=shard)


async def left(deployment: Any) -> list[float]:
    return sorted(row["value"] for row in await rows(deployment))


@by_kind
@by_shards
async def test_when_all_have_enough_one_is_written(deployment: Any, kind: Any, shards: int) -> None:
    config = config_of_kind(deployment, kind, 10 * shards, MINUTE, shards=shards)
    await fill(deployment, *[5.0] * shards)
    assert await do(deployment, "limit", "a", config=config) == Status(True)
    assert await left(deployment) == [4.0] + [5.0] * (shards - 1)


@by_kind
@pytest.mark.parametrize("shards", [1, 2])
async def test_an_unbounded_reservation_of_nothing_is_written_once(deployment: Any, kind: Any, shards: int) -> None:
    config = config_of_kind(deployment, kind, shards, 1000, shards=shards)
    await fill(deployment, *[0.0] * shards)
    reserved = await do(deployment, "limit", "a", reserve=True, config=config)
    assert reserved == Status(True, 1000)
    assert await left(deployment) == [-1.0] + [0.0] * (shards - 1)


@by_kind
@pytest.mark.parametrize("shards", [3, 4])
async def test_a_reservation_of_nothing_comes_from_one_of_two(deployment: Any, kind: Any, shards: int) -> None:
    config = config_of_kind(deployment, kind, shards, 1000, shards=shards)
    await fill(deployment, *[0.0] * shards)
    reserved = await do(deployment, "limit", "a", reserve=True, config=config)
    assert reserved.ok
    assert reserved.retry_after >= 1000
    assert await left(deployment) == [-1.0] + [0.0] * (shards - 1)


@by_kind
@by_shards
async def test_when_none_has_enough_it_is_raised_and_nothing_is_written(
    deployment: Any, kind: Any, shards: int
) -> None:
    config = config_of_kind(deployment, kind, shards, MINUTE, shards=shards)
    await fill(deployment, *[0.2] * shards)
    with pytest.raises(ReactorError):
        await do(deployment, "limit", "a", config=config, throws=True)
    assert await left(deployment) == [0.2] * shards


@by_kind
@pytest.mark.parametrize("shards", [3, 4])
async def test_a_poor_shard_is_passed_over(deployment: Any, kind: Any, shards: int) -> None:
    """Whichever two are picked, one of them can serve it."""
    config = config_of_kind(deployment, kind, 10 * shards, MINUTE, shards=shards)
    await fill(deployment, 0.0, *[5.0] * (shards - 1))
    for served in range(4):
        assert (await do(deployment, "limit", "a", config=config)).ok
        assert sum(await left(deployment)) == 5 * (shards - 1) - served - 1
    assert (await left(deployment))[0] == 0


@by_kind
@by_shards
async def test_a_reservation_beyond_the_bound_is_denied(deployment: Any, kind: Any, shards: int) -> None:
    config = config_of_kind(deployment, kind, shards, MINUTE, max_reserved=shards, shards=shards)
    await fill(deployment, *[-0.8] * shards)
    denied = await do(deployment, "limit", "a", reserve=True, config=config)
    assert not denied.ok
    assert denied.retry_after > 0
    assert await left(deployment) == [-0.8] * shards


@by_kind
@pytest.mark.parametrize("shards", [3, 4])
async def test_two_halves_make_a_whole(deployment: Any, kind: Any, shards: int) -> None:
    config = config_of_kind(deployment, kind, shards, MINUTE, shards=shards)
    await fill(deployment, *[0.5] * shards)
    assert await do(deployment, "limit", "a", config=config) == Status(True)
    assert await left(deployment) == [0.0, 0.0] + [0.5] * (shards - 2)


async def test_an_unused_limit_serves_what_one_shard_can_t(deployment: Any) -> None:
    """Two shards of 4 can give 8 at once, also when nobody has made their documents yet."""
    config = TokenBucket(20, MINUTE, shards=5)
    assert (await do(deployment, "limit", "a", count=8, config=config)).ok
    assert await left(deployment) == [0.0, 0.0]


async def test_fewer_shards_leave_documents_that_a_reset_removes(deployment: Any) -> None:
    await fill(deployment, 1.0, 1.0, 1.0)
    config = TokenBucket(1, MINUTE)
    await do(deployment, "limit", "a", config=config)
    assert await left(deployment) == [0.0, 1.0, 1.0]
    await do(deployment, "reset", "a", config=config)
    assert await rows(deployment) == []


async def test_shards_of_a_window_have_phases_of_their_own(deployment: Any) -> None:
    config = FixedWindow(400, 3_600_000, shards=8)
    for _ in range(120):
        assert (await do(deployment, "limit", "a", config=config)).ok
    assert len({row["ts"] for row in await rows(deployment)}) == 8


class Documents:
    """A ledger that is nothing but its states."""

    def __init__(self) -> None:
        self.states: dict[int, State] = {}

    def state(self, shard: int) -> State | None:
        return self.states.get(shard)

    def change(self, shard: int, state: State) -> None:
        self.states[shard] = state


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.floats(0, 20_000), st.floats(0, 1)), min_size=1, max_size=80),
    st.integers(0, 2**32),
)
def test_shards_never_give_more_than_one_document_would(
    shards: int, schedule: list[tuple[float, float]], seed: int
) -> None:
    """Capacity and refill bound what is given in any interval, however it is spread."""
    random.seed(seed)
    config = TokenBucket(10, MINUTE, 16, shards=shards)
    documents: Any = Documents()
    most = 16 / (1 if shards == 1 else 2 if shards == 2 else shards / 2)
    now, granted = 1.7e12, []
    for pause, part in schedule:
        now += pause
        count = part * most
        if take(documents, Request("a", None, config, count), now).ok:
            granted.append((now, count))
    for first in range(len(granted)):
        total = 0.0
        for at, count in granted[first:]:
            total += count
            assert total <= 16 + 10 / MINUTE * (at - granted[first][0]) + 1e-6


@given(st.integers(3, 8), st.floats(0, 4), st.integers(0, 2**32))
def test_who_comes_back_when_two_shards_will_have_enough_is_served(shards: int, most: float, seed: int) -> None:
    """The wait is that of the two shards that were asked: at that time these two can serve the request."""
    random.seed(seed)
    config = TokenBucket(shards, MINUTE, shards=shards)
    documents: Any = Documents()
    documents.states = {shard: State(random.random() * most / 4, 1.7e12) for shard in range(shards)}
    request = Request("a", None, config, 1.5)
    drawn = random.getstate()
    denied = take(documents, request, 1.7e12)
    if not denied.ok:
        random.setstate(drawn)
        assert take(documents, request, 1.7e12 + denied.retry_after).ok
