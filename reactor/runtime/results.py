"""Results of queries: each distinct question answered once, and the answer kept while nothing it read has changed.

Owns the kept results and which of them are stale. A live query and a query that is asked once are the same thing here:
a `SharedQuery` with users. One that nobody uses any more stays within a budget, the longest unused leaving first, until
a commit touches what it read. Promises that what is handed out for a timestamp is exactly what a run there gives (but
for the clock: at most `MAX_CLOCK_AGE_SECONDS` old for who is new), that a commit between a run and its registration is
not lost, and that a result never reaches another identity than the one it was computed for, unless its run looked at
none. Used by the live queries and, through the executor, by everybody who asks once (`docs/design/10-kept-results.md`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple, final

import msgspec

from reactor.auth.identity import ANONYMOUS
from reactor.engine.database import Database
from reactor.engine.readset import ReadSet
from reactor.engine.subscriptions import Subscriptions
from reactor.engine.writelog import LogEntry
from reactor.errors import Error, Overloaded, SnapshotTooOld
from reactor.limits import MAX_CLOCK_AGE_SECONDS
from reactor.ports import Clock
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.runtime.executor import Executor
from reactor.runtime.runs import QueryRun
from reactor.values.json import decode_json, encode_json

ENTRY_BYTES = 2_000  # of one kept result, beside its value, arguments and reads
READ_BYTES = 250  # of one point or range it read, filed for finding stale ones, beside the key


class Key(NamedTuple):
    """What makes two calls the same question."""

    component: str
    path: str
    args: bytes
    internal: bool  # may reach internal functions
    identity: str | None  # None while no run has looked at who is calling
    journal: str | None


class QueryResult(msgspec.Struct, frozen=True):
    """What a query gave: `value` (wire JSON), or the `error`. `version` changes when the content does."""

    value: bytes | None
    error: Failure | None
    log_lines: tuple[str, ...]
    version: int
    journal: str | None = None


Answered = Callable[[QueryResult | None, QueryRun], None]
"""Gets what a run gave; None when it is of no use to the asker, who looks again: it was split by identity, or refused
in a way that says nothing of the query."""


@final
class SharedQuery:
    """One distinct question, with its newest answer."""

    __slots__ = (
        "alias",
        "call",
        "clock_ns",
        "is_split",
        "key",
        "previous",
        "reads",
        "result",
        "result_ts",
        "runs",
        "stale_since",
        "users",
    )

    def __init__(self, key: Key, call: Call) -> None:
        self.key = key
        self.alias: Key | None = None  # the same with the journal of before the first run, while that gives the same
        self.call = call
        self.users = 0
        self.result: QueryResult | None = None
        self.result_ts = 0
        self.stale_since: int | None = None  # from this timestamp on the result may differ
        self.clock_ns: int | None = None  # the time that the run has seen, if it looked
        self.reads: ReadSet | None = None
        self.previous: QueryResult | None = None  # what users hold from before a split
        self.runs: dict[int, list[Answered]] | None = None  # those under way, by timestamp
        self.is_split = False

    def valid_at(self, ts: int) -> bool:
        """Whether `result` is what a run at `ts` gives."""
        return self.result is not None and self.result_ts <= ts and (self.stale_since is None or ts < self.stale_since)


class ResultStats(msgspec.Struct):
    """Counters since start."""

    first_runs: int = 0
    reruns: int = 0
    rounds: int = 0
    hits: int = 0  # asked once, and answered without a run
    joined: int = 0  # asked once, while the same was being run


class Results:
    """All results that are kept, used or not."""

    def __init__(
        self,
        database: Database,
        executor: Executor,
        clock: Clock,
        seed: int,
        *,
        on_stale: Callable[[SharedQuery, int], None],
        on_split: Callable[[SharedQuery], None],
    ) -> None:
        """Keep what `executor` finds out. Told of a query in use: that it went stale, or is split by identity."""
        self._database = database
        self._executor = executor
        self._clock = clock
        self._budget = database.limits.result_cache_bytes
        self._queries: dict[Key, SharedQuery] = {}
        self._unused: dict[SharedQuery, int] = {}  # bytes of each; the longest unused first
        self.unused_bytes = 0
        self.subscriptions: Subscriptions[SharedQuery] = Subscriptions(seed)
        self._looked: dict[str, int] = {}  # path of a function that looked, in any component -> in which version
        self._reported_ts = database.durable_ts
        self._on_stale = on_stale
        self._on_split = on_split
        self.stats = ResultStats()
        database.on_publish.append(self._published)

    def __len__(self) -> int:
        """How many results nobody uses at present."""
        return len(self._unused)

    # Which query a call belongs to, and who uses it.

    def find(self, call: Call) -> SharedQuery:
        """Return the query that a new user's `call` belongs to. To be held at once."""
        path, args, version = self._canonical(call)
        identity = call.identity.key if self._looked.get(path) == version else None
        key = Key(call.component, path, args, call.internal, identity, call.journal)
        query = self._queries.get(key)
        if query is not None:
            if not self._is_dated(query):
                return query
            if not query.users:
                self._drop(query)
        query = self._queries[key] = SharedQuery(key, call)
        return query

    def home(self, query: SharedQuery) -> SharedQuery:
        """Return the query that others with the key of `query` share: mostly itself."""
        return self._queries.setdefault(query.key, query)

    def hold(self, query: SharedQuery) -> None:
        """Keep `query` for one more user."""
        if not query.users:
            self.unused_bytes -= self._unused.pop(query, 0)
        query.users += 1

    def release(self, query: SharedQuery) -> None:
        """Undo one `hold`. What the last user leaves is kept while it is right, no failure, and within the budget."""
        query.users -= 1
        if query.users:
            return
        result = query.result
        if result is None or result.error is not None or query.stale_since is not None or query.reads is None:
            self._drop(query)
            return
        if self._queries.get(query.key) is not query:  # another has taken its place
            self._drop(query)
            return
        size = self._unused[query] = _bytes_of(query, result, query.reads)
        self.unused_bytes += size
        while self.unused_bytes > self._budget:
            self._drop(next(iter(self._unused)))

    def _drop(self, query: SharedQuery) -> None:
        self.unused_bytes -= self._unused.pop(query, 0)
        self.subscriptions.unregister(query)
        self._forget_alias(query)
        if self._queries.get(query.key) is query:
            del self._queries[query.key]

    def _forget_alias(self, query: SharedQuery) -> None:
        if query.alias is not None:
            if self._queries.get(query.alias) is query:
                del self._queries[query.alias]
            query.alias = None

    def _canonical(self, call: Call) -> tuple[str, bytes, int]:
        """Return path and arguments in the one form that equal calls share, and the number of the deployed version."""
        path, args, number = call.path, bytes(call.args), 0
        try:
            version = self._executor.versions.latest()
            number = version.number
            scope = version.scopes.get(call.component)
            function = None if scope is None else scope.registry.lookup(path)
            path = path if function is None else function.path
            args = encode_json(decode_json(args))
        except Error:
            pass  # the run will say what is wrong, in terms of what was typed
        return path, args, number

    def _is_dated(self, query: SharedQuery) -> bool:
        """Whether a valid result shows a time that is too long ago for somebody new."""
        if query.clock_ns is None or query.stale_since is not None:
            return False
        return not 0 <= self._clock.now_ns() - query.clock_ns <= MAX_CLOCK_AGE_SECONDS * 1_000_000_000

    # Asking once.

    def answer(self, call: Call, ts: int | None, done: Callable[[Outcome], None], may_join: bool = True) -> None:
        """Answer a query once, at `ts` or at the durable timestamp, with the first slice of a run if it takes one.

        A failure is not kept: who asks again has it run again. Requests that wait for one run share what it gave.
        """
        at = self._database.durable_ts if ts is None else ts
        if at > self._reported_ts:
            self._executor.run_query(call, at, lambda run: done(run.outcome))
            return
        query = self.find(call)
        result = query.result if query.valid_at(at) else None
        if result is not None and result.value is not None:
            self.stats.hits += 1
            if not query.users:
                self._unused[query] = self._unused.pop(query)
            self._executor.log.add(
                call, "query", query.key.path, execution=self._executor.log.new_execution(), is_cached=True
            )
            done(Success(result.value, at, result.log_lines))
            return
        if result is not None:  # of a live query that fails
            self._executor.run_query(call, at, lambda run: done(run.outcome))
            return
        self.hold(query)
        joined = max((when for when in query.runs if when <= at), default=None) if may_join and query.runs else None
        if joined is not None:
            self.stats.joined += 1

        def answered(result: QueryResult | None, run: QueryRun) -> None:
            is_valid = joined in (None, at) or query.valid_at(self._database.durable_ts if ts is None else ts)
            self.release(query)
            outcome = run.outcome
            if result is None and not isinstance(outcome, Refused):
                self.answer(call, ts, done)  # it looked at who is calling: the one who called it finds its result kept
            elif result is None or is_valid:
                done(outcome)
            else:
                self.answer(call, ts, done, may_join=False)

        self.run(query, at if joined is None else joined, answered)

    # Runs.

    def run(self, query: SharedQuery, ts: int, answered: Answered) -> None:
        """Run `query`, which is held, at `ts`, or join the run under way there. `answered` may be called before this
        returns."""
        if query.runs is None:
            query.runs = {}
        waiting = query.runs.get(ts)
        if waiting is not None:
            waiting.append(answered)
            return
        query.runs[ts] = [answered]
        call = query.call
        if query.result is None:
            self.stats.first_runs += 1
        else:
            self.stats.reruns += 1
            if query.key.identity is None:
                call = msgspec.structs.replace(call, identity=ANONYMOUS)
        self._executor.run_query(call, ts, partial(self._ran, query, ts, call))

    def _ran(self, query: SharedQuery, ts: int, call: Call, run: QueryRun) -> None:
        assert query.runs is not None
        waiting = query.runs.pop(ts)
        if not query.runs:
            query.runs = None
        result: QueryResult | None = None
        if query.is_split:
            pass
        elif run.looked_at_identity and query.key.identity is None:
            self._split(query, ts, call, run)
        else:
            result = self._accept(query, ts, run)
        for answered in waiting:
            answered(result, run)

    def _accept(self, query: SharedQuery, ts: int, run: QueryRun) -> QueryResult | None:
        """Return what a run gave, and keep it if it is the newest; None if it gave nothing."""
        outcome, old = run.outcome, query.result or query.previous
        if isinstance(outcome, Refused):
            if isinstance(outcome.error, SnapshotTooOld | Overloaded):
                return None
            outcome = self._executor.failure(query.call, outcome.error, ts, None, ())
        journal = query.key.journal
        if isinstance(outcome, Success):
            value, error, journal = outcome.value, None, run.journal
        else:
            # Without the exception, whose traceback would keep an old version of the project alive.
            value, error = None, msgspec.structs.replace(outcome, error=None)
        result = QueryResult(value, error, outcome.log_lines, 1 if old is None else old.version + 1, journal)
        if old is not None and _same(old, result):
            result = old if old.journal == journal else msgspec.structs.replace(old, journal=journal)
        if not query.users or (query.result is not None and ts <= query.result_ts):
            return result
        if journal != query.key.journal:
            self._file_under(query, journal)
        query.result, query.result_ts, query.stale_since = result, ts, None
        query.clock_ns, query.reads, query.previous = run.clock_ns, run.reads, None
        self.subscriptions.register(query, run.reads)
        # The last look at the write log and the registration are one step: what is published later finds the
        # registration, what was published since the snapshot is found here.
        try:
            missed = self._database.write_log.first_conflict(run.reads, ts)
        except SnapshotTooOld:
            self._mark(query, ts + 1, self._reported_ts)  # more commits than are remembered: nobody knows
            return result
        if missed is not None and missed.commit_ts <= self._reported_ts:
            self._mark(query, missed.commit_ts, self._reported_ts)
        return result

    def _file_under(self, query: SharedQuery, journal: str | None) -> None:
        """Share `query`, from its next run on, with those who know where its page ends.

        Until then it is also what somebody who does not know gets. After it, a page that has grown is not.
        """
        self._forget_alias(query)
        if self._queries.get(query.key) is query:
            query.alias = query.key
        query.key = query.key._replace(journal=journal)
        query.call = msgspec.structs.replace(query.call, journal=journal)
        there = self._queries.get(query.key)
        if there is not None and not there.users:
            self._drop(there)
        self._queries.setdefault(query.key, query)

    def _split(self, query: SharedQuery, ts: int, call: Call, run: QueryRun) -> None:
        """The function has turned out to look at who is calling: the run is good for that identity only."""
        query.is_split = True
        self._drop(query)
        path, _, version = self._canonical(call)
        self._looked[path] = version
        own = self.find(msgspec.structs.replace(call, journal=query.key.journal))
        self.hold(own)
        self._accept(own, ts, run)
        self._on_split(query)
        self.release(own)

    # Staleness.

    def _published(self, ts: int, entries: Sequence[LogEntry]) -> None:
        """Mark what the newly durable commits made stale."""
        since = self._reported_ts + 1
        self._reported_ts = ts
        for query in self.subscriptions.stale(chain.from_iterable([entry.changes for entry in entries])):
            self._mark(query, since, ts)

    def _mark(self, query: SharedQuery, since: int, ts: int) -> None:
        if not query.users:
            self._drop(query)
            return
        if query.stale_since is None:
            query.stale_since = since
            self._forget_alias(query)
        self._on_stale(query, ts)


def _same(old: QueryResult, new: QueryResult) -> bool:
    """Whether a rerun gave what clients already have; the request id in an error text does not count."""
    if old.value != new.value or old.log_lines != new.log_lines:
        return False
    if old.error is None or new.error is None:
        return old.error is new.error
    return (old.error.detail, old.error.data) == (new.error.detail, new.error.data)


def _bytes_of(query: SharedQuery, result: QueryResult, reads: ReadSet) -> int:
    size = ENTRY_BYTES + len(result.value or b"") + 2 * len(query.key.args) + sum(map(len, result.log_lines))
    for keys in reads.points.values():
        size += READ_BYTES * len(keys) + sum(map(len, keys))
    for ranges in reads.ranges.values():
        size += sum([2 * READ_BYTES + len(span.start) + len(span.end or b"") for span in ranges])
    return size
