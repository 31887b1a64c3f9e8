"""Both clocks of the engine only go forward, whatever the wall clock does, also over a restart."""

import math

from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.timestamps import CommitClock, CreationClock, covering_ts
from tests.engine.work import START_NS, HandClock

walls = st.lists(st.integers(START_NS - 10**12, START_NS + 10**12) | st.just(START_NS), min_size=1, max_size=30)


@given(walls, st.integers(0, 2 * START_NS), st.lists(st.integers(0, 2 * START_NS), min_size=30, max_size=30))
def test_commit_timestamps_increase_and_are_not_behind_the_wall(wall: list[int], last: int, least: list[int]) -> None:
    hand = HandClock()
    clock = CommitClock(hand, last)
    for hand.ns, at_least in zip(wall, least, strict=False):
        ts = clock.next(at_least)
        assert ts > last
        assert ts >= max(hand.ns, at_least)
        assert ts == max(last + 1, hand.ns, at_least)
        last = ts


@given(walls)
def test_creation_times_increase(wall: list[int]) -> None:
    hand = HandClock()
    clock = CreationClock(hand, 0)
    last = 0.0
    for hand.ns in wall:
        now = clock.next()
        assert now > last
        assert now >= hand.ns / 1e6
        last = now


@given(st.floats(1e12, 4e12), st.integers(0, 1000))
def test_a_restart_gives_out_no_creation_time_again(first: float, steps: int) -> None:
    """The only thing that survives is the timestamp of a commit that covers the last creation time."""
    for _ in range(steps % 5):
        first = math.nextafter(first, math.inf)
    commit_ts = covering_ts(first)

    assert commit_ts >= first * 1e6
    assert CreationClock(HandClock(0), commit_ts).next() > first
