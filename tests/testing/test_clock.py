"""Virtual time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from reactor.errors import InvalidArgument
from reactor.testing.clock import START, VirtualClock


def test_two_clocks_start_together() -> None:
    assert VirtualClock().now_ns() == VirtualClock().now_ns() == int(START.timestamp()) * 10**9


def test_time_stands_still() -> None:
    clock = VirtualClock(datetime(2000, 1, 1, 0, 0, 0, 123456, tzinfo=UTC))
    assert clock.now_ns() == clock.now_ns() == 946_684_800_123_456_000


def test_advance_takes_units_and_spans() -> None:
    clock = VirtualClock()
    before, real = clock.now_ms, clock.monotonic()
    clock.advance(timedelta(seconds=1), minutes=5, milliseconds=2)
    assert clock.now_ms == before + 301_002
    assert clock.monotonic() >= real + 301.002


def test_it_never_goes_back() -> None:
    with pytest.raises(InvalidArgument, match="set it back"):
        VirtualClock().advance(seconds=-1)


def test_the_start_is_a_moment_everywhere() -> None:
    with pytest.raises(InvalidArgument, match="aware"):
        VirtualClock(datetime(2026, 1, 1))


@pytest.mark.asyncio
async def test_alarms_ring_in_order_when_the_clock_reaches_them() -> None:
    clock, rung = VirtualClock(), []
    start = clock.now_ns()
    late = clock.call_at(start + 3, lambda: rung.append("late"))
    clock.call_at(start + 2, lambda: rung.append("second"))
    clock.call_at(start + 1, lambda: rung.append("first"))
    clock.call_at(start, lambda: rung.append("now"))
    assert not rung, "never from inside the call"
    assert clock.next_alarm_ns == start + 1
    clock.advance(milliseconds=1)
    late()
    await asyncio.sleep(0)
    assert rung == ["now", "first", "second"]
    assert clock.next_alarm_ns is None
