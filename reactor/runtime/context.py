"""What user code is given: `ctx`, and `ctx.db` in its two forms.

`async def` handlers get calls to await; plain `def` handlers get the same names as plain calls. Both forms are thin:
every rule is in `runtime/documents`, and queries are in `runtime/queries`. The classes are public as types (`QueryCtx`,
`MutationCtx`); only the executor makes instances.
"""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

from reactor.errors import InvalidFunctionCall
from reactor.runtime.calls import Identity
from reactor.runtime.decorators import KINDS, Function
from reactor.runtime.documents import Documents
from reactor.runtime.executions import Execution, NestedCall, Operation, run_to_end
from reactor.runtime.files import BlockingStorageReader, BlockingStorageWriter, StorageReader, StorageWriter
from reactor.runtime.queries import BlockingQuery, Query
from reactor.runtime.references import PathOrReference
from reactor.runtime.scans import Document
from reactor.runtime.scheduling import BlockingScheduler, Scheduler

P = ParamSpec("P")
T = TypeVar("T")
AnyReference = PathOrReference | Function[..., Any]


def _table_and_id(call: str, args: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """Return (table or None, id, …) of a call that may name the table first."""
    if len(args) == count:
        return (None, *args)
    if len(args) == count + 1:
        return args
    raise TypeError(f"db.{call} takes {count} or {count + 1} arguments ({len(args)} given)")


class _PastRules:
    """An execution as `ctx.db.unsafe` sees it: the same one, with the documents as they are."""

    __slots__ = ("_execution", "documents")

    def __init__(self, execution: Execution, documents: Documents) -> None:
        self._execution = execution
        self.documents = documents

    def __getattr__(self, name: str) -> Any:
        return getattr(self._execution, name)


def past_rules(execution: Execution) -> Execution:
    """Return a view of an execution whose documents are not subject to row rules."""
    return cast(Execution, _PastRules(execution, execution.documents.past_rules()))


class SystemReader:
    """`ctx.db.system`: the tables `_storage` and `_scheduled_functions`, to read."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def get(self, *args: str) -> Operation[Document | None]:
        """Return a document by `get(id)` or `get(table, id)`, or None when there is none."""
        table, document_id = _table_and_id("get", args, 1)
        execution = self._execution
        return Operation(execution, "db.system.get()", lambda: execution.documents.system_get(table, document_id))

    def query(self, table: str, /) -> Query:
        """Begin a query on a system table."""
        return Query(self._execution, table, is_system=True)

    def normalize_id(self, table: str, text: str, /) -> str | None:
        """Return `text` if it is an id of the system table, else None. Needs no `await`."""
        self._execution.check_alive()
        return self._execution.documents.system_normalize_id(table, text)


class BlockingSystemReader:
    """`ctx.db.system` of a plain `def` function."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def get(self, *args: str) -> Document | None:
        """Return a document by `get(id)` or `get(table, id)`, or None when there is none."""
        self._execution.check_alive()
        return self._execution.documents.system_get(*_table_and_id("get", args, 1))

    def query(self, table: str, /) -> BlockingQuery:
        """Begin a query on a system table."""
        self._execution.check_alive()
        return BlockingQuery(self._execution, table, is_system=True)

    def normalize_id(self, table: str, text: str, /) -> str | None:
        """Return `text` if it is an id of the system table, else None."""
        self._execution.check_alive()
        return self._execution.documents.system_normalize_id(table, text)


class DatabaseReader:
    """`ctx.db` of a query. Ids are strings; a document is a fresh dict each time it is read."""

    __slots__ = ("_documents", "_execution")

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._documents = execution.documents

    @property
    def system(self) -> SystemReader:
        """The system tables."""
        return SystemReader(self._execution)

    @property
    def unsafe(self) -> Self:
        """The same documents past the row rules. The server's log says which function used it, and for which table."""
        return type(self)(past_rules(self._execution))

    def get(self, *args: str) -> Operation[Document | None]:
        """Return a document by `get(id)` or `get(table, id)`, or None when there is none."""
        table, document_id = _table_and_id("get", args, 1)
        return Operation(self._execution, "db.get()", lambda: self._documents.get(table, document_id))

    def query(self, table: str, /) -> Query:
        """Begin a query on a table."""
        return Query(self._execution, table)

    def normalize_id(self, table: str, text: str, /) -> str | None:
        """Return `text` if it is an id of `table`, else None. Needs no `await`."""
        self._execution.check_alive()
        return self._documents.normalize_id(table, text)


class DatabaseWriter(DatabaseReader):
    """`ctx.db` of a mutation."""

    __slots__ = ()

    def insert(self, table: str, document: Mapping[str, Any], /) -> Operation[str]:
        """Insert a document; return its id."""
        return Operation(self._execution, "db.insert()", lambda: self._documents.insert(table, document))

    def patch(self, *args: Any) -> Operation[None]:
        """Merge fields into a document: `patch(id, fields)` or `patch(table, id, fields)`; `undefined` removes one."""
        table, document_id, fields = _table_and_id("patch", args, 2)
        return Operation(self._execution, "db.patch()", lambda: self._documents.patch(table, document_id, fields))

    def replace(self, *args: Any) -> Operation[None]:
        """Replace a document's body: `replace(id, document)` or `replace(table, id, document)`."""
        table, document_id, document = _table_and_id("replace", args, 2)
        return Operation(self._execution, "db.replace()", lambda: self._documents.replace(table, document_id, document))

    def delete(self, *args: str) -> Operation[None]:
        """Delete a document: `delete(id)` or `delete(table, id)`."""
        table, document_id = _table_and_id("delete", args, 1)
        return Operation(self._execution, "db.delete()", lambda: self._documents.delete(table, document_id))


class BlockingDatabaseReader:
    """`ctx.db` of a plain `def` query."""

    __slots__ = ("_documents", "_execution")

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._documents = execution.documents

    @property
    def system(self) -> BlockingSystemReader:
        """The system tables."""
        return BlockingSystemReader(self._execution)

    @property
    def unsafe(self) -> Self:
        """The same documents past the row rules. The server's log says which function used it, and for which table."""
        return type(self)(past_rules(self._execution))

    def get(self, *args: str) -> Document | None:
        """Return a document by `get(id)` or `get(table, id)`, or None when there is none."""
        self._execution.check_alive()
        return self._documents.get(*_table_and_id("get", args, 1))

    def query(self, table: str, /) -> BlockingQuery:
        """Begin a query on a table."""
        self._execution.check_alive()
        return BlockingQuery(self._execution, table)

    def normalize_id(self, table: str, text: str, /) -> str | None:
        """Return `text` if it is an id of `table`, else None."""
        self._execution.check_alive()
        return self._documents.normalize_id(table, text)


class BlockingDatabaseWriter(BlockingDatabaseReader):
    """`ctx.db` of a plain `def` mutation."""

    __slots__ = ()

    def insert(self, table: str, document: Mapping[str, Any], /) -> str:
        """Insert a document; return its id."""
        self._execution.check_alive()
        return self._documents.insert(table, document)

    def patch(self, *args: Any) -> None:
        """Merge fields into a document: `patch(id, fields)` or `patch(table, id, fields)`; `undefined` removes one."""
        self._execution.check_alive()
        self._documents.patch(*_table_and_id("patch", args, 2))

    def replace(self, *args: Any) -> None:
        """Replace a document's body: `replace(id, document)` or `replace(table, id, document)`."""
        self._execution.check_alive()
        self._documents.replace(*_table_and_id("replace", args, 2))

    def delete(self, *args: str) -> None:
        """Delete a document: `delete(id)` or `delete(table, id)`."""
        self._execution.check_alive()
        self._documents.delete(*_table_and_id("delete", args, 1))


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


class QueryCtx:
    """What a query receives as its first parameter."""

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

    @overload
    def run_query(
        self, function: Function[P, Coroutine[Any, Any, T]], /, *args: P.args, **named: P.kwargs
    ) -> Operation[T]: ...

    @overload
    def run_query(self, function: Function[P, T], /, *args: P.args, **named: P.kwargs) -> Operation[T]: ...

    @overload
    def run_query(
        self, function: Function[..., Coroutine[Any, Any, T]], args: Mapping[str, Any], /
    ) -> Operation[T]: ...

    @overload
    def run_query(self, function: Function[..., T], args: Mapping[str, Any], /) -> Operation[T]: ...

    @overload
    def run_query(self, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any) -> Any: ...

    def run_query(self, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run another query on the same snapshot; in a mutation it sees what was written so far.

        `function` is a decorated function, `api.module.name`, `internal.module.name` or a path as text. Arguments are
        one dict, or keywords. What the query raises can be caught here.

        Raises:
            InvalidFunctionCall, FunctionNotFound: it is no query, or there is none.
            ArgumentsInvalid, ReturnsInvalid: arguments or result are not what it declares.
            LimitExceeded: more than 8 calls are nested in each other.
        """
        return self._run_nested("query", function, args, named)

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
    if is_async:
        auth = Auth(execution, identity, looked)
        if kind == "mutation":
            return MutationCtx(execution, DatabaseWriter(execution), auth)
        return QueryCtx(execution, DatabaseReader(execution), auth)
    blocking = BlockingAuth(execution, identity, looked)
    if kind == "mutation":
        return BlockingMutationCtx(execution, BlockingDatabaseWriter(execution), blocking)
    return BlockingQueryCtx(execution, BlockingDatabaseReader(execution), blocking)
