"""Live queries: each distinct one computed once, its result shared by everybody who subscribed.

Owns the results, which of them are stale, and the rounds in which stale ones are rerun. Promises that a result is
exactly what a fresh run at its timestamp gives; that a commit between a run and its registration is not lost; that a
result computed for one identity never reaches another unless the run looked at none; and that all handles of one
observer are at one timestamp when `settled` is called. Used by the sessions of the server (`design.md` §4, 11 and 12).

A round reruns, at one fixed snapshot, whatever was stale when it began. Commits that are published meanwhile belong to
the next round, so a stream of commits can delay nobody for ever.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from reactor.engine.database import Database
from reactor.engine.subscriptions import Subscriptions
from reactor.engine.writelog import LogEntry
from reactor.errors import Error, SnapshotTooOld
from reactor.runtime.calls import ANONYMOUS, Call, Failure, Refused, Success
from reactor.runtime.executor import Executor, QueryRun
from reactor.runtime.runqueue import RunQueue
from reactor.values.json import decode_json, encode_json

Key = tuple[str, bytes, bool, str | None]  # path, canonical arguments, may reach internal functions, identity


class QueryResult(msgspec.Struct, frozen=True):
    """What a live query gave: `value` (wire JSON), or the `error`. `version` changes when the content does."""

    value: bytes | None
    error: Failure | None
    log_lines: tuple[str, ...]
    version: int
    journal: str | None = None


class Observer(Protocol):
    """Who subscribes: one client connection, or one in-process subscription."""

    def settled(self, ts: int) -> None:
        """All results of this observer are those of timestamp `ts`; called with `ts` never decreasing."""


class LiveHandle:
    """One subscription of one observer."""

    __slots__ = ("call", "observer", "query")

    def __init__(self, observer: Observer, call: Call, query: "LiveQuery") -> None:
        self.observer = observer
        self.call = call
        self.query = query

    @property
    def result(self) -> QueryResult | None:
        """The newest result, or None before the first run ended."""
        return self.query.result

    def valid_at(self, ts: int) -> bool:
        """Whether `result` is what a run at `ts` gives."""
        return self.query.valid_at(ts)


class LiveQuery:
    """One distinct (function, arguments, identity if the function looks at it), with its newest result."""

    __slots__ = ("call", "handles", "is_running", "key", "result", "result_ts", "stale_since")

    def __init__(self, key: Key, call: Call) -> None:
        self.key = key
        self.call = call
        self.handles: dict[LiveHandle, None] = {}
        self.result: QueryResult | None = None
        self.result_ts = 0
        self.stale_since: int | None = None  # from this timestamp on the result may differ
        self.is_running = False

    def valid_at(self, ts: int) -> bool:
        """Whether `result` is what a run at `ts` gives."""
        return self.result is not None and self.result_ts <= ts and (self.stale_since is None or ts < self.stale_since)


class LiveStats(msgspec.Struct):
    """Counters since start."""

    first_runs: int = 0
    reruns: int = 0
    rounds: int = 0


class LiveQueries:
    """All live queries of the deployment."""

    def __init__(self, database: Database, executor: Executor, queue: RunQueue, seed: int) -> None:
        self._database = database
        self._executor = executor
        self._queue = queue
        self._queries: dict[Key, LiveQuery] = {}
        self._subscriptions: Subscriptions[LiveQuery] = Subscriptions(seed)
        self._by_identity: set[str] = set()  # paths of functions that have looked at the identity
        self._stale: dict[LiveQuery, None] = {}
        self._wanting: dict[Observer, int] = {}  # observer -> earliest timestamp it wants to settle at
        self._handles: dict[Observer, dict[LiveHandle, None]] = {}
        self._settled_ts: dict[Observer, int] = {}
        self._reported_ts = database.durable_ts
        self._round_ts: int | None = None
        self._left_in_round = 0
        self._is_kicked = False
        self.stats = LiveStats()
        database.on_publish = self._published

    def __len__(self) -> int:
        return len(self._queries)

    @property
    def visited(self) -> int:
        """How many interval tree nodes commits have looked at so far."""
        return self._subscriptions.visited

    def subscribe(self, call: Call, observer: Observer, journal: str | None = None) -> LiveHandle:
        """Keep the result of `call` up to date for `observer`, and settle it as soon as there is one.

        `journal` is what a client kept from an earlier connection; this version has no paginated queries, so it is
        accepted and not used.
        """
        query = self._query_for(call)
        handle = LiveHandle(observer, call, query)
        query.handles[handle] = None
        self._handles.setdefault(observer, {})[handle] = None
        self.request_settle(observer)
        return handle

    def unsubscribe(self, handle: LiveHandle) -> None:
        """End one subscription; a live query that nobody is left for is forgotten."""
        handles = self._handles.get(handle.observer)
        if handles is None or handle not in handles:
            return
        del handles[handle]
        if not handles:
            del self._handles[handle.observer]
        self._leave(handle.query, handle)

    def forget(self, observer: Observer) -> None:
        """End everything of an observer that is gone."""
        for handle in self._handles.pop(observer, {}):
            self._leave(handle.query, handle)
        self._wanting.pop(observer, None)
        self._settled_ts.pop(observer, None)

    def request_settle(self, observer: Observer) -> None:
        """Call `observer.settled` once, soon, at a timestamp not before the durable one of now."""
        self._wanting[observer] = self._database.durable_ts
        self._kick()

    # From commits to reruns.

    def _published(self, ts: int, entries: Sequence[LogEntry]) -> None:
        """Mark what the newly durable commits made stale, and begin a round."""
        since = self._reported_ts + 1
        self._reported_ts = ts
        for entry in entries:
            for query in self._subscriptions.stale(entry.changes):
                self._mark(query, since)
        if self._stale:
            self._kick()

    def _mark(self, query: LiveQuery, since: int) -> None:
        if query.stale_since is None:
            query.stale_since = since
        self._stale[query] = None
        for handle in query.handles:
            self._wanting.setdefault(handle.observer, 0)

    def _kick(self) -> None:
        """See to it that a round begins, in a step of its own."""
        if self._round_ts is None and not self._is_kicked:
            self._is_kicked = True
            self._queue.request(self._begin_round)

    def _begin_round(self) -> None:
        self._is_kicked = False
        if self._round_ts is not None:
            return
        ts = self._round_ts = self._database.durable_ts
        self.stats.rounds += 1
        self._database.retention.pin(ts)
        due = [query for query in self._stale if not query.is_running]
        self._stale.clear()
        self._left_in_round = len(due) + 1
        for query in due:
            self._start_in_round(query, ts)
        self._one_less()

    def _start_in_round(self, query: LiveQuery, ts: int) -> None:
        query.is_running = True

        def step() -> None:
            if query.handles:
                self._run(query, ts)
            else:
                query.is_running = False
                self._one_less()

        # Somebody is waiting for a first result in person; a rerun comes after all requests.
        if query.result is None:
            self._queue.request(step)
        else:
            self._queue.background(step)

    def _run(self, query: LiveQuery, ts: int) -> None:
        shared = query.key[3] is None
        call = query.call
        if query.result is None:
            self.stats.first_runs += 1
        else:
            self.stats.reruns += 1
            if shared:
                call = msgspec.structs.replace(call, identity=ANONYMOUS)
        self._executor.run_query(call, ts, lambda run: self._ran(query, ts, call, run))

    def _ran(self, query: LiveQuery, ts: int, call: Call, run: QueryRun) -> None:
        query.is_running = False
        if query.handles:
            if run.looked_at_identity and query.key[3] is None:
                self._split(query)
            else:
                self._accept(query, ts, run)
        self._one_less()

    def _accept(self, query: LiveQuery, ts: int, run: QueryRun) -> None:
        outcome, old = run.outcome, query.result
        if isinstance(outcome, Refused):
            if isinstance(outcome.error, SnapshotTooOld):
                self._mark(query, query.stale_since or ts)  # again, at a newer timestamp
                return
            outcome = self._executor.failure(query.call, outcome.error, ts, None, ())
        if isinstance(outcome, Success):
            value, error = outcome.value, None
        else:
            # Without the exception, whose traceback would keep an old version of the project alive.
            value, error = None, msgspec.structs.replace(outcome, error=None)
        if old is None or not _same(old, value, error, outcome.log_lines):
            query.result = QueryResult(value, error, outcome.log_lines, 1 if old is None else old.version + 1)
        query.result_ts = ts
        query.stale_since = None
        self._subscriptions.register(query, run.reads)
        # The last look at the write log and the registration are one step: what is published later finds the
        # registration, what was published since the snapshot is found here.
        try:
            missed = self._database.write_log.first_conflict(run.reads, ts)
        except SnapshotTooOld:
            self._mark(query, ts + 1)  # more commits than are remembered: nobody knows
            return
        if missed is not None and missed.commit_ts <= self._reported_ts:
            self._mark(query, missed.commit_ts)
        else:
            self._stale.pop(query, None)  # what made it stale meanwhile was no longer read by this run

    def _one_less(self) -> None:
        self._left_in_round -= 1
        if self._left_in_round == 0:
            self._end_round()

    def _end_round(self) -> None:
        ts = self._round_ts
        assert ts is not None
        self._database.retention.unpin(ts)
        self._round_ts = None
        for observer, earliest in list(self._wanting.items()):
            # An observer that was settled before this one may have ended it.
            if observer in self._wanting and earliest <= ts and self._can_settle(observer, ts):
                del self._wanting[observer]
                self._settled_ts[observer] = ts
                observer.settled(ts)
        if self._stale or any(earliest > ts for earliest in self._wanting.values()):
            self._kick()

    def _can_settle(self, observer: Observer, ts: int) -> bool:
        return self._settled_ts.get(observer, 0) <= ts and all(
            handle.query.valid_at(ts) for handle in self._handles.get(observer, ())
        )

    # Which query a call belongs to.

    def _query_for(self, call: Call) -> LiveQuery:
        path, args, internal = self._shared_key(call)
        identity = call.identity.key if path in self._by_identity else None
        key = (path, args, internal, identity)
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = LiveQuery(key, call)
            self._stale[query] = None
        return query

    def _shared_key(self, call: Call) -> tuple[str, bytes, bool]:
        path, args = call.path, bytes(call.args)
        try:
            function = self._executor.versions.latest().project.registry.lookup(path)
            path = path if function is None else function.path
            args = encode_json(decode_json(args))
        except Error:
            pass  # the run will say what is wrong, in terms of what was typed
        return path, args, call.internal

    def _split(self, query: LiveQuery) -> None:
        """The function has turned out to look at the identity: discard the run, and give each identity its own."""
        self._by_identity.add(query.key[0])
        handles = list(query.handles)
        for handle in handles:
            self._leave(query, handle)
        for handle in handles:
            handle.query = self._query_for(handle.call)
            handle.query.handles[handle] = None
            self._wanting.setdefault(handle.observer, 0)

    def _leave(self, query: LiveQuery, handle: LiveHandle) -> None:
        query.handles.pop(handle, None)
        if not query.handles:
            self._subscriptions.unregister(query)
            self._stale.pop(query, None)
            if self._queries.get(query.key) is query:
                del self._queries[query.key]


def _same(old: QueryResult, value: bytes | None, error: Failure | None, log_lines: Iterable[str]) -> bool:
    """Whether a rerun gave what clients already have; the request id in an error text does not count."""
    if old.value != value or old.log_lines != tuple(log_lines) or (old.error is None) != (error is None):
        return False
    return old.error is None or error is None or (old.error.detail, old.error.data) == (error.detail, error.data)
