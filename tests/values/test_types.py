"""Int64 survives arithmetic; there is one `undefined`."""

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import ValidationError
from reactor.values.types import INT64_MAX, INT64_MIN, Int64, Undefined, undefined
from tests.values.strategies import law

BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.floordiv,
    operator.mod,
    operator.and_,
    operator.or_,
    operator.xor,
    operator.lshift,
    operator.rshift,
    pow,
]
UNARY = [operator.neg, operator.pos, abs, operator.invert, round, math.floor, math.ceil, math.trunc]


@pytest.mark.parametrize("operation", BINARY)
def test_arithmetic_with_integers_stays_int64(operation: Callable[[Any, Any], Any]) -> None:
    for left, right in [(Int64(12), 5), (12, Int64(5)), (Int64(12), Int64(5)), (Int64(12), True)]:
        result = operation(left, right)

        assert type(result) is Int64
        assert result == operation(int(left), int(right))


@pytest.mark.parametrize("operation", UNARY)
def test_unary_operations_stay_int64(operation: Callable[[Any], Any]) -> None:
    assert type(operation(Int64(-7))) is Int64
    assert operation(Int64(-7)) == operation(-7)


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, pow])
def test_arithmetic_with_a_float_is_a_float(operation: Callable[[Any, Any], Any]) -> None:
    assert type(operation(Int64(12), 2.5)) is float
    assert operation(Int64(12), 2.5) == operation(12, 2.5)
    assert operation(2.5, Int64(12)) == operation(2.5, 12)


def test_divmod_gives_two_int64() -> None:
    for pair in [divmod(Int64(17), 5), divmod(17, Int64(5))]:
        assert pair == (3, 2)
        assert list(map(type, pair)) == [Int64, Int64]
    assert divmod(Int64(17), 5.0) == (3.0, 2.0)


def test_division_and_negative_powers_leave_the_integers() -> None:
    assert type(Int64(6) / 3) is float
    assert Int64(2) ** -1 == 0.5
    assert pow(Int64(2), 5, 7) == 4
    assert type(round(Int64(1250), -2)) is Int64


@pytest.mark.parametrize("number", [INT64_MAX + 1, INT64_MIN - 1])
def test_what_needs_more_than_64_bits_is_refused(number: int) -> None:
    with pytest.raises(ValidationError, match=f"^{number} is outside allowed range for an int64$"):
        Int64(number)


def test_overflow_is_refused_and_huge_numbers_are_not_printed() -> None:
    with pytest.raises(ValidationError, match="9223372036854775808 is outside"):
        Int64(INT64_MAX) + 1
    with pytest.raises(ValidationError, match="An integer of 40000 bits is outside"):
        Int64(1 << 39_999)


@law
@given(st.integers(INT64_MIN, INT64_MAX))
def test_int64_is_the_integer_it_is(number: int) -> None:
    value = Int64(number)

    assert value == number
    assert hash(value) == hash(number)
    assert {number: "found"}[value] == "found"
    assert str(value) == f"{value}" == str(number)
    assert repr(value) == f"Int64({number})"
    for twin in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert type(twin) is Int64
        assert twin == value


def test_int64_has_a_default() -> None:
    assert Int64() == 0


def test_undefined_is_one_object() -> None:
    assert Undefined() is undefined
    assert copy.deepcopy({"a": undefined})["a"] is undefined
    assert copy.copy(undefined) is undefined
    assert pickle.loads(pickle.dumps(undefined)) is undefined
    assert repr(undefined) == "undefined"


def test_undefined_is_neither_true_nor_false() -> None:
    with pytest.raises(TypeError, match="compare with `is undefined`"):
        bool(undefined)
