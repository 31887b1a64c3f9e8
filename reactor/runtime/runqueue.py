"""The run queue: who goes next on the engine's thread.

Owns the order of work: new requests first, then suspended transactions, then reruns of live queries and other
background steps. Promises that sockets are served between the slices of requests and those of anything else, so that
an answer leaves before longer work goes on, and that each class of work that has something to do makes progress in
every second turn of the event loop, so that none starves another. Used by the executor, the live queries and the push
(`design.md` §4, 2).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

Step = Callable[[], None]


class RunQueue:
    """First come, first served within each of three classes of steps. A step must end within about one slice."""

    def __init__(self, slice_ms: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._slice = slice_ms / 1000
        self._monotonic = monotonic
        self._requests: deque[Step] = deque()
        self._suspended: deque[Step] = deque()
        self._background: deque[Step] = deque()
        self._scheduled = False
        self._is_held = False
        self._others_are_next = False  # the last turn was one of requests
        self.deadline = 0.0  # when the step that runs now should yield

    def request(self, step: Step) -> None:
        """Queue the first slice of a new request."""
        self._requests.append(step)
        self._schedule()

    def suspend(self, step: Step) -> None:
        """Queue the next slice of a transaction that has used up its own."""
        self._suspended.append(step)
        self._schedule()

    def background(self, step: Step) -> None:
        """Queue work nobody waits for in person: a rerun, a part of a backfill."""
        self._background.append(step)
        self._schedule()

    async def in_background(self, steps: Iterable[Any]) -> None:
        """Run `steps`, a generator that does a little work at each step, a slice at a time behind requests."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        going_on = iter(steps)

        def slice_() -> None:
            if done.done():  # who waited for it was cancelled
                return
            try:
                for _ in going_on:
                    if self.is_due():
                        self.background(slice_)
                        return
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self.background(slice_)
        await done

    def now(self) -> float:
        """Return the monotonic time in seconds that slices are measured by."""
        return self._monotonic()

    def is_due(self) -> bool:
        """Whether the running step has used up its slice."""
        return self._monotonic() >= self.deadline

    def start_slice(self) -> None:
        """Grant a slice to a step that is about to run outside a turn, such as a task that was resumed."""
        self.deadline = self._monotonic() + self._slice

    def hold(self) -> None:
        """Run no step until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Go on after `hold`."""
        self._is_held = False
        if len(self):
            self._schedule()

    def __len__(self) -> int:
        return len(self._requests) + len(self._suspended) + len(self._background)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            # A request may come from inside user code, whose frozen clock is none of the next step's business.
            asyncio.get_running_loop().call_soon(self._turn, context=Context())

    def _turn(self) -> None:
        if self._is_held:
            self._scheduled = False  # `release` schedules again
            return
        monotonic, length = self._monotonic, self._slice
        now = monotonic()
        end = now + length
        try:
            requests, others = self._requests, (self._suspended, self._background)
            if requests and not (self._others_are_next and any(others)):
                self._others_are_next = True
                while requests and now < end:
                    self.deadline = now + length
                    requests.popleft()()
                    now = monotonic()
                return
            self._others_are_next = False
            for waiting in others:
                while waiting:
                    self.deadline = now + length
                    waiting.popleft()()
                    now = monotonic()
                    if now >= end:
                        break
        finally:
            self._scheduled = False
            if self._requests or self._suspended or self._background:
                self._schedule()
