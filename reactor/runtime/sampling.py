"""Sampling: one run in so many is repeated, to find functions whose results are not their own.

Owns which runs are sampled, their repeats, and what the developer is told. A repeat has the snapshot, the frozen clock,
the seed, the ids and the creation times of the first run; it commits nothing, uses up no id, logs nothing, and runs
behind everything else. Promises that a function of its arguments, its reads and its `ctx` alone is never reported; that
a repeat which meets a limit, a table that is not loaded or a changed schema is dropped; and that a deployment which
does not sample pays nothing. Used by the host (`docs/reference/determinism.md`).
"""

import copy
import inspect
import logging
import sys
from collections import deque
from typing import Any, Final, cast

from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.errors import (
    Error,
    FunctionTimeout,
    LimitExceeded,
    Overloaded,
    ProtocolError,
    SnapshotTooOld,
    SystemTimeout,
    Unavailable,
)
from reactor.limits import FIRST_USER_TABLE, MAX_REPEATS_WAITING, MIN_REPORT_SECONDS
from reactor.ports import Clock
from reactor.runtime.determinism import Ambient
from reactor.runtime.differences import Difference, Ended, first_difference
from reactor.runtime.executions import AttemptEnded
from reactor.runtime.invocation import RunKind
from reactor.runtime.logs import UnheardLog
from reactor.runtime.registry import RegisteredFunction
from reactor.runtime.runqueue import RunQueue, Step
from reactor.runtime.runs import OF_THE_FUNCTION, QueryAttempt, Run, Runner
from reactor.runtime.system_functions import SYSTEM_FUNCTIONS
from reactor.values.ids import INTERNAL_ID_BYTES, encode_id

log = logging.getLogger(__name__)

# What says more about the machine, or the moment, than about the function.
_OF_THE_MOMENT: Final = (
    LimitExceeded,
    FunctionTimeout,
    SystemTimeout,
    SnapshotTooOld,
    Unavailable,
    Overloaded,
    ProtocolError,
    MemoryError,
    RecursionError,
)


class Recorder:
    """The database as a sampled run sees it: the real one, which remembers what it gave to inserted documents."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.ids = self  # where a run asks for `next`
        self.given: dict[int, list[tuple[str, float]]] = {}  # by table number: ids and creation times
        self._pending = (0, "")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def next(self, table: int) -> str:
        """Return a fresh id."""
        document_id = self._database.ids.next(table)
        self._pending = table, document_id
        return document_id

    def creation_time(self, transaction: Transaction) -> float:
        """Draw the creation time that goes with the last id."""
        table, document_id = self._pending
        creation_time = self._database.creation_time(transaction)
        self.given.setdefault(table, []).append((document_id, creation_time))
        return creation_time


class Replay:
    """The database as a repeat sees it: inserted documents get what they got in the first run, table by table."""

    def __init__(self, recorder: Recorder, now_ms: float) -> None:
        self._database = recorder._database
        self.ids = self.rng = self
        self._left = {table: deque(given) for table, given in recorder.given.items()}
        self._made_up = 0
        self._creation_time = self._now_ms = now_ms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def next(self, table: int) -> str:
        """Return the next id of the first run, or one that nobody has."""
        left = self._left.get(table)
        if left:
            document_id, self._creation_time = left.popleft()
            return document_id
        self._made_up += 1
        self._creation_time = self._now_ms + self._made_up
        return encode_id(table, self._made_up.to_bytes(INTERNAL_ID_BYTES, "big"))

    def token_bytes(self, count: int) -> bytes:
        """Return zeros: a run that asks for chance which the first one never asked for differs anyway."""
        return bytes(count)

    def creation_time(self, transaction: Transaction) -> float:
        """Return the creation time that goes with the last id."""
        return self._creation_time

    def create_table(self, name: str, asked_by: Transaction | None = None) -> Any:
        """End the repeat: the first run has made every table it wrote to.

        Raises:
            AttemptEnded: always.
        """
        raise AttemptEnded(f"a repeat makes no table {name!r}")


class Behind:
    """The run queue as a repeat sees it: suspended, it goes on behind everybody else."""

    def __init__(self, queue: RunQueue) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def suspend(self, step: Step) -> None:
        """Queue the next slice."""
        self._queue.background(step)


class Sampler:
    """Takes samples of the runs of one `runner`, and reports functions that differ. Belongs to its event loop."""

    def __init__(self, runner: Runner, every: int, clock: Clock) -> None:
        """Sample each `every`-th run from now on."""
        self.every = every
        self.waiting = 0  # repeats that have not ended
        self._clock = clock
        self._reported: dict[str, object] = {}  # path of a function -> its code
        self._quiet_until = 0.0
        runner.sample_after(every, self.take)

    def take(self, run: Run) -> None:
        """Sample a run that is about to begin."""
        run.runner.sample_after(self.every, self.take)
        # A handler that is no function of the project may do as it likes: it is run once.
        if run.handler is None and run.can_be_repeated and self.waiting < MAX_REPEATS_WAITING:
            Sample(self, run)

    def report(self, function: RegisteredFunction, difference: Difference) -> None:
        """Tell the developer, once for each function until its code changes, and not many at a time."""
        code = getattr(inspect.unwrap(function.function.handler), "__code__", None)
        now = self._clock.monotonic()
        if (function.path in self._reported and self._reported[function.path] == code) or now < self._quiet_until:
            return
        self._reported[function.path] = code
        self._quiet_until = now + MIN_REPORT_SECONDS
        log.warning(
            "%s is not deterministic: run twice at the same snapshot, time and seed, it differed at %s (%s, then %s). "
            "Queries and mutations are run again at any time, so the result must follow from arguments, documents and "
            "ctx alone. Usual causes: the order of a set (sort it), a module global or cache that changes from call to "
            "call (keep it in a document), a clock that is read past ctx.now(). See docs/reference/determinism.md.",
            function.path,
            difference.path,
            difference.first,
            difference.second,
        )


class Sample:
    """One run that is to be repeated once its handler has ended."""

    def __init__(self, sampler: Sampler, run: Run) -> None:
        self._sampler = sampler
        self._run = run
        self._transaction = run.transaction
        self._recorder = Recorder(run.runner.database)
        run.database = cast(Database, self._recorder)
        run.sample = self._ended

    def _ended(self, value: bytes, error: BaseException | None) -> None:
        """Queue the repeat, if there is something to compare with; called while the snapshot is still pinned."""
        run = self._run
        run.sample = None
        run.database = run.runner.database
        # A mutation that has lost is tried again: this may be the end of another attempt than was sampled.
        if run.function is None or run.transaction is not self._transaction or not _says_something(error):
            return
        if run.function.path in SYSTEM_FUNCTIONS.functions:
            return
        self._sampler.waiting += 1
        repeat = Repeat(self._sampler, run, Ended(value, error, run.transaction), self._recorder)
        run.runner.database.retention.pin(run.transaction.begin_ts)
        run.runner.queue.background(repeat.begin)


class Repeat(QueryAttempt):
    """The second run of a function, of which nothing stays."""

    __slots__ = ("_first", "_kind", "_sampler")

    def __init__(self, sampler: Sampler, run: Run, first: Ended, recorder: Recorder) -> None:
        surroundings = run.surroundings
        super().__init__(_view(run.runner, surroundings, recorder), run.call, None, lambda ended: None)
        self._sampler = sampler
        self._first = first
        self._kind: RunKind = "query" if surroundings.kind == "query" else "mutation"
        self.version = run.version

    def begin(self) -> None:
        """Run the first slice, unless the snapshot is gone."""
        database, version = self.database, self.version
        assert version is not None
        try:
            transaction = database.begin_query(self._first.transaction.begin_ts)
        except Error:
            self._over(None)
            return
        if self._kind == "mutation":
            version.depend_on_deployment(transaction)
        self._run(self._kind, version, transaction, False)

    def finished(self, result: Any, error: BaseException | None) -> None:
        """Encode and compare, unless it would first have to wait for a table."""
        if self.transaction.needs is not None:
            self._given_back()
            self._over(None)
        else:
            super().finished(result, error)

    def _conclude(self, value: bytes, error: BaseException | None) -> None:
        self._given_back()
        if not _says_something(error) or not self._is_same_schema():
            self._over(None)
        else:
            self._over(first_difference(self._first, Ended(value, error, self.transaction)))

    def _given_back(self) -> None:
        self.database.retention.unpin(self.transaction.begin_ts)

    def _is_same_schema(self) -> bool:
        """Whether no table, index or version has come since the snapshot: a lookup by name sees the latest ones."""
        write_log, begin_ts = self.database.write_log, self._first.transaction.begin_ts
        if write_log.floor > begin_ts:
            return False
        entries = write_log.between(begin_ts, write_log.newest)
        return all(change.table.number >= FIRST_USER_TABLE for entry in entries for change in entry.changes)

    def _over(self, difference: Difference | None) -> None:
        sampler = self._sampler
        sampler.waiting -= 1
        self.database.retention.unpin(self._first.transaction.begin_ts)
        if difference is not None:
            assert self.function is not None
            sampler.report(self.function, difference)


def _view(runner: Runner, surroundings: Ambient, recorder: Recorder) -> Runner:
    """Return the runner as one repeat sees it: all of it is shared but what must leave no trace."""
    view = copy.copy(runner)
    view.queue = cast(RunQueue, Behind(runner.queue))
    view.database = cast(Database, Replay(recorder, surroundings.now_ms))
    view.sample_at = sys.maxsize
    setattr(view, "ambient", lambda kind, source: surroundings.again(UnheardLog(), source))  # noqa: B010 (it is a method)
    return view


def _says_something(error: BaseException | None) -> bool:
    """Whether what a run ended with is the function's own doing."""
    return error is None or (isinstance(error, OF_THE_FUNCTION) and not isinstance(error, _OF_THE_MOMENT))
