"""Places for HTTP calls: none is lost, however a wait ends."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.limits import Limits
from reactor.server.http.admission import Admission
from reactor.server.http.errors import HttpError


@pytest.mark.asyncio
async def test_a_turn_that_comes_together_with_the_end_of_the_wait_is_passed_on() -> None:
    admission = Admission(Limits(http_requests=1, http_wait_seconds=600))
    first = admission.call()
    await first.__aenter__()

    async def call() -> None:
        async with admission.call():
            pass

    gone, next_one = asyncio.create_task(call()), asyncio.create_task(call())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await next_one
    assert admission.running == 0


@given(st.lists(st.sampled_from(["call", "answer", "cancel", "turn"]), max_size=40), st.integers(1, 3))
def test_places_are_never_exceeded_nor_lost(steps: list[str], limit: int) -> None:
    async def play() -> None:
        admission = Admission(Limits(http_requests=limit, http_wait_seconds=600))
        inside: list[asyncio.Event] = []
        tasks: list[asyncio.Task[None]] = []

        async def call() -> None:
            async with admission.call():
                answered = asyncio.Event()
                inside.append(answered)
                try:
                    await answered.wait()
                finally:
                    inside.remove(answered)

        for step in steps:
            if step == "call":
                tasks.append(asyncio.create_task(call()))
            elif step == "answer" and inside:
                inside[0].set()
            elif step == "cancel" and tasks:
                tasks.pop(0).cancel()
            elif step == "turn":
                await asyncio.sleep(0)
            assert len(inside) <= limit
        while not all(task.done() for task in tasks) or admission.running:
            for answered in inside:
                answered.set()
            await asyncio.sleep(0)
        for task in tasks:
            with suppress(asyncio.CancelledError, HttpError):
                task.result()
        assert admission.running == 0

    asyncio.run(asyncio.wait_for(play(), 10))
