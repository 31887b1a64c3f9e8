"""Schemas: tables, the validators of their documents, and their indexes.

Owns `define_schema` and `define_table`, the rules a schema must keep (`Schema.check`, official codes and texts), and
the two JSON forms: the official export, and the one we store, which adds what that leaves out (`strictTableNames`, the
`integer` of validators). Used by projects, by the runtime at every write, and by `compare`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final, Self

from reactor.errors import SchemaInvalid
from reactor.limits import MAX_INDEXES_PER_TABLE, MAX_TABLES
from reactor.schema.containers import Object
from reactor.schema.indexes import (
    AnyIndex,
    IndexDefinition,
    SearchIndexDefinition,
    VectorIndexDefinition,
    is_identifier,
)
from reactor.schema.rules import can_be_vector, check_document_validator, validators_at, without_system_fields
from reactor.schema.scalars import Anything
from reactor.schema.validator import TableNumbers, Validator
from reactor.schema.validators import validator_from_json
from reactor.values.names import parse_field_path
from reactor.values.types import Value

_SYSTEM_FIELDS: Final = ("_id", "_creationTime")


class TableDefinition:
    """The documents and indexes of one table. The methods that add an index return the table, for chaining."""

    def __init__(self, validator: Validator) -> None:
        self.validator = validator
        self.staged_validator: Validator | None = None
        self.indexes: tuple[IndexDefinition, ...] = ()
        self.search_indexes: tuple[SearchIndexDefinition, ...] = ()
        self.vector_indexes: tuple[VectorIndexDefinition, ...] = ()
        self.enforced = without_system_fields(validator)
        self._is_checked = not isinstance(validator, Anything)
        self._named: tuple[IndexDefinition, ...] | None = None  # the indexes that `_stored_fields` was made from
        self._stored_fields: dict[str, tuple[str, ...]] = {}

    def index(self, name: str, fields: Sequence[str], *, staged: bool = False) -> Self:
        """Add an ordered index. `_creationTime` and `_id` follow `fields` by themselves."""
        self.indexes += (IndexDefinition(name, _field_names(name, fields), staged),)
        return self

    def search_index(
        self, name: str, *, search_field: str, filter_fields: Sequence[str] = (), staged: bool = False
    ) -> Self:
        """Add a full-text index."""
        filters = _field_names(name, filter_fields)
        self.search_indexes += (SearchIndexDefinition(name, search_field.strip("."), filters, staged),)
        return self

    def vector_index(
        self, name: str, *, vector_field: str, dimensions: int, filter_fields: Sequence[str] = (), staged: bool = False
    ) -> Self:
        """Add a vector index."""
        filters = _field_names(name, filter_fields)
        index = VectorIndexDefinition(name, vector_field.strip("."), dimensions, filters, staged)
        self.vector_indexes += (index,)
        return self

    def staged(self, fields: Mapping[str, Validator] | Validator) -> Self:
        """Propose the next validator of the documents. It is kept and exported; writes are not checked against it."""
        self.staged_validator = _document_validator(fields)
        return self

    def all_indexes(self) -> tuple[AnyIndex, ...]:
        """Return the indexes of every kind."""
        return (*self.indexes, *self.search_indexes, *self.vector_indexes)

    def stored_fields(self, name: str) -> tuple[str, ...] | None:
        """Return the key fields, without `_id`, of the ordered index open to queries under `name`."""
        if self._named is not self.indexes:
            self._named = self.indexes
            self._stored_fields = {index.name: index.stored_fields for index in self.indexes if not index.staged}
        return self._stored_fields.get(name)

    def unchecked(self) -> "TableDefinition":
        """Return the same table for a schema without validation: documents are viewed, but none is refused."""
        table = copy(self)
        table._is_checked = False
        return table

    def accepts_document(self, document: dict[str, Value], tables: TableNumbers) -> bool:
        """Tell whether a normalised document is allowed; its top-level fields named `_…` don't count."""
        if not self._is_checked:
            return True
        fields = document.copy()
        for name in _SYSTEM_FIELDS:
            fields.pop(name, None)
        if self.enforced.accepts(fields, tables):
            return True
        others = _without_system_fields(fields)
        return len(others) < len(fields) and self.enforced.accepts(others, tables)

    def check_document(self, document: dict[str, Value], tables: TableNumbers) -> None:
        """Explain what is wrong with a document that `accepts_document` refused.

        Raises:
            ValidationError: the document is not allowed. The text has no prefix.
        """
        if self._is_checked:
            self.enforced.check(_without_system_fields(document), tables)

    @property
    def has_view(self) -> bool:
        """Whether Python code receives documents otherwise than they are stored."""
        return self.enforced.has_view

    def view_document(self, document: dict[str, Value]) -> dict[str, Value]:
        """Return a stored document as Python code receives it: with an `int` at every `v.integer()`."""
        if isinstance(self.enforced, Object):
            viewed = self.enforced.view(document)
            assert isinstance(viewed, dict)
            return viewed
        # A union tells its members apart by their fields, among which the system fields are not.
        viewed = self.enforced.view(_without_system_fields(document))
        assert isinstance(viewed, dict)
        return {**document, **viewed}

    def to_json(self, name: str, *, stored: bool = False) -> dict[str, Any]:
        """Return the export of this table under `name`."""
        exported = {
            "tableName": name,
            "indexes": _export(self.indexes, staged=False),
            "stagedDbIndexes": _export(self.indexes, staged=True),
            "searchIndexes": _export(self.search_indexes, staged=False),
            "stagedSearchIndexes": _export(self.search_indexes, staged=True),
            "vectorIndexes": _export(self.vector_indexes, staged=False),
            "stagedVectorIndexes": _export(self.vector_indexes, staged=True),
            "documentType": self.validator.to_json(stored=stored),
        }
        if self.staged_validator is not None:
            exported["stagedDocumentType"] = self.staged_validator.to_json(stored=stored)
        return exported

    def check(self, name: str, *, schema_validation: bool) -> None:
        """Check every rule for this table under `name`.

        Raises:
            SchemaInvalid: a rule is broken.
        """
        _check_table_name(name)
        check_document_validator(self.validator)
        if self.staged_validator is not None:
            check_document_validator(self.staged_validator)
        indexes = self.all_indexes()
        if len(indexes) > MAX_INDEXES_PER_TABLE:
            text = f'Table "{name}" cannot have more than {MAX_INDEXES_PER_TABLE} indexes.'
            raise SchemaInvalid("TooManyIndexes", text)
        names = set()
        for index in indexes:
            index.check(name)
            if index.name in names:
                text = f'Table "{name}" has two or more definitions of index "{index.name}".'
                raise SchemaInvalid("IndexNamesNotUnique", text)
            names.add(index.name)
        self._check_duplicates(name)
        if schema_validation:
            for index in indexes:
                self._check_field_paths(name, index)

    def _check_duplicates(self, table: str) -> None:
        same: dict[object, AnyIndex] = {}
        for index in self.all_indexes():
            match index:
                case IndexDefinition():
                    identity: tuple[object, ...] = (index.kind, index.fields)
                    rule, what, plural = "IndexNotUnique", "fields", "Indexes"
                case SearchIndexDefinition():
                    identity = (index.kind, index.search_field, frozenset(index.filter_fields))
                    rule, what, plural = "SearchIndexFieldNotUnique", "search field and filter fields", "Search indexes"
                case VectorIndexDefinition():
                    identity = (index.kind, index.vector_field, index.dimensions)
                    rule, what, plural = "VectorIndexFieldNotUnique", "vector field and dimensions", "Vector indexes"
            first = same.setdefault(identity, index)
            if first is not index:
                raise SchemaInvalid(
                    rule,
                    f'In table "{table}" {index.kind} "{first.name}" and {index.kind} "{index.name}" have the same '
                    f"{what}. {plural} must be unique within a table.",
                )

    def _check_field_paths(self, table: str, index: AnyIndex) -> None:
        prefix = f'In table "{table}" the {index.kind} "{index.name}" is invalid because it references the field'
        match index:
            case IndexDefinition():
                fields = index.fields
            case SearchIndexDefinition():
                fields = (index.search_field, *index.filter_fields)
            case VectorIndexDefinition():
                fields = index.filter_fields
                at_path = validators_at(self.enforced, parse_field_path(index.vector_field))
                if not any(can_be_vector(validator) for validator in at_path):
                    text = "that is neither an array of float64 or optional array of float64."
                    raise SchemaInvalid("SchemaDefinitionError", f'{prefix} "{index.vector_field}" {text}')
        for field in fields:
            if not any(True for _ in validators_at(self.enforced, parse_field_path(field))):
                raise SchemaInvalid("SchemaDefinitionError", f'{prefix} "{field}" that does not exist.')


class Schema:
    """Every table of a project. `schema_validation` and `strict_table_names` are those of `define_schema`."""

    def __init__(
        self, tables: Mapping[str, TableDefinition], schema_validation: bool, strict_table_names: bool
    ) -> None:
        self.tables = dict(tables)
        self.schema_validation = schema_validation
        self.strict_table_names = strict_table_names

    def check(self) -> None:
        """Check every rule a schema must keep.

        Raises:
            SchemaInvalid: a rule is broken; `rule` is the official code.
        """
        if len(self.tables) > MAX_TABLES:
            raise SchemaInvalid("TooManyTables", f"Number of tables cannot exceed {MAX_TABLES}.")
        for name, table in self.tables.items():
            table.check(name, schema_validation=self.schema_validation)

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        """Return the official export, or with `stored` the form that `schema_from_json` restores in full."""
        exported: dict[str, Any] = {
            "tables": [table.to_json(name, stored=stored) for name, table in self.tables.items()],
            "schemaValidation": self.schema_validation,
        }
        if stored:
            exported["strictTableNames"] = self.strict_table_names
        return exported

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> str:
        tables = {name: table.to_json(name, stored=True) for name, table in self.tables.items()}
        return json.dumps([tables, self.schema_validation, self.strict_table_names], sort_keys=True)


def define_schema(
    tables: Mapping[str, TableDefinition], *, schema_validation: bool = True, strict_table_names: bool = True
) -> Schema:
    """Define the tables of a project.

    Args:
        tables: name to `define_table(…)`.
        schema_validation: refuse documents that their table's validator does not accept.
        strict_table_names: refuse access to tables that are not named here.

    Raises:
        SchemaInvalid: a rule is broken; the message says which, and where.
    """
    for name, table in tables.items():
        _require_table(name, table)
    schema = Schema(tables, schema_validation, strict_table_names)
    schema.check()
    return schema


def define_table(fields: Mapping[str, Validator] | Validator) -> TableDefinition:
    """Define a table by the fields of its documents, or by an object validator, a union of those, or `v.any()`.

    Raises:
        SchemaInvalid: `fields` are no validators.
    """
    return TableDefinition(_document_validator(fields))


def schema_from_json(obj: Mapping[str, Any]) -> Schema:
    """Return the schema that exports as `obj`, in the official or in the stored form.

    Raises:
        SchemaInvalid: a validator in it has no known type.
    """
    tables = {table["tableName"]: _table_from_json(table) for table in obj["tables"]}
    return Schema(tables, obj.get("schemaValidation", False), obj.get("strictTableNames", True))


def _table_from_json(obj: Mapping[str, Any]) -> TableDefinition:
    table = TableDefinition(validator_from_json(obj["documentType"]))
    if "stagedDocumentType" in obj:
        table.staged_validator = validator_from_json(obj["stagedDocumentType"])

    def items(key: str) -> Iterable[tuple[dict[str, Any], bool]]:
        staged_key = f"staged{'Db' if key == 'indexes' else ''}{key[0].upper()}{key[1:]}"
        return [(item, False) for item in obj.get(key, [])] + [(item, True) for item in obj.get(staged_key, [])]

    table.indexes = tuple(IndexDefinition.from_json(*item) for item in items("indexes"))
    table.search_indexes = tuple(SearchIndexDefinition.from_json(*item) for item in items("searchIndexes"))
    table.vector_indexes = tuple(VectorIndexDefinition.from_json(*item) for item in items("vectorIndexes"))
    return table


def _require_table(name: str, table: object) -> None:
    if not isinstance(table, TableDefinition):
        text = f'Table "{name}" must be made by define_table(), not {type(table).__name__}.'
        raise SchemaInvalid("InvalidSchemaExport", text)


def _document_validator(fields: Mapping[str, Validator] | Validator) -> Validator:
    return fields if isinstance(fields, Validator) else Object(fields)


def _field_names(index: str, fields: Sequence[str]) -> tuple[str, ...]:
    if isinstance(fields, str) or not all(isinstance(field, str) for field in fields):
        text = f'In index "{index}": fields are given as a list of names, such as ["{fields}"].'
        raise SchemaInvalid("InvalidIndexField", text)
    return tuple(field.strip(".") for field in fields)


def _export(indexes: Sequence[AnyIndex], *, staged: bool) -> list[dict[str, Any]]:
    return [index.to_json() for index in indexes if index.staged == staged]


def _without_system_fields(document: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in document.items() if not name.startswith("_")}


def _check_table_name(name: str) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SchemaInvalid("TableNameReserved", f"{name} is a reserved table name.")
    if not is_identifier(name):
        raise SchemaInvalid(
            "InvalidTableName",
            f'Invalid table name: "{name}". Identifiers must start with a letter and can only contain letters, '
            "digits, and underscores.",
        )
