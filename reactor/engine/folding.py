"""Folding in the background: the durable log becomes current documents, and its old end is trimmed.

Owns the count of records that wait, and the marks by which the log is trimmed. Promises small transactions between
appends, that a failure only postpones, and that records are kept for resent requests and followers up to a bound. Used
by the database.
"""

import asyncio
import logging
from collections import deque

from reactor.errors import StorageError
from reactor.limits import Limits
from reactor.ports import Spawn
from reactor.storage.interface import Persistence

log = logging.getLogger(__name__)


class Folding:
    """Background folding of one open database."""

    def __init__(self, persistence: Persistence, limits: Limits, spawn: Spawn) -> None:
        self._persistence = persistence
        self._limits = limits
        self._spawn = spawn
        self._unfolded = 0
        self._folded = 0
        self._marks: deque[int] = deque()  # every `fold_records` folded records, the timestamp of the last
        self._is_closing = False
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    def found(self, ts: int, is_folded: bool) -> None:
        """Count a record that was in the log when the database was opened."""
        if not is_folded:
            self._unfolded += 1
            return
        self._folded += 1
        if self._folded % self._limits.fold_records == 0:
            self._marks.append(ts)

    def published(self, records: int) -> None:
        """Count records that became durable; begins to fold when enough have come together."""
        self._unfolded += records
        if self._unfolded >= self._limits.fold_records and self._at_rest.is_set() and not self._is_closing:
            self._at_rest.clear()
            self._spawn(self._run(), name="fold")

    async def close(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._is_closing = True
        await self._at_rest.wait()

    async def _run(self) -> None:
        step = self._limits.fold_records
        try:
            while self._unfolded >= step and not self._is_closing:
                state = await self._persistence.fold(step)
                self._unfolded = 0 if state.folded >= state.end else self._unfolded - step
                self._marks.append(state.folded)
                if len(self._marks) * step > self._limits.log_retention_records:
                    await self._persistence.trim(self._marks.popleft())
        except StorageError as error:
            # Nothing is lost by waiting: the next batch that becomes durable tries again.
            log.warning("the log could not be folded: %s", error)
        finally:
            self._at_rest.set()
