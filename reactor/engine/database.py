"""The database: joins catalog, committer, log and subscriptions into one transactional store.

Owns opening (loading documents, replaying the log, the first record at the current time), snapshots in use, and the
pruning of history behind them. Promises the two watermarks: `applied_ts` for mutations, `durable_ts` for everything
else. No user code, no sockets. Used by the runtime.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context

from reactor.engine.catalog import DEPLOYMENT, TABLES, Catalog, Table, id_key
from reactor.engine.committer import Change, Committer
from reactor.engine.publisher import Publisher
from reactor.engine.sessions import SessionResult, SessionResults
from reactor.engine.timestamps import CommitClock, CreationClock, covering_ts
from reactor.engine.transaction import Transaction, index_keys
from reactor.engine.writelog import LogEntry, WriteLog
from reactor.errors import OutcomeUnknown, SnapshotTooOld, StorageError, Unavailable
from reactor.limits import FIRST_USER_TABLE, Limits
from reactor.ports import Clock, Rng, Spawn
from reactor.storage.interface import Persistence, Record
from reactor.values.ids import IdGenerator
from reactor.values.stored import decode_object, encode_stored, normalise
from reactor.values.types import Value

log = logging.getLogger(__name__)

PublishHook = Callable[[int, Sequence[LogEntry]], None]

HISTORY_ENTRY_BYTES = 150  # of one changed key, beside the document that stood there


class Database:
    """One open deployment's data. Build with `await Database.open(...)`."""

    def __init__(self, persistence: Persistence, clock: Clock, rng: Rng, limits: Limits, spawn: Spawn) -> None:
        self.persistence = persistence
        self.limits = limits
        self.clock = clock
        self.catalog = Catalog()
        self.sessions = SessionResults(limits)
        self.ids = IdGenerator(rng, clock)
        self.on_publish: PublishHook = lambda ts, entries: None
        self._spawn = spawn
        self._pins: dict[int, int] = {}
        self._history: deque[tuple[int, list[Change], int]] = deque()
        self._history_bytes = 0
        self._floor = 0  # no older snapshot can be read any more
        self._prune_is_due = False
        self._unpin_waiters: list[asyncio.Future[None]] = []
        self._is_at_rest = asyncio.Event()  # not folding
        self._is_at_rest.set()
        self._unfolded = 0
        self._fold_marks: deque[int] = deque()
        self._is_open = False
        self._reported_ts = 0
        self.tables_index = self.catalog.by_name[TABLES].by_id.id
        self.deployment_index = self.catalog.by_name[DEPLOYMENT].by_id.id
        self.deployment_key = b""  # of the one row that names the deployed version

    @classmethod
    async def open(
        cls, persistence: Persistence, *, clock: Clock, rng: Rng, limits: Limits, spawn: Spawn
    ) -> "Database":
        """Open storage, bring its documents into memory, and make the start durable.

        Raises:
            StorageError: the data is held by another process, damaged, or of a newer version.
        """
        database = cls(persistence, clock, rng, limits, spawn)
        state = await persistence.open()
        try:
            await database._load(state.folded, state.floor)
        except BaseException:
            await persistence.close()
            raise
        end = state.end
        database.commit_clock = CommitClock(clock, end)
        database.creation_clock = CreationClock(clock, end)
        database.write_log = WriteLog(end, max(limits.write_log_commits, 2 * limits.tail_commits))
        database.publisher = Publisher(persistence, state.end, limits, spawn, database._published)
        database.committer = Committer(
            database.catalog, database.commit_clock, database.write_log, database.sessions, database._enqueue
        )
        # Opening writes a record, so that no timestamp before a restart or a restore is ever given out again.
        opening = Record(
            ts=database.commit_clock.next(),
            kind="fence",
            writes=(),
            session=None,
            request=None,
            result=None,
            log_lines=(),
            source="",
            version=0,
        )
        database.write_log.append(LogEntry(opening.ts, (), (), ""))
        database.publisher.enqueue(opening)
        database._is_open = True
        database._floor = database._reported_ts = end
        database._ensure_deployment()
        try:
            await database.publisher.drain()
        except BaseException:
            await persistence.close()
            raise
        return database

    commit_clock: CommitClock
    creation_clock: CreationClock
    write_log: WriteLog
    publisher: Publisher
    committer: Committer

    # Watermarks and snapshots.

    @property
    def applied_ts(self) -> int:
        """The newest commit that mutations see."""
        return self.write_log.newest

    @property
    def durable_ts(self) -> int:
        """The newest commit that is certain to survive a crash; everything but mutations reads here."""
        return self.publisher.durable_ts

    def begin_mutation(self) -> Transaction:
        """Begin a transaction on the latest applied state."""
        self.check_open()
        return Transaction(self.catalog, self.applied_ts)

    def begin_query(self, ts: int | None = None) -> Transaction:
        """Begin a read-only transaction at `ts`, by default the durable timestamp.

        Raises:
            SnapshotTooOld: what stood there at `ts` may be forgotten; ask again at a later timestamp.
        """
        self.check_open()
        if ts is None:
            ts = self.durable_ts
        else:
            self.check_snapshot(ts)
        return Transaction(self.catalog, ts)

    def check_snapshot(self, ts: int) -> None:
        """Check that what stood there at `ts` is still known; to be asked again after each suspension.

        Raises:
            SnapshotTooOld: the history would have grown beyond its bound.
        """
        if ts < self._floor:
            raise SnapshotTooOld(
                f"Timestamp {ts} is too early, retry with a higher timestamp. History is kept from {self._floor} on "
                f"(REACTOR_HISTORY_BYTES={self.limits.history_bytes})."
            )

    def pin(self, ts: int) -> None:
        """Keep the history that a snapshot at `ts` needs, until `unpin`. Needed only across suspensions."""
        self._pins[ts] = self._pins.get(ts, 0) + 1

    def unpin(self, ts: int) -> None:
        """Give a snapshot back."""
        left = self._pins[ts] - 1
        if left:
            self._pins[ts] = left
            return
        del self._pins[ts]
        self._wake_waiters()
        if self._history and ts < self._history[0][0] <= self.durable_ts and not self._prune_is_due:
            # Not at once: who gives a snapshot back may be about to commit what it read there.
            self._prune_is_due = True
            asyncio.get_running_loop().call_soon(self._prune, context=Context())

    def _wake_waiters(self) -> None:
        waiters, self._unpin_waiters = self._unpin_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def oldest_reader(self) -> int:
        """The oldest snapshot that anybody may still read at."""
        return min(min(self._pins, default=self.durable_ts), self.durable_ts)

    async def durable(self, ts: int) -> None:
        """Wait until the commit at `ts` is durable.

        Raises:
            OutcomeUnknown: storage failed for good before it was.
        """
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def lost(error: OutcomeUnknown) -> None:
            if not reached.done():
                reached.set_exception(error)

        self.publisher.when_durable(ts, lambda: None if reached.done() else reached.set_result(None), lost)
        await reached

    async def no_reader_before(self, ts: int) -> None:
        """Wait until no snapshot older than `ts` is in use."""
        while self.oldest_reader < ts:
            passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._unpin_waiters.append(passed)
            await passed

    # Tables and system documents.

    def table(self, name: str) -> Table | None:
        """Return the table of that name, or None."""
        return self.catalog.by_name.get(name)

    def create_table(self, name: str) -> Table:
        """Create a user table in a commit of its own.

        Raises:
            LimitExceeded: there are too many tables.
        """
        number = self.catalog.free_number()
        transaction = self.begin_mutation()
        row = self.insert_system(transaction, TABLES, {"name": name, "number": float(number)})
        self.committer.commit(transaction, source="")
        table = self.catalog.add_table(number, name)
        table.row_key = id_key(row)
        return table

    def insert_system(self, transaction: Transaction, table_name: str, fields: dict[str, Value]) -> str:
        """Stage a document of a system table; return its id."""
        table = self.catalog.by_name[table_name]
        document_id = self.ids.next(table.number)
        document: dict[str, Value] = {**fields, "_id": document_id, "_creationTime": self.creation_time(transaction)}
        self.put_system(transaction, table, document_id, document, None)
        return document_id

    def put_system(
        self,
        transaction: Transaction,
        table: Table,
        document_id: str,
        document: dict[str, Value] | None,
        before: dict[str, Value] | None,
    ) -> None:
        """Stage any change of a system document."""
        if document is None:
            transaction.put(table, document_id, None, None, before)
            return
        normal = normalise(document).value
        assert isinstance(normal, dict)
        transaction.put(table, document_id, normal, encode_stored(normal), before)

    def user_tables(self) -> list[Table]:
        """Return every user table."""
        return [table for table in self.catalog.by_number.values() if table.number >= FIRST_USER_TABLE]

    def system_documents(self, table_name: str) -> list[dict[str, Value]]:
        """Return every document of a system table in the latest applied state."""
        table = self.catalog.by_name[table_name]
        rows = table.by_id.entries.chunk(b"", None, len(table) + 1, False)
        return [decode_object(data) for _, data in rows]

    def creation_time(self, transaction: Transaction) -> float:
        """Draw the `_creationTime` of a document that `transaction` inserts now."""
        creation_time = self.creation_clock.next()
        transaction.last_creation_ts = covering_ts(creation_time)
        return creation_time

    # Sessions.

    def known_result(self, session: str | None, request: int | None) -> SessionResult | None:
        """Return the result of a mutation that was committed before under the same session and request id.

        Raises:
            OutcomeUnknown: the request is older than the results kept.
        """
        if session is None or request is None:
            return None
        return self.sessions.find(session, request)

    # Closing.

    async def close(self) -> None:
        """Wait until everything applied is durable, then release storage."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            await self.publisher.drain()
        finally:
            await self._is_at_rest.wait()
            await self.persistence.close()

    # Inside.

    def _ensure_deployment(self) -> None:
        """Make the row that names the deployed version, which every execution reads."""
        if not self.system_documents(DEPLOYMENT):
            transaction = self.begin_mutation()
            self.insert_system(transaction, DEPLOYMENT, {"version": 0.0})
            self.committer.commit(transaction, source="")
        (row,) = self.system_documents(DEPLOYMENT)
        self.deployment_key = id_key(str(row["_id"]))

    def check_open(self) -> None:
        """Raise unless the database is open.

        Raises:
            Unavailable: it is closed.
        """
        if not self._is_open:
            raise Unavailable("The deployment is closed.")

    def _enqueue(self, record: Record, changes: list[Change]) -> None:
        size = HISTORY_ENTRY_BYTES * len(changes) + sum([len(write.value or b"") for write in record.writes])
        self._history.append((record.ts, changes, size))
        self._history_bytes += size
        self.publisher.enqueue(record)

    def _published(self, ts: int) -> None:
        """After each durable batch: report its commits, then prune what no reader needs any more."""
        entries = self.write_log.between(self._reported_ts, ts)
        self._reported_ts = ts
        self.on_publish(ts, entries)
        self._prune()
        self._wake_waiters()
        self._unfolded += len(entries)
        if self._unfolded >= self.limits.fold_records and self._is_at_rest.is_set():
            self._is_at_rest.clear()
            self._spawn(self._fold(), name="fold")

    def _prune(self) -> None:
        self._prune_is_due = False
        oldest = max(self._floor, self.oldest_reader)
        history, durable = self._history, self.durable_ts
        # Beyond the bound the oldest snapshots in use give way, but never what is not durable yet.
        left = self._history_bytes
        for commit_ts, _, size in history:
            if commit_ts > durable or (commit_ts > oldest and left <= self.limits.history_bytes):
                break
            left -= size
            oldest = max(oldest, commit_ts)
        self._floor = oldest
        while history and history[0][0] <= oldest:
            _, changes, size = history.popleft()
            self._history_bytes -= size
            for index, key in changes:
                index.history.forget(key, oldest)
        self.write_log.truncate(oldest)

    async def _fold(self) -> None:
        """Move the durable log into current documents, a small transaction at a time, between appends."""
        try:
            while self._unfolded >= self.limits.fold_records and self._is_open:
                state = await self.persistence.fold(self.limits.fold_records)
                self._unfolded -= self.limits.fold_records
                if state.folded >= state.end:
                    self._unfolded = 0
                self._fold_marks.append(state.folded)
                if len(self._fold_marks) * self.limits.fold_records > self.limits.log_retention_records:
                    await self.persistence.trim(self._fold_marks.popleft())
        except StorageError as error:
            # Nothing is lost by waiting: the next batch that becomes durable tries again.
            log.warning("the log could not be folded: %s", error)
        finally:
            self._is_at_rest.set()

    async def _load(self, folded: int, floor: int) -> None:
        """Bring tables and documents into memory: folded state first, then the rest of the log."""
        number = self.catalog.by_name[TABLES].number
        await self._load_table(number)
        self._adopt_tables()
        for number in await self.persistence.tables():
            if number in self.catalog.by_number and number != self.catalog.by_name[TABLES].number:
                await self._load_table(number)
        after = floor
        kept = 0
        while records := await self.persistence.read(after, 1000):
            for record in records:
                if record.session is not None and record.request is not None and record.result is not None:
                    self.sessions.remember(
                        record.session, record.request, SessionResult(record.result, record.log_lines, record.ts)
                    )
                if record.ts > folded:
                    self._replay(record)
                    self._unfolded += 1
                    continue
                kept += 1
                if kept % self.limits.fold_records == 0:
                    self._fold_marks.append(record.ts)
            after = records[-1].ts

    async def _load_table(self, number: int) -> None:
        table = self.catalog.by_number[number]
        async for documents in self.persistence.load(number):
            for stored in documents:
                self._place(table, stored.id, stored.value)

    def _place(self, table: Table, document_id: str, data: bytes | None) -> None:
        """Put a document where it belongs while opening; no reader exists yet, so no history is kept."""
        standing = table.by_id.entries.get(id_key(document_id))
        if standing is not None:
            keys = index_keys(table, document_id, decode_object(standing))
            for index, key in zip(table.indexes.values(), keys, strict=True):
                index.entries.pop(key, None)
        if data is not None:
            keys = index_keys(table, document_id, decode_object(data))
            for index, key in zip(table.indexes.values(), keys, strict=True):
                index.entries[key] = data

    def _replay(self, record: Record) -> None:
        tables = self.catalog.by_name[TABLES].number
        for write in record.writes:
            self._place(self.catalog.by_number[write.table], write.id, write.value)
            if write.table == tables:
                self._adopt_tables()

    def _adopt_tables(self) -> None:
        """Make the catalog agree with the documents of `_tables`."""
        for row in self.system_documents(TABLES):
            name, number, row_id = row["name"], row["number"], row["_id"]
            assert isinstance(name, str)
            assert isinstance(number, float)
            assert isinstance(row_id, str)
            table = self.catalog.by_number.get(int(number))
            if table is None:
                assert number >= FIRST_USER_TABLE
                table = self.catalog.add_table(int(number), name)
            table.row_key = id_key(row_id)
