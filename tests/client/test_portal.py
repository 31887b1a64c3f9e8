"""An event loop in a thread of its own."""

import asyncio
import threading

import pytest

from reactor.client.portal import LoopThread
from reactor.errors import Unavailable


def test_calls_return_and_raise() -> None:
    thread = LoopThread("test loop")
    try:
        assert thread.run(threading.current_thread) is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            thread.run(lambda: 1 // 0)
    finally:
        thread.close()
        thread.close()
    with pytest.raises(Unavailable):
        thread.run(int)


def test_a_call_that_takes_too_long_is_cancelled() -> None:
    thread = LoopThread("test loop")
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    try:
        with pytest.raises(TimeoutError, match=r"0\.001 s"):
            thread.call(forever, timeout=0.001)
        assert cancelled.wait(30)
    finally:
        thread.close()


def test_a_timeout_of_the_work_itself_passes_through() -> None:
    async def fail() -> None:
        raise TimeoutError("mine")

    thread = LoopThread("test loop")
    try:
        with pytest.raises(TimeoutError, match="mine"):
            thread.call(fail, timeout=30)
    finally:
        thread.close()


def test_a_call_from_the_loop_itself_is_refused() -> None:
    thread = LoopThread("test loop")
    try:
        with pytest.raises(RuntimeError, match="own thread"):
            thread.run(lambda: thread.run(int))
    finally:
        thread.close()


def test_closing_cancels_what_still_runs() -> None:
    thread = LoopThread("test loop")
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("ended")

    tasks: list[asyncio.Task[None]] = []
    thread.run(lambda: tasks.append(asyncio.ensure_future(forever())))
    thread.run(int)
    thread.close()
    assert ended == ["ended"]
