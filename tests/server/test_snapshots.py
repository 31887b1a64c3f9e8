"""Lent timestamps: readable for as long as promised, and few pins whoever asks."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from reactor.server.snapshots import LENDING_SECONDS, Snapshots

SECONDS = 30.0
PAUSES = st.floats(0, 5) | st.sampled_from([0.5, 0.9, 1.0, 29.0, 29.5, 30.0])


class World:
    """Time that is moved by hand, and what is pinned."""

    def __init__(self) -> None:
        self.now, self.ts = 0.0, 1000
        self.pins: list[int] = []
        self.timers: list[tuple[float, Callable[[], Any]]] = []
        self.snapshots = Snapshots(
            pin=self.pins.append,
            unpin=self.pins.remove,
            durable_ts=lambda: self.ts,
            seconds=SECONDS,
            later=self.later,
        )

    def later(self, delay: float, act: Callable[[], Any]) -> asyncio.TimerHandle:
        timer = (self.now + delay, act)
        self.timers.append(timer)
        world = self

        class Handle:
            def cancel(self) -> None:
                world.timers.remove(timer)

        return cast(asyncio.TimerHandle, Handle())

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in sorted(self.timers, key=lambda timer: timer[0]):
            if timer[0] <= self.now:
                self.timers.remove(timer)
                timer[1]()


@example([(0.0, False, True), (0.9, True, True), (29.5, True, False)])
@given(st.lists(st.tuples(PAUSES, st.booleans(), st.booleans()), max_size=60))
def test_what_was_lent_stays_readable_with_few_pins(steps: list[tuple[float, bool, bool]]) -> None:
    world = World()
    lent: list[tuple[float, int]] = []
    for seconds, commits, lends in steps:
        world.advance(seconds)
        world.ts += commits
        if lends:
            lent.append((world.now, world.snapshots.lend()))
            assert lent[-1][1] == world.ts
        for at, ts in lent:
            if world.now < at + SECONDS:
                assert min(world.pins, default=ts + 1) <= ts, "pruned before it was due"
        assert len(world.pins) <= SECONDS / LENDING_SECONDS + 2
    world.advance(SECONDS + 2)
    assert world.pins == []


def test_the_latest_is_pinned_for_a_block_and_closing_gives_everything_back() -> None:
    world = World()
    world.snapshots.lend()
    with world.snapshots.latest() as ts:
        assert world.pins == [ts, ts]
    assert world.pins == [ts]
    world.snapshots.close()
    assert world.pins == []
    world.advance(100)
