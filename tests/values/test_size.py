"""Sizes and how they print."""

import pytest

from reactor.values.size import ValueInvalid, format_size, too_large, value_nesting, value_size
from reactor.values.types import Int64, Undefined, Value, undefined


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.50 KiB"),
        (1024**2, "1 MiB"),
        (1_153_434, "1.10 MiB"),
        (16 * 1024**2, "16 MiB"),
        (1024**5 * 3, "3072 TiB"),
    ],
)
def test_sizes_print_in_binary_units(count: int, text: str) -> None:
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("value", "size", "nesting"),
    [
        (undefined, 0, 0),
        (None, 1, 0),
        (True, 1, 0),
        (1.0, 9, 0),
        (1, 9, 0),
        (Int64(1), 9, 0),
        ("", 2, 0),
        ("é", 4, 0),
        (b"ab", 4, 0),
        ([], 2, 1),
        ({}, 2, 1),
        ([[], {"a": [1.0]}], 2 + 2 + 2 + 2 + 2 + 9, 3),
        ({"_id": "x" * 32}, 2 + 38, 1),
        ({"_creationTime": 1.0}, 2 + 23, 1),
    ],
)
def test_sizes_of_values(value: Value | Undefined, size: int, nesting: int) -> None:
    assert value_size(value) == size
    if not isinstance(value, Undefined):
        assert value_nesting(value) == nesting


def test_a_limit_names_itself_and_the_actual_size() -> None:
    with pytest.raises(ValueInvalid) as failure:
        too_large(1_153_434, 1024**2)

    assert failure.value.rule == "ValueTooLargeError"
    assert str(failure.value) == "Value is too large (1.10 MiB > maximum size 1 MiB)"
