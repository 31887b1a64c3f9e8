"""Old against new schema."""

import pytest

from reactor.schema.compare import TableIndex, compare_schemas
from reactor.schema.definition import Schema, define_schema, define_table, schema_from_json
from reactor.schema.indexes import IndexDefinition, SearchIndexDefinition, VectorIndexDefinition
from reactor.schema.validator import Validator
from reactor.schema.validators import v


def schema_of(validator: Validator, *, schema_validation: bool = True) -> Schema:
    return define_schema({"t": define_table(validator)}, schema_validation=schema_validation)


NARROW = v.object({"a": v.integer()})
WIDE = v.object({"a": v.number(), "b": v.optional(v.string())})


def test_first_schema_checks_every_table_but_those_of_any() -> None:
    new = define_schema({"t": define_table(WIDE), "u": define_table(v.any())})
    change = compare_schemas(None, new)
    assert change.tables_to_check == {"t"}
    assert change.added_tables == ("t", "u")
    assert not change.is_empty


@pytest.mark.parametrize(
    ("old", "new", "checked"),
    [
        (NARROW, NARROW, False),
        (NARROW, WIDE, False),
        (WIDE, NARROW, True),
        (v.any(), WIDE, True),
        (WIDE, v.any(), False),
        (v.object({"_id": v.any(), "a": v.integer()}), v.object({"a": v.number()}), False),
        (NARROW, v.union(v.object({"x": v.null()}), WIDE), False),
    ],
)
def test_only_tables_that_may_hold_refused_documents_are_walked(old: Validator, new: Validator, checked: bool) -> None:
    change = compare_schemas(schema_of(old), schema_of(new))
    assert change.tables_to_check == ({"t"} if checked else set())


def test_without_validation_nothing_is_walked_and_nothing_is_known() -> None:
    off = schema_of(NARROW, schema_validation=False)
    assert compare_schemas(schema_of(WIDE), off).tables_to_check == frozenset()
    assert compare_schemas(off, schema_of(NARROW)).tables_to_check == {"t"}


def test_a_table_that_was_not_in_the_schema_may_hold_anything() -> None:
    change = compare_schemas(define_schema({"old": define_table(NARROW)}), schema_of(NARROW))
    assert change.tables_to_check == {"t"}
    assert change.added_tables == ("t",)
    assert change.removed_tables == ("old",)


def test_equal_schemas_change_nothing() -> None:
    schema = define_schema({"t": define_table(NARROW).index("i", ["a"])})
    assert compare_schemas(schema, schema_from_json(schema.to_json(stored=True))).is_empty


def test_indexes_are_compared_by_table_and_name() -> None:
    old = define_schema(
        {
            "t": define_table(v.any()).index("kept", ["a"]).index("changed", ["a", "b"]).index("dropped", ["c"]),
            "gone": define_table(v.any()).search_index("s", search_field="a"),
        }
    )
    new = define_schema(
        {
            "t": define_table(v.any())
            .index("kept", ["a"])
            .index("changed", ["b"])
            .vector_index("new", vector_field="e", dimensions=4),
            "u": define_table(v.any()).index("kept", ["a"]),
        }
    )
    change = compare_schemas(old, new)
    assert change.added_indexes == (
        TableIndex("t", IndexDefinition("changed", ("b",))),
        TableIndex("t", VectorIndexDefinition("new", "e", 4)),
        TableIndex("u", IndexDefinition("kept", ("a",))),
    )
    assert change.removed_indexes == (
        TableIndex("t", IndexDefinition("changed", ("a", "b"))),
        TableIndex("t", IndexDefinition("dropped", ("c",))),
        TableIndex("gone", SearchIndexDefinition("s", "a")),
    )
    assert change.changed_indexes == (TableIndex("t", IndexDefinition("changed", ("b",))),)


def test_an_index_that_changes_its_kind_is_built_anew() -> None:
    old = define_schema({"t": define_table(v.any()).index("i", ["a"])})
    new = define_schema({"t": define_table(v.any()).search_index("i", search_field="a")})
    change = compare_schemas(old, new)
    assert [index.definition.kind for index in change.added_indexes] == ["search index"]
    assert [index.definition.kind for index in change.removed_indexes] == ["index"]


def test_staging_rebuilds_nothing() -> None:
    open_index = define_schema({"t": define_table(v.any()).index("i", ["a"]).index("j", ["b"])})
    staged = define_schema({"t": define_table(v.any()).index("i", ["a"], staged=True).index("j", ["b"])})
    change = compare_schemas(open_index, staged)
    assert change.staged_indexes == (TableIndex("t", IndexDefinition("i", ("a",), staged=True)),)
    assert change.added_indexes == change.removed_indexes == change.enabled_indexes == ()
    back = compare_schemas(staged, open_index)
    assert back.enabled_indexes == (TableIndex("t", IndexDefinition("i", ("a",))),)
    assert not back.is_empty
