"""How long a scheduled function stays to be looked at after it has ended.

Owns the removal of finished jobs, found by an index over the time at which they ended, in small commits behind
everything else. Used by the scheduler.
"""

from collections.abc import Callable
from typing import Final

from reactor.engine.catalog import BY_COMPLETED_TIME, Table, document_id, document_key
from reactor.engine.database import Database
from reactor.engine.systemdocs import put_system, read_system
from reactor.errors import Unavailable
from reactor.limits import RETENTION_BATCH_DOCUMENTS, RETENTION_REST_SECONDS, RETENTION_STEP_DOCUMENTS
from reactor.ports import Alarms, Clock, after, wall_ms
from reactor.runtime.runqueue import RunQueue
from reactor.values.keys import lower_bound
from reactor.values.stored import decode_object

DAY_MS: Final = 86_400_000.0
_FIRST: Final = lower_bound(b"", float("-inf"), True)  # behind the documents that have not ended


class JobRetention:
    """Removes finished jobs in time. Belongs to the event loop."""

    def __init__(self, database: Database, queue: RunQueue, clock: Clock, alarms: Alarms, table: Table) -> None:
        self._database = database
        self._queue = queue
        self._clock = clock
        self._alarms = alarms
        self._table = table
        self._index = self._table.indexes[BY_COMPLETED_TIME]
        self._keep_ms = database.limits.scheduled_result_days * DAY_MS
        self._is_open = False
        self._seen = -1  # the last commit that had moved a key when it was last looked at
        self._is_waiting = False  # for an alarm, or for its turn
        self._removed = 0  # since the last rest
        self._cancel: Callable[[], None] | None = None
        database.after_publish.append(self._look)

    def open(self) -> None:
        """Begin to remove what has stayed long enough, perhaps again."""
        self._is_open = True
        self._is_waiting = False
        self._seen = -1
        self._look()

    def close(self) -> None:
        """Remove nothing more."""
        self._is_open = False
        if self._cancel is not None:
            self._cancel()

    def _look(self) -> None:
        """Wait for the time of the oldest, if there is one."""
        newest = self._index.moves.newest
        if not self._is_open or self._is_waiting or newest == self._seen:
            return
        self._seen = newest
        keys = self._index.keys.chunk(_FIRST, None, 1)
        if keys:
            job = decode_object(self._table.documents[document_key(keys[0])])
            completed_ms = job["completedTime"]
            assert isinstance(completed_ms, float)
            self._wait_until(int((completed_ms + self._keep_ms + 1) * 1e6))

    def _wait_until(self, when_ns: int) -> None:
        self._is_waiting = True
        self._cancel = self._alarms.call_at(when_ns, lambda: self._queue.background(self._step))

    def _step(self) -> None:
        """Remove some, in one commit."""
        if not self._is_open:
            return
        database = self._database
        self._is_waiting = False
        end = lower_bound(b"", wall_ms(self._clock) - self._keep_ms, False)
        keys = self._index.keys.chunk(_FIRST, end, RETENTION_STEP_DOCUMENTS)
        if database.publisher.refusal() is not None:
            self._wait_until(after(self._clock, RETENTION_REST_SECONDS))
            return
        try:
            transaction = database.begin_mutation()
        except Unavailable:
            return
        for key in keys:
            job = read_system(transaction, self._table, document_id(key))
            if job is not None:
                put_system(transaction, self._table, job, None)
        database.committer.commit(transaction, source="")
        self._removed += len(keys)
        if len(keys) < RETENTION_STEP_DOCUMENTS:
            self._removed = 0
            self._seen = -1
            self._look()
        elif self._removed < RETENTION_BATCH_DOCUMENTS:
            self._is_waiting = True
            self._queue.background(self._step)
        else:
            self._removed = 0
            self._wait_until(after(self._clock, RETENTION_REST_SECONDS))
