"""Hypothesis strategies for validators, and for values that often fit them."""

import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from reactor.schema.containers import Array, Object, Record, Union
from reactor.schema.scalars import Anything, BigInt, Boolean, Bytes, Float64, Id, Integer, Literal, Null, String
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.ids import encode_id
from reactor.values.stored import normalise
from reactor.values.types import Int64

TABLE_NAMES = {10001: "users", 10002: "posts", 540: "_storage"}


class Tables:
    """Knows two user tables and a system table."""

    def table_name(self, number: int) -> str | None:
        return TABLE_NAMES.get(number)


TABLES = Tables()
FIELDS = ["a", "b", "_c", "kind"]

_nan = struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf8\xff")[0]
strings: SearchStrategy[str] = st.sampled_from(["", "a", "b", "x y", "a" * 32]) | st.builds(
    encode_id, st.sampled_from([10001, 10002, 540, 10003]), st.sampled_from([b"0" * 16, b"1" * 16])
)
floats = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 2.0**53, 2.0**53 + 2, float("inf"), float("nan"), _nan])
int64s = st.sampled_from([Int64(0), Int64(1), Int64(-1), Int64(2**63 - 1)])
scalars: SearchStrategy[Any] = st.none() | st.booleans() | floats | int64s | strings | st.binary(max_size=2)
values: SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=6,
).map(lambda value: normalise(value).value)

_simple = [v.null(), v.boolean(), v.number(), v.int64(), v.commit_ts(), v.integer(), v.string(), v.bytes(), v.any()]
_leaves: SearchStrategy[Validator] = (
    st.sampled_from(_simple)
    | st.sampled_from(["users", "posts", "_storage", "missing"]).map(v.id)
    | (st.booleans() | floats | int64s | strings).map(v.literal)
)


def _composites(inner: SearchStrategy[Validator]) -> SearchStrategy[Validator]:
    field = inner | inner.map(v.optional)
    return (
        inner.map(v.array)
        | st.dictionaries(st.sampled_from(FIELDS), field, max_size=4).map(v.object)
        | st.builds(v.record, st.sampled_from([v.string(), v.id("users"), v.literal("a"), v.any()]), inner)
        | st.lists(inner, max_size=3).map(lambda members: v.union(*members))
    )


validators: SearchStrategy[Validator] = st.recursive(_leaves, _composites, max_leaves=8)


@st.composite
def values_for(draw: DrawFn, validator: Validator) -> Any:
    """Values that fit `validator`, except that now and then a part does not."""
    if draw(st.integers(0, 19)) == 0:
        return draw(values)
    match validator:
        case Null():
            return None
        case Boolean():
            return draw(st.booleans())
        case Integer():
            return draw(st.sampled_from([0.0, -0.0, 3.0, -(2.0**53)]))
        case Float64():
            return draw(floats)
        case BigInt():
            return draw(int64s)
        case String():
            return draw(strings)
        case Bytes():
            return draw(st.binary(max_size=2))
        case Id(table=table):
            number = {name: number for number, name in TABLE_NAMES.items()}.get(table, 10003)
            return encode_id(number, b"0" * 16)
        case Literal(value=value):
            return value
        case Array(element=element):
            return draw(st.lists(values_for(element), max_size=3))
        case Record(keys=keys, values=element):
            names = draw(st.lists(values_for(keys).filter(lambda name: isinstance(name, str)), max_size=2))
            return {str(name): draw(values_for(element)) for name in sorted(map(str, names))}
        case Object(fields=fields):
            present = {n: f for n, f in sorted(fields.items()) if not f.is_optional or draw(st.booleans())}
            return {name: draw(values_for(field)) for name, field in present.items()}
        case Union(members=members) if members:
            return draw(values_for(draw(st.sampled_from(members))))
    assert isinstance(validator, Anything | Union)
    return draw(values)


@st.composite
def checked(draw: DrawFn) -> tuple[Validator, Any]:
    """A validator and a value that often fits it."""
    validator = draw(validators)
    return validator, normalise(draw(values_for(validator))).value
