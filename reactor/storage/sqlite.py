"""SQLite storage: the file `db.sqlite3` in a data directory, in write-ahead-log mode.

Owns the tables in `migrations/sqlite` and both connections to them. Two connections, a thread each: the *writer* does
nothing but append, one statement and so one thread hop per batch; everything else (fold, trim, read, load, checkpoint)
goes through the *background* connection, one operation at a time. Used by `server/app`.

Durability rests on the writer's `synchronous=FULL`: its commit returns when the write-ahead log is on disk, and with it
everything that stands before. So fold and trim need no sync of their own: they are lost or kept in order.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal

from reactor.errors import SnapshotTooOld, StorageError
from reactor.limits import Limits
from reactor.storage import failpoints
from reactor.storage.batch import check_batch, encode_batch
from reactor.storage.checksum import Damaged, batch_checksum
from reactor.storage.interface import SESSION_MARK_NS, AppendOutcome, LogState, Record, StoredDocument
from reactor.storage.lease import LockFile
from reactor.storage.sqlite_connection import SqliteConnection
from reactor.storage.sqlite_errors import explain, explain_damage
from reactor.storage.sqlite_format import prepare
from reactor.storage.sqlite_gate import Gate
from reactor.storage.sqlite_statements import APPEND, DROP_MARKS, END, TABLES, TRIM
from reactor.storage.sqlite_steps import (
    PAGE_BYTES,
    Stretch,
    check_total,
    make_fold,
    make_trim,
    read_documents,
    read_records,
    read_state,
    read_stretch,
    read_total,
    spare_pages,
)
from reactor.storage.sqlite_wal import SLACK, WriteAheadLog

Synchronous = Literal["FULL", "NORMAL", "OFF"]

DATABASE_NAME: Final = "db.sqlite3"

_logger = logging.getLogger("reactor.storage")

_WAL_BYTES: Final = Limits().wal_bytes
_WAL_LIMIT_BYTES: Final = Limits().wal_limit_bytes
_CACHE_BYTES: Final = 32 << 20  # of the background connection
_LOAD_BYTES: Final = 1 << 20  # aim for a chunk of a load
_LOAD_ROWS: Final = (64, 8192)  # least and most documents in a chunk


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
        self.trouble = ""
        self._files: tuple[tuple[int, int], ...] = ()  # device and inode of database and write-ahead log
        self._lock_file = LockFile(self.directory)
        self._writer: SqliteConnection | None = None
        self._background: SqliteConnection | None = None
        self._epoch = 0
        self._gate = Gate()
        self._wal = WriteAheadLog(self.path, wal_bytes, wal_limit_bytes, self._gate, lambda: self._background)

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
        if not self._gate.is_settled:
            return AppendOutcome.UNKNOWN
        body = encode_batch(batch)
        if body is None:
            return self._refuse(f"a record of the batch from {batch[0].ts} on has no encoded form")
        wal = self._wal
        if wal.size >= wal.limit:
            wal.start_checkpoint()
            return self._refuse(
                f"{wal.path} has grown to {wal.size} bytes (REACTOR_WAL_LIMIT_BYTES={wal.limit}) because "
                "another program, such as a backup, keeps reading the database: let it finish, or stop it"
            )
        if failpoints.armed is not None:
            failpoints.armed("append: before")
        row = (batch[-1].ts, after, batch[0].ts, len(batch), self._epoch, body)
        async with self._gate.writing:
            try:
                added = await _opened(self._writer).write(APPEND, (*row, batch_checksum(*row)))
            except OverflowError:  # a timestamp beyond 64 bits
                return self._refuse(f"the timestamp {batch[-1].ts} is beyond 64 bits")
            except asyncio.CancelledError:
                self._gate.is_settled = False  # the statement goes on in its thread
                raise
            except (sqlite3.Error, UnicodeDecodeError, MemoryError) as error:
                if self._gate.doubt(error):
                    self.trouble = explain(self.path, "append", error)
                    _logger.error("append with unknown outcome: %s", self.trouble)
                    return AppendOutcome.UNKNOWN
                return self._refuse(explain(self.path, "append", error))
        if not added:
            return self._refuse(f"{self.path}: the log does not end at {after}, or the lease is no longer ours")
        if self._found_files() != self._files:
            # What was written went into files without a name, which nobody will find.
            self._gate.is_settled = False
            self.trouble = _moved_text(self.path)
            _logger.error("append with unknown outcome: %s", self.trouble)
            return AppendOutcome.UNKNOWN
        if failpoints.armed is not None:
            failpoints.armed("append: after")
        wal.note_written(2 + len(body) // PAGE_BYTES)
        return AppendOutcome.DONE

    async def read(self, after: int, limit: int) -> list[Record]:
        """See `Persistence.read`."""
        async with self._gate.in_background:
            background = _opened(self._background)
            with self._explained("read"):
                floor = (await background.run(read_state)).floor
                if after < floor:
                    raise SnapshotTooOld(f"the log is kept after {floor} only, and was asked for after {after}")
                return await background.run(partial(read_records, after=after, limit=limit))

    async def tables(self) -> list[int]:
        """See `Persistence.tables`."""
        async with self._gate.in_background:
            background = _opened(self._background)
            with self._explained("read"):
                return [row[0] for row in await background.fetch(TABLES)]

    async def load(self, table: int) -> AsyncIterator[list[StoredDocument]]:
        """See `Persistence.load`."""
        last, rows, count, checksums = "", _LOAD_ROWS[0], 0, 0
        total: tuple[int, int] | None = None
        while True:
            async with self._gate.in_background:
                background = _opened(self._background)
                with self._explained("read"):
                    if not last:
                        total = await background.run(partial(read_total, table=table))
                    chunk, more = await background.run(partial(read_documents, table=table, last=last, rows=rows))
                    if not chunk:
                        loaded = (count, checksums)
                        await background.run(partial(check_total, table=table, before=total, loaded=loaded))
                        return
            count, checksums = count + len(chunk), checksums + more
            yield chunk
            last = chunk[-1].id
            mean = sum(len(document.value) for document in chunk) // len(chunk) + 64
            rows = min(max(_LOAD_BYTES // mean, _LOAD_ROWS[0]), _LOAD_ROWS[1])

    async def fold(self, limit: int) -> LogState:
        """See `Persistence.fold`."""
        async with self._gate.in_background:
            background = self._writable()
            with self._explained("fold"):
                stretch = await background.run(partial(read_stretch, limit=limit))
                if stretch.last:
                    if failpoints.armed is not None:
                        failpoints.armed("fold: before")
                    await self._write_fold(stretch)
                    if failpoints.armed is not None:
                        failpoints.armed("fold: after")
                    await self._give_back(background)
                return await background.run(read_state)

    async def _write_fold(self, stretch: Stretch) -> None:
        """Write one portion after the other, in a transaction each; only the last one lets the stretch be folded.

        If that is never reached, documents are newer than what is said to be folded. The next fold writes them again,
        and who loads them replays the log from there anyway.
        """
        *portions, last = stretch.portions or [{}]
        for portion, ts in (*((portion, None) for portion in portions), (last, stretch.last)):
            background = self._writable()
            fold = await background.run(partial(make_fold, portion=portion, last=ts))
            async with self._gate.writing:
                await self._gate.finish(background.transact(fold.statements))
            if ts is None and failpoints.armed is not None:
                failpoints.armed("fold: between")
            self._wal.note_written(fold.pages)

    async def trim(self, keep_after: int) -> LogState:
        """See `Persistence.trim`."""
        async with self._gate.in_background:
            background = self._writable()
            with self._explained("trim"):
                state = await background.run(read_state)
                floor = max(state.floor, min(keep_after, state.folded))
                if floor > state.floor:
                    async with self._gate.writing:
                        await self._gate.finish(background.write("UPDATE meta SET floor = ?", (floor,)))
                # In portions, so that appends get in between. What a failure leaves behind, the next trim removes.
                if failpoints.armed is not None:
                    failpoints.armed("trim: after the floor")
                gone = min(floor, state.end - 1)  # the newest row tells where the log ends
                while (portion := await background.run(partial(make_trim, through=gone))) is not None:
                    through, marks = portion
                    async with self._gate.writing:
                        await self._gate.finish(background.transact([*marks, (TRIM, (through,))]))
                    self._wal.note_written(4 + len(marks))
                if failpoints.armed is not None:
                    failpoints.armed("trim: after")
                return await background.run(read_state)

    async def reopen(self) -> LogState:
        """See `Persistence.reopen`."""
        async with self._gate.in_background, self._gate.writing:
            if not self._lock_file.is_held:
                raise StorageError(f"{self.directory} is not open")
            self._gate.is_settled = False
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
        await self._wal.close()
        async with self._gate.in_background, self._gate.writing:
            if self._gate.is_settled and self._background is not None and self._found_files() == self._files:
                with suppress(sqlite3.Error):
                    await self._background.write(END)
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
            # A fold changes many pages; those beyond the cache would be written to the log, read and written again.
            await background.fetch(f"PRAGMA cache_size = {-_CACHE_BYTES // 1024}")
            await background.run(read_state)
            await writer.write("UPDATE meta SET epoch = epoch + 1")
            state = await background.run(read_state)
            await writer.write(DROP_MARKS, (state.floor - SESSION_MARK_NS,))
        self._files = self._found_files()
        self._epoch = state.epoch
        self._wal.start_over()
        self._gate.is_settled = True
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
        # A fold's statements write many rows, and keep what they would need to undo half of it in a temporary file.
        await connection.fetch("PRAGMA temp_store = MEMORY")
        await connection.fetch(f"PRAGMA journal_size_limit = {SLACK * self._wal_bytes}")
        await connection.fetch("PRAGMA foreign_keys = ON")
        await connection.fetch("PRAGMA trusted_schema = OFF")
        await connection.fetch("PRAGMA cell_size_check = ON")

    async def _give_back(self, background: SqliteConnection) -> None:
        """Return some of the pages that nothing uses any more to the file system; a step per fold is enough."""
        spare = await background.run(spare_pages)
        if spare:
            async with self._gate.writing:
                await self._gate.finish(background.step_through(f"PRAGMA incremental_vacuum({spare})"))
            self._wal.note_written(2 * spare)  # each page that moves, and who points to it
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
        for path in (str(self.path), str(self._wal.path)):  # `stat` takes twice as long for a `Path`
            try:
                status = os.stat(path)
            except OSError:
                found.append((0, 0))
            else:
                found.append((status.st_dev, status.st_ino))
        return tuple(found)

    def _writable(self) -> SqliteConnection:
        if not self._gate.is_settled:
            raise StorageError(f"{self.path}: the outcome of an append is unknown, reopen first")
        return _opened(self._background)

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """Turn damage, and errors of SQLite and of the file system, into `StorageError`."""
        try:
            yield
        except Damaged as damage:
            self.trouble = explain_damage(self.path, damage)
            raise StorageError(self.trouble) from damage
        except (sqlite3.Error, UnicodeDecodeError, OSError) as error:  # a damaged name in the text of an error
            if action in ("fold", "trim"):
                self._gate.doubt(error)
            self.trouble = explain(self.path, action, error)
            raise StorageError(self.trouble) from error


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
