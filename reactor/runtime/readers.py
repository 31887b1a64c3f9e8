"""`ctx.db`, in its two forms: reading and writing documents, and reading those of system tables.

`async def` handlers get calls to await; plain `def` handlers get the same names as plain calls. Both forms are thin:
every rule is in `documents`, and queries are in `queries`. Used by `context`.
"""

from collections.abc import Mapping
from typing import Any, Self, cast

from reactor.runtime.documents import Documents
from reactor.runtime.executions import Execution, Operation
from reactor.runtime.queries import BlockingQuery, Query
from reactor.runtime.scans import Document


def table_and_id(call: str, args: tuple[Any, ...], count: int) -> tuple[Any, ...]:
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
        table, document_id = table_and_id("get", args, 1)
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
        return self._execution.documents.system_get(*table_and_id("get", args, 1))

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
        table, document_id = table_and_id("get", args, 1)
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

    @property
    def without_triggers(self) -> "DatabaseWriter":
        """The same documents, whose changes run no triggers."""
        return self

    def insert(self, table: str, document: Mapping[str, Any], /) -> Operation[str]:
        """Insert a document; return its id."""
        return Operation(self._execution, "db.insert()", lambda: self._documents.insert(table, document))

    def patch(self, *args: Any) -> Operation[None]:
        """Merge fields into a document: `patch(id, fields)` or `patch(table, id, fields)`; `undefined` removes one."""
        table, document_id, fields = table_and_id("patch", args, 2)
        return Operation(self._execution, "db.patch()", lambda: self._documents.patch(table, document_id, fields))

    def replace(self, *args: Any) -> Operation[None]:
        """Replace a document's body: `replace(id, document)` or `replace(table, id, document)`."""
        table, document_id, document = table_and_id("replace", args, 2)
        return Operation(self._execution, "db.replace()", lambda: self._documents.replace(table, document_id, document))

    def delete(self, *args: str) -> Operation[None]:
        """Delete a document: `delete(id)` or `delete(table, id)`."""
        table, document_id = table_and_id("delete", args, 1)
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
        return self._documents.get(*table_and_id("get", args, 1))

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

    @property
    def without_triggers(self) -> "BlockingDatabaseWriter":
        """The same documents, whose changes run no triggers."""
        return self

    def insert(self, table: str, document: Mapping[str, Any], /) -> str:
        """Insert a document; return its id."""
        self._execution.check_alive()
        return self._documents.insert(table, document)

    def patch(self, *args: Any) -> None:
        """Merge fields into a document: `patch(id, fields)` or `patch(table, id, fields)`; `undefined` removes one."""
        self._execution.check_alive()
        self._documents.patch(*table_and_id("patch", args, 2))

    def replace(self, *args: Any) -> None:
        """Replace a document's body: `replace(id, document)` or `replace(table, id, document)`."""
        self._execution.check_alive()
        self._documents.replace(*table_and_id("replace", args, 2))

    def delete(self, *args: str) -> None:
        """Delete a document: `delete(id)` or `delete(table, id)`."""
        self._execution.check_alive()
        self._documents.delete(*table_and_id("delete", args, 1))
