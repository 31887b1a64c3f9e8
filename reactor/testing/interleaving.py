"""Forced interleavings: a mutation that stops where a test says, while others run.

Promises that the same test meets the same interleaving each time, with the real engine deciding what follows: the
mutation is suspended as it would be at the end of its time slice, and validated when it goes on. Used by
`testing/deployment`.
"""

import asyncio
import copy
from collections.abc import Callable
from typing import Any, cast

from reactor.client.portal import LoopThread
from reactor.errors import InvalidArgument
from reactor.runtime.calls import Call, Outcome
from reactor.runtime.executor import Executor
from reactor.runtime.failures import unwrap
from reactor.runtime.runqueue import RunQueue
from reactor.values.types import Value


class HeldMutation:
    """A mutation that waits before one of its `ctx` calls, with everything before it done.

    Its transaction is open: it has a snapshot, a read set and writes that nobody else sees. Attempts after the first
    are not held.
    """

    def __init__(self, executor: Executor, call: Call, at: int) -> None:
        if isinstance(at, bool) or not isinstance(at, int) or at < 1:
            raise InvalidArgument(f"A mutation is held before its nth ctx call, at=1 or more, not at={at!r}")
        loop = asyncio.get_running_loop()
        self._path = call.path
        self._outcome: asyncio.Future[Outcome] = loop.create_future()
        self._queue = _SteppedQueue(executor.queue, at)
        # The executor as this one call sees it: all of it is shared but the queue, which knows where to stop.
        view = copy.copy(executor)
        view.queue = cast("RunQueue", self._queue)
        view.submit_mutation(call, self._finished)

    @property
    def attempts(self) -> int:
        """How often the function was run so far: 2 when the first attempt lost to another mutation."""
        return self._queue.attempts

    async def reached(self) -> None:
        """Wait until the mutation is held.

        Raises:
            InvalidArgument: it ended before it made so many calls.
        """
        either: set[asyncio.Future[Any]] = {self._outcome, self._queue.arrived}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._queue.arrived.done():
            unwrap(self._outcome.result())  # if it failed, this says best why it did not get there
            raise InvalidArgument(
                f"{self._path} ended before ctx call {self._queue.at}: it made {self._queue.steps}. A plain `def` "
                "function runs in one step and can't be held."
            )

    async def finish(self) -> Value:
        """Let the mutation go on, and return its result.

        Raises:
            Exception: as `deployment.mutation`.
        """
        self._queue.let_go()
        return unwrap(await asyncio.shield(self._outcome))

    def let_go(self) -> None:
        """Let the mutation go on without waiting for it. Doing so twice is harmless."""
        self._queue.let_go()

    def _finished(self, outcome: Outcome) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)


class BlockingHeldMutation:
    """`HeldMutation` for plain tests."""

    def __init__(self, held: HeldMutation, thread: LoopThread) -> None:
        self._held = held
        self._thread = thread

    @property
    def attempts(self) -> int:
        """See `HeldMutation.attempts`."""
        return self._held.attempts

    def finish(self, *, timeout: float | None = None) -> Value:
        """See `HeldMutation.finish`.

        Raises:
            TimeoutError: it did not end within `timeout` seconds.
        """
        return self._thread.call(self._held.finish, timeout=timeout)


class _SteppedQueue:
    """The run queue of one call: counts its steps, and keeps the step it is to be held before."""

    def __init__(self, queue: RunQueue, at: int) -> None:
        self._queue = queue
        self.at = at
        self.steps = 0
        self.attempts = 0
        self.arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_stopping = False
        self._held: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def __len__(self) -> int:
        return len(self._queue)

    def request(self, step: Callable[[], None]) -> None:
        """Queue an attempt."""
        self.attempts += 1
        self._queue.request(step)

    def is_due(self) -> bool:
        """Whether the call should be suspended here; asked before each of its steps."""
        if self.attempts == 1 and not self.arrived.done():
            self.steps += 1
            if self.steps == self.at:
                self._is_stopping = True
                return True
        return self._queue.is_due()

    def suspend(self, step: Callable[[], None]) -> None:
        """Queue the rest of the call, or keep it."""
        if self._is_stopping:
            self._is_stopping = False
            self._held = step
            self.arrived.set_result(None)
        else:
            self._queue.suspend(step)

    def let_go(self) -> None:
        """Queue what was kept."""
        held, self._held = self._held, None
        if held is not None:
            self._queue.suspend(held)
