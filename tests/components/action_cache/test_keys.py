"""Keys: equal for equal arguments, and for no others, however long they are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor import Int64
from reactor.components.action_cache.keys import MAX_READABLE, canonical, key_of
from reactor.values.order import compare

SCALARS = (
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.integers(-(2**53), 2**53)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c d"]), inner, max_size=3),
    max_leaves=6,
)


@given(one=VALUES, other=VALUES)
def test_equal_keys_are_of_equal_values(one: Any, other: Any) -> None:
    assert (key_of(one) == key_of(other)) == (compare(one, other) == 0)


@given(
    args=st.dictionaries(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), VALUES, max_size=4)
)
def test_the_order_of_fields_counts_for_nothing(args: dict[str, Any]) -> None:
    assert key_of(args) == key_of(dict(reversed(args.items())))


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": None}, {}), ({"a": 1}, {"a": Int64(1)}), ({"a": 0.0}, {"a": -0.0}), ({"a": b"x"}, {"a": "0x78"}), ([], {})],
)
def test_what_is_nearly_equal(one: Any, other: Any) -> None:
    assert key_of(one) != key_of(other)
    assert key_of({"long": ["x" * 1000, one]}) != key_of({"long": ["x" * 1000, other]})


def test_long_ones_are_hashed() -> None:
    long = {"prompt": "x" * 500_000}
    assert len(key_of(long)) < MAX_READABLE
    assert key_of(long) != key_of({"prompt": "x" * 500_001})
    assert key_of({"a": [1, True], "b": "ü"}) == canonical({"b": "ü", "a": [1.0, True]})
    assert not canonical("sha256:").startswith("sha256:")
