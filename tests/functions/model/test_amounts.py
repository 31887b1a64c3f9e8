"""The numbers of a log: stored as multiples of a unit, so that sums of whole units are exact."""

from decimal import Decimal
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

amounts = import_module("functions.model.amounts")

COST, LATENCY = amounts.AMOUNTS["cost"].maximum, amounts.AMOUNTS["latencyMs"].maximum


@given(
    st.one_of(st.tuples(st.just("cost"), st.floats(0, COST)), st.tuples(st.just("latencyMs"), st.floats(0, LATENCY)))
)
def test_a_stored_amount_is_a_whole_number_of_units(given_amount: tuple[str, float]) -> None:
    """As its decimal text says, which is what people and other programs see of it."""
    field, value = given_amount
    units = amounts.AMOUNTS[field].units
    stored = amounts.stored_amount(field, value)
    assert amounts.units_of(field, stored) == Decimal(repr(stored)) * units
    assert isinstance(amounts.units_of(field, stored), int)
    assert abs(stored - value) <= 0.5000001 / units
    assert amounts.stored_amount(field, stored) == stored
    assert amounts.amount_of(field, amounts.units_of(field, stored)) == stored


@pytest.mark.parametrize("field", ["latencyMs", "tokensUsed", "cost"])
def test_sums_of_millions_of_the_largest_amounts_stay_exact(field: str) -> None:
    units, maximum = amounts.AMOUNTS[field]
    assert 5000 * units * maximum < 2**53  # of the largest there can be, and millions of those there are
