"""An event loop in a thread of its own, for code that has none.

Promises that calls from any thread run there and come back with their result or exception, and that nothing of the
loop is left when it is closed. Used by the blocking client, and by whoever offers a blocking form of async objects.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from reactor.errors import Unavailable

T = TypeVar("T")


class LoopThread:
    """A daemon thread that runs an event loop from construction to `close`."""

    def __init__(self, name: str, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._loop_factory = loop_factory
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        self._started.wait()

    def call(self, function: Callable[..., Awaitable[T]], *args: Any, timeout: float | None = None) -> T:
        """Return the result of `await function(*args)` on the loop, waiting up to `timeout` seconds.

        Raises:
            TimeoutError: there is no result yet; the work was cancelled.
            Unavailable: the thread is closed.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call from the loop's own thread would wait for itself")

        async def work() -> T:
            return await function(*args)

        with self._lock:
            if self._closed:
                raise Unavailable("it is closed")
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result(timeout)
        except BaseException as error:
            if future.done() or not future.cancel():
                raise
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no answer within {timeout} s") from None
            raise  # such as KeyboardInterrupt: nobody waits for the work any more

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Return the result of the plain call `function(*args)` on the loop.

        Raises:
            Unavailable: the thread is closed.
        """

        async def work() -> T:
            return function(*args)

        return self.call(work)

    def close(self) -> None:
        """Cancel what still runs, end the loop and wait for the thread. Closing twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._stop.wait()
