"""Mutations that the system runs for one of its own documents: a scheduled function, a cron.

Owns how such a mutation and its document share one transaction. Before the handler, the claim reads the document and
stages that it runs; after it, it stages what has become of it; and one commit holds that and everything the function
wrote. So the function has taken effect exactly if its document says so, whenever the process dies. Promises that
`ended` is called exactly once. Why: `docs/design/16-scheduled.md`. Used by the scheduler and the crons.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

from reactor.engine.transaction import Transaction
from reactor.errors import Error
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.runtime.determinism import Ambient
from reactor.runtime.invocation import RunKind
from reactor.runtime.logs import log_unheard
from reactor.runtime.mutations import MutationAttempts
from reactor.runtime.references import author_path
from reactor.runtime.runs import Runner
from reactor.runtime.versions import Version
from reactor.storage import failpoints


class Claim(Protocol):
    """The document that a mutation is run for."""

    def take(self, transaction: Transaction) -> bool:
        """Read the document and stage that it runs, or return False: it is not to be run any more."""

    def complete(self, transaction: Transaction, value: bytes, surroundings: Ambient) -> None:
        """Stage that the function has returned `value`, which is wire JSON."""


class ClaimedMutation(MutationAttempts):
    """One mutation with its claim, attempt after attempt."""

    can_be_repeated: ClassVar[bool] = False  # a repeat would not see what the claim has staged

    __slots__ = ("_claim", "_ended")

    def __init__(self, runner: Runner, call: Call, claim: Claim, ended: Callable[[Outcome | None, int], None]) -> None:
        """`ended` gets the outcome and the timestamp it rests on, durable or not; None when there was nothing to do."""
        super().__init__(runner, call, _nobody)
        self._claim = claim
        self._ended = ended

    def _run(self, kind: RunKind, version: Version, transaction: Transaction, exclusive: bool) -> None:
        self.transaction = transaction
        if not self._claim.take(transaction):
            self._leave()
            self._ended(None, transaction.begin_ts)
            return
        if failpoints.armed is not None:
            failpoints.armed("claim: before the function")
        super()._run(kind, version, transaction, exclusive)

    def _conclude(self, value: bytes, error: BaseException | None, log_lines: tuple[str, ...]) -> None:
        if error is None:
            self._claim.complete(self.transaction, value, self.surroundings)
            if failpoints.armed is not None:
                failpoints.armed("claim: before the commit")
        super()._conclude(value, error, log_lines)

    def _refuse(self, error: Error) -> None:
        self._leave()
        self._ended(Refused(error), 0)

    def _answer(self, outcome: Outcome, rests_on: int) -> None:
        if failpoints.armed is not None:
            failpoints.armed("claim: after the commit")
        self._leave()
        if isinstance(outcome, Success | Failure) and outcome.log_lines:
            log_unheard(author_path(self.call.path), outcome.log_lines)
        self._ended(outcome, rests_on)

    def _leave(self) -> None:
        if self._is_last:
            self.runner.gate.leave(self)


def _nobody(outcome: Outcome) -> None:
    """Nobody waits for the outcome to be durable: the log has it in order, and `ended` has come before."""
