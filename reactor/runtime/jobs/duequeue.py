"""The due queue: finds the documents of a system table whose time has come, in the order of their times.

Owns which of them run at the moment, and the alarm for the next one. The queue itself is the index over `nextTime`:
nothing is kept here for a document that only waits, so memory does not grow with their number, a restart needs no
recovery, and finding the next one is a search in the index. Nothing polls: it looks when a durable batch has moved a
key of the index, when one of the running ends, and at the time of the next one (`docs/design/16-scheduled.md`). Used by
the scheduler and the crons.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from reactor.engine.catalog import BY_NEXT_TIME, document_id, document_key
from reactor.engine.database import Database
from reactor.engine.snapshot import stands_at
from reactor.limits import MAX_OUTAGE_BACKOFF_SECONDS, MIN_JOB_BACKOFF_SECONDS
from reactor.ports import Alarms, Clock, after
from reactor.runtime.runqueue import RunQueue
from reactor.values.keys import lower_bound
from reactor.values.stored import decode_object

CHUNK: Final = 16  # keys looked at in one go; those in front may belong to what runs

_FIRST: Final = lower_bound(b"", float("-inf"), True)  # behind the documents without a time


class DueQueue:
    """Starts what is due in one table, `parallel` at a time. Belongs to the event loop."""

    def __init__(
        self,
        database: Database,
        queue: RunQueue,
        clock: Clock,
        alarms: Alarms,
        table: str,
        parallel: int,
        start: Callable[[str], None],
    ) -> None:
        """`start` is called with the id of a document as a background step; it leads to one call of `finished`."""
        self.running: set[str] = set()
        self._database = database
        self._queue = queue
        self._clock = clock
        self._alarms = alarms
        self._table = database.catalog.by_name[table]
        self._index = self._table.indexes[BY_NEXT_TIME]
        self._parallel = parallel
        self._start = start
        self._seen = -1  # the last commit that has moved a key, if the last look saw it
        self._is_open = False
        self._is_paused = False
        self._pause_seconds = MIN_JOB_BACKOFF_SECONDS
        self._cancel_alarm: Callable[[], None] = _nothing
        self._idle: list[asyncio.Future[None]] = []
        database.after_publish.append(self._published)

    def open(self) -> None:
        """Begin to start what is due, perhaps again."""
        self._is_open = True
        self._is_paused = False
        self._look()

    def close(self) -> None:
        """Start nothing more; what runs goes on."""
        self._is_open = False
        self._cancel_alarm()
        self._tell_idle()

    def finished(self, document_id: str) -> None:
        """What was started has come to its end, and its document says how; or is to be looked at again."""
        self.running.discard(document_id)
        self._look()

    def works(self) -> None:
        """A run has ended well: the next outage begins with a short pause again."""
        self._pause_seconds = MIN_JOB_BACKOFF_SECONDS

    def pause(self) -> None:
        """Start nothing for a while: the deployment takes no writes."""
        if self._is_paused or not self._is_open:
            return
        self._is_paused = True
        self._wake_at(after(self._clock, self._pause_seconds))
        self._pause_seconds = min(2 * self._pause_seconds, MAX_OUTAGE_BACKOFF_SECONDS)

    @property
    def next_time_ns(self) -> int | None:
        """When the first document that does not run yet is due, in nanoseconds since the Unix epoch, or None."""
        found = self._first()
        return None if found is None else _nanoseconds(found[1])

    def due_ids(self) -> list[str]:
        """Return the ids of what runs and of what is due."""
        now_ns = self._clock.now_ns()
        due = itertools.takewhile(lambda found: _nanoseconds(found[1]) <= now_ns, self._in_order())
        return [*self.running, *(document_id for document_id, _ in due)]

    @property
    def is_settled(self) -> bool:
        """Whether nothing runs, nothing is due, and nothing has changed that is not known to stay."""
        return not (self.running or self._has_due()) and self._index.moves.newest <= self._database.durable_ts

    async def settled(self) -> None:
        """Wait until everything committed so far is durable, nothing runs, and nothing is due."""
        database = self._database
        while True:
            await database.durable(database.applied_ts)
            self._look()
            if not self._is_open:
                return
            if not (self.running or self._has_due()):
                if self._index.moves.newest <= database.durable_ts:
                    return
                continue  # it has changed since, and what is due now may not be known yet
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    def _published(self) -> None:
        newest = self._index.moves.newest
        if newest != self._seen:
            self._look()

    def _look(self) -> None:
        """Start what is due and has room; set the alarm for what is due next."""
        newest = self._index.moves.newest
        # What is not durable yet is hidden from this look; publishing it has to lead to another one.
        self._seen = newest if newest <= self._database.durable_ts else -1
        if not self._is_open or self._is_paused:
            return
        self._cancel_alarm()
        while len(self.running) < self._parallel:
            found = self._first()
            if found is None:
                break
            document_id, time_ms = found
            when_ns = _nanoseconds(time_ms)
            if when_ns > self._clock.now_ns():
                self._wake_at(when_ns)
                break
            self.running.add(document_id)
            self._queue.background(lambda document_id=document_id: self._begin(document_id))  # type: ignore[misc]
        if not self.running:
            self._tell_idle()

    def _begin(self, document_id: str) -> None:
        if self._is_open:
            self._start(document_id)
        else:
            self.finished(document_id)

    def _first(self) -> tuple[str, float] | None:
        """Return the id and the time of the first document that does not run."""
        return next(self._in_order(), None)

    def _in_order(self) -> Iterator[tuple[str, float]]:
        """Iterate over the ids and times of the documents that do not run, as long as nothing else changes.

        One that is not durable yet hides those behind it: nothing may rest on it, and they are not to overtake it.
        Publishing it is a reason to look again.
        """
        index, durable_ts = self._index, self._database.durable_ts
        after = _FIRST
        while keys := index.keys.chunk(after, None, CHUNK):
            for key in keys:
                found_id = document_id(key)
                if found_id in self.running:
                    continue
                if not stands_at(index, key, durable_ts):
                    return
                time = decode_object(self._table.documents[document_key(key)])["nextTime"]
                assert isinstance(time, float)
                yield found_id, time
            after = keys[-1] + b"\x00"

    def _has_due(self) -> bool:
        found = self._first()
        return found is not None and _nanoseconds(found[1]) <= self._clock.now_ns()

    def _wake_at(self, when_ns: int) -> None:
        self._cancel_alarm()
        self._cancel_alarm = self._alarms.call_at(when_ns, self._wake)

    def _wake(self) -> None:
        self._is_paused = False
        self._look()

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, []
        for future in idle:
            if not future.done():
                future.set_result(None)


def _nanoseconds(time_ms: float) -> int:
    # Floats of milliseconds, and what functions compute with them, are as inexact as this; a time of now is due now.
    return int(time_ms * 1e6) - 512


def _nothing() -> None:
    """There is no alarm to take back."""
