"""Actions that the system runs for one of its own documents: a scheduled function, a cron.

Owns the three steps of such a run: a transaction marks the document, and is durable; then the action runs; another
transaction records what has come of it, tried until it is durable. A document found marked that nobody runs belongs to
a process that has died: its action may have run, so it is not run again. Promises that an action begins at most once
and that `over` is called exactly once. Why: `docs/design/16-scheduled.md`. Used by the scheduler and the crons.
"""

from collections.abc import Callable

from reactor.engine.transaction import Transaction
from reactor.errors import Error, Unavailable
from reactor.limits import MIN_JOB_BACKOFF_SECONDS
from reactor.ports import Alarms, Clock, after
from reactor.runtime.calls import Call, Failure, Outcome, Success
from reactor.runtime.executor import Executor
from reactor.runtime.logs import log_unheard
from reactor.runtime.references import author_path
from reactor.storage import failpoints


class MarkedAction:
    """One run of one action."""

    def __init__(
        self,
        executor: Executor,
        alarms: Alarms,
        clock: Clock,
        call: Call,
        *,
        take: Callable[[Transaction], bool],
        record: Callable[[Transaction, Outcome], None],
        over: Callable[[], None],
        outage: Callable[[], None],
    ) -> None:
        """Prepare a run.

        Args:
            executor: runs the action.
            alarms: for trying again to record what has come of it.
            clock: for the same.
            call: the action.
            take: stages the mark, or returns False when it is not to run.
            record: stages what has come of it, if the document still is what it was.
            over: called at the end.
            outage: called when the deployment takes no writes, before `over`.
        """
        self._executor = executor
        self._database = executor.database
        self._alarms = alarms
        self._clock = clock
        self._call = call
        self._take = take
        self._record = record
        self._over = over
        self._outage = outage

    def begin(self) -> None:
        """Mark the document, and run the action when that is durable."""
        if failpoints.armed is not None:
            failpoints.armed("action: before the mark")
        database = self._database
        try:
            refusal = database.publisher.refusal()
            if refusal is not None:
                raise refusal
            transaction = database.begin_mutation()
        except Error as error:
            self._not_marked(error)
            return
        if not self._take(transaction):
            self._over()
            return
        marked_ts = database.committer.commit(transaction, source="")
        database.publisher.when_durable(marked_ts, self._marked, self._not_marked)

    def _not_marked(self, error: Error) -> None:
        self._outage()
        self._over()

    def _marked(self) -> None:
        if failpoints.armed is not None:
            failpoints.armed("action: marked")
        self._executor.submit_action(self._call, self._ended, is_patient=True)

    def _ended(self, outcome: Outcome) -> None:
        if failpoints.armed is not None:
            failpoints.armed("action: ended")
        if isinstance(outcome, Success | Failure) and outcome.log_lines:
            log_unheard(author_path(self._call.path), outcome.log_lines)
        self._write_down(outcome)

    def _write_down(self, outcome: Outcome) -> None:
        database = self._database
        try:
            if database.publisher.refusal() is not None:
                self._later(outcome)
                return
            transaction = database.begin_mutation()
        except Unavailable:  # closed: the next process finds it marked
            self._over()
            return
        self._record(transaction, outcome)
        recorded_ts = database.committer.commit(transaction, source="")
        if failpoints.armed is not None:
            failpoints.armed("action: recorded")
        database.publisher.when_durable(recorded_ts, self._over, lambda error: self._later(outcome))

    def _later(self, outcome: Outcome) -> None:
        self._alarms.call_at(after(self._clock, MIN_JOB_BACKOFF_SECONDS), lambda: self._write_down(outcome))
