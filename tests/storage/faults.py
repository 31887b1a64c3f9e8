"""Storage that fails on request: a wrapper around any `Persistence`, for tests of the engine above it."""

import asyncio
import enum
from collections import deque
from collections.abc import AsyncIterator, Sequence

from reactor.errors import StorageError
from reactor.storage.batch import check_batch
from reactor.storage.interface import AppendOutcome, LogState, Persistence, Record, StoredDocument


class Fault(enum.Enum):
    """What becomes of one append."""

    NONE = "none"
    REFUSED = "refused"  # nothing is written
    UNKNOWN_WRITTEN = "unknown, written"  # `reopen` will find it
    UNKNOWN_LOST = "unknown, lost"  # `reopen` will not


class FaultyPersistence:
    """Passes everything on to `inner`, except where a test asked for something else.

    - `faults`: one entry is taken per append, `Fault.NONE` when there are none left.
    - `hold()`: appends wait, before anything is written, until `release()`; `await held()` returns once one waits.
    - `failing`: names of methods that raise `StorageError` for as long as they are in the set; `"append"` is not among
      them, since an append never raises.
    - `appended`: the batches that reached the log, oldest first.
    """

    def __init__(self, inner: Persistence) -> None:
        self.inner = inner
        self.faults: deque[Fault] = deque()
        self.failing: set[str] = set()
        self.appended: list[tuple[Record, ...]] = []
        self.reopened = 0
        self.trouble = "storage fails, as the test asked"
        self._is_settled = True
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        self._is_waiting = asyncio.Event()

    def hold(self) -> None:
        """Make appends wait."""
        self._may_pass.clear()

    def release(self) -> None:
        """Let waiting and later appends pass."""
        self._may_pass.set()

    async def held(self) -> None:
        """Wait until an append waits."""
        await self._is_waiting.wait()

    async def open(self) -> LogState:
        self._fail_if_asked("open")
        self._is_settled = True
        return await self.inner.open()

    async def append(self, batch: Sequence[Record], after: int) -> AppendOutcome:
        check_batch(batch, after)
        if not self._may_pass.is_set():
            self._is_waiting.set()
            await self._may_pass.wait()
            self._is_waiting.clear()
        if not self._is_settled:
            return AppendOutcome.UNKNOWN
        fault = self.faults.popleft() if self.faults else Fault.NONE
        if fault is Fault.REFUSED:
            return AppendOutcome.REFUSED
        if fault is Fault.UNKNOWN_LOST:
            self._is_settled = False
            return AppendOutcome.UNKNOWN
        outcome = await self.inner.append(batch, after)
        if outcome is AppendOutcome.DONE:
            self.appended.append(tuple(batch))
        if fault is Fault.UNKNOWN_WRITTEN:
            self._is_settled = False
            return AppendOutcome.UNKNOWN
        return outcome

    async def read(self, after: int, limit: int) -> list[Record]:
        self._fail_if_asked("read")
        return await self.inner.read(after, limit)

    async def tables(self) -> list[int]:
        self._fail_if_asked("tables")
        return await self.inner.tables()

    async def load(self, table: int) -> AsyncIterator[list[StoredDocument]]:
        self._fail_if_asked("load")
        async for chunk in self.inner.load(table):
            yield chunk

    async def fold(self, limit: int) -> LogState:
        self._fail_if_asked("fold")
        self._fail_if_unsettled()
        return await self.inner.fold(limit)

    async def trim(self, keep_after: int) -> LogState:
        self._fail_if_asked("trim")
        self._fail_if_unsettled()
        return await self.inner.trim(keep_after)

    async def reopen(self) -> LogState:
        self._fail_if_asked("reopen")
        state = await self.inner.reopen()
        self._is_settled = True
        self.reopened += 1
        return state

    async def close(self) -> None:
        await self.inner.close()

    def _fail_if_asked(self, method: str) -> None:
        if method in self.failing:
            raise StorageError(f"{method} fails, as the test asked")

    def _fail_if_unsettled(self) -> None:
        if not self._is_settled:
            raise StorageError("the outcome of an append is unknown, reopen first")
