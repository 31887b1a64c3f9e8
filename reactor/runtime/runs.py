"""Runs: one function on one transaction, and the whole life of a query.

Owns what queries and mutations have in common: lookup, arguments, the execution, nested calls, the result or failure
that comes of it. Promises that every outcome is reported exactly once. Used by mutations and the executor.
"""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar, Final

import msgspec

from reactor.engine.catalog import Namespace, Table
from reactor.engine.database import Database
from reactor.engine.keyrange import EVERYTHING
from reactor.engine.readset import ReadSet
from reactor.engine.transaction import Transaction
from reactor.errors import (
    Error,
    Overloaded,
    ProtocolError,
    SnapshotTooOld,
    Unavailable,
)
from reactor.ports import Clock
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success, request_id_of
from reactor.runtime.commitgate import CommitGate
from reactor.runtime.components.targets import find_scope, find_target, handle_of
from reactor.runtime.context import make_context
from reactor.runtime.determinism import Ambient, Source
from reactor.runtime.documents import Documents
from reactor.runtime.executions import AttemptEnded, Execution, FileUrls
from reactor.runtime.failures import failure_of, text_for_owner
from reactor.runtime.files.store import Files
from reactor.runtime.functionlog import FunctionLog
from reactor.runtime.invocation import RunKind, encode_in_steps, encode_result, find_function, read_arguments
from reactor.runtime.logs import LogBuffer
from reactor.runtime.nested import call_nested, call_stale
from reactor.runtime.registry import RegisteredFunction
from reactor.runtime.rules.access import Access
from reactor.runtime.rules.ruled import RuledDocuments
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.usage import is_near_limits, warn_of_limits
from reactor.runtime.versions import Version, Versions
from reactor.values.stepwise import is_long

Done = Callable[[Outcome], None]

# What a function may end with that is its own failure: `sys.exit()`, and a task of its own that it has cancelled, too.
OF_THE_FUNCTION: Final = (Exception, SystemExit, asyncio.CancelledError)


def nothing() -> None:
    """Nobody waits for a run to end."""


def no_sample(run: "Run") -> None:
    """Nobody compares runs."""


class QueryRun(msgspec.Struct, frozen=True):
    """What one run of a query gave: its outcome, and what the outcome depends on."""

    outcome: Outcome
    reads: ReadSet
    looked_at_identity: bool
    journal: str | None = None  # where its page ended; another run with it ends there too
    clock_ns: int | None = None  # the time it saw, if it looked at the clock


class ExecutorStats(msgspec.Struct):
    """Counters since start."""

    mutations: int = 0
    queries: int = 0
    conflicts: int = 0
    exclusive: int = 0  # last attempts, which run before anybody else may
    suspensions: int = 0


class Runner:
    """What all runs share: the database, the deployed versions, the run queue, and counters."""

    def __init__(
        self, database: Database, versions: Versions, queue: RunQueue, files: Files, clock: Clock, *, redact: bool
    ) -> None:
        self.database = database
        self.versions = versions
        self.queue = queue
        self.files = files
        self.gate = CommitGate(queue, database.limits.exclusive_commit_ms / 1000)
        self.redact = redact
        self.stats = ExecutorStats()
        self.waiting = 0  # mutations that wait for room in the undurable tail
        self.begun = 0  # runs of queries, and attempts at mutations
        self.sample_at = sys.maxsize  # the next of them to be repeated
        self.take_sample: Callable[[Run], None] = no_sample
        self._clock = clock
        self.log = FunctionLog(clock, lambda: database.durable_ts, redact=redact)
        database.on_publish.append(self.log.published)

    def sample_after(self, runs: int, take: Callable[["Run"], None]) -> None:
        """Hand the last of the next so many runs to `take` when it begins."""
        self.sample_at = self.begun + runs
        self.take_sample = take

    def ambient(self, kind: RunKind, source: Source) -> Ambient:
        """Return the surroundings of one execution: frozen clock, chance of its own, empty log."""
        return Ambient(kind, self._clock.now_ns(), LogBuffer(), source=source)

    def failure(
        self, call: Call, error: BaseException, ts: int, version: Version | None, log_lines: tuple[str, ...]
    ) -> Failure:
        """Return the failure a client is told about."""
        return failure_of(
            error,
            request_id=request_id_of(call),
            ts=ts,
            log_lines=log_lines,
            files=version.project.files if version is not None else (),
            redact=self.redact,
        )

    def text_of(self, failure: Failure) -> str:
        """Return what a function has failed with, also where that is kept from clients."""
        return text_for_owner(failure, self.versions)

    def not_loaded(self, call: Call, error: Error) -> Outcome:
        """Return the outcome of a call that touched a table which can't be loaded."""
        if isinstance(error, Unavailable):
            return Refused(error)
        return self.failure(call, error, self.database.durable_ts, None, ())

    def lines(self, run: "Run") -> tuple[str, ...]:
        """Return the log lines of an execution that has ended, as a client may see them."""
        if is_near_limits(run.transaction):
            warn_of_limits(run.transaction, run.surroundings.log, run.call.path, met_rules=run.met_rules)
        return () if self.redact else run.surroundings.log.lines


class Run(ABC):
    """What a query and a mutation have in common: one function, run on one transaction at a time."""

    can_be_repeated: ClassVar[bool] = True  # by the sampler

    __slots__ = (
        "call",
        "database",
        "documents",
        "function",
        "handler",
        "looked_at_identity",
        "runner",
        "sample",
        "surroundings",
        "transaction",
        "version",
    )

    def __init__(self, runner: Runner, call: Call) -> None:
        self.runner = runner
        self.database = runner.database
        self.call = call
        self.looked_at_identity = False
        self.version: Version | None = None
        self.function: RegisteredFunction | None = None
        self.handler: RegisteredFunction | None = None  # to run instead of what the call names
        self.documents: Documents | None = None
        self.sample: Callable[[bytes, BaseException | None], None] | None = None  # told what came of it, to repeat it
        self.surroundings: Ambient
        self.transaction: Transaction

    @property
    def files(self) -> FileUrls:
        """What makes the URLs of stored files."""
        return self.runner.files

    @property
    def met_rules(self) -> bool:
        """Whether it may have met documents that its caller must not know of."""
        return self.documents is not None and self.documents.met_rules

    def look(self) -> None:
        """Note that the function looked at the identity of its caller."""
        self.looked_at_identity = True

    def call_nested(
        self, parent: Execution, kind: str, function: object, args: tuple[object, ...], named: Mapping[str, object]
    ) -> Generator[Any, Any, Any]:
        """Run another function in the same transaction."""
        return call_nested(self, parent, kind, function, args, named)

    def call_stale(
        self, parent: Execution, function: object, args: tuple[object, ...], named: Mapping[str, object]
    ) -> Generator[Any, Any, Any]:
        """Run a query on the snapshot of the transaction's begin, without depending on it."""
        return call_stale(self, parent, function, args, named)

    def function_handle(self, parent: Execution, function: object) -> str:
        """Return the handle of a function that the code of `parent` can name."""
        assert self.version is not None
        target = find_target(self.version, self.transaction, parent.documents.scope, function)
        return handle_of(self.version, target)

    @abstractmethod
    def outlasted(self) -> None:
        """An attempt that kept all others waiting goes on among them."""

    def _run(self, kind: RunKind, version: Version, transaction: Transaction, exclusive: bool) -> None:
        """Start the handler on `transaction`; ends in `finished`."""
        runner, call = self.runner, self.call
        self.version = version
        self.transaction = transaction
        runner.begun += 1
        if runner.begun >= runner.sample_at:
            runner.take_sample(self)
        root, rules = version.root, version.project.rules
        documents = self.documents = (
            Documents(self.database, transaction, root, call.journal)
            if rules is None
            else RuledDocuments(
                Access(rules, self.database, transaction, root, runner.queue, call.identity), journal=call.journal
            )
        )
        self.surroundings = runner.ambient(kind, documents)
        runner.database.retention.pin(transaction.begin_ts)
        try:
            function = self.handler or find_function(version, call, kind, transaction)
            scope = version.root if not function.component else find_scope(version, transaction, function.component)
        except Exception as error:
            self.finished(None, error)
            return
        self.function = function
        transaction.reader = function.label
        if function.component:
            documents = self.documents = Documents(self.database, transaction, scope, call.journal)
            self.surroundings.source = documents
        # The execution is not kept here: it holds this run, and a cycle would live until the next garbage collection.
        execution = Execution(runner.queue, documents, self.surroundings, self)
        if exclusive:
            runner.stats.exclusive += 1
            execution.be_exclusive(runner.database.limits.exclusive_run_ms / 1000)
        handler = function.function.handler
        is_async = function.function.is_async
        ctx = make_context(execution, kind, is_async, call.identity, self.look)
        data, tables = bytes(call.args), scope.namespace
        # Arguments are made inside the execution: a user's dataclass may look at the clock.
        execution.start(lambda: handler(ctx, **read_arguments(function, data, tables)), is_async)

    def _encode(self, result: object, error: BaseException | None) -> tuple[bytes, BaseException | None]:
        """Return the result as wire JSON, or the error; one that is no result is an error too."""
        if error is None:
            assert self.function is not None
            try:
                return encode_result(self.function, result, self._tables()), None
            except Exception as problem:
                error = problem
        return b"null", error

    def _tables(self) -> Namespace:
        """Return the tables that ids in the result may belong to."""
        assert self.documents is not None
        return self.documents.scope.namespace

    @abstractmethod
    def revalidate(self) -> None:
        """Raise when a suspended attempt should not go on."""

    @abstractmethod
    def finished(self, result: Any, error: BaseException | None) -> None:
        """Turn what the handler returned or raised into an outcome."""


class QueryAttempt(Run):
    """One run of a query at one timestamp."""

    __slots__ = ("_done", "_ts")

    def __init__(self, runner: Runner, call: Call, ts: int | None, done: Callable[[QueryRun], None]) -> None:
        super().__init__(runner, call)
        self._done = done
        self._ts = ts

    def begin(self) -> None:
        """Run the first slice."""
        runner = self.runner
        runner.stats.queries += 1
        try:
            transaction = runner.database.begin_query(self._ts)
            version = runner.versions.at(transaction.begin_ts)
        except Error as error:
            reads = ReadSet()
            reads.add_point(runner.database.deployment_index, runner.database.deployment_key)
            self._done(QueryRun(Refused(error), reads, False))
            return
        self._run("query", version, transaction, False)

    def revalidate(self) -> None:
        """Raise when the snapshot is gone, or the database is closed."""
        try:
            self.runner.database.check_open()
            self.runner.database.retention.check(self.transaction.begin_ts)
        except (Unavailable, SnapshotTooOld) as lost:
            raise AttemptEnded(str(lost)) from lost

    def outlasted(self) -> None:
        """A query keeps nobody waiting."""

    def _begin_again(self) -> None:
        ts = self.transaction.begin_ts
        self.begin()
        self.database.retention.unpin(ts)

    def _not_loaded(self, table: Table, error: Error) -> None:
        self.database.retention.unpin(self.transaction.begin_ts)
        reads = self.transaction.reads
        reads.add_range(table.by_id.id, EVERYTHING)  # once it is loaded, a commit makes the failure stale
        outcome = self.runner.not_loaded(self.call, error)
        # Dated like a look at a clock that has long gone on: nobody else is answered with it.
        looked = self.looked_at_identity or (self.documents is not None and self.documents.looked_at_identity)
        self._done(QueryRun(outcome, reads, looked, clock_ns=0))

    def finished(self, result: Any, error: BaseException | None) -> None:
        """Report what came of it."""
        table = self.transaction.needs
        if table is not None:
            queue = self.runner.queue
            self.database.loading.when_loaded(  # still pinned: it is run again at the same timestamp
                table, lambda: queue.request(self._begin_again), lambda problem: self._not_loaded(table, problem)
            )
            return
        if error is None and is_long(result):
            assert self.function is not None
            self._encode_on(encode_in_steps(self.function, result, self._tables()))
        else:
            self._conclude(*self._encode(result, error))

    def _encode_on(self, steps: Generator[None, None, bytes]) -> None:
        """Encode a long result as far as the slice goes."""
        queue = self.runner.queue
        try:
            while True:
                next(steps)
                if queue.is_due():
                    queue.suspend(lambda: self._encode_on(steps))
                    return
        except StopIteration as stop:
            value, error = stop.value, None
        except Exception as problem:
            value, error = b"null", problem
        self._conclude(value, error)

    def _conclude(self, value: bytes, error: BaseException | None) -> None:
        runner, transaction = self.runner, self.transaction
        if self.sample is not None:
            self.sample(value, error)
        runner.database.retention.unpin(transaction.begin_ts)
        outcome: Outcome
        log_lines = runner.lines(self)
        if error is None:
            outcome = Success(value, transaction.begin_ts, log_lines)
            runner.log.ran(self, "query", len(value), None, 0, log_lines)
        elif isinstance(error, SnapshotTooOld | Unavailable | Overloaded | ProtocolError):
            outcome = Refused(error)
        elif isinstance(error, OF_THE_FUNCTION):
            outcome = runner.failure(self.call, error, transaction.begin_ts, self.version, log_lines)
            runner.log.ran(self, "query", 0, runner.text_of(outcome), 0, log_lines)
        elif isinstance(error, AttemptEnded) and isinstance(error.__cause__, Error):
            outcome = Refused(error.__cause__)
        else:
            outcome = Refused(Unavailable(f"The query was stopped: {type(error).__name__}"))
        surroundings = self.surroundings
        clock_ns = surroundings.now_ns if surroundings.looked_at_clock else None
        # A failure leaves the end of the page where it was.
        journal = None if isinstance(outcome, Success) else self.call.journal
        looked, documents = self.looked_at_identity, self.documents
        if documents is not None:
            looked = looked or documents.looked_at_identity
            if documents.pager is not None:
                journal = documents.pager.journal
        self._done(QueryRun(outcome, transaction.reads, looked, journal, clock_ns))
