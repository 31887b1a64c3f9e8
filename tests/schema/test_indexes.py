"""Index definitions by themselves."""

import pytest

from reactor.errors import SchemaInvalid
from reactor.schema.indexes import (
    IndexDefinition,
    SearchIndexDefinition,
    VectorIndexDefinition,
    check_index_name,
    is_identifier,
)


def test_indexes_are_restored_from_their_export() -> None:
    for staged in (False, True):
        index = IndexDefinition("i", ("a", "b.c"), staged)
        assert IndexDefinition.from_json(index.to_json(), staged) == index
        search = SearchIndexDefinition("s", "a", ("b",), staged)
        assert SearchIndexDefinition.from_json(search.to_json(), staged) == search
        vector = VectorIndexDefinition("v", "e", 4, (), staged)
        assert VectorIndexDefinition.from_json(vector.to_json(), staged) == vector


def test_dimensions_stay_an_int_after_a_round_trip_through_values() -> None:
    exported = {**VectorIndexDefinition("v", "e", 4).to_json(), "dimensions": 4.0}
    assert type(VectorIndexDefinition.from_json(exported, False).dimensions) is int


def test_creation_time_follows_the_declared_fields() -> None:
    assert IndexDefinition("i", ("a",)).stored_fields == ("a", "_creationTime")


def test_index_names() -> None:
    check_index_name("t", "by_a")
    for name in ("by_id", "_a", "1", "a.b"):
        with pytest.raises(SchemaInvalid):
            check_index_name("t", name)


def test_identifiers_are_strings() -> None:
    assert is_identifier("a_1")
    assert not is_identifier("___")
    assert not is_identifier(None)
