"""The crons' runner: runs each cron when it is due.

Owns the life of one run. Promises that runs of one cron never overlap, since the next is set when one ends; that a
mutation takes effect exactly once per occurrence, since function, log and next time are one commit; that an action runs
at most once per occurrence; and that after a time in which nothing ran, what was missed is made up for by one run. Used
by the host.
"""

import logging
from functools import partial

from reactor.engine.catalog import CRON_JOBS
from reactor.engine.transaction import Transaction
from reactor.errors import Unavailable
from reactor.limits import MAX_OUTAGE_BACKOFF_SECONDS, MIN_JOB_BACKOFF_SECONDS
from reactor.ports import Alarms, Clock, Rng, after, wall_ms
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.runtime.determinism import Ambient
from reactor.runtime.executor import Executor
from reactor.runtime.failures import text_for_owner
from reactor.runtime.jobs.claims import ClaimedMutation
from reactor.runtime.jobs.crontable import PENDING, Cron, CronTable, failure, success
from reactor.runtime.jobs.documents import TRANSIENT
from reactor.runtime.jobs.duequeue import DueQueue
from reactor.runtime.jobs.marked import MarkedAction
from reactor.runtime.project import Project
from reactor.runtime.underway import Underway

log = logging.getLogger(__name__)


class CronRunner:
    """Runs the documents of `_cron_jobs`. A `Service` of the host."""

    def __init__(self, executor: Executor, clock: Clock, alarms: Alarms, rng: Rng) -> None:
        database = executor.database
        self._database = database
        self.table = CronTable(database, lambda below: int.from_bytes(rng.token_bytes(4), "big") % below)
        self.due = DueQueue(
            database, executor.queue, clock, alarms, CRON_JOBS, database.limits.scheduled_jobs, self._start
        )
        self._executor = executor
        self._clock = clock
        self._alarms = alarms
        self._refusals: dict[str, int] = {}  # by cron: how often the system has failed its run
        self._mutations = Underway()

    def start(self) -> None:
        """Begin to run what is due."""
        self.due.open()

    async def stop(self) -> None:
        """Begin nothing more, and wait for the mutations that run. Actions are ended by who runs them."""
        self.due.close()
        await self._mutations.none()

    def stage(self, transaction: Transaction, project: Project) -> None:
        """Stage the crons of a project that is being pushed."""
        self.table.stage(transaction, project.crons, wall_ms(self._clock))

    async def settled(self) -> None:
        """Wait until no cron runs or is due, and everything is durable."""
        await self.due.settled()

    @property
    def next_due_ns(self) -> int | None:
        """When the next cron is due, in nanoseconds since the Unix epoch, or None."""
        return self.due.next_time_ns

    # One run.

    def _start(self, cron_id: str) -> None:
        try:
            cron = self.table.read(self._database.begin_mutation(), cron_id)
        except Unavailable:
            self._over(cron_id)  # it is closing
            return
        if cron is None:
            self._over(cron_id)
            return
        run = CronRun(self.table, self._clock, cron)
        if cron["state"] != PENDING:
            self._end(run, TRANSIENT)  # of a process that has died
            return
        component = cron.get("component", "")
        call = Call(cron["path"], cron["args"], internal=True, component=component, caller="Cron")
        scope = self._executor.versions.latest().scopes.get(component)
        function = None if scope is None else scope.registry.functions.get(cron["path"])
        if function is not None and function.kind == "action":
            MarkedAction(
                self._executor,
                self._alarms,
                self._clock,
                call,
                take=run.mark,
                record=partial(self._record_action, run),
                over=partial(self._over, cron_id),
                outage=self.due.pause,
            ).begin()
            return
        self._mutations.begin()
        ClaimedMutation(self._executor, call, run, partial(self._ended, run)).begin()

    def _ended(self, run: "CronRun", outcome: Outcome | None, rests_on: int) -> None:
        if isinstance(outcome, Failure):
            self._end(run, text_for_owner(outcome, self._executor.versions), outcome.log_lines)
        elif isinstance(outcome, Refused):
            self._refused(run, outcome)
        else:
            if outcome is not None:
                self.due.works()
            self._over(run.id)
        self._mutations.end()

    def _refused(self, run: "CronRun", outcome: Refused) -> None:
        """The system could not run it: the whole run is repeated, after a while."""
        count = self._refusals[run.id] = self._refusals.get(run.id, -1) + 1
        log.warning("cron %s is tried again: %s", run.cron["name"], outcome.error)
        seconds = min(MIN_JOB_BACKOFF_SECONDS * 2.0 ** min(count, 32), MAX_OUTAGE_BACKOFF_SECONDS)
        self._alarms.call_at(after(self._clock, seconds), partial(self.due.finished, run.id))

    def _record_action(self, run: "CronRun", transaction: Transaction, outcome: Outcome) -> None:
        if isinstance(outcome, Success):
            run.record(transaction, success(outcome.value), outcome.log_lines)
            return
        text = text_for_owner(outcome, self._executor.versions) if isinstance(outcome, Failure) else TRANSIENT
        log.warning("cron %s failed: %s", run.cron["name"], text)
        run.record(transaction, failure(text), outcome.log_lines if isinstance(outcome, Failure) else ())

    def _end(self, run: "CronRun", text: str, log_lines: tuple[str, ...] = ()) -> None:
        """Commit that a run has failed, and when the next one is."""
        log.warning("cron %s failed: %s", run.cron["name"], text)
        if self._database.publisher.refusal() is not None:
            self.due.pause()  # it stays as it is, and is run again
        else:
            try:
                transaction = self._database.begin_mutation()
            except Unavailable:
                return  # closed: the next process finds it as it is
            run.record(transaction, failure(text), log_lines)
            self._database.committer.commit(transaction, source="")
        self._over(run.id)

    def _over(self, cron_id: str) -> None:
        self._refusals.pop(cron_id, None)
        self.due.finished(cron_id)


class CronRun:
    """One occurrence of a cron, on its way. The claim of a mutation on it."""

    def __init__(self, table: CronTable, clock: Clock, cron: Cron) -> None:
        self.cron = cron
        self.id = str(cron["_id"])
        self._table = table
        self._clock = clock
        self._began = clock.monotonic()

    def take(self, transaction: Transaction) -> bool:
        """Whether this occurrence is still to be run."""
        self._began = self._clock.monotonic()
        return self._standing(transaction) is not None

    def complete(self, transaction: Transaction, value: bytes, surroundings: Ambient) -> None:
        """Stage that the function has returned `value`."""
        self.record(transaction, success(value), surroundings.log.lines)

    def mark(self, transaction: Transaction) -> bool:
        """Stage that an action runs, or return False when it is not to."""
        cron = self._standing(transaction)
        if cron is None:
            return False
        self._table.put(transaction, cron, state={"type": "inProgress"})
        return True

    def record(self, transaction: Transaction, status: dict[str, object], log_lines: tuple[str, ...]) -> None:
        """Stage what became of this occurrence, unless a push has removed or moved it."""
        cron = self._standing(transaction)
        if cron is not None:
            seconds = self._clock.monotonic() - self._began
            self._table.advance(transaction, cron, status, log_lines, seconds, wall_ms(self._clock))

    def _standing(self, transaction: Transaction) -> Cron | None:
        cron = self._table.read(transaction, self.id)
        return cron if cron is not None and cron["nextTime"] == self.cron["nextTime"] else None
