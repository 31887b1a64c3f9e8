"""From applied to durable: appends commits to the log in batches, and publishes what became durable.

Owns the undurable tail and `durable_ts`. Promises one append in flight, batches in commit order, and that nothing is
published before the append that holds it has returned. A refused append is tried again (nothing was written, and later
commits are built on these); after an unknown one storage is reopened and the end of the log decides (`design.md` §4, 4
and 5). Used by the database.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Final, NamedTuple

import msgspec

from reactor.errors import OutcomeUnknown, StorageError
from reactor.limits import Limits
from reactor.ports import Spawn
from reactor.storage.interface import AppendOutcome, Persistence, Record

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = (0.01, 0.05, 0.2, 1.0)  # waits between refused appends; the last one repeats
RECORD_OVERHEAD_BYTES: Final = 200


class PublisherStats(msgspec.Struct):
    """Counters since the database was opened."""

    commits: int = 0
    batches: int = 0
    refused: int = 0
    unknown: int = 0


class Waiter(NamedTuple):
    """Somebody who waits for `durable_ts` to reach `ts`."""

    ts: int
    reached: Callable[[], None]
    lost: Callable[[OutcomeUnknown], None] | None


class Publisher:
    """The queue of applied commits on their way to the disk."""

    def __init__(
        self,
        persistence: Persistence,
        durable_ts: int,
        limits: Limits,
        spawn: Spawn,
        publish: Callable[[int], None],
    ) -> None:
        self._persistence = persistence
        self._limits = limits
        self._spawn = spawn
        self._publish = publish
        self.durable_ts = durable_ts
        self._tail: deque[tuple[Record, int]] = deque()
        self._tail_bytes = 0
        self._waiters: deque[Waiter] = deque()
        self._in_flight = False
        self._idle: list[asyncio.Future[None]] = []
        self._room: deque[Callable[[], None]] = deque()
        self.stats = PublisherStats()
        self.failure: StorageError | None = None

    @property
    def is_full(self) -> bool:
        """Whether new commits must wait for the disk."""
        return len(self._tail) >= self._limits.tail_commits or self._tail_bytes >= self._limits.tail_bytes

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, as soon as the tail has room again, or storage has failed for good."""
        if self.failure is not None:
            asyncio.get_running_loop().call_soon(callback, context=Context())
        else:
            self._room.append(callback)

    def enqueue(self, record: Record) -> None:
        """Take a commit that was just applied; its append starts when the loop's current callback ends."""
        size = RECORD_OVERHEAD_BYTES + len(record.result or b"") + sum(map(len, record.log_lines))
        size += sum([len(write.value or b"") for write in record.writes])
        self._tail.append((record, size))
        self._tail_bytes += size
        if not self._in_flight and self.failure is None:
            self._in_flight = True
            # Not at once: the commits of one turn make one batch.
            asyncio.get_running_loop().call_soon(self._start, context=Context())

    def when_durable(
        self, ts: int, callback: Callable[[], None], lost: Callable[[OutcomeUnknown], None] | None = None
    ) -> None:
        """Call `callback` from the publishing step in which `durable_ts` reaches `ts`, or soon if it already has.

        Never calls it from inside this method. Callbacks run in the order of their timestamps. Once storage has failed
        for good, whatever still waits is told through `lost` instead.
        """
        if ts <= self.durable_ts:
            asyncio.get_running_loop().call_soon(callback, context=Context())
        elif (refusal := self.refusal()) is not None:
            if lost is not None:
                asyncio.get_running_loop().call_soon(lost, refusal, context=Context())
        elif not self._waiters or self._waiters[-1].ts <= ts:
            self._waiters.append(Waiter(ts, callback, lost))
        else:
            # A snapshot taken before later commits, finishing after them.
            position = next(i for i, other in enumerate(self._waiters) if other.ts > ts)
            self._waiters.insert(position, Waiter(ts, callback, lost))

    async def drain(self) -> None:
        """Wait until everything applied is durable.

        Raises:
            StorageError: storage failed for good.
        """
        while self._tail and self.failure is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            await future
        if self.failure is not None:
            raise self.failure

    def _start(self) -> None:
        self._spawn(self._run(), name="publisher")

    async def _run(self) -> None:
        """Append until the tail is empty."""
        try:
            while self._tail:
                batch = self._next_batch()
                await self._append(batch)
                for _ in batch:
                    _, size = self._tail.popleft()
                    self._tail_bytes -= size
                self.stats.batches += 1
                self.stats.commits += len(batch)
                self._advance(batch[-1].ts)
        except StorageError as error:
            self._give_up(error)
        finally:
            if self._tail and self.failure is None:
                self._give_up(StorageError("The publisher was stopped with commits that are not durable yet."))
            self._in_flight = False
            for future in self._idle:
                if not future.done():
                    future.set_result(None)
            self._idle.clear()

    def _next_batch(self) -> list[Record]:
        batch: list[Record] = []
        total = 0
        for record, size in self._tail:
            if batch and (len(batch) >= self._limits.batch_commits or total + size > self._limits.batch_bytes):
                break
            batch.append(record)
            total += size
        return batch

    async def _append(self, batch: list[Record]) -> None:
        """Append `batch`, however often it takes.

        Raises:
            StorageError: the log no longer ends where this process left it: another one has taken over.
        """
        attempt = 0
        while True:
            outcome = await self._persistence.append(batch, self.durable_ts)
            if outcome is AppendOutcome.DONE:
                return
            if outcome is AppendOutcome.REFUSED:
                self.stats.refused += 1
            else:
                self.stats.unknown += 1
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1
            try:
                end = (await self._persistence.reopen()).end
            except StorageError:
                continue  # still not readable: nothing is known yet, so nobody is told anything
            if end == batch[-1].ts:
                return
            if end != self.durable_ts:
                raise StorageError(
                    f"The log ends at {end}, not at {self.durable_ts} as this process left it: "
                    "another process has taken over this data. This one has stopped committing."
                )

    def _advance(self, ts: int) -> None:
        """Publish: move `durable_ts`, release whoever waited for it, then tell the subscriptions."""
        self.durable_ts = ts
        waiters = self._waiters
        while waiters and waiters[0].ts <= ts:
            _tell(waiters.popleft().reached)
        _tell(partial(self._publish, ts))
        while self._room and not self.is_full:
            _tell(self._room.popleft())

    def _give_up(self, error: StorageError) -> None:
        """Stop for good, and tell whoever waits."""
        self.failure = error
        while self._waiters:
            lost = self._waiters.popleft().lost
            if lost is not None:
                _tell(partial(lost, OutcomeUnknown(str(error))))
        while self._room:
            _tell(self._room.popleft())

    def refusal(self) -> OutcomeUnknown | None:
        """Return why no commit can be answered any more, or None while storage works."""
        if self.failure is None:
            return None
        return OutcomeUnknown(str(self.failure))


def _tell(callback: Callable[[], None]) -> None:
    """Call somebody who waited. A mistake there must not keep others from being told, nor commits from the disk."""
    try:
        callback()
    except Exception:
        log.exception("a callback failed after a commit became durable")
