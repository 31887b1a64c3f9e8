"""Numbers on the way in and out, one value at a time."""

import pytest

from reactor.errors import ValidationError
from reactor.schema.scalars import table_number
from reactor.schema.validators import v
from reactor.values.ids import encode_id
from reactor.values.types import Int64, undefined
from tests.schema.strategies import TABLES


@pytest.mark.parametrize(("value", "expected"), [(3.0, True), (-0.0, True), (2.0**53, True), (-(2.0**53), True)])
def test_integer_accepts_integral_floats(value: float, expected: bool) -> None:
    assert v.integer().accepts(value, TABLES) == expected
    viewed = v.integer().view(value)
    assert type(viewed) is int
    assert viewed == value


@pytest.mark.parametrize("value", [0.5, 2.0**53 + 2, float("inf"), float("nan"), Int64(3), True, "3", None])
def test_integer_refuses_and_leaves_alone_everything_else(value: object) -> None:
    assert not v.integer().accepts(value, TABLES)  # type: ignore[arg-type]
    assert v.integer().view(value) is value  # type: ignore[arg-type]


@pytest.mark.parametrize("validator", [v.int64(), v.commit_ts(), v.literal(Int64(5))])
def test_a_plain_int_is_meant_as_int64_where_only_that_fits(validator: object) -> None:
    coerced = validator.coerce(5)  # type: ignore[attr-defined]
    assert type(coerced) is Int64
    assert validator.needs_coercion  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [5.0, True, None, "5", Int64(5), undefined])
def test_nothing_but_a_plain_int_is_coerced(value: object) -> None:
    assert v.int64().coerce(value) is value
    assert v.literal(Int64(5)).coerce(value) is value


def test_int_stays_where_int64_is_not_meant() -> None:
    for validator in (v.number(), v.integer(), v.any(), v.literal(5), v.string()):
        assert not validator.needs_coercion
        assert type(validator.coerce(5)) is int


def test_int_beyond_int64_is_refused() -> None:
    with pytest.raises(ValidationError, match="outside allowed range"):
        v.int64().coerce(2**63)


def test_literal_int_beyond_float64_names_the_way_out() -> None:
    with pytest.raises(ValidationError, match="Int64"):
        v.literal(2**60)


def test_table_number_is_zero_for_what_is_no_id() -> None:
    assert table_number(encode_id(10001, b"0" * 16)) == 10001
    for text in ("", "j" * 32, "x" * 31, "é" * 32, "0" * 1000):
        assert table_number(text) == 0
