"""Long arrays in steps: the same result and the same errors as at once."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import ValidationError
from reactor.limits import MAX_ARRAY_LENGTH, MAX_VALUE_NESTING
from reactor.values.stepwise import STEP_ITEMS, is_long, normalise_in_steps
from reactor.values.stored import Normalised, normalise
from tests.values.strategies import values


def in_steps(value: object) -> tuple[Normalised, int]:
    steps = normalise_in_steps(value)
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value, count
        count += 1


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ValidationError as error:
        return type(error), str(error)


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@given(few=st.lists(values(), min_size=1, max_size=4), times=st.integers(1, 300), field=st.sampled_from(["", "page"]))
def test_a_long_array_is_normalised_as_at_once(few: list[object], times: int, field: str) -> None:
    items = few * times
    value: object = {"before": 1, field: items, "after": few} if field else items
    whole, count = in_steps(value)
    assert whole == normalise(value)
    assert list(map(repr, whole)) == list(map(repr, normalise(value))), "also of numbers that are equal"
    assert is_long(value) == (len(items) > STEP_ITEMS)
    assert count == (-(-len(items) // STEP_ITEMS) if is_long(value) else 0)


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"page": items, "more": 1}])
@pytest.mark.parametrize(
    "last",
    [object(), {"$field": 1}, {1: 2}, 2**60, "\ud800", nested(MAX_VALUE_NESTING - 1), nested(MAX_VALUE_NESTING)],
)
def test_errors_are_those_of_the_whole_value(wrap: Callable[[list[object]], object], last: object) -> None:
    value = wrap([{"n": 1}] * 1000 + [last])
    assert outcome(lambda: in_steps(value)[0]) == outcome(lambda: normalise(value))


def test_arrays_beyond_the_limit_are_refused_like_any() -> None:
    value = [1.0] * (MAX_ARRAY_LENGTH + 1)
    assert outcome(lambda: in_steps(value)) == outcome(lambda: normalise(value))
    assert "8193" in outcome(lambda: in_steps(value))[1]


def test_the_result_shares_nothing_with_the_input() -> None:
    item: dict[str, object] = {"n": 1.0}
    value = [item] * 600
    result, _ = in_steps(value)
    item["n"] = 2.0
    assert result.value == [{"n": 1.0}] * 600
