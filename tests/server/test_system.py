"""The operating system's clock as an alarm clock."""

import asyncio

import pytest

from reactor.server.system import SystemAlarms, SystemClock


@pytest.mark.asyncio
async def test_an_alarm_rings_at_its_time_and_not_before() -> None:
    clock, rung = SystemClock(), asyncio.get_running_loop().create_future()
    when = clock.now_ns() + 2_000_000
    SystemAlarms().call_at(when, lambda: rung.set_result(clock.now_ns()))
    assert await rung >= when


@pytest.mark.asyncio
async def test_an_alarm_that_was_taken_back_does_not_ring() -> None:
    alarms, second = SystemAlarms(), asyncio.Event()
    rung: list[str] = []
    take_back = alarms.call_at(0, lambda: rung.append("first"))
    alarms.call_at(0, second.set)
    take_back()
    await second.wait()
    assert not rung
