"""The arithmetic: the original's results to the last bit, and what holds for every schedule of requests."""

import math
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.components.rate_limiter.arithmetic import (
    TOLERANCE,
    State,
    calculate_rate_limit,
    decide,
    project,
    share_of,
)
from reactor.components.rate_limiter.configs import Config, FixedWindow, TokenBucket

T = 1_000_000_000_000
BUCKET, WINDOW = TokenBucket.kind, FixedWindow.kind


class Raw(NamedTuple):
    """A limit with any numbers, also those that no config can have."""

    kind: str
    rate: float
    period: float
    capacity: float | None = None
    start: float | None = None


VECTORS: list[tuple[Raw, State | None, float, float, tuple[float, float, float | None, float | None]]] = [
    (Raw(BUCKET, 500, 60_000, 500), State(0, T), T, 1, (-1, T, 120, None)),
    (Raw(BUCKET, 100, 3_600_000, 100), State(0, T), T, 1, (-1, T, 36_000, None)),
    (Raw(BUCKET, 100, 3_600_000, 100), State(0, T), T + 36_000, 1, (0, T + 36_000, None, None)),
    (Raw(BUCKET, 10, 60_000, 3), State(3, T), T, 4, (-1, T, 6000, None)),
    (Raw(BUCKET, 10, 60_000, 20), State(5, T), T + 30_000, 15, (-5, T + 30_000, 30_000, None)),
    (Raw(BUCKET, 10, 60_000), State(-10, T), T + 30_000, 5, (-10, T + 30_000, 60_000, None)),
    (Raw(BUCKET, 10, 60_000), State(5, T), T - 6000, 0, (4, T - 6000, None, None)),
    (Raw(WINDOW, 10_000, 3_600_000, start=0), None, T, 1, (9999, 999_997_200_000, None, 0)),
    (Raw(WINDOW, 5, 60_000), State(0, T), T + 59_999, 1, (-1, T, 1, T)),
    (Raw(WINDOW, 5, 60_000), State(0, T), T + 60_000, 1, (4, T + 60_000, None, T)),
    (Raw(WINDOW, 10, 60_000, 25), State(10, T), T + 150_000, 25, (0, T + 120_000, None, T)),
    (Raw(WINDOW, 10, 60_000), State(-6, T), T + 30_000, 5, (-11, T, 90_000, T)),
    (Raw(WINDOW, 10, 60_000, start=T + 90_000), None, T, 1, (-11, T - 30_000, 90_000, T + 90_000)),
    (Raw(WINDOW, 10, 60_000, 30, T + 90_000), None, T, 1, (9, T - 30_000, None, T + 90_000)),
    (Raw(BUCKET, 0, 60_000), State(0, T), T, 1, (-1, T, math.inf, None)),
    (Raw(WINDOW, 0, 60_000), State(0, T), T, 1, (-1, T, math.inf, T)),
]


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_golden_vectors(vector: Any) -> None:
    limit, existing, now, count, expected = vector
    assert tuple(calculate_rate_limit(existing, limit, now, count)) == expected


def test_a_bucket_without_a_period_computes_with_no_number() -> None:
    value, ts, retry_after, _ = calculate_rate_limit(State(0, T), Raw(BUCKET, 10, 0), T, 1)
    assert (math.isnan(value), ts, retry_after) == (True, T, None)


@pytest.mark.parametrize(("chance", "begin"), [(0.0, T), (0.5, T - 30_000), (0.999999, T - 59_999)])
def test_the_phase_of_a_window_is_chosen_by_chance(chance: float, begin: float) -> None:
    balance = calculate_rate_limit(None, Raw(WINDOW, 10, 60_000), T, chance=lambda: chance)
    assert (balance.value, balance.window_start, balance.ts) == (10, begin, begin)


CONFIGS: list[Config] = [TokenBucket(10, 60_000), FixedWindow(10, 60_000)]


def test_an_unused_bucket_is_full() -> None:
    assert calculate_rate_limit(None, TokenBucket(10, 60_000, 20), T) == (20, T, None, None)


def test_30_seconds_give_back_5_and_no_more_than_fit() -> None:
    limit = TokenBucket(10, 60_000, 20)
    assert calculate_rate_limit(State(5, T), limit, T + 30_000).value == 10
    assert calculate_rate_limit(State(18, T), limit, T + 30_000).value == 20


def test_taking_subtracts_and_a_deficit_says_how_long() -> None:
    limit = TokenBucket(10, 60_000, 20)
    assert calculate_rate_limit(State(10, T), limit, T, 3).value == 7
    assert calculate_rate_limit(State(0, T), limit, T, 5) == (-5, T, 30_000, None)


def test_a_window_keeps_value_and_begin_until_the_next_one() -> None:
    limit = FixedWindow(10, 60_000)
    assert calculate_rate_limit(State(4, T), limit, T + 30_000) == (4, T, None, T)
    assert calculate_rate_limit(State(4, T), limit, T + 60_000) == (10, T + 60_000, None, T)
    assert calculate_rate_limit(State(2, T), limit, T + 45_000, 5) == (-3, T, 15_000, T)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_a_clock_that_goes_back_takes_nothing_away_and_gives_nothing(config: Config) -> None:
    share = share_of(config)
    assert project(State(5, T), share, T - 3_600_000) == State(5, T)
    decision = decide(State(0, T), share, T - 6000, 1)
    assert (decision.ok, decision.state.ts) == (False, T)
    assert decision.retry_after == 6000 + (6000 if config.kind == BUCKET else 60_000)


def test_a_start_in_the_future_is_that_of_a_window_now() -> None:
    share = share_of(FixedWindow(10, 60_000, start=T + 90_000))
    assert decide(None, share, T, 1) == (True, State(9, T - 30_000), None)


def test_a_start_of_0_is_one() -> None:
    assert decide(None, share_of(FixedWindow(10, 3_600_000, start=0)), T, 1).state.ts == 999_997_200_000


@pytest.mark.parametrize(
    ("max_reserved", "count", "ok"), [(None, 1000, True), (0, 11, False), (0, 10, True), (5, 15, True), (5, 16, False)]
)
def test_a_reservation_goes_as_deep_as_the_limit_allows(max_reserved: Any, count: float, ok: bool) -> None:
    share = share_of(TokenBucket(10, 60_000, max_reserved=max_reserved))
    assert decide(State(10, T), share, T, count, reserve=True).ok is ok


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, True, "5", None])
@pytest.mark.parametrize("field", ["rate", "period"])
@pytest.mark.parametrize("kind", [TokenBucket, FixedWindow])
def test_no_limit_has_such_a_rate_or_period(kind: Any, field: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=field):
        kind(**{"rate": 1, "period": 1000, field: wrong})


@pytest.mark.parametrize("field", ["capacity", "max_reserved"])
@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf])
def test_no_limit_has_such_a_capacity(field: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=field):
        TokenBucket(1, 1000, **{field: wrong})


@pytest.mark.parametrize(("given", "shards"), [(1, 1), (0, 1), (2.5, 3), (2.4, 2), (0.5, 1)])
def test_shards_are_rounded_half_up(given: Any, shards: int) -> None:
    assert TokenBucket(10, 1000, shards=given).shards == shards


@pytest.mark.parametrize("wrong", [-1, 0.4])
def test_shards_are_above_0(wrong: Any) -> None:
    with pytest.raises(ValueError, match="Shards must be a positive number"):
        TokenBucket(10, 1000, shards=wrong)


# Laws, for schedules of requests that nobody planned.

rates = st.one_of(st.integers(1, 1000), st.floats(0.01, 1000))
periods = st.one_of(st.sampled_from([1000, 60_000, 3_600_000]), st.floats(1, 1e8))
steps = st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 20)), min_size=1, max_size=60)
begins = st.one_of(st.just(float(T)), st.floats(1.6e12, 2e12))


def play(config: Config, schedule: list[tuple[float, float]], begin: float) -> list[tuple[float, float]]:
    """Ask for each (pause, count) in turn; return the (time, count) of what was granted."""
    share, state, now, granted = share_of(config), None, begin, []
    for pause, count in schedule:
        now += pause
        decision = decide(state, share, now, count)
        if decision.ok:
            state = decision.state
            granted.append((now, count))
    return granted


@given(rates, periods, st.floats(1, 50), steps, begins)
def test_a_bucket_never_gives_more_than_capacity_and_refill(
    rate: float, period: float, capacity: float, schedule: list[tuple[float, float]], begin: float
) -> None:
    granted = play(TokenBucket(rate, period, capacity), schedule, begin)
    for first in range(len(granted)):
        total = 0.0
        for now, count in granted[first:]:
            total += count
            allowed = capacity + rate / period * (now - granted[first][0])
            assert total <= allowed * (1 + 1e-9) + TOLERANCE * len(granted)


@given(rates, periods, st.floats(1, 50), steps, begins, st.floats(0, 2e12))
def test_a_window_never_gives_more_than_capacity(
    rate: float, period: float, capacity: float, schedule: list[tuple[float, float]], begin: float, start: float
) -> None:
    config = FixedWindow(rate, period, capacity, start=start)
    totals: dict[float, float] = {}
    share, state, now = share_of(config), None, begin
    for pause, count in schedule:
        now += pause
        decision = decide(state, share, now, count)
        if decision.ok:
            state = decision.state
            assert state.ts <= now
            assert now - state.ts < period + 1e-3
            totals[state.ts] = totals.get(state.ts, 0) + count
    assert all(total <= capacity + TOLERANCE * len(schedule) for total in totals.values())


def either_kind(rate: float, period: float, capacity: float, *, is_bucket: bool) -> Config:
    return TokenBucket(rate, period, capacity) if is_bucket else FixedWindow(rate, period, capacity, start=0)


@given(rates, periods, st.floats(1, 50), steps, begins, st.floats(0, 1), st.booleans())
def test_who_comes_back_when_told_is_served_and_not_before(
    rate: float,
    period: float,
    capacity: float,
    schedule: list[tuple[float, float]],
    begin: float,
    part: float,
    is_bucket: bool,
) -> None:
    config = either_kind(rate, period, capacity, is_bucket=is_bucket)
    share, state, now = share_of(config), None, begin
    for pause, _ in schedule:
        now += pause
        decision = decide(state, share, now, capacity * part)
        if decision.ok:
            state = decision.state
            continue
        assert state is not None
        assert decision.retry_after is not None
        assert decide(state, share, now + decision.retry_after, capacity * part).ok
        early = now + decision.retry_after - max(0.01, 1e-6 * period / rate)
        if early > now:
            assert not decide(state, share, early, capacity * part).ok


@given(rates, periods, st.lists(st.floats(0.5, 3), min_size=2, max_size=20), begins)
def test_reservations_are_due_at_distinct_times_spaced_by_the_rate(
    rate: float, period: float, counts: list[float], begin: float
) -> None:
    share = share_of(TokenBucket(rate, period, 1))
    state = State(0, begin)
    due = []
    for count in counts:
        decision = decide(state, share, begin, count, reserve=True)
        assert decision.ok
        assert decision.retry_after is not None
        state = decision.state
        due.append(decision.retry_after)
    for earlier, later, count in zip(due, due[1:], counts[1:], strict=False):
        assert later - earlier == pytest.approx(count * period / rate, rel=1e-6, abs=5e-3)
