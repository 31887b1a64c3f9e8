"""The mailbox of a live query."""

import asyncio
from typing import Any

import pytest

from reactor.client.portal import LoopThread
from reactor.client.subscription import BlockingSubscription, Subscription
from reactor.errors import AuthError, FunctionError, ReactorError, Unavailable


@pytest.mark.asyncio
async def test_a_reader_gets_every_value_it_keeps_up_with() -> None:
    live = Subscription()
    waiting = asyncio.ensure_future(live.next())
    await asyncio.sleep(0)
    live.deliver(1.0)
    assert await waiting == 1.0
    live.deliver(2.0)
    assert await live.next() == 2.0
    assert live.value == 2.0


@pytest.mark.asyncio
async def test_a_slow_reader_gets_the_newest_value() -> None:
    live = Subscription()
    assert live.value is None
    for value in range(5):
        live.deliver(value)
    assert await live.next() == 4
    with pytest.raises(TimeoutError):
        await live.next(timeout=0)


@pytest.mark.asyncio
async def test_a_failure_is_raised_once_and_the_subscription_lives_on() -> None:
    live = Subscription()
    live.deliver(1.0)
    live.fail(ReactorError({"code": "NO"}))
    with pytest.raises(ReactorError):
        await live.next()
    with pytest.raises(ReactorError):
        assert live.value
    live.deliver(2.0)
    assert [await live.next(), live.value] == [2.0, 2.0]


@pytest.mark.asyncio
async def test_a_loop_ends_with_the_subscription() -> None:
    closed: list[bool] = []
    live = Subscription(lambda: closed.append(True))
    seen: list[Any] = []
    async with live:
        live.deliver("a")
        async for value in live:
            seen.append(value)
            if value == "a":
                live.deliver("b")
            else:
                live.end()
    live.close()
    assert (seen, closed, live.closed) == (["a", "b"], [True], True)
    with pytest.raises(Unavailable):
        await live.next()
    live.deliver("late")
    with pytest.raises(Unavailable):
        await live.next()


@pytest.mark.asyncio
async def test_a_loop_raises_what_the_query_raises_and_can_go_on() -> None:
    live = Subscription()
    live.fail(FunctionError("no"))
    loop = aiter(live)
    with pytest.raises(FunctionError):
        await anext(loop)
    live.deliver(1.0)
    assert await anext(loop) == 1.0


@pytest.mark.asyncio
async def test_closing_wakes_a_reader() -> None:
    live = Subscription()
    waiting = asyncio.ensure_future(live.next())
    await asyncio.sleep(0)
    live.close()
    with pytest.raises(Unavailable):
        await waiting


@pytest.mark.asyncio
async def test_what_is_unread_comes_before_the_end() -> None:
    live = Subscription()
    live.deliver(1.0)
    live.end(AuthError("gone"))
    assert await live.next() == 1.0
    for _ in range(2):
        with pytest.raises(AuthError):
            await live.next()
    with pytest.raises(AuthError):
        await live.__anext__()


@pytest.mark.asyncio
async def test_a_reader_that_gives_up_takes_nothing_from_the_others() -> None:
    live = Subscription()
    first, second = asyncio.ensure_future(live.next()), asyncio.ensure_future(live.next())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    live.deliver(1.0)
    assert await second == 1.0
    assert first.cancelled()


def test_the_blocking_form() -> None:
    thread = LoopThread("test loop")
    try:
        live = thread.run(Subscription)
        blocking = BlockingSubscription(live, thread)
        with pytest.raises(TimeoutError):
            blocking.next(timeout=0.001)
        thread.run(live.deliver, 1.0)
        assert (blocking.next(timeout=30), blocking.value) == (1.0, 1.0)
        thread.run(live.fail, ReactorError("no"))
        with pytest.raises(ReactorError):
            blocking.next()
        thread.run(live.deliver, 2.0)
        thread.run(live.end)
        with blocking:
            assert list(blocking) == [2.0]
        assert blocking.closed
        with pytest.raises(Unavailable):
            blocking.next()
    finally:
        thread.close()
