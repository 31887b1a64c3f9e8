"""The committer: validate, assign the timestamp, apply. The only writer.

Owns the applied state. Promises that a commit is valid against every commit after its snapshot, that timestamps
strictly increase, and that from the start of `commit` to its end nothing else runs: no await, no user code, no socket.
What it applied is visible to mutations at once, and to everything else when the publisher has made it durable
(`design.md` §3, §4, 3-5). Used by the database.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from reactor.engine.catalog import DOCUMENT_BYTES, Catalog, Index, document_bytes
from reactor.engine.conflicts import Conflict, find_conflict
from reactor.engine.history import History
from reactor.engine.sessions import SessionResult, SessionResults
from reactor.engine.sortedkeys import KEY_BYTES
from reactor.engine.timestamps import CommitClock
from reactor.engine.transaction import PendingWrite, Transaction
from reactor.engine.writelog import DocumentChange, LogEntry, WriteLog
from reactor.limits import (
    FIRST_USER_TABLE,
    MAX_BYTES_WRITTEN,
    MAX_CONFLICT_REPORTS,
    MAX_DOCUMENTS_WRITTEN,
    MAX_INDEXES_PER_TABLE,
)
from reactor.storage.interface import DocumentWrite, Record, RecordKind
from reactor.values.types import undefined

Kept = tuple[History[Any], bytes]  # a history, and a key it now holds something about
Move = tuple[Index, bytes | None, bytes | None]  # an index, the key a document leaves, the key it takes

# What one transaction can add at most: each byte written may stand in every index, there escaped to twice its size.
MOST_GROWTH: Final = MAX_DOCUMENTS_WRITTEN * (DOCUMENT_BYTES + KEY_BYTES * (MAX_INDEXES_PER_TABLE + 2)) + (
    MAX_BYTES_WRITTEN * (1 + 2 * (MAX_INDEXES_PER_TABLE + 2))
)


class Committer:
    """Applies transactions to the catalog, one at a time."""

    def __init__(
        self,
        catalog: Catalog,
        clock: CommitClock,
        write_log: WriteLog,
        sessions: SessionResults,
        enqueue: Callable[[Record, list[Kept]], None],
    ) -> None:
        self._catalog = catalog
        self._ample_below = catalog.data_bytes - MOST_GROWTH
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
            DataBytesExceeded: the data would outgrow its budget; nothing was written.
        """
        if not transaction.writes:
            return transaction.begin_ts
        self.validate(transaction)
        moves = [_moves(pending) for pending in transaction.writes.values()]
        catalog = self._catalog
        if catalog.bytes > self._ample_below and kind == "commit":  # what is undone was there before
            _check_room(catalog, transaction, moves)
        commit_ts = self._clock.next(transaction.last_creation_ts)
        # From here to the end nothing may raise or suspend: others must never see half a commit.
        changes: list[DocumentChange] = []
        kept: list[Kept] = []
        writes: list[DocumentWrite] = []
        growth = 0
        for pending, moved in zip(transaction.writes.values(), moves, strict=True):
            before, after = pending.before, pending.after
            if before is None and after is None:
                continue
            table, key = pending.table, pending.key
            writes.append(DocumentWrite(table.tablet, pending.id, after))
            changes.append(DocumentChange(table, key, before, after))
            history = table.history
            history.record(key, commit_ts, before)
            kept.append((history, key))
            if before is not None:
                growth -= DOCUMENT_BYTES + len(before)
            if after is None:
                del table.documents[key]
            else:
                table.documents[key] = after
                growth += DOCUMENT_BYTES + len(after)
            if moved:
                growth += _move(moved, commit_ts, kept)
        catalog.bytes += growth
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
        if new is None:
            return []
        by_id, *others = pending.table.order
        # The very same key object that the table has.
        return [(by_id, None, pending.key), *[(index, None, index.encoder(new)) for index in others]]
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


def _check_room(catalog: Catalog, transaction: Transaction, moves: list[list[Move]]) -> None:
    """Refuse a transaction that would let the data outgrow its budget.

    System documents are not refused: a push may be what makes room.
    """
    growth = 0
    for pending, moved in zip(transaction.writes.values(), moves, strict=True):
        if pending.table.number >= FIRST_USER_TABLE:
            growth += document_bytes(pending.after) - document_bytes(pending.before)
            for _, old_key, new_key in moved:
                growth += _key_bytes(new_key) - _key_bytes(old_key)
    if growth > 0:
        catalog.check_room(growth)


def _key_bytes(key: bytes | None) -> int:
    return 0 if key is None else KEY_BYTES + len(key)


def _move(moves: list[Move], commit_ts: int, kept: list[Kept]) -> int:
    """Change what the indexes hold; return by how many bytes they have grown."""
    growth = 0
    for index, old_key, new_key in moves:
        # Not from the lengths of the keys: an index that is being filled may not have the old one yet.
        growth -= index.keys.bytes
        if old_key is not None:
            index.keys.discard(old_key)
            index.moves.record(old_key, commit_ts, True)
            kept.append((index.moves, old_key))
        if new_key is not None:
            index.keys.add(new_key)
            index.moves.record(new_key, commit_ts, False)
            kept.append((index.moves, new_key))
        growth += index.keys.bytes
    return growth
