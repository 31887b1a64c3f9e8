"""The committer: validate, assign the timestamp, apply. The only writer.

Owns the applied state. Promises that a commit is valid against every commit after its snapshot, that timestamps
strictly increase, and that from the start of `commit` to its end nothing else runs: no await, no user code, no socket.
What it applied is visible to mutations at once, and to everything else when the publisher has made it durable
(`design.md` §3, §4, 3-5). Used by the database.
"""

from collections.abc import Callable

from reactor.engine.catalog import Catalog, Index
from reactor.engine.keyrange import IndexId
from reactor.engine.sessions import SessionResult, SessionResults
from reactor.engine.timestamps import CommitClock
from reactor.engine.transaction import PendingWrite, Transaction
from reactor.engine.writelog import LogEntry, WriteLog
from reactor.errors import WriteConflict
from reactor.storage.interface import DocumentWrite, Record

Change = tuple[Index, bytes]  # an index and a key whose history now holds an entry


class Committer:
    """Applies transactions to the catalog, one at a time."""

    def __init__(
        self,
        catalog: Catalog,
        clock: CommitClock,
        write_log: WriteLog,
        sessions: SessionResults,
        enqueue: Callable[[Record, list[Change]], None],
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._write_log = write_log
        self._sessions = sessions
        self._enqueue = enqueue

    def validate(self, transaction: Transaction) -> None:
        """Check that no commit since the transaction's snapshot changed what it read.

        Backward validation of optimistic concurrency control (Kung & Robinson 1981, §4), with key ranges as the read
        set, so that a phantom is a conflict like any other.

        Raises:
            WriteConflict: one did. The attempt is lost; a new one will see the winner.
            SnapshotTooOld: the snapshot is older than the commits that are remembered.
        """
        if transaction.begin_ts == self._write_log.newest:
            return
        entry = self._write_log.first_conflict(transaction.reads, transaction.begin_ts)
        if entry is not None:
            tables = ", ".join(sorted({self._name(number) for number in entry.tables})) or "some"
            who = f'A call to "{entry.source}" changed it. ' if entry.source else ""
            raise WriteConflict(
                f'Documents read from or written to the "{tables}" table changed while this mutation was being run '
                f"and on every subsequent retry. {who}See https://docs.convex.dev/error#1"
            )

    def commit(
        self,
        transaction: Transaction,
        *,
        source: str,
        version: int = 0,
        session: str | None = None,
        request: int | None = None,
        result: bytes | None = None,
        log_lines: tuple[str, ...] = (),
    ) -> int:
        """Validate and apply `transaction`; return the timestamp its effects are visible at.

        A transaction without writes is serializable at its snapshot and leaves no trace.

        Raises:
            WriteConflict: see `validate`.
        """
        if not transaction.writes:
            return transaction.begin_ts
        self.validate(transaction)
        transaction.settle_keys()
        commit_ts = self._clock.next(transaction.last_creation_ts)
        # From here to the end nothing may raise or suspend: others must never see half a commit.
        touched: list[tuple[IndexId, bytes]] = []
        changes: list[Change] = []
        writes: list[DocumentWrite] = []
        tables: dict[int, None] = {}
        for pending in transaction.writes.values():
            if pending.before is None and pending.after is None:
                continue
            tables[pending.table.number] = None
            writes.append(DocumentWrite(pending.table.number, pending.id, pending.after))
            _apply(pending, commit_ts, touched, changes)
        self._write_log.append(LogEntry(commit_ts, tuple(touched), tuple(tables), source))
        if session is not None and request is not None and result is not None:
            self._sessions.remember(session, request, SessionResult(result, log_lines, commit_ts))
        record = Record(
            ts=commit_ts,
            kind="commit",
            writes=tuple(writes),
            session=session,
            request=request,
            result=result,
            log_lines=log_lines,
            source=source,
            version=version,
        )
        self._enqueue(record, changes)
        return commit_ts

    def _name(self, number: int) -> str:
        table = self._catalog.by_number.get(number)
        return table.name if table is not None else str(number)


def _apply(pending: PendingWrite, commit_ts: int, touched: list[tuple[IndexId, bytes]], changes: list[Change]) -> None:
    """Move one document to its new state in every index of its table, keeping what stood there."""
    before, after = pending.before, pending.after
    before_keys, after_keys = pending.before_keys, pending.after_keys
    for position, index in enumerate(pending.order):
        old_key = before_keys[position] if before is not None else None
        new_key = after_keys[position] if after is not None else None
        if old_key is not None and old_key != new_key:
            index.history.record(old_key, commit_ts, before, None)
            index.entries.pop(old_key, None)
            touched.append((index.id, old_key))
            changes.append((index, old_key))
        if new_key is not None and after is not None:
            index.history.record(new_key, commit_ts, before if old_key == new_key else None, after)
            index.entries[new_key] = after
            touched.append((index.id, new_key))
            changes.append((index, new_key))
