"""Conversions at any depth."""

from typing import Any

import pytest
from hypothesis import given

from reactor.errors import ValidationError
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.ids import encode_id
from reactor.values.stored import normalise
from reactor.values.types import Int64, Value, undefined
from tests.schema.strategies import TABLES, checked


def kinds(value: Any) -> Any:
    """The types at the leaves, in the shape of the value."""
    if isinstance(value, dict):
        return {name: kinds(item) for name, item in value.items()}
    return [kinds(item) for item in value] if isinstance(value, list) else type(value)


def test_ints_are_viewed_at_any_depth() -> None:
    validator = v.object(
        {
            "n": v.integer(),
            "f": v.number(),
            "list": v.array(v.integer()),
            "map": v.record(v.string(), v.nullable(v.integer())),
            "maybe": v.optional(v.integer()),
        }
    )
    stored: dict[str, Value] = {"n": 1.0, "f": 1.0, "list": [2.0], "map": {"a": None, "b": 3.0}}
    viewed = validator.view(stored)
    assert kinds(viewed) == {"n": int, "f": float, "list": [int], "map": {"a": type(None), "b": int}}
    assert viewed == stored
    assert kinds(stored)["n"] is float


def test_union_views_as_its_first_member_that_accepts() -> None:
    assert type(v.union(v.integer(), v.number()).view(1.0)) is int
    assert type(v.union(v.integer(), v.number()).view(1.5)) is float
    assert type(v.union(v.number(), v.integer()).view(1.0)) is float
    shapes = v.union(
        v.object({"kind": v.literal("i"), "n": v.integer()}), v.object({"kind": v.literal("f"), "n": v.number()})
    )
    assert kinds(shapes.view({"kind": "i", "n": 1.0})) == {"kind": str, "n": int}
    assert kinds(shapes.view({"kind": "f", "n": 1.0})) == {"kind": str, "n": float}


def test_views_leave_alone_what_does_not_fit() -> None:
    """Without schema validation a table holds anything, and reading it must not fail."""
    validator = v.object({"a": v.array(v.object({"n": v.integer()})), "r": v.record(v.string(), v.integer())})
    others: list[Any] = [[], 1.0, {"a": 1.0}, {"a": [1.0]}, {"r": []}, {"a": [{"n": "x"}], "other": 1.0}]
    for value in others:
        assert validator.view(value) == value
    assert v.union(v.integer(), v.null()).view("x") == "x"


@given(checked())
def test_view_changes_types_but_no_value(case: tuple[Validator, Any]) -> None:
    validator, value = case
    before = kinds(value)
    viewed = validator.view(value)
    # By their text, because NaN is not equal to itself; an int has no -0.
    assert repr(normalise(viewed).value).replace("-0.0", "0.0") == repr(value).replace("-0.0", "0.0")
    assert kinds(value) == before
    if not validator.has_view:
        assert kinds(viewed) == before


@given(checked())
def test_coercion_leaves_accepted_values_alone(case: tuple[Validator, Any]) -> None:
    validator, value = case
    if validator.accepts(value, None):
        assert kinds(validator.coerce(value)) == kinds(value)


def test_ints_are_coerced_at_any_depth() -> None:
    validator = v.object(
        {
            "a": v.array(v.int64()),
            "r": v.record(v.string(), v.nullable(v.int64())),
            "f": v.number(),
            "o": v.optional(v.int64()),
        }
    )
    given_value = {"a": (1, 2), "r": {"x": 3, "y": None}, "f": 4, "o": undefined}
    assert kinds(validator.coerce(given_value)) == {
        "a": [Int64, Int64],
        "r": {"x": Int64, "y": type(None)},
        "f": int,
        "o": type(undefined),
    }
    assert given_value["a"] == (1, 2)
    assert validator.accepts(normalise(validator.coerce(given_value)).value, TABLES)


def test_coercion_leaves_alone_what_does_not_fit() -> None:
    validator = v.object({"a": v.array(v.int64()), "r": v.record(v.string(), v.int64())})
    for value in (3, [3], {"a": 3}, {"r": [3]}, {"other": 3}):
        assert validator.coerce(value) == value
    assert type(validator.coerce(3)) is int


@pytest.mark.parametrize(
    ("validator", "expected"),
    [
        (v.union(v.int64(), v.null(), v.string()), Int64),
        (v.union(v.commit_ts(), v.literal(Int64(1))), Int64),
        (v.union(v.union(v.int64()), v.null()), Int64),
        (v.union(v.int64(), v.number()), int),
        (v.union(v.int64(), v.integer()), int),
        (v.union(v.int64(), v.literal(5)), int),
        (v.union(v.int64(), v.any()), int),
        (v.union(v.string(), v.array(v.int64())), int),
        (v.union(), int),
    ],
)
def test_int_is_int64_only_when_no_other_number_is_possible(validator: Validator, expected: type) -> None:
    assert type(validator.coerce(5)) is expected


def test_union_coerces_inside_the_member_that_fits() -> None:
    one = v.union(v.object({"n": v.int64()}), v.null())
    assert kinds(one.coerce({"n": 1})) == {"n": Int64}
    tagged = v.union(
        v.object({"kind": v.literal("a"), "n": v.string()}), v.object({"kind": v.literal("b"), "n": v.int64()})
    )
    assert kinds(tagged.coerce({"kind": "b", "n": 1})) == {"kind": str, "n": Int64}
    number_too = v.union(v.object({"n": v.int64()}), v.object({"n": v.number()}))
    assert kinds(number_too.coerce({"n": 1})) == {"n": int}
    assert kinds(v.union(v.array(v.int64()), v.array(v.string())).coerce([1])) == [Int64]
    assert kinds(tagged.coerce({"kind": "c", "n": 1})) == {"kind": str, "n": int}
    unusable = {"kind": "b", "n": 1, "extra": object()}
    assert tagged.coerce(unusable) == unusable


def test_ids_are_not_resolved_when_a_member_is_chosen() -> None:
    shapes = v.union(v.object({"u": v.id("users"), "n": v.int64()}), v.object({"s": v.string()}))
    assert kinds(shapes.coerce({"u": encode_id(10001, b"0" * 16), "n": 1})) == {"u": str, "n": Int64}


def test_coercion_error_names_the_range() -> None:
    with pytest.raises(ValidationError, match="outside allowed range"):
        v.array(v.int64()).coerce([2**64])
