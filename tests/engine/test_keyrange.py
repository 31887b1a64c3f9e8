"""Key ranges and their unions mean the same set of keys in every form."""

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.keyrange import EVERYTHING, KeyRange, RangeSet, point, prefix
from reactor.values.keys import encode_key
from reactor.values.types import Value
from tests.engine.strategies import fields, keys, ranges


def union(members: list[KeyRange]) -> RangeSet:
    built = RangeSet()
    for member in members:
        built.add(member)
    return built


@given(keys(), keys())
def test_point_holds_one_key(key: bytes, other: bytes) -> None:
    assert point(key).contains(key)
    assert point(key).is_point
    assert point(key).contains(other) == (key == other)


@given(fields(0, 3), fields())
def test_prefix_holds_exactly_the_keys_with_these_fields(head: list[Value], key: list[Value]) -> None:
    """A string that continues another one is another field, also across the escape of a zero byte."""
    held = prefix(encode_key(head)).contains(encode_key(key))

    assert held == ([encode_key([value]) for value in head] == [encode_key([value]) for value in key[: len(head)]])


@given(keys(), st.none() | keys(), keys())
def test_bounds_are_half_open(start: bytes, end: bytes | None, key: bytes) -> None:
    this = KeyRange(start, end)

    assert this.contains(key) == (start <= key and (end is None or key < end))
    assert this.is_empty == (end is not None and end <= start)
    assert this.is_point == (end == start + b"\0")


def test_everything_holds_everything() -> None:
    assert EVERYTHING.contains(b"")
    assert EVERYTHING.contains(b"\xff\xff")
    assert not EVERYTHING.is_empty
    assert not EVERYTHING.is_point


@given(st.lists(ranges(), max_size=8), st.lists(ranges(), max_size=4), keys())
def test_a_union_contains_what_any_member_contains(members: list[KeyRange], later: list[KeyRange], key: bytes) -> None:
    built = union(members)
    assert built.contains(key) == any(member.contains(key) for member in members)

    for member in later:
        built.add(member)
    assert built.contains(key) == any(member.contains(key) for member in members + later)


@given(st.lists(ranges(), max_size=8), keys())
def test_merged_ranges_are_sorted_apart_and_the_same_keys(members: list[KeyRange], key: bytes) -> None:
    built = union(members)
    merged = built.ranges()

    for low, high in pairwise(merged):
        assert low.end is not None
        assert low.end < high.start
    assert not any(this.is_empty for this in merged)
    assert any(this.contains(key) for this in merged) == any(member.contains(key) for member in members)
    assert list(built) == merged
    assert len(built) == len(merged)


@given(st.lists(ranges(), max_size=8), st.randoms(use_true_random=False))
def test_merging_knows_no_order(members: list[KeyRange], random: Random) -> None:
    """Two runs that read the same in another order register the same."""
    shuffled = sorted(members, key=lambda _: random.random())

    assert [(this.start, this.end) for this in union(members)] == [(this.start, this.end) for this in union(shuffled)]


@given(st.lists(ranges(), max_size=8), keys())
def test_a_merged_prefix_is_begun_by_every_key_inside(members: list[KeyRange], key: bytes) -> None:
    for this in union(members):
        if this.contains(key):
            assert key.startswith(this.start[: this.prefix_length])


def test_touching_ranges_become_one() -> None:
    """Two pages of one scan are one range, and one that is a whole prefix is found by a dict probe again."""
    head = encode_key(["ops"])
    middle = encode_key(["ops", 1.0])

    pages = union([KeyRange(head, middle, len(head)), KeyRange(middle, head + b"\xff", len(head))])

    assert pages.ranges() == [prefix(head)]


def test_an_unbounded_range_swallows_what_follows() -> None:
    assert union([KeyRange(b"b", None), KeyRange(b"c", b"d"), KeyRange(b"a", b"b")]).ranges() == [KeyRange(b"a", None)]


def test_ranges_under_different_prefixes_have_none_together() -> None:
    """A wrong common prefix would hide the half that does not begin with it from whoever looks by prefix."""
    low, high = encode_key(["a"]), encode_key(["b"])

    (both,) = union([KeyRange(low, high, len(low)), KeyRange(high, high + b"\x01", len(high))]).ranges()

    assert (both.start, both.end, both.prefix_length) == (low, high + b"\x01", 0)
