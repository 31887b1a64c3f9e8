"""The total order across types."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reactor.values.order import compare
from reactor.values.types import Undefined, Value, undefined
from tests.values.strategies import law, values
from tests.values.vectors import exact, from_typed, load

VECTORS: list[dict[str, Any]] = load("ordering")["values"]


def test_published_values_ascend() -> None:
    ascending: list[Value | Undefined] = [undefined, *(from_typed(entry["typed"]) for entry in VECTORS)]

    for position, value in enumerate(ascending):
        assert compare(value, value) == 0
        for later in ascending[position + 1 :]:
            assert compare(value, later) < 0
            assert compare(later, value) > 0


@law
@given(values(), values())
def test_only_identical_values_are_equal(a: Value, b: Value) -> None:
    assert (compare(a, b) == 0) == (exact(a) == exact(b))
    assert compare(a, b) == -compare(b, a)


@law
@given(st.lists(values(leaves=4), min_size=3, max_size=3))
def test_the_order_is_transitive(three: list[Value]) -> None:
    a, b, c = three
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0


def test_a_plain_integer_sorts_as_the_float_it_means() -> None:
    assert compare(3, 3.0) == 0
    assert compare(2, 2.5) < 0
    assert compare(3, True) < 0
