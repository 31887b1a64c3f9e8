"""The collector: content that no file has is deleted, a while after it became so.

Owns the candidates: content of files whose deletion has become durable, and content whose document may never have been
committed. Promises that nothing is deleted which a document names, which is on its way to one, or which anybody may
still read at an older snapshot within `file_grace_seconds`; that a deletion costs one look by key, never a search; and
that what an earlier process left behind is found by a search at the start and from time to time. Used by the host.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from reactor.engine.catalog import Table
from reactor.engine.database import Database
from reactor.engine.writelog import LogEntry
from reactor.errors import Error, StorageError
from reactor.limits import Limits
from reactor.ports import Alarms, Clock, Spawn, after
from reactor.runtime.files.documents import FileRow
from reactor.runtime.files.store import Files
from reactor.runtime.underway import Underway
from reactor.storage.interface import FoundBlob

log = logging.getLogger(__name__)

BATCH: Final = 100  # blobs that are deleted in one go
MOST_CANDIDATES: Final = 100_000  # that are remembered; what is more is found by the next search


class Candidate(NamedTuple):
    """Content that may be garbage, and when to look."""

    due_ns: int
    key: str


class Collector:
    """Deletes the content of files that are gone. A `Service`."""

    def __init__(
        self, database: Database, files: Files, alarms: Alarms, clock: Clock, limits: Limits, spawn: Spawn
    ) -> None:
        self._database = database
        self._files = files
        self._alarms = alarms
        self._clock = clock
        self._grace_seconds = limits.file_grace_seconds
        self._sweep_seconds = limits.file_sweep_seconds
        self._spawn = spawn
        self._candidates: deque[Candidate] = deque()  # in the order in which they are due
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancel_collect: Callable[[], None] | None = None
        self._cancel_sweep: Callable[[], None] = lambda: None
        self._is_stopping = False
        self._running = Underway()  # collections and searches
        self._tables: list[Table] = []  # of files, of every component instance
        self._tables_known = 0  # how many tables of all kinds there were when these were looked for

    def start(self) -> None:
        """Begin to follow the commits, and search for what is left of an earlier process."""
        self._loop = asyncio.get_running_loop()
        self._files.on_doubtful.append(self._doubt)
        self._database.on_publish.append(self._published)
        if self._files.blobs.outlives_process:
            self._begin_sweep()

    async def stop(self) -> None:
        """End. What is left is found by the next start."""
        self._is_stopping = True
        self._cancel_sweep()
        if self._cancel_collect is not None:
            self._cancel_collect()
        await self._running.none()

    # Candidates.

    def _published(self, ts: int, entries: Sequence[LogEntry]) -> None:
        """Take the content of files whose deletion is durable. A batch that changed no file costs one look."""
        known = len(self._database.catalog.by_name)
        if known != self._tables_known:
            self._tables_known, self._tables = known, self._files.tables()
        for table in self._tables:
            if not table.history.versions:
                continue
            for entry in entries:
                for change in entry.changes:
                    if change.table is table and change.before is not None and change.after is None:
                        self._add(FileRow.of(change.before).key)

    def _doubt(self, key: str) -> None:
        """Take content whose document may not have been committed. From any thread."""
        assert self._loop is not None
        with suppress(RuntimeError):  # closed meanwhile; the search at the next start finds it
            self._loop.call_soon_threadsafe(self._add, key)

    def _add(self, key: str) -> None:
        if len(self._candidates) < MOST_CANDIDATES and not self._is_stopping:
            self._candidates.append(Candidate(after(self._clock, self._grace_seconds), key))
            self._wait()

    def _wait(self) -> None:
        if self._candidates and self._cancel_collect is None and not self._is_stopping:
            self._cancel_collect = self._alarms.call_at(self._candidates[0].due_ns, self._begin_collect)

    # Collecting.

    def _begin_collect(self) -> None:
        self._begin(self._collect, "collect files")

    async def _collect(self) -> None:
        """Delete what is due and still garbage, then wait for what is due next."""
        try:
            now_ns = self._clock.now_ns()
            while self._candidates and self._candidates[0].due_ns <= now_ns and not self._is_stopping:
                due: list[str] = []
                while self._candidates and self._candidates[0].due_ns <= now_ns and len(due) < BATCH:
                    due.append(self._candidates.popleft().key)
                await self._delete(due)
        finally:
            self._cancel_collect = None
            self._wait()

    async def _delete(self, keys: Sequence[str]) -> int:
        """Delete the content among `keys` that no document names; return how much there was.

        What a document still names by a commit that is not durable is reported again when it is.
        """
        garbage = [key for key in keys if not self._files.exists(key)]
        if garbage:
            try:
                await self._files.in_thread(self._files.blobs.delete, garbage)
            except StorageError as error:
                log.warning("content of deleted files is left until the next search: %s", error)
        return len(garbage)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._running.begin()
        self._spawn(self._run(work), name=name)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        finally:
            self._running.end()

    # Searching.

    def _begin_sweep(self) -> None:
        self._begin(self._sweep, "search for lost files")

    async def _sweep(self) -> None:
        """Look at all content there is, and delete what has been garbage for long enough."""
        found = 0
        try:
            for table in self._files.tables():
                if table.unloaded is not None:
                    await self._database.loading.load(table)
            parts = self._files.blobs.list()
            while not self._is_stopping:
                part = await self._files.in_thread(lambda: next(parts, None))
                if part is None:
                    break
                old = self._old(part)
                for start in range(0, len(old), BATCH):
                    found += await self._delete(old[start : start + BATCH])
                    await asyncio.sleep(0)
        except Error as error:
            log.warning("the search for content that no file has was given up: %s", error)
        if found:
            log.info("deleted the content of %d files that were deleted, or never stored to the end", found)
        if not self._is_stopping:
            self._cancel_sweep = self._alarms.call_at(after(self._clock, self._sweep_seconds), self._begin_sweep)

    def _old(self, part: Sequence[FoundBlob]) -> list[str]:
        latest_ns = after(self._clock, -self._grace_seconds)
        return [blob.key for blob in part if blob.modified_ns <= latest_ns]
