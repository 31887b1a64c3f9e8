"""The database: joins catalog, committer, publisher and retention into one transactional store.

Owns opening and closing, the beginning of transactions, and the system tables. Promises the two watermarks:
`applied_ts` for mutations, `durable_ts` for everything else. No user code, no sockets. Used by the runtime.
"""

import asyncio
from collections.abc import Callable, Sequence

from reactor.engine.catalog import DEPLOYMENT, TABLES, Catalog, Table, id_key
from reactor.engine.committer import Committer, Kept
from reactor.engine.cursor import Cursors
from reactor.engine.folding import Folding
from reactor.engine.loading import Loading
from reactor.engine.publisher import Publisher
from reactor.engine.recovery import recover
from reactor.engine.retention import Retention
from reactor.engine.sessions import SessionResult, SessionResults
from reactor.engine.systemdocs import insert_system
from reactor.engine.tablets import Tablets
from reactor.engine.timestamps import CommitClock, CreationClock, covering_ts
from reactor.engine.transaction import Transaction
from reactor.engine.undo import stage_undo
from reactor.engine.writelog import LogEntry, WriteLog
from reactor.errors import OutcomeUnknown, StorageError, Unavailable
from reactor.limits import Limits
from reactor.ports import Clock, Rng, Spawn
from reactor.storage.interface import DocumentWrite, Persistence, Record
from reactor.values.ids import IdGenerator
from reactor.values.stored import decode_object
from reactor.values.types import Int64, Value

PublishHook = Callable[[int, Sequence[LogEntry]], None]


class Database:
    """One open deployment's data. Build with `await Database.open(...)`."""

    def __init__(
        self,
        persistence: Persistence,
        catalog: Catalog,
        sessions: SessionResults,
        folding: Folding,
        end: int,
        *,
        clock: Clock,
        rng: Rng,
        limits: Limits,
        spawn: Spawn,
    ) -> None:
        """Join the parts of a database whose log ends at `end`; `open` makes them."""
        self.persistence = persistence
        self.catalog = catalog
        self.sessions = sessions
        self.limits = limits
        self.rng = rng
        self.ids = IdGenerator(rng, clock)
        self.cursors = Cursors(rng.token_bytes(32))  # good until closing, unless the owner has a secret that stays
        self.commit_clock = CommitClock(clock, end)
        self.creation_clock = CreationClock(clock, end)
        self.write_log = WriteLog(end, max(limits.write_log_commits, 2 * limits.tail_commits))
        self.publisher = publisher = Publisher(persistence, end, limits, spawn, self._published, self._undo)
        self.retention = Retention(self.write_log, lambda: publisher.durable_ts, end, limits.history_bytes)
        self.committer = Committer(catalog, self.commit_clock, self.write_log, sessions, self._enqueue)
        self.loading = Loading(persistence, catalog, limits, spawn, clock)
        self.tablets = Tablets(self, spawn)
        self.on_publish: list[PublishHook] = []  # told of each durable batch: its last timestamp, and its commits
        self.after_publish: list[Callable[[], None]] = []  # told of each durable batch, when all else is done
        self._folding = folding
        self._is_open = True
        self._reported_ts = end
        self.tables_index = catalog.by_name[TABLES].by_id.id
        self.deployment_index = catalog.by_name[DEPLOYMENT].by_id.id
        self.deployment_key = b""  # of the one row that names the deployed version

    @classmethod
    async def open(
        cls, persistence: Persistence, *, clock: Clock, rng: Rng, limits: Limits, spawn: Spawn
    ) -> "Database":
        """Open storage, bring the system tables into memory, and make the start durable.

        The application's tables are loaded when they are first touched.

        Raises:
            StorageError: the data is held by another process, damaged, or of a newer version.
        """
        state = await persistence.open()
        try:
            catalog, sessions = Catalog(limits.data_bytes), SessionResults(limits)
            folding = Folding(persistence, limits, spawn)
            strays = await recover(persistence, state, catalog, sessions, folding)
            database = cls(
                persistence, catalog, sessions, folding, state.end, clock=clock, rng=rng, limits=limits, spawn=spawn
            )
            # A record at the start, so that no timestamp before a restart or a restore is ever given out again.
            opening = Record(ts=database.commit_clock.next(), kind="fence")
            database.write_log.append(LogEntry(opening.ts, (), ""))
            database.publisher.enqueue(opening)
            database._ensure_deployment()
            await database.publisher.drain()
        except BaseException:
            await persistence.close()
            raise
        database.tablets.sweep(strays)
        return database

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
            self.retention.check(ts)
        return Transaction(self.catalog, ts)

    async def durable(self, ts: int) -> None:
        """Wait until the commit at `ts` is durable.

        Raises:
            OutcomeUnknown: storage failed before it was; it may have been undone.
            StorageError: it can't be written, and was undone.
        """
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def lost(error: OutcomeUnknown | StorageError) -> None:
            if not reached.done():
                reached.set_exception(error)

        self.publisher.when_durable(ts, lambda: None if reached.done() else reached.set_result(None), lost)
        await reached

    # Tables and system documents.

    def table(self, name: str) -> Table | None:
        """Return the table of that name, or None."""
        return self.catalog.by_name.get(name)

    def create_table(self, name: str, asked_by: Transaction | None = None) -> Table:
        """Create a table in a commit of its own, which is no conflict for the transaction that asked for it.

        `name` is the one in the catalog: that of a component's table begins with the component's path.

        Raises:
            LimitExceeded: there are too many tables.
        """
        number = self.catalog.free_number()
        transaction = self.begin_mutation()
        fields: dict[str, Value] = {"name": name, "number": float(number)}
        tablet = number
        if number in self.catalog.by_tablet or number in self.tablets.leaving:
            tablet = self.commit_clock.next()  # the number was that of a table whose documents are still there
            fields["tablet"] = Int64(tablet)
        row = insert_system(self, transaction, self.catalog.by_name[TABLES], fields)
        commit_ts = self.committer.commit(transaction, source="")
        if asked_by is not None:
            asked_by.own_commits += (commit_ts,)
        table = self.catalog.add_table(number, name, tablet)
        table.row_key = id_key(row)
        return table

    def append_unseen(self, writes: Sequence[DocumentWrite]) -> int:
        """Put documents into the log under a tablet that no table has, so that nobody sees them; return their time.

        That they are durable is for the caller to wait for: what is lost with the disk is not undone.
        """
        self.check_open()
        ts = self.commit_clock.next()
        self.write_log.append(LogEntry(ts, (), ""))
        self._enqueue(Record(ts=ts, kind="commit", writes=tuple(writes)), [])
        return ts

    def user_tables(self) -> list[Table]:
        """Return every table that a schema can declare, those of components included."""
        return [table for table in self.catalog.by_number.values() if not table.is_system]

    def system_documents(self, table_name: str) -> list[dict[str, Value]]:
        """Return every document of a system table in the latest applied state."""
        table = self.catalog.by_name[table_name]
        return [decode_object(data) for _, data in sorted(table.documents.items())]

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
            await self.tablets.close()
            await self.publisher.drain()
        finally:
            self.publisher.stop()
            await self.loading.close()
            await self._folding.close()
            await self.persistence.close()

    # Inside.

    def _ensure_deployment(self) -> None:
        """Make the row that names the deployed version, which every execution reads."""
        if not self.system_documents(DEPLOYMENT):
            transaction = self.begin_mutation()
            insert_system(self, transaction, self.catalog.by_name[DEPLOYMENT], {"version": 0.0})
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

    def _enqueue(self, record: Record, kept: list[Kept]) -> None:
        self.retention.applied(record, kept)
        self.publisher.enqueue(record)

    def _undo(self, end: int, lost: list[Record]) -> None:
        """Undo records that are not in the log, which ends at `end`: a fence, then a compensating commit."""
        fence = Record(ts=self.commit_clock.next(), kind="fence")
        self.write_log.append(LogEntry(fence.ts, (), ""))
        self._enqueue(fence, [])
        for record in lost:
            if record.session is not None and record.request is not None:
                self.sessions.withdraw(record.session, record.request)
        transaction = Transaction(self.catalog, self.applied_ts)
        stage_undo(transaction, lost, end)
        self.committer.commit(transaction, source="", kind="undo")

    def _published(self, ts: int) -> None:
        """After each durable batch: report its commits, then drop what no reader needs any more."""
        entries = self.write_log.between(self._reported_ts, ts)
        self._reported_ts = self.write_log.published = ts
        for hear in self.on_publish:
            hear(ts, entries)
        self.retention.published()
        publisher = self.publisher
        self._folding.published(ts, len(entries), publisher.batch_bytes, publisher.has_tail)
        for told in self.after_publish:
            told()
