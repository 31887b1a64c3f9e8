"""Old against new schema: what a push has to check, build and drop.

Owns the decision which tables need a walk over their documents. Used by the push, which does the work.
"""

from typing import NamedTuple

import msgspec

from reactor.schema.definition import Schema, TableDefinition
from reactor.schema.indexes import AnyIndex
from reactor.schema.scalars import Anything
from reactor.schema.subset import is_subset
from reactor.schema.validator import Validator


class TableIndex(NamedTuple):
    """An index, of any kind, and the table it belongs to."""

    table: str
    definition: AnyIndex


class SchemaChange(msgspec.Struct, frozen=True):
    """What changes from one schema to the next. Everything is in order of declaration.

    An index that keeps its name and changes its fields is both removed and added: nothing of it can be reused. One that
    only becomes staged, or stops being so, is neither: what was built stays. Removed indexes come as the old schema had
    them, all others as the new one has them.
    """

    tables_to_check: frozenset[str]  # may hold documents that the new schema does not allow
    added_tables: tuple[str, ...]
    removed_tables: tuple[str, ...]  # from the schema: their documents stay
    added_indexes: tuple[TableIndex, ...]
    removed_indexes: tuple[TableIndex, ...]
    staged_indexes: tuple[TableIndex, ...]  # built, and no longer open to queries
    enabled_indexes: tuple[TableIndex, ...]  # built while staged, now open to queries

    @property
    def changed_indexes(self) -> tuple[TableIndex, ...]:
        """The added indexes that take the place of another one of the same name."""
        removed = {(table, definition.name) for table, definition in self.removed_indexes}
        return tuple(added for added in self.added_indexes if (added.table, added.definition.name) in removed)

    @property
    def is_empty(self) -> bool:
        """Whether no document has to be looked at and no table or index changes."""
        return not any(msgspec.structs.astuple(self))


def compare_schemas(old: Schema | None, new: Schema) -> SchemaChange:
    """Return what changes from `old` (None for a new deployment) to `new`.

    A table absent from `old`, or not validated by it, may hold anything.
    """
    old_tables = old.tables if old is not None else {}
    before, after = _indexes(old_tables), _indexes(new.tables)
    kept = {key for key, index in after.items() if key in before and _is_same(before[key], index)}
    flipped = [
        TableIndex(table, index)
        for (table, name), index in after.items()
        if (table, name) in kept and index.staged != before[table, name].staged
    ]
    to_check = set()
    if new.schema_validation:
        for name, table in new.tables.items():
            if not is_subset(_enforced(old, name), table.enforced):
                to_check.add(name)
    return SchemaChange(
        tables_to_check=frozenset(to_check),
        added_tables=tuple(name for name in new.tables if name not in old_tables),
        removed_tables=tuple(name for name in old_tables if name not in new.tables),
        added_indexes=tuple(TableIndex(key[0], index) for key, index in after.items() if key not in kept),
        removed_indexes=tuple(TableIndex(key[0], index) for key, index in before.items() if key not in kept),
        staged_indexes=tuple(flip for flip in flipped if flip.definition.staged),
        enabled_indexes=tuple(flip for flip in flipped if not flip.definition.staged),
    )


def _enforced(schema: Schema | None, table: str) -> Validator:
    if schema is None or not schema.schema_validation or table not in schema.tables:
        return Anything()
    return schema.tables[table].enforced


def _indexes(tables: dict[str, TableDefinition]) -> dict[tuple[str, str], AnyIndex]:
    return {(name, index.name): index for name, table in tables.items() for index in table.all_indexes()}


def _is_same(one: AnyIndex, other: AnyIndex) -> bool:
    return type(one) is type(other) and msgspec.structs.replace(one, staged=other.staged) == other
