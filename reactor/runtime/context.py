"""What queries and mutations are given: `ctx`, in its two forms.

`async def` handlers get calls to await; plain `def` handlers get the same names as plain calls. Both forms are thin:
each member is the matter of a module of its own (`readers`, `files`, `scheduling`), nested calls are that of `nested`.
The classes are public as types (`QueryCtx`, `MutationCtx`); only runs make instances.
"""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from reactor.auth.identity import Identity
from reactor.errors import InvalidFunctionCall
from reactor.protocol.references import MutationReference
from reactor.runtime.decorators import KINDS, AnyReference, Function
from reactor.runtime.executions import Execution, NestedCall, Operation, run_to_end
from reactor.runtime.files.storage import BlockingStorageReader, BlockingStorageWriter, StorageReader, StorageWriter
from reactor.runtime.jobs.scheduling import BlockingScheduler, Scheduler
from reactor.runtime.querycalls import QueryCalls
from reactor.runtime.readers import BlockingDatabaseReader, BlockingDatabaseWriter, DatabaseReader, DatabaseWriter
from reactor.runtime.references import PathOrReference
from reactor.runtime.stale import BlockingStale, Stale
from reactor.runtime.triggers.firing import Firing
from reactor.runtime.triggers.writers import BlockingTriggeringWriter, TriggeringWriter

D = ParamSpec("D")
P = ParamSpec("P")
T = TypeVar("T")


class Auth:
    """`ctx.auth`: who calls. Looking is recorded, so that results are shared only between those who may share them."""

    __slots__ = ("_execution", "_identity", "_looked")

    def __init__(self, execution: Execution, identity: Identity, looked: Callable[[], None]) -> None:
        self._execution = execution
        self._identity = identity
        self._looked = looked

    def get_user_identity(self) -> Operation[dict[str, Any] | None]:
        """Return the caller's claims (`tokenIdentifier subject issuer …`), or None for an anonymous caller."""
        return Operation(self._execution, "auth.get_user_identity()", self._look)

    @property
    def is_admin(self) -> bool:
        """Whether the caller has an admin key, also where it acts as a user. Needs no `await`.

        A look at it is recorded like one at the identity.
        """
        self._execution.check_alive()
        self._looked()
        return self._identity.is_admin

    def _look(self) -> dict[str, Any] | None:
        self._looked()
        return self._identity.visible_claims()


class BlockingAuth(Auth):
    """`ctx.auth` of a plain `def` function."""

    __slots__ = ()

    def get_user_identity(self) -> dict[str, Any] | None:  # type: ignore[override]
        """Return the caller's claims (`tokenIdentifier subject issuer …`), or None for an anonymous caller."""
        self._execution.check_alive()
        return self._look()


class QueryCtx(QueryCalls):
    """What a query receives as its first parameter. In a mutation, `run_query` sees what was written so far."""

    __slots__ = ("_execution", "auth", "db")

    db: DatabaseReader

    def __init__(self, execution: Execution, db: Any, auth: Auth) -> None:
        self._execution = execution
        self.db = db
        self.auth = auth

    @property
    def env(self) -> Mapping[str, str]:
        """The deployment's environment variables, as text. A look at one is recorded like a read of a document."""
        self._execution.check_alive()
        return self._execution.documents.environment()

    @property
    def storage(self) -> StorageReader:
        """Stored files."""
        return StorageReader(self._execution)

    def now(self) -> float:
        """Return the time at which this execution began, in milliseconds since the Unix epoch."""
        return self._execution.ambient.read_clock() / 1_000_000

    def function_handle(self, function: AnyReference, /) -> Operation[str]:
        """Return a string that stands for a function wherever one is named, also in other components.

        It stays the same from deploy to deploy, until the function is deleted. Who has it can call the function,
        whether it is public or not.

        Raises:
            FunctionNotFound: there is no such function, or it is an internal one of a component mounted here.
        """
        execution = self._execution
        return Operation(
            execution, "ctx.function_handle()", lambda: execution.owner.function_handle(execution, function)
        )

    def _run_nested(self, kind: str, function: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        execution = self._execution
        call = partial(execution.owner.call_nested, execution, kind, function, args, named)
        return NestedCall(execution, f"ctx.run_{kind}()", call, depth=3)

    if not TYPE_CHECKING:  # type checkers know that these are missing; whoever calls them is told why

        def __getattr__(self, name):
            if name in ("run_mutation", "run_action"):
                caller, callee = KINDS[self._execution.ambient.kind], KINDS[name.removeprefix("run_")]
                raise InvalidFunctionCall(f"Cannot call {callee} function from {caller} function")
            if name == "scheduler":
                raise InvalidFunctionCall(
                    "A query can't schedule functions: ctx.scheduler is for mutations and actions"
                )
            if name == "stale":
                raise InvalidFunctionCall(
                    "A query can't use ctx.stale, since its result has to follow from what it depends on: "
                    "ctx.stale is for mutations"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class MutationCtx(QueryCtx):
    """What a mutation receives as its first parameter."""

    __slots__ = ()

    db: DatabaseWriter

    @property
    def storage(self) -> StorageWriter:
        """Stored files."""
        return StorageWriter(self._execution)

    @property
    def scheduler(self) -> Scheduler:
        """Schedules functions to run later, as a part of this mutation."""
        return Scheduler(self._execution)

    @property
    def stale(self) -> Stale:
        """What was there when this mutation began, to read without depending on it: `ctx.stale.run_query(…)`."""
        return Stale(self._execution)

    @overload
    def run_mutation(
        self, function: Function[P, Coroutine[Any, Any, T]], /, *args: P.args, **named: P.kwargs
    ) -> Operation[T]: ...

    @overload
    def run_mutation(self, function: Function[P, T], /, *args: P.args, **named: P.kwargs) -> Operation[T]: ...

    @overload
    def run_mutation(
        self, function: Function[..., Coroutine[Any, Any, T]], args: Mapping[str, Any], /
    ) -> Operation[T]: ...

    @overload
    def run_mutation(self, function: Function[..., T], args: Mapping[str, Any], /) -> Operation[T]: ...

    @overload
    def run_mutation(
        self, function: MutationReference[D, P, T], /, *args: P.args, **named: P.kwargs
    ) -> Operation[T]: ...

    @overload
    def run_mutation(
        self, function: MutationReference[D, P, T], /, *args: D.args, **named: D.kwargs
    ) -> Operation[T]: ...

    @overload
    def run_mutation(
        self, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any
    ) -> Any: ...

    def run_mutation(self, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run another mutation as a part of this one: when it raises, what it wrote is undone, and this one goes on.

        Takes what `run_query` takes.

        Raises:
            InvalidFunctionCall, FunctionNotFound: it is no mutation, or there is none.
            ArgumentsInvalid, ReturnsInvalid: arguments or result are not what it declares.
            LimitExceeded: more than 8 calls are nested in each other.
        """
        return self._run_nested("mutation", function, args, named)


class _BlockingCalls:
    """Nested calls of a plain `def` function: they return the result itself."""

    __slots__ = ()

    _execution: Execution

    def function_handle(self, function: AnyReference, /) -> str:
        """Return a string that stands for a function wherever one is named, also in other components.

        It stays the same from deploy to deploy, until the function is deleted. Who has it can call the function,
        whether it is public or not.

        Raises:
            FunctionNotFound: there is no such function, or it is an internal one of a component mounted here.
        """
        execution = self._execution
        execution.check_alive()
        return execution.owner.function_handle(execution, function)

    def _run_nested(self, kind: str, function: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        execution = self._execution
        execution.check_alive()
        return run_to_end(execution.owner.call_nested(execution, kind, function, args, named))


class BlockingQueryCtx(_BlockingCalls, QueryCtx):  # type: ignore[misc]  # its calls return the results themselves
    """What a plain `def` query receives."""

    __slots__ = ()

    @property
    def storage(self) -> BlockingStorageReader:
        """Stored files."""
        return BlockingStorageReader(self._execution)


class BlockingMutationCtx(_BlockingCalls, MutationCtx):  # type: ignore[misc]
    """What a plain `def` mutation receives."""

    __slots__ = ()

    @property
    def stale(self) -> BlockingStale:
        """What was there when this mutation began, to read without depending on it: `ctx.stale.run_query(…)`."""
        return BlockingStale(self._execution)

    @property
    def storage(self) -> BlockingStorageWriter:  # type: ignore[override]
        """Stored files."""
        return BlockingStorageWriter(self._execution)

    @property
    def scheduler(self) -> BlockingScheduler:  # type: ignore[override]
        """Schedules functions to run later, as a part of this mutation."""
        return BlockingScheduler(self._execution)


def make_context(
    execution: Execution, kind: str, is_async: bool, identity: Identity, looked: Callable[[], None]
) -> QueryCtx:
    """Return the `ctx` of one execution, in the form its handler needs."""
    if kind == "mutation":
        triggers = execution.documents.scope.triggers
        if triggers is not None:
            return _make_triggering(execution, is_async, identity, Firing(triggers, _make_triggering))
    if is_async:
        auth = Auth(execution, identity, looked)
        if kind == "mutation":
            return MutationCtx(execution, DatabaseWriter(execution), auth)
        return QueryCtx(execution, DatabaseReader(execution), auth)
    blocking = BlockingAuth(execution, identity, looked)
    if kind == "mutation":
        return BlockingMutationCtx(execution, BlockingDatabaseWriter(execution), blocking)
    return BlockingQueryCtx(execution, BlockingDatabaseReader(execution), blocking)


def _make_triggering(execution: Execution, is_async: bool, identity: Identity, firing: Firing) -> MutationCtx:
    """Return the `ctx` of a mutation, or of a trigger, whose writes are followed by triggers."""
    looked = execution.owner.look
    if is_async:
        return MutationCtx(execution, TriggeringWriter(execution, firing), Auth(execution, identity, looked))
    db, auth = BlockingTriggeringWriter(execution, firing), BlockingAuth(execution, identity, looked)
    return BlockingMutationCtx(execution, db, auth)
