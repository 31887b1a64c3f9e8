"""The scheduler: runs scheduled functions when they are due.

Owns the life of a job after it was scheduled. Promises that a mutation takes effect exactly once, since what has become
of the job is committed together with it; that an action begins at most once, since that it runs is durable before; that
jobs begin in the order of their times, so many at a time; and that they stand in the run queue behind requests, one
step at a time. What the function itself fails with ends the job; what the system fails with puts it off. Why:
`docs/design/16-scheduled.md`. Used by `schedulers`.
"""

import logging
from collections.abc import Callable
from functools import partial

from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.errors import Error, OutcomeUnknown, Overloaded, ProtocolError, StorageError, Unavailable
from reactor.limits import MAX_JOB_BACKOFF_SECONDS, MIN_JOB_BACKOFF_SECONDS
from reactor.ports import Alarms, Clock, wall_ms
from reactor.runtime.calls import Call, Failure, Outcome, Success
from reactor.runtime.determinism import Ambient
from reactor.runtime.executor import Executor
from reactor.runtime.failures import text_for_owner
from reactor.runtime.jobs.claims import ClaimedMutation
from reactor.runtime.jobs.documents import TRANSIENT, Job, end_job, is_unfinished, job_table, put_job, read_job
from reactor.runtime.jobs.duequeue import DueQueue
from reactor.runtime.jobs.marked import MarkedAction
from reactor.runtime.jobs.retention import JobRetention
from reactor.runtime.underway import Underway
from reactor.storage import failpoints

log = logging.getLogger(__name__)

OUTAGES = (Unavailable, Overloaded, StorageError, OutcomeUnknown)  # nobody's writes are taken


class Scheduler:
    """Runs the documents of `_scheduled_functions`. A `Service` of the host."""

    def __init__(self, executor: Executor, clock: Clock, alarms: Alarms, component: str = "") -> None:
        """Run what code of one component instance has scheduled, or of the application."""
        database = executor.database
        self._table = job_table(database, component)
        self.database: Database = database
        self.due = DueQueue(
            database,
            executor.queue,
            clock,
            alarms,
            self._table.name,
            database.limits.scheduled_jobs,
            self._start,
        )
        self._executor = executor
        self._clock = clock
        self._alarms = alarms
        self._retention = JobRetention(database, executor.queue, clock, alarms, self._table)
        self._mutations = Underway()

    def start(self) -> None:
        """Begin to run what is due."""
        self.due.open()
        self._retention.open()

    def close(self) -> None:
        """Begin nothing more, until it is started again."""
        self.due.close()
        self._retention.close()

    async def stop(self) -> None:
        """Begin nothing more, and wait for the mutations that run. Actions are ended by who runs them."""
        self.close()
        await self._mutations.none()

    async def settled(self) -> None:
        """Wait until no scheduled function runs or is due, and everything is durable."""
        await self.due.settled()

    @property
    def is_settled(self) -> bool:
        """Whether no scheduled function runs or is due."""
        return self.due.is_settled

    @property
    def next_due_ns(self) -> int | None:
        """When the next scheduled function is due, in nanoseconds since the Unix epoch, or None."""
        return self.due.next_time_ns

    # One job.

    def _start(self, job_id: str) -> None:
        """Run a job that is due, as the kind its function is of."""
        try:
            job = read_job(self.database.begin_mutation(), job_id)
            if job is None or not is_unfinished(job):
                self.due.finished(job_id)
                return
            scope = self._executor.versions.latest().scopes.get(job.get("component", ""))
            function = None if scope is None else scope.registry.lookup(job["name"])
        except ProtocolError as error:
            self._fail(job_id, str(error))
            return
        except Unavailable:
            self.due.finished(job_id)  # it is closing
            return
        component = job.get("component", "")
        call = Call(job["name"], job["args"], internal=True, component=component, job=job_id, caller="Scheduler")
        if job["state"]["kind"] == "inProgress":
            self._fail(job_id, TRANSIENT)  # of a process that has died
        elif function is None:
            self._fail(job_id, f"Could not find function for '{job['name']}'.")
        elif function.kind == "mutation":
            self._mutations.begin()
            claim = JobClaim(self._clock, job_id)
            ClaimedMutation(self._executor, call, claim, partial(self._mutation_ended, job_id)).begin()
        elif function.kind == "action":
            MarkedAction(
                self._executor,
                self._alarms,
                self._clock,
                call,
                take=partial(self._mark, job_id),
                record=partial(self._record_action, job_id),
                over=partial(self.due.finished, job_id),
                outage=self.due.pause,
            ).begin()
        else:
            kind = function.kind.replace("_", " ")
            self._fail(
                job_id,
                f"Unsupported function type. {job['name']} is a {kind}. Only mutation and action can be scheduled.",
            )

    def _mutation_ended(self, job_id: str, outcome: Outcome | None, rests_on: int) -> None:
        if isinstance(outcome, Success):
            self.due.works()
            # Its place is taken only now: jobs that ran ahead of the disk would keep everybody's answers waiting.
            over = partial(self.due.finished, job_id)
            self.database.publisher.when_durable(rests_on, over, partial(self._lost, job_id))
        elif isinstance(outcome, Failure) and isinstance(outcome.error, StorageError):
            self._refused(job_id, outcome.error)  # a table could not be loaded
        elif isinstance(outcome, Failure):
            self._fail(job_id, text_for_owner(outcome, self._executor.versions))
        elif outcome is None:
            self.due.finished(job_id)
        else:
            self._refused(job_id, outcome.error)
        self._mutations.end()

    def _lost(self, job_id: str, error: Error) -> None:
        """What was committed was undone, the end of the job with it."""
        if isinstance(error, OutcomeUnknown):
            self.due.pause()
        else:
            self._put_off(job_id)
        self.due.finished(job_id)

    def _refused(self, job_id: str, error: Error) -> None:
        """The system could not run it."""
        if isinstance(error, OUTAGES):
            self.due.pause()
        else:
            log.warning("scheduled function %s is put off: %s", job_id, error)
            self._put_off(job_id)
        self.due.finished(job_id)

    def _mark(self, job_id: str, transaction: Transaction) -> bool:
        """Stage that an action runs, or return False when it is not to."""
        job = read_job(transaction, job_id)
        if job is None or job["state"]["kind"] != "pending":
            return False
        put_job(transaction, job, state={"kind": "inProgress"})
        return True

    def _record_action(self, job_id: str, transaction: Transaction, outcome: Outcome) -> None:
        """Stage what has become of an action, unless its job was cancelled meanwhile."""
        job = read_job(transaction, job_id)
        if job is None or job["state"]["kind"] != "inProgress":
            return
        now_ms = wall_ms(self._clock)
        if isinstance(outcome, Success):
            end_job(transaction, job, "success", now_ms)
            return
        text = text_for_owner(outcome, self._executor.versions) if isinstance(outcome, Failure) else TRANSIENT
        log.warning("scheduled function %s failed: %s", job["name"], text)
        end_job(transaction, job, "failed", now_ms, text)

    # Changes of a job in a transaction of their own, which nothing can come in between.

    def _fail(self, job_id: str, error: str) -> None:
        """Commit that a job has failed."""
        if failpoints.armed is not None:
            failpoints.armed("job: before recording")

        def end(transaction: Transaction, job: Job) -> None:
            log.warning("scheduled function %s failed: %s", job["name"], error)
            end_job(transaction, job, "failed", wall_ms(self._clock), error)

        ended_ts = self._change(job_id, end)
        over = partial(self.due.finished, job_id)
        self.database.publisher.when_durable(ended_ts, over, lambda lost: over())

    def _put_off(self, job_id: str) -> None:
        """Let a job wait, the longer the more often the system has failed it."""

        def put_off(transaction: Transaction, job: Job) -> None:
            failures = float(job.get("failures", 0.0))
            seconds = min(MIN_JOB_BACKOFF_SECONDS * 2.0**failures, MAX_JOB_BACKOFF_SECONDS)
            next_ms = wall_ms(self._clock) + seconds * 1000
            put_job(transaction, job, nextTime=next_ms, failures=min(failures + 1, 32.0))

        self._change(job_id, put_off)

    def _change(self, job_id: str, stage: Callable[[Transaction, Job], None]) -> int:
        """Commit a change of a job that has not ended; return what to wait for until that is durable."""
        database = self.database
        if database.publisher.refusal() is not None:
            self.due.pause()  # it stays as it is, and is looked at again
            return 0
        try:
            transaction = database.begin_mutation()
        except Unavailable:
            return 0  # closed: the next process finds it as it is
        job = read_job(transaction, job_id)
        if job is None or not is_unfinished(job):
            return 0
        stage(transaction, job)
        return database.committer.commit(transaction, source="")


class JobClaim:
    """The claim of a scheduled mutation on its job."""

    def __init__(self, clock: Clock, job_id: str) -> None:
        self._clock = clock
        self._job_id = job_id

    def take(self, transaction: Transaction) -> bool:
        """Stage that the job runs, which nobody but its function sees."""
        job = read_job(transaction, self._job_id)
        if job is None or job["state"]["kind"] != "pending":
            return False
        put_job(transaction, job, state={"kind": "inProgress"})
        return True

    def complete(self, transaction: Transaction, value: bytes, surroundings: Ambient) -> None:
        """Stage that the job has ended well."""
        job = read_job(transaction, self._job_id)
        assert job is not None, "only the scheduler removes one, when it has ended"
        end_job(transaction, job, "success", wall_ms(self._clock))
