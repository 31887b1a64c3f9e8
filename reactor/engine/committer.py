"""The committer: validate, assign the timestamp, apply. The only writer.

Owns the applied state. Promises that a commit is valid against every commit after its snapshot, that timestamps
strictly increase, and that from the start of `commit` to its end nothing else runs: no await, no user code, no socket.
What it applied is visible to mutations at once, and to everything else when the publisher has made it durable
(`design.md` §3, §4, 3-5). Used by the database.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from reactor.engine.catalog import Index
from reactor.engine.conflicts import Conflict, find_conflict
from reactor.engine.history import History
from reactor.engine.sessions import SessionResult, SessionResults
from reactor.engine.timestamps import CommitClock
from reactor.engine.transaction import PendingWrite, Transaction
from reactor.engine.writelog import DocumentChange, LogEntry, WriteLog
from reactor.limits import MAX_CONFLICT_REPORTS
from reactor.storage.interface import DocumentWrite, Record, RecordKind
from reactor.values.types import undefined

Kept = tuple[History[Any], bytes]  # a history, and a key it now holds something about
Move = tuple[Index, bytes | None, bytes | None]  # an index, the key a document leaves, the key it takes


class Committer:
    """Applies transactions to the catalog, one at a time."""

    def __init__(
        self,
        clock: CommitClock,
        write_log: WriteLog,
        sessions: SessionResults,
        enqueue: Callable[[Record, list[Kept]], None],
    ) -> None:
        self._clock = clock
        self._write_log = write_log
        self._sessions = sessions
        self._enqueue = enqueue
        self.conflicts: deque[Conflict] = deque(maxlen=MAX_CONFLICT_REPORTS)

    def validate(self, transaction: Transaction, since: int | None = None) -> None:
        """Check that no commit since the transaction's snapshot, or since `since`, changed what it read.

        Backward validation of optimistic concurrency control (Kung & Robinson 1981, §4), with key ranges as the read
        set, so that a phantom is a conflict like any other.

        Raises:
            WriteConflict: one did. The attempt is lost; a new one will see the winner.
            SnapshotTooOld: the snapshot is older than the commits that are remembered.
        """
        begin_ts = transaction.begin_ts if since is None else since
        if begin_ts == self._write_log.newest:
            return
        entry = self._write_log.first_conflict(transaction.reads, begin_ts, transaction.own_commits)
        if entry is not None:
            conflict = find_conflict(transaction.reads, entry, transaction.reader, transaction.begin_ts)
            self.conflicts.append(conflict)
            raise conflict.error()

    def look(self, transaction: Transaction) -> None:
        """Check a suspended transaction against the commits since its last look, to stop it as soon as it is doomed.

        What it has read since then was not checked against older commits; `commit` does that.

        Raises:
            WriteConflict, SnapshotTooOld: see `validate`.
        """
        self.validate(transaction, transaction.looked_ts)
        transaction.looked_ts = self._write_log.newest

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
        kind: RecordKind = "commit",
    ) -> int:
        """Validate and apply `transaction`; return the timestamp its effects are visible at.

        A transaction without writes is serializable at its snapshot and leaves no trace.

        Raises:
            WriteConflict: see `validate`.
        """
        if not transaction.writes:
            return transaction.begin_ts
        self.validate(transaction)
        moves = [_moves(pending) for pending in transaction.writes.values()]
        commit_ts = self._clock.next(transaction.last_creation_ts)
        # From here to the end nothing may raise or suspend: others must never see half a commit.
        changes: list[DocumentChange] = []
        kept: list[Kept] = []
        writes: list[DocumentWrite] = []
        for pending, moved in zip(transaction.writes.values(), moves, strict=True):
            before, after = pending.before, pending.after
            if before is None and after is None:
                continue
            table, key = pending.table, pending.key
            writes.append(DocumentWrite(table.number, pending.id, after))
            changes.append(DocumentChange(table, key, before, after))
            history = table.history
            history.record(key, commit_ts, before)
            kept.append((history, key))
            if after is None:
                del table.documents[key]
            else:
                table.documents[key] = after
            if moved:
                _move(moved, commit_ts, kept)
        self._write_log.append(LogEntry(commit_ts, tuple(changes), source))
        if session is not None and request is not None and result is not None:
            self._sessions.remember(session, request, SessionResult(result, log_lines, commit_ts))
        record = Record(
            ts=commit_ts,
            kind=kind,
            writes=tuple(writes),
            session=session,
            request=request,
            result=result,
            log_lines=log_lines,
            source=source,
            version=version,
        )
        self._enqueue(record, kept)
        return commit_ts


def _moves(pending: PendingWrite) -> list[Move]:
    """Return where a document changes its place. In an index over none of the fields that changed, it stays."""
    old, new = pending.old, pending.new
    if old is None:
        return [] if new is None else [(index, None, index.encoder(new)) for index in pending.table.order]
    if new is None:
        return [(index, index.encoder(old), None) for index in pending.table.order]
    moves: list[Move] = []
    for index in pending.table.order:
        for name in index.top_fields:
            # The very same object is the same value; equality would not do, since 0.0 == -0.0.
            if old.get(name, undefined) is not new.get(name, undefined):
                old_key, new_key = index.encoder(old), index.encoder(new)
                if old_key != new_key:
                    moves.append((index, old_key, new_key))
                break
    return moves


def _move(moves: list[Move], commit_ts: int, kept: list[Kept]) -> None:
    for index, old_key, new_key in moves:
        if old_key is not None:
            index.keys.discard(old_key)
            index.moves.record(old_key, commit_ts, True)
            kept.append((index.moves, old_key))
        if new_key is not None:
            index.keys.add(new_key)
            index.moves.record(new_key, commit_ts, False)
            kept.append((index.moves, new_key))
