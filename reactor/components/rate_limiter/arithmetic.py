"""The arithmetic of limits: from what was left at some time to what is left now. No documents, no clock of its own.

`calculate_rate_limit` is the original's formula to the last bit, so that clients which compute it themselves agree with
the server; it takes any numbers. `decide` is what the component asks: the same formula, for clocks that go back,
windows that begin in the future and the last bit of floats. Times are in milliseconds.
"""

import math
import random
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from reactor.components.rate_limiter.configs import Config, TokenBucket

TOLERANCE: Final = 1e-9  # of a token: so little is missing only because floats are rounded
MICROSECOND: Final = 1e-3
_MOST_DOUBLINGS: Final = 40

Chance = Callable[[], float]  # a number from 0 up to 1


class Limit(Protocol):
    """What the formula needs of a limit: a config, or a share of one."""

    @property
    def kind(self) -> str: ...
    @property
    def rate(self) -> float: ...
    @property
    def period(self) -> float: ...
    @property
    def capacity(self) -> float | None: ...
    @property
    def start(self) -> float | None: ...


class Share(NamedTuple):
    """What one shard of a limit allows. A limit that is not sharded has one share, which is all of it."""

    kind: str
    rate: float
    period: float
    capacity: float
    max_reserved: float | None = None
    start: float | None = None


class State(NamedTuple):
    """What was left at a time: when it was last written, or at the begin of the window in which that was."""

    value: float
    ts: float


class Balance(NamedTuple):
    """What is left after taking some. `retry_after` says when nothing is missing any more, if something is.

    `window_start` is the begin of the window of the state that it was computed from, for information.
    """

    value: float
    ts: float
    retry_after: float | None = None
    window_start: float | None = None


class Decision(NamedTuple):
    """Whether tokens may be taken, what is left then, and how long to wait: for the tokens, or before using them."""

    ok: bool
    state: State
    retry_after: float | None = None


def share_of(config: Config) -> Share:
    """Return what each shard of a limit allows."""
    shards = config.shards
    if shards == 1:
        return Share(config.kind, config.rate, config.period, config.most, config.max_reserved, config.start)
    max_reserved = None if config.max_reserved is None else config.max_reserved / shards
    return Share(config.kind, config.rate / shards, config.period, config.most / shards, max_reserved, config.start)


def calculate_rate_limit(
    existing: State | None, limit: Limit, now: float, count: float = 0, *, chance: Chance = random.random
) -> Balance:
    """Return what is left of `existing` at `now` after taking `count`; without `existing`, of everything.

    Nothing is checked: numbers that no limit can have give infinities, or values that are no numbers.
    """
    capacity = limit.rate if limit.capacity is None else limit.capacity
    if limit.kind == TokenBucket.kind:
        value, ts = (capacity, now) if existing is None else existing
        rate = _divide(limit.rate, limit.period)  # first: other orders differ in the last bit
        value = min(value + (now - ts) * rate, capacity) - count
        return Balance(value, now, _divide(-value, rate) if value < 0 else None)
    if existing is not None:
        value, begin = existing
    else:
        value = capacity
        begin = now - math.floor(chance() * limit.period) if limit.start is None else limit.start
    windows = _rounded(math.floor, _divide(now - begin, limit.period))
    value = min(value + limit.rate * windows, capacity) - count
    ts = begin + windows * limit.period
    if value < 0:
        return Balance(value, ts, ts + limit.period * _rounded(math.ceil, _divide(-value, limit.rate)) - now, begin)
    return Balance(value, ts, None, begin)


def decide(
    existing: State | None,
    share: Share,
    now: float,
    count: float,
    *,
    reserve: bool = False,
    chance: Chance = random.random,
) -> Decision:
    """Return whether `count` may be taken at `now`, and what is left then.

    With `reserve` more may be taken than is there, up to `max_reserved`: then `retry_after` says how long to wait
    before using it. Otherwise it says when to ask again: at that time the same would be granted, if nobody else came.
    """
    before = _begin(share, now, chance) if existing is None else existing
    after = project(before, share, now, count)
    if after.value >= 0:
        return Decision(True, after)
    ok = reserve and (share.max_reserved is None or -after.value <= share.max_reserved)
    waiting_from, missing = (after, 0.0) if ok or count > share.capacity else (before, count)
    return Decision(ok, after, _wait(after, share, now, waiting_from, missing))


def project(state: State, share: Share, now: float, count: float = 0) -> State:
    """Return what is left of `state` at `now` after taking `count`. A clock that went back changes nothing."""
    value, ts, _, _ = calculate_rate_limit(state, share, max(now, state.ts), count)
    return State(0.0 if -TOLERANCE < value < 0 else value, ts)


def full(share: Share, now: float, chance: Chance = random.random) -> State:
    """Return the state of a shard from which nobody has taken anything."""
    return project(_begin(share, now, chance), share, now)


def _begin(share: Share, now: float, chance: Chance) -> State:
    if share.kind == TokenBucket.kind:
        return State(share.capacity, now)
    begin = share.start
    if begin is None:
        begin = now - math.floor(chance() * share.period)
    elif begin > now:
        begin -= math.ceil((begin - now) / share.period) * share.period
    return State(share.capacity, begin)


def _wait(after: State, share: Share, now: float, state: State, count: float) -> float:
    """Return how long it takes until nothing of `after` is missing: then `count` can be taken from `state`."""
    at = max(now, after.ts)
    _, _, missing_for, _ = calculate_rate_limit(after, share, at)
    assert missing_for is not None, "asked only when something is missing"
    wait = at - now + missing_for
    if project(state, share, now + wait, count).value >= 0:
        return wait
    # `now + wait` is a float, too: perhaps one just before the moment, which would be too early.
    wait = math.ceil(wait / MICROSECOND) * MICROSECOND
    for doubling in range(_MOST_DOUBLINGS):
        if project(state, share, now + wait, count).value >= 0:
            break
        wait += MICROSECOND * 2**doubling
    return wait


def _divide(dividend: float, divisor: float) -> float:
    """Divide as JavaScript does."""
    if divisor:
        return dividend / divisor
    return math.copysign(math.inf, dividend) * math.copysign(1, divisor) if dividend else math.nan


def _rounded(rounding: Callable[[float], int], value: float) -> float:
    return float(rounding(value)) if math.isfinite(value) else value
