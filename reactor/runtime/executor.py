"""The executor: runs functions as transactions, with retry on conflict, and reports their outcome.

Owns the life of a call: lookup, arguments, one attempt after the other, result, commit, and the wait until what the
outcome rests on is durable. Promises that every outcome is reported exactly once, from the engine's thread and never
from inside `submit_…`; that a mutation sent twice under one (session, request id) takes effect once; and that a
mutation which lost to others is run again at once, the last time without yielding. Used by the live queries and the
server.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Final, Literal

import msgspec

from reactor.engine.catalog import Table
from reactor.engine.database import Database
from reactor.engine.keyrange import EVERYTHING
from reactor.engine.readset import ReadSet
from reactor.engine.transaction import Transaction
from reactor.errors import (
    ArgumentsInvalid,
    Error,
    FunctionNotFound,
    InvalidFunctionCall,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    ReturnsInvalid,
    SnapshotTooOld,
    Unavailable,
    ValidationError,
    WriteConflict,
)
from reactor.limits import MAX_RESULT_BYTES
from reactor.ports import Clock, Rng
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.runtime.context import make_context
from reactor.runtime.decorators import Function
from reactor.runtime.determinism import Ambient
from reactor.runtime.documents import Documents
from reactor.runtime.executions import AttemptEnded, Execution, run_to_end
from reactor.runtime.failures import failure_of
from reactor.runtime.logs import LogBuffer
from reactor.runtime.registry import RegisteredFunction, Registry
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.versions import Version, Versions
from reactor.values.json import decode_args, encode_json
from reactor.values.size import format_size
from reactor.values.stepwise import is_long, normalise_in_steps
from reactor.values.stored import normalise

Done = Callable[[Outcome], None]
RunKind = Literal["query", "mutation"]

# What a function may end with that is its own failure: `sys.exit()`, and a task of its own that it has cancelled, too.
OF_THE_FUNCTION: Final = (Exception, SystemExit, asyncio.CancelledError)


def _nothing() -> None:
    """Nobody waits for a run to end."""


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


class Executor:
    """Runs the functions of the deployed project."""

    def __init__(
        self, database: Database, versions: Versions, queue: RunQueue, clock: Clock, rng: Rng, *, redact: bool
    ) -> None:
        self.database = database
        self.versions = versions
        self.queue = queue
        self.redact = redact
        self.stats = ExecutorStats()
        self._clock = clock
        self._rng = rng
        self._waiting = 0
        # Answers a query from a kept result, if there is one; the results take this over.
        self.answer: Callable[[Call, int | None, Done], None] = self._answer_anew

    def submit_mutation(self, call: Call, done: Done, ran: Callable[[], None] = _nothing) -> None:
        """Run a mutation; `done` gets its outcome when everything it rests on is durable.

        `ran` is called before, when it has run to its end: what is submitted from then on sees its effect. A client's
        mutations are kept in order by this, without each waiting for the disk.
        """
        mutation = _Mutation(self, call, done, ran)
        self.queue.request(mutation.begin)

    def submit_query(self, call: Call, done: Done, ts: int | None = None) -> None:
        """Run a query once, at `ts` or at the durable timestamp."""
        self.queue.request(lambda: self.answer(call, ts, done))

    def submit_any(self, call: Call, done: Done) -> None:
        """Run a function as the kind it is registered as. For administrators."""

        def begin() -> None:
            try:
                version = self.versions.latest()
                function = version.project.registry.lookup(call.path)
            except Error as error:
                done(Refused(error))
                return
            if function is not None and function.function.kind == "mutation":
                _Mutation(self, call, done).begin()
            else:
                self.answer(call, None, done)

        self.queue.request(begin)

    def submit_handler(self, handler: Callable[..., Any], call: Call, done: Done) -> None:
        """Run a handler that is no function of the project as a mutation, under the deployed schema."""
        registry = Registry()
        registry.register("run", "handler", Function("mutation", "internal", handler), "")
        (function,) = registry.functions.values()
        self.queue.request(_Mutation(self, call, done, handler=function).begin)

    def not_loaded(self, call: Call, error: Error) -> Outcome:
        """Return the outcome of a call that touched a table which can't be loaded."""
        if isinstance(error, Unavailable):
            return Refused(error)
        return self.failure(call, error, self.database.durable_ts, None, ())

    def run_query(self, call: Call, ts: int | None, finished: Callable[[QueryRun], None]) -> None:
        """Run the first slice of a query now; `finished` may be called before this returns."""
        _Query(self, call, ts, finished).begin()

    def _answer_anew(self, call: Call, ts: int | None, done: Done) -> None:
        self.run_query(call, ts, lambda run: done(run.outcome))

    # What attempts share.

    def ambient(self, kind: RunKind) -> Ambient:
        """Return the surroundings of one execution: frozen clock, chance of its own, empty log."""
        return Ambient(kind, self._clock.now_ns(), LogBuffer(), entropy=self._rng.token_bytes)

    def find(self, version: Version, call: Call, kind: RunKind, transaction: Transaction) -> RegisteredFunction:
        """Return the function a call names, recording what the answer depends on.

        Raises:
            FunctionNotFound, InvalidFunctionCall: there is none the caller may call, or it is of another kind.
        """
        function = version.project.registry.lookup(call.path)
        if function is None or (function.function.visibility == "internal" and not call.internal):
            version.depend_on_deployment(transaction)
            raise FunctionNotFound(f"Could not find public function for '{_display(call.path)}'.")
        version.depend_on_module(transaction, function)
        if function.function.kind != kind:
            raise InvalidFunctionCall(
                f"Trying to execute {_shown(function)} as {kind.capitalize()}, "
                f"but it is defined as {function.function.kind.replace('_', ' ').title().replace(' ', '')}."
            )
        return function

    def arguments(self, function: RegisteredFunction, call: Call) -> dict[str, object]:
        """Return the keyword arguments for a handler, fresh for each attempt.

        Raises:
            ArgumentsInvalid: they are no object, too large, or not what the function declares.
        """
        try:
            args = decode_args(bytes(call.args), _shown(function))
        except ValidationError as error:
            raise ArgumentsInvalid(str(error)) from None
        validator = function.binder.args
        if not validator.accepts(args, self.database.catalog):
            try:
                validator.check(args, self.database.catalog)
            except ValidationError as error:
                raise ArgumentsInvalid(str(error)) from None
        return function.binder.bind(args)

    def encode_result(self, function: RegisteredFunction, result: object) -> bytes:
        """Return what a handler returned as wire JSON.

        Raises:
            ReturnsInvalid: it is no value, too large, or not what the function declares.
        """
        return run_to_end(self.encode_in_steps(function, result))

    def encode_in_steps(self, function: RegisteredFunction, result: object) -> Generator[None, None, bytes]:
        """Return what a handler returned as wire JSON, yielding now and then inside a long array.

        Raises:
            ReturnsInvalid: it is no value, too large, or not what the function declares.
        """
        result = function.binder.result(result)
        validator = function.binder.returns
        if validator is not None and validator.needs_coercion:
            result = validator.coerce(result)
        try:
            normal = (yield from normalise_in_steps(result)) if is_long(result) else normalise(result)
        except ValidationError as error:
            raise ReturnsInvalid(f"Function {_shown(function)} return value invalid: {error}") from None
        if validator is not None and not validator.accepts(normal.value, self.database.catalog):
            try:
                validator.check(normal.value, self.database.catalog)
            except ValidationError as error:
                raise ReturnsInvalid(str(error)) from None
        if normal.size > MAX_RESULT_BYTES:
            raise ReturnsInvalid(
                f"Function {_shown(function)} return value is too large "
                f"(actual: {format_size(normal.size)}, limit: 16 MiB)"
            )
        return encode_json(normal.value, normal.plain)

    def failure(
        self, call: Call, error: BaseException, ts: int, version: Version | None, log_lines: tuple[str, ...]
    ) -> Failure:
        """Return the failure a client is told about."""
        return failure_of(
            error,
            request_id=call.request_id,
            ts=ts,
            log_lines=log_lines,
            files=version.project.files if version is not None else (),
            redact=self.redact,
        )

    def lines(self, surroundings: Ambient) -> tuple[str, ...]:
        """Return the log lines of an execution as a client may see them."""
        return () if self.redact else surroundings.log.lines


class _Run(ABC):
    """What a query and a mutation have in common: one function, run on one transaction at a time."""

    __slots__ = (
        "call",
        "documents",
        "execution",
        "executor",
        "function",
        "looked_at_identity",
        "surroundings",
        "transaction",
        "version",
    )

    def __init__(self, executor: Executor, call: Call) -> None:
        self.executor = executor
        self.call = call
        self.looked_at_identity = False
        self.version: Version | None = None
        self.function: RegisteredFunction | None = None
        self.execution: Execution | None = None
        self.surroundings: Ambient
        self.transaction: Transaction

    def _look(self) -> None:
        self.looked_at_identity = True

    def _run(self, kind: RunKind, version: Version, transaction: Transaction, exclusive: bool) -> None:
        """Start the handler on `transaction`; ends in `_finished`."""
        executor, call = self.executor, self.call
        self.version = version
        self.transaction = transaction
        self.surroundings = executor.ambient(kind)
        executor.database.retention.pin(transaction.begin_ts)
        try:
            function = self._find(version, kind)
            self.function = function
            kwargs = executor.arguments(function, call)
        except Exception as error:  # also what a user's dataclass raises when it is built from an argument
            self._finished(None, error)
            return
        documents = Documents(executor.database, transaction, version.project.schema)
        execution = Execution(executor.queue, documents, self.surroundings, self._finished, self._revalidate)
        if exclusive:
            executor.stats.exclusive += 1
            execution.be_exclusive(executor.database.limits.exclusive_run_ms / 1000)
        self.execution = execution
        handler = function.function.handler
        is_async = function.function.is_async
        ctx = make_context(execution, kind, is_async, call.identity, self._look)
        execution.start(lambda: handler(ctx, **kwargs), is_async)

    def _find(self, version: Version, kind: RunKind) -> RegisteredFunction:
        return self.executor.find(version, self.call, kind, self.transaction)

    def _encode(self, result: object, error: BaseException | None) -> tuple[bytes, BaseException | None]:
        """Return the result as wire JSON, or the error; one that is no result is an error too."""
        if error is None:
            assert self.function is not None
            try:
                return self.executor.encode_result(self.function, result), None
            except Exception as problem:
                error = problem
        return b"null", error

    @abstractmethod
    def _revalidate(self) -> None:
        """Raise when a suspended attempt should not go on."""

    @abstractmethod
    def _finished(self, result: Any, error: BaseException | None) -> None:
        """Turn what the handler returned or raised into an outcome."""


class _Query(_Run):
    """One run of a query at one timestamp."""

    __slots__ = ("_done", "_ts")

    def __init__(self, executor: Executor, call: Call, ts: int | None, done: Callable[[QueryRun], None]) -> None:
        super().__init__(executor, call)
        self._done = done
        self._ts = ts

    def begin(self) -> None:
        """Run the first slice."""
        executor = self.executor
        executor.stats.queries += 1
        try:
            transaction = executor.database.begin_query(self._ts)
            version = executor.versions.at(transaction.begin_ts)
        except Error as error:
            reads = ReadSet()
            reads.add_point(executor.database.deployment_index, executor.database.deployment_key)
            self._done(QueryRun(Refused(error), reads, False))
            return
        self._run("query", version, transaction, False)

    def _revalidate(self) -> None:
        try:
            self.executor.database.check_open()
            self.executor.database.retention.check(self.transaction.begin_ts)
        except (Unavailable, SnapshotTooOld) as lost:
            raise AttemptEnded(str(lost)) from lost

    def _begin_again(self) -> None:
        ts = self.transaction.begin_ts
        self.begin()
        self.executor.database.retention.unpin(ts)

    def _not_loaded(self, table: Table, error: Error) -> None:
        self.executor.database.retention.unpin(self.transaction.begin_ts)
        reads = self.transaction.reads
        reads.add_range(table.by_id.id, EVERYTHING)  # once it is loaded, a commit makes the failure stale
        outcome = self.executor.not_loaded(self.call, error)
        # Dated like a look at a clock that has long gone on: nobody else is answered with it.
        self._done(QueryRun(outcome, reads, self.looked_at_identity, clock_ns=0))

    def _finished(self, result: Any, error: BaseException | None) -> None:
        table = self.transaction.needs
        if table is not None:
            queue = self.executor.queue
            self.executor.database.loading.when_loaded(  # still pinned: it is run again at the same timestamp
                table, lambda: queue.request(self._begin_again), lambda problem: self._not_loaded(table, problem)
            )
            return
        if error is None and is_long(result):
            assert self.function is not None
            self._encode_on(self.executor.encode_in_steps(self.function, result))
        else:
            self._conclude(*self._encode(result, error))

    def _encode_on(self, steps: Generator[None, None, bytes]) -> None:
        """Encode a long result as far as the slice goes."""
        queue = self.executor.queue
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
        executor, transaction = self.executor, self.transaction
        executor.database.retention.unpin(transaction.begin_ts)
        outcome: Outcome
        log_lines = executor.lines(self.surroundings)
        if error is None:
            outcome = Success(value, transaction.begin_ts, log_lines)
        elif isinstance(error, SnapshotTooOld | Unavailable | Overloaded | ProtocolError):
            outcome = Refused(error)
        elif isinstance(error, OF_THE_FUNCTION):
            outcome = executor.failure(self.call, error, transaction.begin_ts, self.version, log_lines)
        elif isinstance(error, AttemptEnded) and isinstance(error.__cause__, Error):
            outcome = Refused(error.__cause__)
        else:
            outcome = Refused(Unavailable(f"The query was stopped: {type(error).__name__}"))
        surroundings = self.surroundings
        clock_ns = surroundings.now_ns if surroundings.looked_at_clock else None
        self._done(QueryRun(outcome, transaction.reads, self.looked_at_identity, clock_ns=clock_ns))


class _Mutation(_Run):
    """One mutation, attempt after attempt."""

    __slots__ = ("_attempt", "_done", "_handler", "_ran")

    def __init__(
        self,
        executor: Executor,
        call: Call,
        done: Done,
        ran: Callable[[], None] = _nothing,
        handler: RegisteredFunction | None = None,
    ) -> None:
        super().__init__(executor, call)
        self._handler = handler
        self._done = done
        self._ran = ran
        self._attempt = 0

    def _find(self, version: Version, kind: RunKind) -> RegisteredFunction:
        return self._handler or super()._find(version, kind)

    def begin(self) -> None:
        """Run the first slice of the first attempt, or wait while the disk is too far behind."""
        executor = self.executor
        publisher = executor.database.publisher
        executor.stats.mutations += 1
        if publisher.is_full:
            if executor._waiting >= executor.database.limits.tail_commits:
                self._refuse(
                    Overloaded(
                        "CommitterFullError",
                        "Too many concurrent commits in a short period of time. "
                        "Spread your writes out over time or throttle them to avoid errors.",
                    )
                )
                return
            self._wait_for_room()
            return
        self._next_attempt()

    def _wait_for_room(self) -> None:
        self.executor._waiting += 1
        self.executor.database.publisher.when_room(lambda: self.executor.queue.request(self._begin_later))

    def _begin_later(self) -> None:
        executor = self.executor
        executor._waiting -= 1
        if executor.database.publisher.is_full:  # taken by those who waited longer; nobody who came later is before us
            self._wait_for_room()
            return
        self._next_attempt()

    def _next_attempt(self) -> None:
        executor, call = self.executor, self.call
        database = executor.database
        try:
            refusal = database.publisher.refusal()
            if refusal is not None:
                raise refusal
            known = database.known_result(call.session, call.request)
            if known is not None:
                self._answer(Success(known.value, known.commit_ts, known.log_lines), known.commit_ts)
                return
            transaction = database.begin_mutation()
            version = executor.versions.latest()
        except Error as error:
            self._refuse(error)
            return
        self._attempt += 1
        version.depend_on_deployment(transaction)
        self._run("mutation", version, transaction, self._attempt >= database.limits.max_commit_attempts)

    def _revalidate(self) -> None:
        """Stop an attempt as soon as it can't win any more.

        Raises:
            AttemptEnded: a commit since its snapshot changed what it has read, or the database was closed.
        """
        self.executor.stats.suspensions += 1
        try:
            self.executor.database.check_open()
            self.executor.database.retention.check(self.transaction.begin_ts)
            self.executor.database.committer.validate(self.transaction)
        except (Unavailable, WriteConflict, SnapshotTooOld) as lost:
            raise AttemptEnded(str(lost)) from lost

    def _finished(self, result: Any, error: BaseException | None) -> None:
        executor, transaction, call = self.executor, self.transaction, self.call
        database = executor.database
        database.retention.unpin(transaction.begin_ts)
        if transaction.needs is not None:
            self._attempt -= 1
            database.loading.when_loaded(
                transaction.needs, lambda: executor.queue.request(self._next_attempt), self._not_loaded
            )
            return
        log_lines = executor.lines(self.surroundings)
        value, error = self._encode(result, error)
        try:
            known = database.known_result(call.session, call.request)
            if known is None and error is None:
                assert self.function is not None
                assert self.version is not None
                database.check_open()
                commit_ts = database.committer.commit(
                    transaction,
                    source=self.function.path,
                    version=self.version.number,
                    session=call.session,
                    request=call.request,
                    result=value,
                    log_lines=log_lines,
                )
        except (WriteConflict, SnapshotTooOld) as conflict:
            self._lost(conflict)
            return
        except OutcomeUnknown as forgotten:
            self._refuse(forgotten)
            return
        except Error as problem:
            known, error = None, problem
        if known is not None:  # the same request, sent twice, overtook itself while this one was suspended
            self._answer(Success(known.value, known.commit_ts, known.log_lines), known.commit_ts)
        elif error is None:
            self._answer(Success(value, commit_ts, log_lines), commit_ts)
        elif isinstance(error, AttemptEnded):
            self._lost(error.__cause__ if isinstance(error.__cause__, Error) else WriteConflict(str(error)))
        elif isinstance(error, SnapshotTooOld):
            self._lost(error)
        elif isinstance(error, Unavailable | ProtocolError) or not isinstance(error, OF_THE_FUNCTION):
            self._refuse(error if isinstance(error, Error) else Unavailable(f"Stopped: {type(error).__name__}"))
        else:
            failure = executor.failure(call, error, transaction.begin_ts, self.version, log_lines)
            self._answer(failure, transaction.begin_ts)

    def _not_loaded(self, error: Error) -> None:
        outcome = self.executor.not_loaded(self.call, error)
        if isinstance(outcome, Refused):
            self._refuse(outcome.error)
        else:
            self._answer(outcome, self.transaction.begin_ts)

    def _lost(self, conflict: Error) -> None:
        """Run again at once: the winner is already visible."""
        executor = self.executor
        executor.stats.conflicts += 1
        if self._attempt >= executor.database.limits.max_commit_attempts:
            self._refuse(conflict)
            return
        executor.queue.request(self._next_attempt)

    def _refuse(self, error: Error) -> None:
        """Report that the system can't answer. Nothing was committed, so there is nothing to wait for.

        The outcome goes first: it closes a client's connection, and what it sent later must not overtake this.
        """
        self._done(Refused(error))
        self._ran()

    def _answer(self, outcome: Outcome, rests_on: int) -> None:
        """Report the outcome once everything it saw and did is durable."""
        self._ran()
        done = self._done
        self.executor.database.publisher.when_durable(
            rests_on, lambda: done(outcome), lambda unknown: done(Refused(unknown))
        )


def _shown(function: RegisteredFunction) -> str:
    """Return the path of a function as official texts have it: `messages.js:send`."""
    module, _, name = function.path.rpartition(":")
    return f"{module}.js:{name}"


def _display(path: str) -> str:
    return path.removesuffix(":default").replace(".js:", ":").removesuffix(".js")
