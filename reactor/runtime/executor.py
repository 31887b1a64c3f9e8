"""The executor: what a call to a function of the deployed project goes through first.

Owns which kind of run a call becomes, and when it begins. Promises that every outcome is reported exactly once, from
the engine's thread and never from inside `submit_…`. Used by the live queries, actions, whatever runs functions by
itself, and the server.
"""

from collections.abc import Callable
from typing import Any, Protocol

from reactor.errors import Error
from reactor.runtime.calls import Call, Refused
from reactor.runtime.decorators import Function, Kind
from reactor.runtime.invocation import look_up
from reactor.runtime.mutations import MutationAttempts
from reactor.runtime.registry import RegisteredFunction, Registry
from reactor.runtime.runs import Done, QueryAttempt, QueryRun, Runner, nothing

Answer = Callable[[Call, int | None, Done], None]  # answers a query, from a kept result if there is one


class Act(Protocol):
    """Runs an action; see `Actions.act`."""

    def __call__(
        self, call: Call, done: Done, *, is_patient: bool = False, handler: RegisteredFunction | None = None
    ) -> Any: ...


class Executor(Runner):
    """Runs the functions of the deployed project."""

    _answer: Answer
    _act: Act

    def join(self, answer: Answer, act: Act) -> None:
        """Take the two parts that run what they need through this one. Once, before the first call."""
        self._answer = answer
        self._act = act

    def submit_mutation(self, call: Call, done: Done, ran: Callable[[], None] = nothing) -> None:
        """Run a mutation; `done` gets its outcome when everything it rests on is durable.

        `ran` is called before, when it has run to its end: what is submitted from then on sees its effect. A client's
        mutations are kept in order by this, without each waiting for the disk.
        """
        mutation = MutationAttempts(self, call, done, ran)
        self.queue.request(mutation.begin)

    def submit_query(self, call: Call, done: Done, ts: int | None = None) -> None:
        """Run a query once, at `ts` or at the durable timestamp."""
        self.queue.request(lambda: self._answer(call, ts, done))

    def submit_action(self, call: Call, done: Done, *, is_patient: bool = False) -> None:
        """Run an action. One that `is_patient` waits for a place as long as it takes, and is never refused for it."""
        self.queue.request(lambda: self._act(call, done, is_patient=is_patient))

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
                self._act(call, done)
            else:
                self._answer(call, None, done)

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

    def submit_handler_as(self, kind: Kind, handler: Callable[..., Any], call: Call, done: Done) -> None:
        """Run a handler that is no function of the project as a query, mutation or action."""
        if kind == "query":
            self.submit_query_handler(handler, call, done)
        elif kind == "mutation":
            self.submit_handler(handler, call, done)
        else:
            registered = _registered("action", handler, call.component)
            self.queue.request(lambda: self._act(call, done, handler=registered))

    def run_query(self, call: Call, ts: int | None, finished: Callable[[QueryRun], None]) -> None:
        """Run the first slice of a query now; `finished` may be called before this returns."""
        QueryAttempt(self, call, ts, finished).begin()


def _registered(kind: Kind, handler: Callable[..., Any], component: str) -> RegisteredFunction:
    registry = Registry()
    registry.register("run", "handler", Function(kind, "internal", handler), "")
    (function,) = registry.functions.values()
    return function._replace(component=component)
