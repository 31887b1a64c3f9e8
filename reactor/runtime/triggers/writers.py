"""`ctx.db` of mutations where there are triggers: each write is followed by them.

Promises that every way to write goes by the triggers but `without_triggers`, also past the row rules. Projects and
components without triggers never come here. Used by `context`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

from reactor.runtime.executions import Execution, NestedCall, Operation, run_to_end
from reactor.runtime.readers import (
    BlockingDatabaseWriter,
    DatabaseWriter,
    past_rules,
    table_and_id,
)
from reactor.runtime.triggers.firing import Firing


class TriggeringWriter(DatabaseWriter):
    """`ctx.db` of an `async def` mutation, or of an `async def` trigger."""

    __slots__ = ("_firing",)

    def __init__(self, execution: Execution, firing: Firing) -> None:
        super().__init__(execution)
        self._firing = firing

    @property
    def unsafe(self) -> Self:
        """See `DatabaseReader.unsafe`."""
        return type(self)(past_rules(self._execution), self._firing)

    @property
    def without_triggers(self) -> DatabaseWriter:
        """See `DatabaseWriter.without_triggers`."""
        return DatabaseWriter(self._execution)

    def insert(self, table: str, document: Mapping[str, Any], /) -> Operation[str]:
        """See `DatabaseWriter.insert`."""
        return self._write("db.insert()", lambda: self._documents.insert(table, document))

    def patch(self, *args: Any) -> Operation[None]:
        """See `DatabaseWriter.patch`."""
        table, document_id, fields = table_and_id("patch", args, 2)
        return self._write("db.patch()", lambda: self._documents.patch(table, document_id, fields))

    def replace(self, *args: Any) -> Operation[None]:
        """See `DatabaseWriter.replace`."""
        table, document_id, document = table_and_id("replace", args, 2)
        return self._write("db.replace()", lambda: self._documents.replace(table, document_id, document))

    def delete(self, *args: str) -> Operation[None]:
        """See `DatabaseWriter.delete`."""
        table, document_id = table_and_id("delete", args, 1)
        return self._write("db.delete()", lambda: self._documents.delete(table, document_id))

    def _write(self, name: str, act: Callable[[], Any]) -> NestedCall[Any]:
        execution, firing = self._execution, self._firing
        return NestedCall(execution, name, lambda: firing.write(execution, act), depth=3)


class BlockingTriggeringWriter(BlockingDatabaseWriter):
    """`ctx.db` of a plain `def` mutation, or of a plain trigger."""

    __slots__ = ("_firing",)

    def __init__(self, execution: Execution, firing: Firing) -> None:
        super().__init__(execution)
        self._firing = firing

    @property
    def unsafe(self) -> Self:
        """See `BlockingDatabaseReader.unsafe`."""
        return type(self)(past_rules(self._execution), self._firing)

    @property
    def without_triggers(self) -> BlockingDatabaseWriter:
        """See `BlockingDatabaseWriter.without_triggers`."""
        return BlockingDatabaseWriter(self._execution)

    def insert(self, table: str, document: Mapping[str, Any], /) -> str:
        """See `BlockingDatabaseWriter.insert`."""
        return self._write(lambda: self._documents.insert(table, document))  # type: ignore[no-any-return]

    def patch(self, *args: Any) -> None:
        """See `BlockingDatabaseWriter.patch`."""
        self._write(lambda: self._documents.patch(*table_and_id("patch", args, 2)))

    def replace(self, *args: Any) -> None:
        """See `BlockingDatabaseWriter.replace`."""
        self._write(lambda: self._documents.replace(*table_and_id("replace", args, 2)))

    def delete(self, *args: str) -> None:
        """See `BlockingDatabaseWriter.delete`."""
        self._write(lambda: self._documents.delete(*table_and_id("delete", args, 1)))

    def _write(self, act: Callable[[], Any]) -> Any:
        self._execution.check_alive()
        return run_to_end(self._firing.write(self._execution, act))
