"""The executor: what a call to a function of the deployed project goes through first.

Owns which kind of run a call becomes, and when it begins. Promises that every outcome is reported exactly once, from
the engine's thread and never from inside `submit_…`. Used by the live queries and the server.
"""

from collections.abc import Callable
from typing import Any, Protocol

from reactor.engine.database import Database
from reactor.errors import Error
from reactor.ports import Clock
from reactor.runtime.calls import Call, Refused
from reactor.runtime.decorators import Function
from reactor.runtime.invocation import RunKind, look_up
from reactor.runtime.mutations import MutationAttempts
from reactor.runtime.origins import Origins
from reactor.runtime.registry import RegisteredFunction, Registry
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.runs import Done, QueryAttempt, QueryRun, Runner, nothing
from reactor.runtime.versions import Versions


class Act(Protocol):
    """Runs an action."""

    def __call__(self, call: Call, done: Done, *, is_patient: bool = False) -> Any: ...


class Executor(Runner):
    """Runs the functions of the deployed project."""

    def __init__(
        self,
        database: Database,
        versions: Versions,
        queue: RunQueue,
        clock: Clock,
        *,
        redact: bool,
        origins: Origins,
    ) -> None:
        super().__init__(database, versions, queue, clock, redact=redact, origins=origins)
        # Answers a query from a kept result, if there is one; the results take this over.
        self.answer: Callable[[Call, int | None, Done], None] = self._answer_anew
        self.act: Act  # set by the actions

    def submit_mutation(self, call: Call, done: Done, ran: Callable[[], None] = nothing) -> None:
        """Run a mutation; `done` gets its outcome when everything it rests on is durable.

        `ran` is called before, when it has run to its end: what is submitted from then on sees its effect. A client's
        mutations are kept in order by this, without each waiting for the disk.
        """
        mutation = MutationAttempts(self, call, done, ran)
        self.queue.request(mutation.begin)

    def submit_query(self, call: Call, done: Done, ts: int | None = None) -> None:
        """Run a query once, at `ts` or at the durable timestamp."""
        self.queue.request(lambda: self.answer(call, ts, done))

    def submit_action(self, call: Call, done: Done, *, is_patient: bool = False) -> None:
        """Run an action. One that `is_patient` waits for a place as long as it takes, and is never refused for it."""
        self.queue.request(lambda: self.act(call, done, is_patient=is_patient))

    def submit_any(self, call: Call, done: Done) -> None:
        """Run a function as the kind it is registered as. For administrators."""

        def begin() -> None:
            try:
                function = look_up(self.versions.latest(), call)
            except Error as error:
                done(Refused(error))
                return
            kind = "query" if function is None else function.function.kind
            if kind == "mutation":
                MutationAttempts(self, call, done).begin()
            elif kind == "action":
                self.act(call, done)
            else:
                self.answer(call, None, done)

        self.queue.request(begin)

    def submit_handler(self, handler: Callable[..., Any], call: Call, done: Done) -> None:
        """Run a handler that is no function of the project as a mutation, in the call's component instance."""
        registered = _registered("mutation", handler, call.component)
        self.queue.request(MutationAttempts(self, call, done, handler=registered).begin)

    def submit_query_handler(self, handler: Callable[..., Any], call: Call, done: Done) -> None:
        """Run a handler that is no function of the project as a query, at the durable timestamp."""
        attempt = QueryAttempt(self, call, None, lambda run: done(run.outcome))
        attempt.handler = _registered("query", handler, call.component)
        self.queue.request(attempt.begin)

    def run_query(self, call: Call, ts: int | None, finished: Callable[[QueryRun], None]) -> None:
        """Run the first slice of a query now; `finished` may be called before this returns."""
        QueryAttempt(self, call, ts, finished).begin()

    def _answer_anew(self, call: Call, ts: int | None, done: Done) -> None:
        self.run_query(call, ts, lambda run: done(run.outcome))


def _registered(kind: RunKind, handler: Callable[..., Any], component: str) -> RegisteredFunction:
    registry = Registry()
    registry.register("run", "handler", Function(kind, "internal", handler), "")
    (function,) = registry.functions.values()
    return function._replace(component=component)
