"""From applied to durable: appends commits to the log in batches, and publishes what became durable.

Owns the undurable tail and `durable_ts`. Promises one append in flight, batches in commit order, and that nothing is
published before the append that holds it has returned (`design.md` §4, 4 and 5). When storage fails:

- A refused append is tried again for as long as it takes: nothing was written, and later commits are built on these.
  A record that can never be written is undone, with everything behind it.
- After an unknown one storage is reopened and the end of the log decides. What it holds is published; the rest of the
  tail is undone, and the next append is a fence and the undo, alone.
- Past `limits.storage_patience_seconds` whoever waits is told that the outcome is unknown, and new mutations are
  refused, until an append succeeds.

Used by the database.
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
from reactor.storage import failpoints
from reactor.storage.batch import encode_batch
from reactor.storage.interface import AppendOutcome, Persistence, Record

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = (0.01, 0.05, 0.2, 1.0)  # waits while storage fails; the last one repeats
RECORD_OVERHEAD_BYTES: Final = 200


class PublisherStats(msgspec.Struct):
    """Counters since the database was opened."""

    commits: int = 0
    batches: int = 0
    refused: int = 0
    unknown: int = 0
    undone: int = 0


Lost = Callable[[OutcomeUnknown | StorageError], None]
"""Told instead of `reached`: the outcome is unknown, or (`StorageError`) the commit can't be written and is undone."""


class Waiter(NamedTuple):
    """Somebody who waits for `durable_ts` to reach `ts`."""

    ts: int
    reached: Callable[[], None]
    lost: Lost | None


class Publisher:
    """The queue of applied commits on their way to the disk."""

    def __init__(
        self,
        persistence: Persistence,
        durable_ts: int,
        limits: Limits,
        spawn: Spawn,
        publish: Callable[[int], None],
        undo: Callable[[int, list[Record]], None],
    ) -> None:
        """
        Args:
            persistence: open, with a log that ends at `durable_ts`.
            durable_ts: see there.
            limits: bounds of tail and batches, and how long to wait for storage.
            spawn: starts background work.
            publish: told after each move of `durable_ts`.
            undo: applies the opposite of lost records, all later than the timestamp it gets, and enqueues the fence and
                the undo.
        """
        self._persistence = persistence
        self._limits = limits
        self._spawn = spawn
        self._publish = publish
        self._undo = undo
        self.durable_ts = durable_ts
        self._tail: deque[tuple[Record, int]] = deque()
        self._tail_bytes = 0
        self.batch_bytes = 0  # of the batch that is being published
        self._waiters: deque[Waiter] = deque()
        self._in_flight = False
        self._idle: list[asyncio.Future[None]] = []
        self._room: deque[Callable[[], None]] = deque()
        self.stats = PublisherStats()
        self.failure: StorageError | None = None
        self._is_suspended = False  # storage has failed for longer than anybody should wait
        self._is_stopping = False
        self._waited = 0.0  # seconds since storage failed
        self._attempt = 0
        self._sealed = 0  # so many records at the front make one batch: a fence and an undo, or what precedes a bad one

    @property
    def is_full(self) -> bool:
        """Whether new commits must wait for the disk; False where waiting is in vain (see `refusal`)."""
        limits = self._limits
        return (
            len(self._tail) >= limits.tail_commits or self._tail_bytes >= limits.tail_bytes or self._sealed > 0
        ) and self._is_waiting

    @property
    def has_tail(self) -> bool:
        """Whether commits are on their way to the disk."""
        return bool(self._tail)

    @property
    def _is_waiting(self) -> bool:
        return not self._is_suspended and self.failure is None

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, as soon as the tail has room again, or storage has failed for good."""
        if self._is_waiting:
            self._room.append(callback)
        else:
            asyncio.get_running_loop().call_soon(callback, context=Context())

    def enqueue(self, record: Record) -> None:
        """Take a commit that was just applied; its append starts when the loop's current callback ends."""
        size = RECORD_OVERHEAD_BYTES + len(record.result or b"")
        for line in record.log_lines:
            size += len(line)
        for write in record.writes:
            if write.value is not None:
                size += len(write.value)
        self._tail.append((record, size))
        self._tail_bytes += size
        if not self._in_flight and self.failure is None:
            self._in_flight = True
            # Not at once: the commits of one turn make one batch.
            asyncio.get_running_loop().call_soon(self._start, context=Context())

    def when_durable(self, ts: int, callback: Callable[[], None], lost: Lost | None = None) -> None:
        """Call `callback` from the publishing step in which `durable_ts` reaches `ts`, or soon if it already has.

        Never calls it from inside this method. Callbacks run in the order of their timestamps. Who waits for a commit
        that is undone, or while storage fails for longer than its patience, is told through `lost` instead.
        """
        if ts <= self.durable_ts:
            asyncio.get_running_loop().call_soon(callback, context=Context())
        elif not self._is_waiting:
            if lost is not None:
                asyncio.get_running_loop().call_soon(lost, self._unknown(), context=Context())
        elif not self._waiters or self._waiters[-1].ts <= ts:
            self._waiters.append(Waiter(ts, callback, lost))
        else:
            # A snapshot taken before later commits, finishing after them.
            position = next(i for i, other in enumerate(self._waiters) if other.ts > ts)
            self._waiters.insert(position, Waiter(ts, callback, lost))

    async def drain(self) -> None:
        """Wait until everything applied is durable.

        Raises:
            StorageError: storage failed for good, or for longer than its patience.
        """
        while self._tail and self._is_waiting:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            await future
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    def stop(self) -> None:
        """Try no more to write what can't be written."""
        self._is_stopping = True

    def refusal(self) -> StorageError | None:
        """Return why no mutation can begin, or None while storage works or may soon."""
        if self.failure is not None:
            return self.failure
        if self._is_suspended:
            return StorageError(
                f"No writes are taken at the moment: {self._persistence.trouble}. "
                "Reads go on, and writes resume by themselves when storage works again."
            )
        return None

    def _start(self) -> None:
        self._spawn(self._run(), name="publisher")

    async def _run(self) -> None:
        """Append until the tail is empty."""
        try:
            while self._tail:
                batch = self._next_batch()
                outcome = await self._persistence.append(batch, self.durable_ts)
                if failpoints.armed is not None:
                    failpoints.armed("append: before publishing")
                if outcome is AppendOutcome.DONE:
                    self._landed(batch)
                elif outcome is AppendOutcome.REFUSED:
                    self.stats.refused += 1
                    await self._refused(batch)
                else:
                    self.stats.unknown += 1
                    await self._settle(batch)
        except StorageError as error:
            self._give_up(error)
        finally:
            if self._tail and self.failure is None:
                self._give_up(StorageError("The publisher was stopped with commits that are not durable yet."))
            self._in_flight = False
            self._wake()

    def _next_batch(self) -> list[Record]:
        if self._sealed:
            return [self._tail[position][0] for position in range(self._sealed)]
        batch: list[Record] = []
        total = 0
        for record, size in self._tail:
            if batch and (len(batch) >= self._limits.batch_commits or total + size > self._limits.batch_bytes):
                break
            batch.append(record)
            total += size
        return batch

    def _landed(self, batch: list[Record]) -> None:
        """Take a durable batch off the tail and publish it."""
        before = self._tail_bytes
        for _ in batch:
            _, size = self._tail.popleft()
            self._tail_bytes -= size
        self.batch_bytes = before - self._tail_bytes
        self.stats.batches += 1
        self.stats.commits += len(batch)
        self._attempt = self._sealed = 0
        self._waited = 0.0
        self._is_suspended = False
        self._advance(batch[-1].ts)

    async def _refused(self, batch: list[Record]) -> None:
        """Wait before the next attempt; what can never be written is undone.

        Raises:
            StorageError: another process has taken over.
        """
        bad = next((at for at, record in enumerate(batch) if encode_batch([record]) is None), None)
        if bad is not None:
            if bad:
                self._sealed = bad
            else:
                log.error("the commit at %d, of %r, can't be written and is undone", batch[0].ts, batch[0].source)
                self._undo_tail(batch[0].ts)
            return
        await self._pause()
        try:
            state = await self._persistence.fold(0)
        except StorageError:
            return  # it can't be read now: the next append will tell
        self._check_end(state.end, self.durable_ts)

    async def _settle(self, batch: list[Record]) -> None:
        """After an unknown append: let the end of the log decide.

        Raises:
            StorageError: another process has taken over.
        """
        # Whoever commits now builds on what may be lost: `is_full` keeps new mutations out.
        self._sealed = len(batch)
        while True:
            await self._pause()
            try:
                end = (await self._persistence.reopen()).end
                break
            except StorageError as error:
                log.warning("storage can't be reopened: %s", error)
        self._check_end(end, self.durable_ts, batch[-1].ts)
        if end == batch[-1].ts:
            self._landed(batch)
        self._undo_tail(None)

    async def _pause(self) -> None:
        seconds = RETRY_SECONDS[min(self._attempt, len(RETRY_SECONDS) - 1)]
        self._attempt += 1
        self._waited += seconds
        await asyncio.sleep(seconds)
        if self._is_stopping:
            raise StorageError("The deployment was closed with commits that could not be written.")
        if self._waited >= self._limits.storage_patience_seconds and not self._is_suspended:
            self._suspend()

    def _suspend(self) -> None:
        """Let nobody wait for storage any longer."""
        log.error("storage has failed for %.1f s: writes are refused until it works again", self._waited)
        self._is_suspended = True
        self._lose_waiters(None)
        self._wake()

    def _check_end(self, end: int, *expected: int) -> None:
        if end not in expected:
            raise StorageError(
                f"The log ends at {end}, not at {self.durable_ts} as this process left it: "
                "another process has taken over this data. This one has stopped committing."
            )

    def _undo_tail(self, refused: int | None) -> None:
        """Undo everything that is not in the log; `refused` is the commit whose caller is told that it failed."""
        lost = [record for record, _ in self._tail]
        self._tail.clear()
        self._tail_bytes = 0
        self._sealed = 0
        self._undo(self.durable_ts, lost)
        self._sealed = len(self._tail)
        self.stats.undone += sum(record.kind == "commit" for record in lost)
        self._lose_waiters(refused)

    def _lose_waiters(self, refused: int | None) -> None:
        waiters = list(self._waiters)
        self._waiters.clear()
        for waiter in waiters:
            if waiter.lost is None:
                continue
            if waiter.ts == refused:
                _tell(partial(waiter.lost, StorageError("This can't be written to the log. Nothing was committed.")))
            else:
                _tell(partial(waiter.lost, self._unknown()))

    def _unknown(self) -> OutcomeUnknown:
        reason = str(self.failure) if self.failure is not None else self._persistence.trouble
        return OutcomeUnknown(
            f"It can't be said whether this took effect: {reason}. Sent again under the same request id, it takes "
            "effect once."
        )

    def _wake(self) -> None:
        """Tell whoever waits for the end of the tail, or for room in it."""
        for future in self._idle:
            if not future.done():
                future.set_result(None)
        self._idle.clear()
        while self._room and not self.is_full:
            _tell(self._room.popleft())

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
        self._lose_waiters(None)
        self._wake()


def _tell(callback: Callable[[], None]) -> None:
    """Call somebody who waited. A mistake there must not keep others from being told, nor commits from the disk."""
    try:
        callback()
    except Exception:
        log.exception("a callback failed after a commit became durable")
