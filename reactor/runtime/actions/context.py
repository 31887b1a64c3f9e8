"""What actions are given: `ctx`, in its two forms.

`async def` actions get calls to await; plain `def` actions get the same names as plain calls. Both are thin: the port
makes the difference. `ActionCtx` is public as a type; only the actions make instances.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from reactor.errors import NotSupported
from reactor.protocol.references import ActionReference, MutationReference, QueryReference
from reactor.runtime.actions.ports import ActionCall, Port
from reactor.runtime.decorators import AnyReference, Function
from reactor.runtime.files.action_storage import ActionStorage, BlockingActionStorage
from reactor.runtime.jobs.action_scheduling import ActionScheduler
from reactor.runtime.references import PathOrReference

D = ParamSpec("D")
P = ParamSpec("P")
T = TypeVar("T")


class ActionAuth:
    """`ctx.auth` of an action: who calls."""

    __slots__ = ("_port",)

    def __init__(self, port: Port) -> None:
        self._port = port

    def get_user_identity(self) -> ActionCall[dict[str, Any] | None]:
        """Return the caller's claims (`tokenIdentifier subject issuer …`), or None for an anonymous caller."""
        known = self._port.call.identity.visible_claims()
        call: ActionCall[dict[str, Any] | None] = self._port.give("auth.get_user_identity()", known)
        return call

    @property
    def is_admin(self) -> bool:
        """Whether the caller has an admin key, also where it acts as a user. Needs no `await`."""
        self._port.check_alive()
        return self._port.call.identity.is_admin


class ActionCtx:
    """What an action receives as its first parameter. It has no `db`: it calls queries and mutations."""

    __slots__ = ("_now", "_port")

    def __init__(self, port: Port, now: Callable[[], float]) -> None:
        self._port = port
        self._now = now

    @property
    def auth(self) -> ActionAuth:
        """Who calls."""
        return ActionAuth(self._port)

    @property
    def env(self) -> Mapping[str, str]:
        """The deployment's environment variables, as text, as they were when this action began. Needs no `await`."""
        return self._port.environment

    @property
    def storage(self) -> ActionStorage:
        """Stored files."""
        return ActionStorage(self._port)  # type: ignore[arg-type]

    @property
    def scheduler(self) -> ActionScheduler:
        """Schedules functions to run later, at once and whatever becomes of this action."""
        return ActionScheduler(self._port)

    def function_handle(self, function: AnyReference, /) -> ActionCall[str]:
        """Return a string that stands for a function wherever one is named, also in other components.

        It stays the same from deploy to deploy, until the function is deleted. Who has it can call the function,
        whether it is public or not.

        Raises:
            FunctionNotFound: there is no such function, or it is an internal one of a component mounted here.
        """
        call: ActionCall[str] = self._port.query(lambda ctx: ctx.function_handle(function), "ctx.function_handle()")
        return call

    def now(self) -> float:
        """Return the present time in milliseconds since the Unix epoch."""
        return self._now()

    @overload
    def run_query(
        self, function: Function[P, Coroutine[Any, Any, T]], /, *args: P.args, **named: P.kwargs
    ) -> ActionCall[T]: ...

    @overload
    def run_query(self, function: Function[P, T], /, *args: P.args, **named: P.kwargs) -> ActionCall[T]: ...

    @overload
    def run_query(
        self, function: Function[..., Coroutine[Any, Any, T]], args: Mapping[str, Any], /
    ) -> ActionCall[T]: ...

    @overload
    def run_query(self, function: Function[..., T], args: Mapping[str, Any], /) -> ActionCall[T]: ...

    @overload
    def run_query(self, function: QueryReference[D, P, T], /, *args: P.args, **named: P.kwargs) -> ActionCall[T]: ...

    @overload
    def run_query(self, function: QueryReference[D, P, T], /, *args: D.args, **named: D.kwargs) -> ActionCall[T]: ...

    @overload
    def run_query(self, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any) -> Any: ...

    def run_query(self, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run a query at the latest durable state. Two of them may see different states.

        `function` is a decorated function, `api.module.name`, `internal.module.name` or a path as text. Arguments are
        one dict, or keywords. What the query raises can be caught here.

        Raises:
            InvalidFunctionCall, FunctionNotFound: it is no query, or there is none.
            ArgumentsInvalid, ReturnsInvalid: arguments or result are not what it declares.
            LimitExceeded: too many calls of this action wait already.
        """
        return self._port.run("query", function, args, named)

    @overload
    def run_mutation(
        self, function: Function[P, Coroutine[Any, Any, T]], /, *args: P.args, **named: P.kwargs
    ) -> ActionCall[T]: ...

    @overload
    def run_mutation(self, function: Function[P, T], /, *args: P.args, **named: P.kwargs) -> ActionCall[T]: ...

    @overload
    def run_mutation(
        self, function: Function[..., Coroutine[Any, Any, T]], args: Mapping[str, Any], /
    ) -> ActionCall[T]: ...

    @overload
    def run_mutation(self, function: Function[..., T], args: Mapping[str, Any], /) -> ActionCall[T]: ...

    @overload
    def run_mutation(
        self, function: MutationReference[D, P, T], /, *args: P.args, **named: P.kwargs
    ) -> ActionCall[T]: ...

    @overload
    def run_mutation(
        self, function: MutationReference[D, P, T], /, *args: D.args, **named: D.kwargs
    ) -> ActionCall[T]: ...

    @overload
    def run_mutation(
        self, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any
    ) -> Any: ...

    def run_mutation(self, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run a mutation as a transaction of its own; what it did is durable when this returns, whatever comes later.

        Takes what `run_query` takes.

        Raises:
            InvalidFunctionCall, FunctionNotFound: it is no mutation, or there is none.
            ArgumentsInvalid, ReturnsInvalid: arguments or result are not what it declares.
            LimitExceeded: too many calls of this action wait already.
        """
        return self._port.run("mutation", function, args, named)

    @overload
    def run_action(
        self, function: Function[P, Coroutine[Any, Any, T]], /, *args: P.args, **named: P.kwargs
    ) -> ActionCall[T]: ...

    @overload
    def run_action(self, function: Function[P, T], /, *args: P.args, **named: P.kwargs) -> ActionCall[T]: ...

    @overload
    def run_action(
        self, function: Function[..., Coroutine[Any, Any, T]], args: Mapping[str, Any], /
    ) -> ActionCall[T]: ...

    @overload
    def run_action(self, function: Function[..., T], args: Mapping[str, Any], /) -> ActionCall[T]: ...

    @overload
    def run_action(self, function: ActionReference[D, P, T], /, *args: P.args, **named: P.kwargs) -> ActionCall[T]: ...

    @overload
    def run_action(self, function: ActionReference[D, P, T], /, *args: D.args, **named: D.kwargs) -> ActionCall[T]: ...

    @overload
    def run_action(self, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any) -> Any: ...

    def run_action(self, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run another action as a part of this one, and within its time.

        Takes what `run_query` takes. To run plain Python code, call it instead: that costs nothing.

        Raises:
            InvalidFunctionCall, FunctionNotFound: it is no action, or there is none.
            ArgumentsInvalid, ReturnsInvalid: arguments or result are not what it declares.
            LimitExceeded: more than 8 actions are nested in each other, or too many calls of this one wait already.
        """
        return self._port.run("action", function, args, named)

    def vector_search(
        self,
        table: str,
        index: str,
        /,
        *,
        vector: Sequence[float],
        limit: int = 10,
        filter: Callable[[Any], Any] | None = None,
    ) -> ActionCall[list[dict[str, Any]]]:
        """Find the documents of `table` whose vectors are most like `vector`.

        Raises:
            NotSupported: always, in this version.
        """
        raise NotSupported(f"Vector search is not supported yet, so the index {table}.{index} can't be searched.")

    if not TYPE_CHECKING:  # type checkers know that it is missing; whoever looks for it is told why

        def __getattr__(self, name):
            if name == "db":
                raise AttributeError("An action has no ctx.db: use ctx.run_query and ctx.run_mutation.")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class BlockingActionCtx(ActionCtx):
    """What a plain `def` action receives: calls give their results, without `await`."""

    __slots__ = ()

    @property
    def storage(self) -> BlockingActionStorage:
        """Stored files."""
        return BlockingActionStorage(self._port)  # type: ignore[arg-type]
