"""How many HTTP calls run at a time, and for how long.

Promises that a call beyond the limit waits its turn for a short time and is then told to come later, that those who
wait go first come, first served, and that no call takes longer than it may. Used by the router, around every endpoint
that runs functions, and by HTTP actions, which have places of their own: a stream may keep one for long.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reactor.limits import Limits, knobs
from reactor.server.http.errors import HttpError


class Admission:
    """The calls of one deployment, or its HTTP actions. Belongs to one event loop."""

    def __init__(self, limits: Limits, places: str = "http_requests") -> None:
        """`places` is the field of `limits` that says how many."""
        self.running = 0
        self._limits = limits
        self._places: int = getattr(limits, places)
        self._variable = knobs()[places].env
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Run the block as one call.

        Raises:
            HttpError: 429 `TooManyConcurrentRequests`, or 408 `RequestTimeout`; the function may then still run on.
        """
        try:
            async with self.place(), asyncio.timeout(self._limits.http_seconds):
                yield
        except TimeoutError:
            raise HttpError(
                408,
                "RequestTimeout",
                f"The call was not answered within REACTOR_HTTP_SECONDS={self._limits.http_seconds}. "
                "What it started may still take effect.",
            ) from None

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Run the block as one call that has its own bound in time.

        Raises:
            HttpError: 429 `TooManyConcurrentRequests`.
        """
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self.running < self._places:
            self.running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._limits.http_wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # the turn came with the end of the wait
                self._leave()
            if isinstance(error, TimeoutError):
                raise HttpError(
                    429,
                    "TooManyConcurrentRequests",
                    f"There are {self.running} calls already, the limit ({self._variable}). Try again later.",
                ) from None
            raise

    def _leave(self) -> None:
        """Give the place to who has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
