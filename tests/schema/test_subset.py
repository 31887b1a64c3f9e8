"""When one shape surely accepts all that another does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from reactor.schema.subset import is_subset
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.types import Int64, Value
from tests.schema.strategies import TABLES, validators, values_for

A_NUMBER = v.object({"a": v.number()})


@st.composite
def pairs(draw: DrawFn) -> tuple[Validator, Validator, Value]:
    """Two validators, the second often made from the first, and a value that fits the first."""
    narrow, other = draw(validators), draw(validators)
    wide = draw(st.sampled_from([other, v.union(other, narrow), v.nullable(narrow), v.array(narrow), narrow]))
    narrow = draw(st.sampled_from([narrow, v.array(narrow), v.object({"a": narrow})]))
    wide = draw(st.sampled_from([wide, v.object({"a": v.optional(wide)}), v.record(v.string(), wide)]))
    return narrow, wide, draw(values_for(narrow))


@given(pairs())
def test_a_subset_holds_no_value_that_the_other_refuses(case: tuple[Validator, Validator, Value]) -> None:
    """A wrong True would leave documents in a table that its schema does not allow."""
    narrow, wide, value = case
    if is_subset(narrow, wide) and narrow.accepts(value, TABLES):
        assert wide.accepts(value, TABLES)


@given(validators)
def test_every_shape_is_a_subset_of_itself_and_of_any(validator: Validator) -> None:
    assert is_subset(validator, v.any())
    assert is_subset(validator, v.union(v.null(), validator))
    assert is_subset(validator, validator)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (v.integer(), v.number()),
        (v.id("users"), v.string()),
        (v.commit_ts(), v.int64()),
        (v.int64(), v.commit_ts()),
        (v.literal("a"), v.string()),
        (v.literal(3), v.integer()),
        (v.literal(Int64(3)), v.int64()),
        (v.literal("a"), v.union(v.literal("b"), v.literal("a"))),
        (v.boolean(), v.union(v.literal(True), v.literal(False))),
        (v.boolean(), v.union(v.null(), v.boolean())),
        (v.union(), v.null()),
        (v.union(v.string(), v.null()), v.union(v.null(), v.number(), v.string())),
        (A_NUMBER, v.object({"a": v.optional(v.number()), "b": v.optional(v.string())})),
        (A_NUMBER, v.record(v.string(), v.number())),
        (v.record(v.id("users"), v.integer()), v.record(v.string(), v.number())),
        (v.array(v.union()), v.array(v.string())),
    ],
)
def test_wider_shapes_are_recognised(narrow: Validator, wide: Validator) -> None:
    assert is_subset(narrow, wide)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (v.any(), v.union(v.string(), v.null())),
        (v.number(), v.integer()),
        (v.string(), v.id("users")),
        (v.id("users"), v.id("posts")),
        (v.literal("a"), v.id("users")),
        (v.number(), v.int64()),
        (v.boolean(), v.literal(True)),
        (v.string(), v.union()),
        (A_NUMBER, v.object({})),
        (A_NUMBER, v.object({"a": v.number(), "b": v.string()})),
        (v.object({"a": v.optional(v.number())}), A_NUMBER),
        (A_NUMBER, v.object({"a": v.string()})),
        (A_NUMBER, v.record(v.id("users"), v.number())),
        (v.record(v.string(), v.number()), A_NUMBER),
        (v.array(v.number()), v.array(v.string())),
    ],
)
def test_narrower_or_other_shapes_are_not(narrow: Validator, wide: Validator) -> None:
    assert not is_subset(narrow, wide)
