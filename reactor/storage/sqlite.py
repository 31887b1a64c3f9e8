"""SQLite storage: the file `db.sqlite3` in a data directory, in write-ahead-log mode.

Owns the tables in `migrations/sqlite`, both connections to them, and the checkpoints. Two connections, a thread each:
the *writer* does nothing but append, one statement and so one thread hop per batch; everything else (fold, trim, read,
load, checkpoint) goes through the *background* connection, one operation at a time. Used by `server/app`.

Durability rests on the writer's `synchronous=FULL`: its commit returns when the write-ahead log is on disk, and with it
everything that stands before. So fold and trim need no sync of their own: they are lost or kept in order.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from reactor.errors import SnapshotTooOld, StorageError
from reactor.limits import Limits
from reactor.storage import failpoints
from reactor.storage.batch import LOG_PAGE_BYTES, check_batch, decode_batch, encode_batch
from reactor.storage.fold import fold_records, session_marks
from reactor.storage.interface import SESSION_MARK_NS, AppendOutcome, LogState, Record, StoredDocument
from reactor.storage.lease import LockFile
from reactor.storage.sqlite_connection import SqliteConnection
from reactor.storage.sqlite_errors import NOTHING_WRITTEN, explain, primary_code
from reactor.storage.sqlite_format import prepare
from reactor.storage.sqlite_statements import (
    APPEND,
    BODIES,
    DROP_MARKS,
    EXTENT,
    LOAD,
    STATE,
    TABLES,
    TRIM,
    fold_statements,
    mark_statements,
)

_T = TypeVar("_T")

Synchronous = Literal["FULL", "NORMAL", "OFF"]

DATABASE_NAME: Final = "db.sqlite3"

_logger = logging.getLogger("reactor.storage")

_WAL_BYTES: Final = Limits().wal_bytes
_WAL_LIMIT_BYTES: Final = Limits().wal_limit_bytes
_PAGE_BYTES: Final = 4096
_FRAME_BYTES: Final = _PAGE_BYTES + 24
_FREE_PAGES: Final = 256  # kept for reuse, or an eighth of the file where that is more
_VACUUM_PAGES: Final = 256  # given back in one step, between two appends
_LOAD_BYTES: Final = 1 << 20  # aim for a chunk of a load
_LOAD_ROWS: Final = (64, 8192)  # least and most documents in a chunk
_WAL_SLACK: Final = 4  # how many times its bound the write-ahead log may grow before appends wait for it to start over


class SqlitePersistence:
    """A `Persistence` in one SQLite file.

    `synchronous` weaker than FULL gives up durability; it exists for tests. The write-ahead log is copied into the
    database when it has grown by about `wal_bytes`. While another program reads the file it can't start over; at about
    `wal_limit_bytes` appends are refused until that program has finished.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        wal_bytes: int = _WAL_BYTES,
        wal_limit_bytes: int = _WAL_LIMIT_BYTES,
    ) -> None:
        self.directory = Path(directory)
        self.path = self.directory / DATABASE_NAME
        self._synchronous = synchronous
        self._wal_bytes = wal_bytes
        self._wal_limit_bytes = wal_limit_bytes
        self.trouble = ""
        self._wal_path = self.directory / f"{DATABASE_NAME}-wal"
        self._files: tuple[tuple[int, int], ...] = ()  # device and inode of database and write-ahead log
        self._lock_file = LockFile(self.directory)
        self._writer: SqliteConnection | None = None
        self._background: SqliteConnection | None = None
        self._epoch = 0
        self._is_settled = True  # False from an unknown append until `reopen`
        self._wal_grown = 0  # bytes since the last checkpoint, estimated
        self._wal_size = 0  # bytes since the write-ahead log last started over, estimated
        self._checkpointing: asyncio.Task[None] | None = None
        # Who needs both takes `_in_background` first.
        self._in_background = asyncio.Lock()  # owns the background connection
        self._writing = asyncio.Lock()  # may write: SQLite knows one writer, and to wait for it there is to poll

    async def open(self) -> LogState:
        """See `Persistence.open`."""
        self._lock_file.acquire()
        try:
            state = await self._connect()
            self._lock_file.mark_data()
            return state
        except BaseException:
            await self._disconnect()
            self._lock_file.release()
            raise

    async def append(self, batch: Sequence[Record], after: int) -> AppendOutcome:
        """See `Persistence.append`."""
        check_batch(batch, after)
        if not self._is_settled:
            return AppendOutcome.UNKNOWN
        body = encode_batch(batch)
        if body is None:
            return self._refuse(f"a record of the batch from {batch[0].ts} on has no encoded form")
        if self._wal_size >= self._wal_limit_bytes:
            self._start_checkpoint()
            return self._refuse(
                f"{self._wal_path} has grown to {self._wal_size} bytes "
                f"(REACTOR_WAL_LIMIT_BYTES={self._wal_limit_bytes}) because "
                "another program, such as a backup, keeps reading the database: let it finish, or stop it"
            )
        if failpoints.armed is not None:
            failpoints.armed("append: before")
        row = (batch[-1].ts, after, batch[0].ts, len(batch), self._epoch, body)
        async with self._writing:
            try:
                added = await _opened(self._writer).write(APPEND, row)
            except OverflowError:  # a timestamp beyond 64 bits
                return self._refuse(f"the timestamp {batch[-1].ts} is beyond 64 bits")
            except asyncio.CancelledError:
                self._is_settled = False  # the statement goes on in its thread
                raise
            except (sqlite3.Error, MemoryError) as error:
                if self._doubt(error):
                    self.trouble = explain(self.path, "append", error)
                    _logger.error("append with unknown outcome: %s", self.trouble)
                    return AppendOutcome.UNKNOWN
                return self._refuse(explain(self.path, "append", error))
        if not added:
            return self._refuse(f"{self.path}: the log does not end at {after}, or the lease is no longer ours")
        if self._found_files() != self._files:
            # What was written went into files without a name, which nobody will find.
            self._is_settled = False
            self.trouble = _moved_text(self.path)
            _logger.error("append with unknown outcome: %s", self.trouble)
            return AppendOutcome.UNKNOWN
        if failpoints.armed is not None:
            failpoints.armed("append: after")
        self._note_written(2 + len(body) // _PAGE_BYTES)
        return AppendOutcome.DONE

    async def read(self, after: int, limit: int) -> list[Record]:
        """See `Persistence.read`."""
        async with self._in_background:
            background = _opened(self._background)
            with self._explained("read"):
                floor = (await self._state(background)).floor
                if after < floor:
                    raise SnapshotTooOld(f"the log is kept after {floor} only, and was asked for after {after}")
                return await self._records(background, after, limit)

    async def tables(self) -> list[int]:
        """See `Persistence.tables`."""
        async with self._in_background:
            background = _opened(self._background)
            with self._explained("read"):
                return [row[0] for row in await background.fetch(TABLES)]

    async def load(self, table: int) -> AsyncIterator[list[StoredDocument]]:
        """See `Persistence.load`."""
        last, rows = "", _LOAD_ROWS[0]
        while True:
            async with self._in_background:
                background = _opened(self._background)
                with self._explained("read"):
                    found = await background.fetch(LOAD, (table, last, rows))
            if not found:
                return
            chunk = [StoredDocument(*row) for row in found]
            yield chunk
            last = chunk[-1].id
            mean = sum(len(document.value) for document in chunk) // len(chunk) + 64
            rows = min(max(_LOAD_BYTES // mean, _LOAD_ROWS[0]), _LOAD_ROWS[1])

    async def fold(self, limit: int) -> LogState:
        """See `Persistence.fold`."""
        async with self._in_background:
            background = self._writable()
            with self._explained("fold"):
                state = await self._state(background)
                records = await self._records(background, state.folded, limit)
                if not records:
                    return state
                latest = fold_records(records)
                statements = fold_statements(latest)
                statements.append(("UPDATE meta SET folded = ?", (records[-1].ts,)))
                if failpoints.armed is not None:
                    failpoints.armed("fold: before")
                async with self._writing:
                    await self._finish(background.transact(statements))
                if failpoints.armed is not None:
                    failpoints.armed("fold: after")
                await self._give_back(background)
                self._note_written(sum(2 + len(value or b"") // _PAGE_BYTES for _, value in latest.values()))
                return await self._state(background)

    async def trim(self, keep_after: int) -> LogState:
        """See `Persistence.trim`."""
        async with self._in_background:
            background = self._writable()
            with self._explained("trim"):
                state = await self._state(background)
                floor = max(state.floor, min(keep_after, state.folded))
                if floor > state.floor:
                    async with self._writing:
                        await self._finish(background.write("UPDATE meta SET floor = ?", (floor,)))
                # In portions, so that appends get in between. What a failure leaves behind, the next trim removes.
                if failpoints.armed is not None:
                    failpoints.armed("trim: after the floor")
                gone = min(floor, state.end - 1)  # the newest row tells where the log ends
                while (through := await self._portion(background, gone)) is not None:
                    bodies = await background.fetch(BODIES, (-1, through))
                    marks = session_marks(record for _, _, body in bodies for record in decode_batch(body))
                    async with self._writing:
                        await self._finish(background.transact([*mark_statements(marks), (TRIM, (through,))]))
                    self._note_written(4 + len(marks))
                if failpoints.armed is not None:
                    failpoints.armed("trim: after")
                return await self._state(background)

    async def reopen(self) -> LogState:
        """See `Persistence.reopen`."""
        async with self._in_background, self._writing:
            if not self._lock_file.is_held:
                raise StorageError(f"{self.directory} is not open")
            self._is_settled = False
            if self._found_files()[:1] != self._files[:1]:
                # Closing would copy the write-ahead log into a file without a name, and delete it.
                self.trouble = _moved_text(self.path)
                raise StorageError(self.trouble)
            await self._disconnect()
            if failpoints.armed is not None:
                failpoints.armed("reopen: disconnected")
            return await self._connect()

    async def close(self) -> None:
        """See `Persistence.close`."""
        if self._checkpointing is not None:
            await asyncio.wait([self._checkpointing])
        async with self._in_background, self._writing:
            await self._disconnect()
            self._lock_file.release()

    async def _connect(self) -> LogState:
        """Open both connections, make what is there durable, and take a new epoch."""
        if self._lock_file.had_data and not _has_content(self.path):
            raise StorageError(
                f"{self.path} is missing or empty, but this directory held a database: put the file back or restore a "
                f"backup; to begin anew, delete {self._lock_file.path} too"
            )
        with self._explained("open"):
            self._writer = writer = await SqliteConnection.connect(self.path)
            await self._tune(writer, self._synchronous)
            await prepare(writer, self.path)
            # Of a log whose sync failed, this process may see what the disk does not have, and a later sync would not
            # write it. Copied into the database and started over, what we see is what there is.
            for busy, _, _ in await writer.fetch("PRAGMA wal_checkpoint(TRUNCATE)"):
                if busy:
                    raise StorageError(f"{self.path} is being read by another program: stop it first")
            self._background = background = await SqliteConnection.connect(self.path, is_urgent=False)
            await self._tune(background, "OFF" if self._synchronous == "OFF" else "NORMAL")
            await writer.write("UPDATE meta SET epoch = epoch + 1")
            state = await self._state(background)
            await writer.write(DROP_MARKS, (state.floor - SESSION_MARK_NS,))
        self._files = self._found_files()
        self._epoch = state.epoch
        self._wal_grown = self._wal_size = 0
        self._is_settled = True
        return state

    async def _disconnect(self) -> None:
        connections = (self._background, self._writer)
        self._background = self._writer = None
        for connection in connections:
            if connection is not None:
                with suppress(sqlite3.Error):
                    await connection.close()

    async def _tune(self, connection: SqliteConnection, synchronous: Synchronous) -> None:
        await connection.fetch(f"PRAGMA synchronous = {synchronous}")
        await connection.fetch("PRAGMA wal_autocheckpoint = 0")
        await connection.fetch(f"PRAGMA journal_size_limit = {_WAL_SLACK * self._wal_bytes}")
        await connection.fetch("PRAGMA foreign_keys = ON")
        await connection.fetch("PRAGMA trusted_schema = OFF")
        await connection.fetch("PRAGMA cell_size_check = ON")

    async def _state(self, background: SqliteConnection) -> LogState:
        (row,) = await background.fetch(STATE)
        return LogState(*row)

    async def _records(self, background: SqliteConnection, after: int, limit: int) -> list[Record]:
        """Return at most `limit` records newer than `after`; fetch no more bodies than that takes."""
        found: list[Record] = []
        position, previous = after, None
        while len(found) < limit:
            wanted = size = 0
            last = position
            for last_ts, records, length in await background.fetch(EXTENT, (position, limit - len(found))):
                if wanted >= limit - len(found) or (wanted and size + length > LOG_PAGE_BYTES):
                    break
                last, wanted, size = last_ts, wanted + records, size + length
            if not wanted:
                break
            for prev_ts, last_ts, body in await background.fetch(BODIES, (position, last)):
                if previous is not None and prev_ts != previous:
                    raise StorageError(f"{self.path} is damaged: the log has a gap before {last_ts}; restore a backup")
                previous = last_ts
                found += [record for record in decode_batch(body) if record.ts > after]
            position = last
        return found[:limit]

    async def _portion(self, background: SqliteConnection, through: int) -> int | None:
        """Return up to where the log may be deleted in one go, of what lies at or below `through`."""
        size, last = 0, None
        for last_ts, _, length in await background.fetch(EXTENT, (-1, 256)):
            if last_ts > through or (last is not None and size + length > LOG_PAGE_BYTES):
                break
            last, size = last_ts, size + length
        return last

    async def _give_back(self, background: SqliteConnection) -> None:
        """Return some of the pages that nothing uses any more to the file system; a step per fold is enough."""
        ((free,),) = await background.fetch("PRAGMA freelist_count")
        if free <= _FREE_PAGES:
            return
        ((pages,),) = await background.fetch("PRAGMA page_count")
        spare = min(free - max(_FREE_PAGES, pages // 8), _VACUUM_PAGES)
        if spare > 0:
            async with self._writing:
                await self._finish(background.step_through(f"PRAGMA incremental_vacuum({spare})"))
            self._note_written(2 * spare)  # each page that moves, and who points to it
            if failpoints.armed is not None:
                failpoints.armed("vacuum: after a step")

    def _refuse(self, reason: str) -> AppendOutcome:
        if reason != self.trouble:
            _logger.error("append refused: %s", reason)
            self.trouble = reason
        return AppendOutcome.REFUSED

    def _found_files(self) -> tuple[tuple[int, int], ...]:
        """Return what stands under the names of the database and its write-ahead log."""
        found = []
        for path in (str(self.path), str(self._wal_path)):  # `stat` takes twice as long for a `Path`
            try:
                status = os.stat(path)
            except OSError:
                found.append((0, 0))
            else:
                found.append((status.st_dev, status.st_ino))
        return tuple(found)

    def _writable(self) -> SqliteConnection:
        if not self._is_settled:
            raise StorageError(f"{self.path}: the outcome of an append is unknown, reopen first")
        return _opened(self._background)

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """Turn errors of SQLite and of the file system into `StorageError`."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if action in ("fold", "trim"):
                self._doubt(error)
            self.trouble = explain(self.path, action, error)
            raise StorageError(self.trouble) from error

    def _doubt(self, error: BaseException) -> bool:
        """Return whether a write that failed with `error` leaves the write-ahead log in doubt, and `reopen` must come.

        A sync that failed is not made good by the next one: the kernel may have dropped what it could not write. Were
        an append to follow pages that a fold or a checkpoint failed to sync, it would be acknowledged and yet lost.
        """
        if primary_code(error) in NOTHING_WRITTEN:
            return False
        self._is_settled = False
        return True

    async def _finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await `work` to its end even when cancelled: its thread goes on anyway, and holds SQLite's write lock."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            if error := task.exception():
                self._doubt(error)
            raise

    def _note_written(self, pages: int) -> None:
        """Count what went into the write-ahead log; start a checkpoint when it is due."""
        self._wal_grown += pages * _PAGE_BYTES
        self._wal_size += pages * _PAGE_BYTES
        if self._wal_grown >= self._wal_bytes:
            self._start_checkpoint()

    def _start_checkpoint(self) -> None:
        if self._checkpointing is None or self._checkpointing.done():
            self._checkpointing = asyncio.create_task(self._checkpoint(), name="sqlite checkpoint")

    async def _checkpoint(self) -> None:
        """Copy the write-ahead log into the database while appends go on.

        The log starts over by itself when an append finds all of it copied. Under steady load none ever does; then, at
        `_WAL_SLACK` times the bound, appends wait while the last few pages are copied. Neither happens while another
        program reads an older state.
        """
        try:
            async with self._in_background:
                background = self._background
                if background is None:  # reopening failed
                    return
                self._wal_grown = 0
                if failpoints.armed is not None:
                    failpoints.armed("checkpoint: before")
                is_whole = await self._copy_log(background)
                if not is_whole and self._wal_size >= _WAL_SLACK * self._wal_bytes:
                    async with self._writing:
                        self._wal_grown = 0
                        await self._copy_log(background)
                if failpoints.armed is not None:
                    failpoints.armed("checkpoint: after")
        except sqlite3.Error as error:
            self._doubt(error)
            _logger.warning("checkpoint failed: %s", explain(self.path, "copy the write-ahead log", error))

    async def _copy_log(self, background: SqliteConnection) -> bool:
        """Copy what no reader stands in the way of; return whether that was all there is, so that the log starts over.

        What was appended meanwhile may follow what was copied: then the log goes on, and has not become smaller.
        """
        ((_, frames, copied),) = await self._finish(background.fetch("PRAGMA wal_checkpoint(PASSIVE)"))
        is_whole: bool = frames == copied and not self._wal_grown
        self._wal_size = 0 if is_whole else frames * _FRAME_BYTES + self._wal_grown
        return is_whole


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _moved_text(path: Path) -> str:
    return (
        f"{path} or its write-ahead log was removed or replaced while in use, and nothing more is written to it: "
        "stop the server and put the file back, or restore a backup"
    )


def _opened(connection: SqliteConnection | None) -> SqliteConnection:
    if connection is None:
        raise StorageError("the database is not open")
    return connection
