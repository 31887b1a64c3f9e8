"""One SQLite connection with a thread of its own, where every call is one hop to that thread and back.

Owns the `aiosqlite` connection and its thread. Promises that a transaction is one hop as a whole, so nothing can slip
between its statements and no thread change holds it open, that `close` leaves no thread behind, and that a busy event
loop does not starve the thread. Errors are those of `sqlite3`; what they mean is up to `sqlite`, which uses this.
"""

import asyncio
import contextvars
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite

T = TypeVar("T")

Statement = tuple[str, Sequence[Any]]

# A loop that is always busy lets go of the interpreter lock for an instant per turn and has it back before another
# thread wakes up: a call can wait for seconds (observed: 2.4 s for an append). So the loop stands aside now and then
# for a call that takes several times as long as the quickest of the last ones: those only waited for the disk.
_PATIENCE: Final = 4.0
_PATIENCE_SECONDS: Final = (0.002, 0.02)  # least and most; the most for what nobody waits for
_RECENT_CALLS: Final = 16
_AGAIN_SECONDS: Final = 0.002
_ASIDE_SECONDS: Final = 0.000_05


class _StagingConnection(sqlite3.Connection):
    """Runs on `commit` what was staged before: the oldest that has not run, since a call may have been cancelled."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.staged: deque[Callable[[sqlite3.Connection], None]] = deque()

    def commit(self) -> None:
        self.staged.popleft()(self)


class SqliteConnection:
    """A connection in autocommit mode. Make one with `connect`."""

    def __init__(
        self, connection: aiosqlite.Connection, raw: _StagingConnection, thread: threading.Thread, is_urgent: bool
    ) -> None:
        self._connection = connection
        self._raw = raw
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()  # that of the caller may be a function's, where sleeping is an error
        self._timer: asyncio.TimerHandle | None = None
        self._least_patience = _PATIENCE_SECONDS[0 if is_urgent else 1]
        self._recent: deque[float] = deque(maxlen=_RECENT_CALLS)  # how many seconds calls took

    @classmethod
    async def connect(cls, path: Path, *, is_urgent: bool = True) -> "SqliteConnection":
        """Open `path`, creating the file if need be. `is_urgent`: somebody waits for its calls.

        Raises:
            sqlite3.Error: it can't be opened.
        """
        made: list[_StagingConnection] = []

        def connector() -> sqlite3.Connection:
            made.append(
                sqlite3.connect(
                    path, timeout=0, isolation_level=None, factory=_StagingConnection, check_same_thread=False
                )
            )
            return made[0]

        connection = aiosqlite.Connection(connector, iter_chunk_size=64)
        thread = connection._thread
        try:
            await connection
        except BaseException:
            if thread.is_alive():
                thread.join()  # it has been told to stop, and must not outlive the event loop it answers to
            for raw in made:
                raw.close()
            raise
        return cls(connection, made[0], thread, is_urgent)

    async def write(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement that returns no rows and commit it; return how many rows it changed.

        Raises:
            sqlite3.Error: it failed.
        """
        # The cursor is not closed, which would be a second hop: a finished statement holds nothing.
        return (await self._hop(self._connection.execute(sql, parameters))).rowcount

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run one statement and return all its rows.

        Raises:
            sqlite3.Error: it failed.
        """
        return list(await self._hop(self._connection.execute_fetchall(sql, parameters)))

    async def step_through(self, sql: str) -> None:
        """Run a statement that works one step per row and has no columns, which `fetch` would leave after the first.

        Raises:
            sqlite3.Error: it failed.
        """
        await self._hop(self._connection.executescript(sql))

    async def transact(self, statements: Sequence[Statement]) -> None:
        """Run `statements` as one transaction.

        Raises:
            sqlite3.Error: one of them, or the commit, failed; after a failed commit it can't be said what happened.
        """
        await self.run(lambda raw: _transact(raw, statements))

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` makes of the connection, in its thread.

        Whatever it opens it has to close. It holds the interpreter lock between its statements, so these should be many
        and what is between them short.

        Raises:
            sqlite3.Error: a statement failed.
            Exception: what `work` raised.
        """
        returned: list[T] = []
        self._raw.staged.append(lambda raw: returned.append(work(raw)))
        await self._hop(self._connection.commit())
        return returned[0]

    async def close(self) -> None:
        """Finish what was queued, close the connection and end its thread.

        Raises:
            sqlite3.Error: closing failed; the thread has ended all the same.
        """
        try:
            await self._connection.close()
        finally:
            self._thread.join()

    async def _hop(self, work: Awaitable[T]) -> T:
        patience = max(_PATIENCE * min(self._recent, default=0.0), self._least_patience)
        patience = min(patience, _PATIENCE_SECONDS[1])
        self._timer = self._loop.call_later(patience, self._stand_aside, context=self._context)
        begin = self._loop.time()
        try:
            return await work
        finally:
            self._timer.cancel()
            self._recent.append(self._loop.time() - begin)

    def _stand_aside(self) -> None:
        time.sleep(_ASIDE_SECONDS)
        again = max(_AGAIN_SECONDS, self._least_patience / 2)
        self._timer = self._loop.call_later(again, self._stand_aside, context=self._context)


def _transact(raw: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    try:
        raw.execute("BEGIN IMMEDIATE")
        for sql, parameters in statements:
            raw.execute(sql, parameters)
        raw.execute("COMMIT")
    except BaseException:
        if raw.in_transaction:  # SQLite ends it by itself after some errors
            raw.execute("ROLLBACK")
        raise
