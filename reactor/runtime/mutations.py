"""Mutations: one call, attempt after attempt, until it has committed or failed.

Owns retry on conflict, the order of a mutation's steps around its commit, and the wait until what its outcome rests on
is durable. Promises that a mutation sent twice under one (session, request id) takes effect once; that one which lost
to others is run again at once, the last time without yielding and then behind the commit gate; and that every outcome
is reported exactly once. Why: `docs/design/11-one-transaction-many-functions.md`. Used by the executor.
"""

import logging
from collections.abc import Callable
from typing import Any

from reactor.errors import (
    Error,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    SnapshotTooOld,
    Unavailable,
    WriteConflict,
)
from reactor.runtime.calls import Call, Outcome, Refused, Success
from reactor.runtime.executions import AttemptEnded
from reactor.runtime.registry import RegisteredFunction
from reactor.runtime.runs import OF_THE_FUNCTION, Done, Run, Runner, nothing

log = logging.getLogger(__name__)


class MutationAttempts(Run):
    """One mutation, attempt after attempt."""

    __slots__ = ("_attempt", "_done", "_in_line", "_is_expired", "_is_last", "_on_grant", "_ran")

    def __init__(
        self,
        runner: Runner,
        call: Call,
        done: Done,
        ran: Callable[[], None] = nothing,
        handler: RegisteredFunction | None = None,
    ) -> None:
        super().__init__(runner, call)
        self.handler = handler
        self._done = done
        self._ran = ran
        self._attempt = 0
        self._is_last = False
        self._is_expired = False
        self._in_line = False  # for the gate
        self._on_grant: Callable[[], None] | None = None  # what it has come to meanwhile: its commit, or its next run

    def begin(self) -> None:
        """Run the first slice of the first attempt, or wait while the disk is too far behind."""
        runner = self.runner
        publisher = runner.database.publisher
        runner.stats.mutations += 1
        if publisher.is_full:
            if runner.waiting >= runner.database.limits.tail_commits:
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
        self.runner.waiting += 1
        self.runner.database.publisher.when_room(lambda: self.runner.queue.request(self._begin_later))

    def _begin_later(self) -> None:
        runner = self.runner
        runner.waiting -= 1
        if runner.database.publisher.is_full:  # taken by those who waited longer; nobody who came later is before us
            self._wait_for_room()
            return
        self._next_attempt()

    def _next_attempt(self) -> None:
        runner, call = self.runner, self.call
        database = runner.database
        try:
            refusal = database.publisher.refusal()
            if refusal is not None:
                raise refusal
            known = database.known_result(call.session, call.request)
            if known is not None:
                self._answer(Success(known.value, known.commit_ts, known.log_lines), known.commit_ts)
                return
            transaction = database.begin_mutation()
            version = runner.versions.latest()
        except Error as error:
            self._refuse(error)
            return
        self._attempt += 1
        version.depend_on_deployment(transaction)
        self._is_last = self._attempt >= database.limits.max_commit_attempts
        # Behind the gate it may yield: nobody else commits.
        self._run("mutation", version, transaction, self._is_last and not runner.gate.is_held_by(self))

    def revalidate(self) -> None:
        """Stop an attempt as soon as it can't win any more.

        Raises:
            AttemptEnded: a commit since its snapshot changed what it has read, or the database was closed.
        """
        runner = self.runner
        runner.stats.suspensions += 1
        try:
            runner.database.check_open()
            if self._is_expired:
                raise self._too_slow()
            runner.database.retention.check(self.transaction.begin_ts)
            runner.database.committer.look(self.transaction)
        except (Unavailable, WriteConflict, SnapshotTooOld) as lost:
            raise AttemptEnded(str(lost)) from lost

    def finished(self, result: Any, error: BaseException | None) -> None:
        """Commit, if the handler has returned, and report what came of it; or run again."""
        runner = self.runner
        needs = self.transaction.needs
        if needs is not None:
            self._attempt -= 1
            self.database.retention.unpin(self.transaction.begin_ts)
            self.database.loading.when_loaded(needs, lambda: runner.queue.request(self._next_attempt), self._not_loaded)
            return
        log_lines = runner.lines(self)
        value, error = self._encode(result, error)
        gate = runner.gate
        if gate.is_closed and error is None and self.transaction.writes and not gate.is_held_by(self):
            self._wait_for_gate(lambda: self._conclude(value, None, log_lines))
        else:
            self._conclude(value, error, log_lines)

    def _conclude(self, value: bytes, error: BaseException | None, log_lines: tuple[str, ...]) -> None:
        runner, transaction, call = self.runner, self.transaction, self.call
        database = runner.database
        if self.sample is not None:
            self.sample(value, error)
        database.retention.unpin(transaction.begin_ts)
        try:
            # The same request may have overtaken this attempt, if anything was committed meanwhile.
            alone = transaction.begin_ts == database.applied_ts
            known = None if alone else database.known_result(call.session, call.request)
            if known is None and error is None:
                assert self.function is not None
                assert self.version is not None
                database.check_open()
                commit_ts = database.committer.commit(
                    transaction,
                    source=self.function.label,
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
            runner.log.ran(self, "mutation", len(value), None, commit_ts, log_lines)
            self._answer(Success(value, commit_ts, log_lines), commit_ts)
        elif isinstance(error, AttemptEnded):
            cause = error.__cause__
            if isinstance(cause, Unavailable):
                self._refuse(cause)
            else:
                self._lost(cause if isinstance(cause, Error) else WriteConflict(str(error)))
        elif isinstance(error, SnapshotTooOld):
            self._lost(error)
        elif isinstance(error, Unavailable | ProtocolError) or not isinstance(error, OF_THE_FUNCTION):
            self._refuse(error if isinstance(error, Error) else Unavailable(f"Stopped: {type(error).__name__}"))
        else:
            failure = runner.failure(call, error, transaction.begin_ts, self.version, log_lines)
            runner.log.ran(self, "mutation", 0, runner.text_of(failure), transaction.begin_ts, log_lines)
            self._answer(failure, transaction.begin_ts)

    def _not_loaded(self, error: Error) -> None:
        outcome = self.runner.not_loaded(self.call, error)
        if isinstance(outcome, Refused):
            self._refuse(outcome.error)
        else:
            self._answer(outcome, self.transaction.begin_ts)

    # Lost attempts.

    def _lost(self, conflict: Error) -> None:
        """Run again at once: the winner is already visible."""
        runner = self.runner
        runner.stats.conflicts += 1
        log.debug("attempt %d lost: %s", self._attempt, _Report(conflict))
        if not self._is_last:
            runner.queue.request(self._next_attempt)
        elif self._is_expired or not runner.gate.seconds:
            log.warning("%s failed after %d attempts: %s", self.call.path, self._attempt, _Report(conflict))
            runner.log.ran(self, "mutation", 0, str(conflict), self.transaction.begin_ts, ())
            report = conflict.report if self.met_rules and isinstance(conflict, WriteConflict) else None
            # What was read may be hidden from the caller, and so may the id of what was written.
            self._refuse(conflict if report is None else report.error(shows_document=False))
        elif runner.gate.is_held_by(self):  # lost to the system, such as a push of code
            runner.queue.request(self._next_attempt)
        else:
            self._on_grant = lambda: runner.queue.request(self._next_attempt)
            self._close_gate()

    def _wait_for_gate(self, commit: Callable[[], None]) -> None:
        if self._in_line:
            self._on_grant = commit
        else:
            self.runner.gate.wait(commit)

    def _close_gate(self) -> None:
        if not self._in_line:
            self._in_line = True
            self.runner.gate.close(self)

    def outlasted(self) -> None:
        """The last attempt takes long: let others run, but not commit."""
        if self.runner.gate.seconds:
            self._close_gate()

    def granted(self) -> None:
        """Nobody else commits from now on."""
        self._in_line = False
        then, self._on_grant = self._on_grant, None
        if then is not None:
            then()

    def expired(self) -> None:
        """Others commit again: it took too long."""
        self._is_expired = True

    def _too_slow(self) -> WriteConflict:
        return WriteConflict(
            "Documents read from or written to some table changed while this mutation was being run and on every "
            "subsequent retry. See https://docs.convex.dev/error#1 (Its last attempt, for which other mutations were "
            f"kept from committing, did not end within {self.runner.gate.seconds * 1000:g} ms: "
            "REACTOR_EXCLUSIVE_COMMIT_MS. Read or write less in one mutation.)"
        )

    # Outcomes.

    def _refuse(self, error: Error) -> None:
        """Report that the system can't answer. Nothing was committed, so there is nothing to wait for.

        The outcome goes first: it closes a client's connection, and what it sent later must not overtake this.
        """
        if self._is_last:
            self.runner.gate.leave(self)
        self._done(Refused(error))
        self._ran()

    def _answer(self, outcome: Outcome, rests_on: int) -> None:
        """Report the outcome once everything it saw and did is durable."""
        if self._is_last:
            self.runner.gate.leave(self)
        self._ran()
        done = self._done
        self.runner.database.publisher.when_durable(rests_on, lambda: done(outcome), self._undone)

    def _undone(self, error: Error) -> None:
        """Report that the outcome is unknown; or, for good, that the commit could not be written."""
        if isinstance(error, OutcomeUnknown):
            self._done(Refused(error))
        else:
            self._done(self.runner.failure(self.call, error, self.database.durable_ts, self.version, ()))


class _Report:
    """The detailed report of a conflict, made only when a log line with it is written."""

    def __init__(self, conflict: Error) -> None:
        self._conflict = conflict

    def __str__(self) -> str:
        return str(getattr(self._conflict, "report", None) or self._conflict)
