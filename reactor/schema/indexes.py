"""Index definitions: which fields of a table are indexed, and how.

Owns the three kinds of index a schema may declare, their exported JSON, and the rules that need only the index and its
table's name. Rules across indexes, and against the validator, are in `definition`. Used by `definition` and `compare`.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from reactor.errors import SchemaInvalid, ValidationError
from reactor.limits import MAX_FILTER_FIELDS, MAX_INDEX_FIELDS, MAX_VECTOR_DIMENSIONS, MIN_VECTOR_DIMENSIONS
from reactor.values.names import check_identifier, parse_field_path

CREATION_TIME: Final = "_creationTime"
RESERVED_INDEX_NAMES: Final = ("by_id", "by_creation_time")


class IndexDefinition(msgspec.Struct, frozen=True):
    """An ordered index over `fields`, followed by `_creationTime` and `_id`."""

    kind: ClassVar[str] = "index"

    name: str
    fields: tuple[str, ...]
    staged: bool = False  # built in the background, but not open to queries

    @property
    def stored_fields(self) -> tuple[str, ...]:
        """The fields of a key, without the `_id` that always follows."""
        return (*self.fields, CREATION_TIME)

    def to_json(self) -> dict[str, Any]:
        """Return the official export; `staged` shows in the list it belongs to."""
        return {"indexDescriptor": self.name, "fields": list(self.fields)}

    @classmethod
    def from_json(cls, obj: dict[str, Any], staged: bool) -> "IndexDefinition":
        """Return the index that exports as `obj`."""
        return cls(obj["indexDescriptor"], tuple(obj["fields"]), staged)

    def check(self, table: str) -> None:
        """Check the name and the fields.

        Raises:
            SchemaInvalid: a rule is broken.
        """
        check_index_name(table, self.name)
        if not self.fields:
            kind = "staged index" if self.staged else "index"
            raise SchemaInvalid("EmptyIndex", f'In table "{table}" {kind} "{self.name}" must have at least one field.')
        if len(self.stored_fields) > MAX_INDEX_FIELDS:
            text = f'In index "{self.name}": Indexes may have up to {MAX_INDEX_FIELDS} fields.'
            raise SchemaInvalid("IndexTooManyFields", text)
        _check_fields(self.name, self.fields)
        for position, field in enumerate(self.fields):
            if field in self.fields[:position]:
                text = f'Duplicate field "{field}". Index fields must be unique within an index.'
                raise SchemaInvalid("FieldsNotUniqueWithinIndex", text)


class SearchIndexDefinition(msgspec.Struct, frozen=True):
    """A full-text index over one string field."""

    kind: ClassVar[str] = "search index"

    name: str
    search_field: str
    filter_fields: tuple[str, ...] = ()
    staged: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the official export; `staged` shows in the list it belongs to."""
        fields = {"searchField": self.search_field, "filterFields": list(self.filter_fields)}
        return {"indexDescriptor": self.name, **fields}

    @classmethod
    def from_json(cls, obj: dict[str, Any], staged: bool) -> "SearchIndexDefinition":
        """Return the index that exports as `obj`."""
        return cls(obj["indexDescriptor"], obj["searchField"], tuple(obj["filterFields"]), staged)

    def check(self, table: str) -> None:
        """Check the name and the fields.

        Raises:
            SchemaInvalid: a rule is broken.
        """
        check_index_name(table, self.name)
        _check_fields(self.name, (self.search_field, *self.filter_fields))
        _check_filter_count("Search", self.filter_fields)


class VectorIndexDefinition(msgspec.Struct, frozen=True):
    """A nearest-neighbour index over one field of float64 arrays."""

    kind: ClassVar[str] = "vector index"

    name: str
    vector_field: str
    dimensions: int
    filter_fields: tuple[str, ...] = ()
    staged: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the official export; `staged` shows in the list it belongs to."""
        shape = {"vectorField": self.vector_field, "dimensions": self.dimensions}
        return {"indexDescriptor": self.name, **shape, "filterFields": list(self.filter_fields)}

    @classmethod
    def from_json(cls, obj: dict[str, Any], staged: bool) -> "VectorIndexDefinition":
        """Return the index that exports as `obj`."""
        dimensions = int(obj["dimensions"])  # a float64 once it has been stored as a value
        return cls(obj["indexDescriptor"], obj["vectorField"], dimensions, tuple(obj["filterFields"]), staged)

    def check(self, table: str) -> None:
        """Check the name, the fields and the number of dimensions.

        Raises:
            SchemaInvalid: a rule is broken.
        """
        check_index_name(table, self.name)
        _check_fields(self.name, (self.vector_field, *self.filter_fields))
        _check_filter_count("Vector", self.filter_fields)
        if not MIN_VECTOR_DIMENSIONS <= self.dimensions <= MAX_VECTOR_DIMENSIONS:
            text = f"Dimensions {self.dimensions} must be between {MIN_VECTOR_DIMENSIONS} and {MAX_VECTOR_DIMENSIONS}."
            raise SchemaInvalid("InvalidVectorDimensionError", text)


AnyIndex: TypeAlias = IndexDefinition | SearchIndexDefinition | VectorIndexDefinition


def check_index_name(table: str, name: str) -> None:
    """Check that an index may have this name.

    Raises:
        SchemaInvalid: it is no identifier, or reserved.
    """
    if name in RESERVED_INDEX_NAMES or (isinstance(name, str) and name.startswith("_")):
        text = (
            f'In table "{table}" cannot name an index "{name}" because the name is reserved. '
            'Indexes may not start with an underscore or be named "by_id" or "by_creation_time".'
        )
        raise SchemaInvalid("IndexNameReserved", text)
    if not is_identifier(name):
        text = (
            f'Invalid index name: "{name}". Identifiers must be 64 characters or less, start with a letter, '
            "and only contain letters, digits, underscores."
        )
        raise SchemaInvalid("InvalidIndexName", text)


def is_identifier(text: object) -> bool:
    """Tell whether `text` may name a table, an index or a field of a validator."""
    if not isinstance(text, str):
        return False
    try:
        check_identifier(text)
    except ValidationError:
        return False
    return True


def _check_fields(index: str, fields: Iterable[str]) -> None:
    for field in fields:
        if field == "_id":
            text = "`_id` is not a valid index field. To load documents by ID, use `db.get(id)`."
            raise SchemaInvalid("IndexFieldsContainId", text)
        if field == CREATION_TIME:
            text = (
                "`_creationTime` is automatically added to the end of each index. It should not be added explicitly "
                "in the index definition. See https://docs.convex.dev/using/indexes for more details."
            )
            raise SchemaInvalid("IndexFieldsContainCreationTime", text)
        try:
            path = parse_field_path(field)
        except ValidationError:
            text = f'In index "{index}": Invalid index field: "{field}"'
            raise SchemaInvalid("InvalidIndexField", text) from None
        if any(part.startswith("_") for part in path):
            text = "Reserved fields (starting with `_`) are not allowed in indexes."
            raise SchemaInvalid("IndexFieldNameReserved", text)


def _check_filter_count(kind: str, fields: tuple[str, ...]) -> None:
    if len(fields) > MAX_FILTER_FIELDS:
        text = f"{kind} indexes may have up to {MAX_FILTER_FIELDS} filter fields."
        raise SchemaInvalid("IndexTooManyFilterFields", text)
