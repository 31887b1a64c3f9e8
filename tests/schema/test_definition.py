"""Schemas: exports, every rule for tables and indexes, and the checks at a write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reactor.errors import SchemaInvalid, ValidationError
from reactor.schema.definition import Schema, TableDefinition, define_schema, define_table, schema_from_json
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.types import Value
from tests.schema.strategies import TABLES

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "validators.json").read_text())
FIELDS: dict[str, Validator] = {
    "a": v.string(),
    "b": v.object({"c": v.number()}),
    "s": v.string(),
    "e": v.optional(v.array(v.number())),
}


def table() -> TableDefinition:
    return define_table(FIELDS)


def full_schema() -> Schema:
    users = (
        define_table(
            {
                "name": v.string(),
                "age": v.optional(v.number()),
                "tags": v.array(v.string()),
                "emb": v.array(v.float64()),
            }
        )
        .index("by_name", ["name"])
        .index("by_age_name", ["age", "name"])
        .index("staged_tags", ["tags"], staged=True)
        .search_index("search_name", search_field="name", filter_fields=["age"])
        .search_index("staged_s", search_field="tags", staged=True)
        .vector_index("by_emb", vector_field="emb", dimensions=4, filter_fields=["name"])
        .vector_index("staged_v", vector_field="emb", dimensions=8, staged=True)
    )
    events = define_table(
        v.union(
            v.object({"kind": v.literal("a"), "x": v.number()}), v.object({"kind": v.literal("b"), "y": v.string()})
        )
    )
    staged = define_table({"apple": v.string(), "legacy": v.optional(v.string())}).staged(
        {"apple": v.union(v.string(), v.number())}
    )
    return define_schema({"users": users, "events": events, "loose": define_table(v.any()), "staged": staged})


def test_export_is_official() -> None:
    assert full_schema().to_json() == VECTORS["schema_export"]
    off = define_schema({"t": define_table({})}, schema_validation=False, strict_table_names=False)
    assert off.to_json() == VECTORS["schema_export_options_off"]


@pytest.mark.parametrize("strict", [True, False])
def test_stored_form_restores_what_was_declared(strict: bool) -> None:
    schema = full_schema()
    schema.tables["users"].validator = v.object({"n": v.integer()})
    schema.strict_table_names = strict
    restored = schema_from_json(json.loads(json.dumps(schema.to_json(stored=True))))
    assert restored == schema
    assert hash(restored) == hash(schema)
    assert restored.tables["users"].validator == v.object({"n": v.integer()})
    assert restored.to_json() == schema.to_json()
    assert restored != define_schema({})
    assert restored != "schema"


def test_official_export_of_unknown_origin_can_be_read() -> None:
    schema = schema_from_json({"tables": [{"tableName": "t", "indexes": [], "documentType": {"type": "any"}}]})
    assert not schema.schema_validation
    assert schema.strict_table_names
    assert schema.tables["t"].all_indexes() == ()


def full(count: int) -> TableDefinition:
    result = define_table(v.any())
    for position in range(count):
        result.index(f"i{position}", [f"f{position}"])
    return result


LONG = "x" * 65
NOT_A_TABLE: Any = v.object({})
RESERVED = (
    'In table "t" cannot name an index "{}" because the name is reserved. '
    'Indexes may not start with an underscore or be named "by_id" or "by_creation_time".'
)
BAD_INDEX_NAME = (
    'Invalid index name: "{}". Identifiers must be 64 characters or less, start with a letter, '
    "and only contain letters, digits, underscores."
)
MISSING = 'In table "t" the {} "i" is invalid because it references the field "{}" that does not exist.'
NO_VECTOR = (
    'In table "t" the vector index "i" is invalid because it references the field "{}" '
    "that is neither an array of float64 or optional array of float64."
)
NOT_LIST = 'In index "i": fields are given as a list of names, such as ["{}"].'

# What breaks a rule, the rule's code, and its text.
BROKEN: list[tuple[Callable[[], TableDefinition], str, str]] = [
    (lambda: table().index("1x", ["a"]), "InvalidIndexName", BAD_INDEX_NAME.format("1x")),
    (lambda: table().index(LONG, ["a"]), "InvalidIndexName", BAD_INDEX_NAME.format(LONG)),
    (lambda: table().search_index("a-b", search_field="s"), "InvalidIndexName", BAD_INDEX_NAME.format("a-b")),
    (
        lambda: table().vector_index("", vector_field="e", dimensions=4),
        "InvalidIndexName",
        BAD_INDEX_NAME.format(""),
    ),
    (lambda: table().index(None, ["a"]), "InvalidIndexName", BAD_INDEX_NAME.format("None")),  # type: ignore[arg-type]
    (lambda: table().index("by_id", ["a"]), "IndexNameReserved", RESERVED.format("by_id")),
    (lambda: table().index("by_creation_time", ["a"]), "IndexNameReserved", RESERVED.format("by_creation_time")),
    (lambda: table().search_index("_x", search_field="s"), "IndexNameReserved", RESERVED.format("_x")),
    (
        lambda: table().index("i", ["a"]).search_index("i", search_field="s"),
        "IndexNamesNotUnique",
        'Table "t" has two or more definitions of index "i".',
    ),
    (
        lambda: table().index("i", ["a"]).index("i", ["s"], staged=True),
        "IndexNamesNotUnique",
        'Table "t" has two or more definitions of index "i".',
    ),
    (lambda: table().index("i", []), "EmptyIndex", 'In table "t" index "i" must have at least one field.'),
    (
        lambda: table().index("i", [], staged=True),
        "EmptyIndex",
        'In table "t" staged index "i" must have at least one field.',
    ),
    (
        lambda: define_table(v.any()).index("i", [f"f{n}" for n in range(16)]),
        "IndexTooManyFields",
        'In index "i": Indexes may have up to 16 fields.',
    ),
    (
        lambda: table().index("i", ["a", "b.c", "a"]),
        "FieldsNotUniqueWithinIndex",
        'Duplicate field "a". Index fields must be unique within an index.',
    ),
    (
        lambda: table().index("i", ["a", "_id"]),
        "IndexFieldsContainId",
        "`_id` is not a valid index field. To load documents by ID, use `db.get(id)`.",
    ),
    (
        lambda: table().index("i", ["_creationTime"]),
        "IndexFieldsContainCreationTime",
        "`_creationTime` is automatically added to the end of each index. It should not be added explicitly in the "
        "index definition. See https://docs.convex.dev/using/indexes for more details.",
    ),
    (
        lambda: table().index("i", ["b._x"]),
        "IndexFieldNameReserved",
        "Reserved fields (starting with `_`) are not allowed in indexes.",
    ),
    (lambda: table().index("i", ["a b"]), "InvalidIndexField", 'In index "i": Invalid index field: "a b"'),
    (lambda: table().index("i", ["."]), "InvalidIndexField", 'In index "i": Invalid index field: ""'),
    (
        lambda: table().search_index("i", search_field="a..b"),
        "InvalidIndexField",
        'In index "i": Invalid index field: "a..b"',
    ),
    (
        lambda: table().vector_index("i", vector_field="e", dimensions=4, filter_fields=["1"]),
        "InvalidIndexField",
        'In index "i": Invalid index field: "1"',
    ),
    (lambda: table().index("i", "name"), "InvalidIndexField", NOT_LIST.format("name")),
    (
        lambda: table().index("one", ["a", "s"]).index("two", ["a", "s"], staged=True),
        "IndexNotUnique",
        'In table "t" index "one" and index "two" have the same fields. Indexes must be unique within a table.',
    ),
    (
        lambda: (
            table()
            .search_index("one", search_field="s", filter_fields=["a", "b.c"])
            .search_index("two", search_field="s", filter_fields=["b.c", "a"])
        ),
        "SearchIndexFieldNotUnique",
        'In table "t" search index "one" and search index "two" have the same search field and filter fields. '
        "Search indexes must be unique within a table.",
    ),
    (
        lambda: (
            table()
            .vector_index("one", vector_field="e", dimensions=4)
            .vector_index("two", vector_field="e", dimensions=4, filter_fields=["a"])
        ),
        "VectorIndexFieldNotUnique",
        'In table "t" vector index "one" and vector index "two" have the same vector field and dimensions. '
        "Vector indexes must be unique within a table.",
    ),
    (
        lambda: define_table(v.any()).search_index("i", search_field="s", filter_fields=[f"f{n}" for n in range(17)]),
        "IndexTooManyFilterFields",
        "Search indexes may have up to 16 filter fields.",
    ),
    (
        lambda: define_table(v.any()).vector_index(
            "i", vector_field="e", dimensions=4, filter_fields=[f"f{n}" for n in range(17)]
        ),
        "IndexTooManyFilterFields",
        "Vector indexes may have up to 16 filter fields.",
    ),
    (
        lambda: table().vector_index("i", vector_field="e", dimensions=1),
        "InvalidVectorDimensionError",
        "Dimensions 1 must be between 2 and 4096.",
    ),
    (
        lambda: table().vector_index("i", vector_field="e", dimensions=4097, staged=True),
        "InvalidVectorDimensionError",
        "Dimensions 4097 must be between 2 and 4096.",
    ),
    (lambda: full(65), "TooManyIndexes", 'Table "t" cannot have more than 64 indexes.'),
    (lambda: table().index("i", ["b.d"]), "SchemaDefinitionError", MISSING.format("index", "b.d")),
    (lambda: table().index("i", ["a.x"]), "SchemaDefinitionError", MISSING.format("index", "a.x")),
    (
        lambda: table().search_index("i", search_field="x"),
        "SchemaDefinitionError",
        MISSING.format("search index", "x"),
    ),
    (
        lambda: table().search_index("i", search_field="s", filter_fields=["x"]),
        "SchemaDefinitionError",
        MISSING.format("search index", "x"),
    ),
    (
        lambda: table().vector_index("i", vector_field="e", dimensions=4, filter_fields=["x"]),
        "SchemaDefinitionError",
        MISSING.format("vector index", "x"),
    ),
    (
        lambda: table().vector_index("i", vector_field="x", dimensions=4),
        "SchemaDefinitionError",
        NO_VECTOR.format("x"),
    ),
    (
        lambda: table().vector_index("i", vector_field="s", dimensions=4),
        "SchemaDefinitionError",
        NO_VECTOR.format("s"),
    ),
    (
        lambda: define_table(v.string()),
        "InvalidTopLevelTypeInSchemaError",
        "The document validator in a schema must be an object, a union of objects, or `v.any()`. Found v.string(). "
        "To learn more, see the schema documentation at https://docs.convex.dev/database/schemas.",
    ),
    (
        lambda: define_table({"a b": v.string()}),
        "InvalidIdentifier",
        "Invalid validator for key `a b`: Identifier a b has invalid character ' ': "
        "Identifiers can only contain alphanumeric characters or underscores",
    ),
    (
        lambda: table().staged({"r": v.record(v.literal("x"), v.any())}),
        "InvalidRecordType",
        "Invalid validator for key `r`: Records cannot have string literal keys",
    ),
    (
        lambda: define_table([]),  # type: ignore[arg-type]
        "InvalidValidator",
        "v.object() takes a dict from field names to validators",
    ),
    (
        lambda: NOT_A_TABLE,
        "InvalidSchemaExport",
        'Table "t" must be made by define_table(), not Object.',
    ),
]


@pytest.mark.parametrize(("build", "rule", "text"), BROKEN, ids=[f"{n}-{case[1]}" for n, case in enumerate(BROKEN)])
def test_broken_rule_is_named(build: Callable[[], TableDefinition], rule: str, text: str) -> None:
    with pytest.raises(SchemaInvalid) as failure:
        define_schema({"t": build()})
    assert (failure.value.rule, str(failure.value)) == (rule, text)


@pytest.mark.parametrize("name", ["1t", "a b", "", LONG, "é", 5])
def test_table_names_are_identifiers(name: Any) -> None:
    with pytest.raises(SchemaInvalid) as failure:
        define_schema({name: table()})
    assert failure.value.rule == "InvalidTableName"
    assert str(failure.value) == (
        f'Invalid table name: "{name}". Identifiers must start with a letter and can only contain letters, '
        "digits, and underscores."
    )


def test_system_table_names_are_reserved() -> None:
    with pytest.raises(SchemaInvalid) as failure:
        define_schema({"_storage": table()})
    assert (failure.value.rule, str(failure.value)) == ("TableNameReserved", "_storage is a reserved table name.")


def test_number_of_tables_is_limited() -> None:
    definition = define_table(v.any())
    with pytest.raises(SchemaInvalid) as failure:
        define_schema({f"t{position}": definition for position in range(10_001)})
    assert (failure.value.rule, str(failure.value)) == ("TooManyTables", "Number of tables cannot exceed 10000.")


def test_largest_allowed_definitions_pass() -> None:
    widest = define_table(v.any()).index("i", [f"f{n}" for n in range(15)])
    filters = [f"f{n}" for n in range(16)]
    widest.search_index("s", search_field="s", filter_fields=filters)
    widest.vector_index("v2", vector_field="e", dimensions=2, filter_fields=filters)
    widest.vector_index("v4096", vector_field="e", dimensions=4096)
    define_schema({"x" * 64: widest, "full": full(64)})


def test_fields_need_not_exist_without_schema_validation() -> None:
    definition = table().index("i", ["nowhere"]).vector_index("j", vector_field="nowhere", dimensions=4)
    define_schema({"t": definition}, schema_validation=False)


def test_dots_at_the_ends_of_a_path_do_not_count() -> None:
    definition = table().index("i", [".b.c."])
    assert definition.stored_fields("i") == ("b.c", "_creationTime")


def test_only_ordered_indexes_open_to_queries_have_stored_fields() -> None:
    definition = table().index("open", ["a"]).index("closed", ["s"], staged=True)
    definition.search_index("text", search_field="s")
    assert definition.stored_fields("open") == ("a", "_creationTime")
    assert definition.stored_fields("closed") is None
    assert definition.stored_fields("text") is None
    assert definition.stored_fields("missing") is None


def accepts(definition: TableDefinition, document: dict[str, Value]) -> bool:
    """The verdict, once both checks agree on it and the text shows no system field."""
    if definition.accepts_document(document, TABLES):
        definition.check_document(document, TABLES)
        return True
    with pytest.raises(ValidationError) as failure:
        definition.check_document(document, TABLES)
    assert "_id" not in str(failure.value)
    return False


SYSTEM: dict[str, Value] = {"_id": "x", "_creationTime": 1.0}


def test_documents_are_checked_without_their_system_fields() -> None:
    definition = define_table({"a": v.number(), "_id": v.number()})
    assert accepts(definition, {"a": 1.0})
    assert accepts(definition, {"a": 1.0, **SYSTEM})
    assert accepts(definition, {"a": 1.0, **SYSTEM, "_other": None})
    assert not accepts(definition, {"a": "x", **SYSTEM, "_other": None})
    assert not accepts(definition, {"a": "x", **SYSTEM})
    assert not accepts(definition, {"a": 1.0, "b": 1.0, **SYSTEM})
    assert not accepts(definition, SYSTEM)


def test_a_table_of_any_or_without_validation_takes_everything() -> None:
    assert accepts(define_table(v.any()), {"whatever": None, **SYSTEM})
    definition = define_table({"n": v.integer()}).index("i", ["n"])
    unchecked = definition.unchecked()
    assert accepts(unchecked, {"whatever": None})
    assert unchecked.stored_fields("i") == ("n", "_creationTime")
    assert unchecked.has_view
    assert not accepts(definition, {"whatever": None})


def test_documents_are_viewed_with_their_system_fields() -> None:
    definition = define_table({"n": v.integer()})
    stored: dict[str, Value] = {"n": 3.0, **SYSTEM}
    viewed = definition.view_document(stored)
    assert viewed == {"n": 3, **SYSTEM}
    assert type(viewed["n"]) is int
    assert type(stored["n"]) is float
    assert definition.has_view
    assert not table().has_view


def test_documents_of_a_union_are_viewed_as_the_member_that_fits() -> None:
    definition = define_table(
        v.union(
            v.object({"kind": v.literal("i"), "n": v.integer()}), v.object({"kind": v.literal("f"), "n": v.number()})
        )
    )
    assert type(definition.view_document({"kind": "i", "n": 3.0, **SYSTEM})["n"]) is int
    viewed = definition.view_document({"kind": "f", "n": 3.0, **SYSTEM})
    assert type(viewed["n"]) is float
    assert viewed["_id"] == "x"
