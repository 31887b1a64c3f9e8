"""Hypothesis strategies for values."""

from hypothesis import settings
from hypothesis import strategies as st

from reactor.values.types import INT64_MAX, INT64_MIN, Int64, Value
from tests.values.vectors import from_bits

law = settings(deadline=None, max_examples=150)

field_names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=6).filter(
    lambda name: not name.startswith("$")
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["", "\0", "a\0", "a\0b", "é"])
int64s = (st.integers(INT64_MIN, INT64_MAX) | st.integers(-300, 300)).map(Int64)
# By bits, so that every NaN, zero and subnormal can come.
floats = st.integers(0, 2**64 - 1).map(from_bits) | st.floats() | st.sampled_from([0.0, -0.0, 1.0])
scalars: st.SearchStrategy[Value] = st.none() | st.booleans() | int64s | floats | texts | st.binary(max_size=6)


def values(leaves: int = 12) -> st.SearchStrategy[Value]:
    """Return normalised values: no plain integers, objects sorted by field."""
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(field_names, inner, max_size=4).map(lambda fields: dict(sorted(fields.items())))
        ),
        max_leaves=leaves,
    )


def documents() -> st.SearchStrategy[dict[str, Value]]:
    """Return normalised objects with few, recurring field names."""
    inner = st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2).map(lambda f: dict(sorted(f.items())))
        ),
        max_leaves=4,
    )
    return st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3).map(
        lambda fields: dict(sorted(fields.items()))
    )
