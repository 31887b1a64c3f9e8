"""Subscriptions find exactly the subscribers whose read set a key touches, cheaply, and forget without a trace."""

from collections.abc import Callable
from math import log2
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.keyrange import EVERYTHING, IndexId, KeyRange, point, prefix
from reactor.engine.readset import ReadSet
from reactor.engine.subscriptions import FEW_LENGTHS, Subscriptions
from reactor.values.keys import encode_key
from reactor.values.types import Value
from tests.engine.strategies import INDEXES, keys, ranges, read_sets, touching, writes

HERE, THERE = INDEXES

Facts = list[tuple[IndexId, KeyRange]]
steps = st.lists(st.tuples(st.integers(0, 4), st.none() | read_sets()), max_size=12)


def facts(reads: ReadSet) -> Facts:
    """Everything read, as plain ranges."""
    return [(index, point(key)) for index, where in reads.points.items() for key in where] + [
        (index, this) for index, where in reads.ranges.items() for this in where
    ]


def after(taken: list[tuple[int, ReadSet | None]]) -> tuple[Subscriptions[int], dict[int, Facts]]:
    """Register (or, for None, unregister) one step after the other."""
    subscriptions: Subscriptions[int] = Subscriptions()
    model: dict[int, Facts] = {}
    for subscriber, reads in taken:
        if reads is None:
            subscriptions.unregister(subscriber)
            model.pop(subscriber, None)
        else:
            model[subscriber] = facts(reads)
            copy = ReadSet()
            copy.merge(reads)
            subscriptions.register(subscriber, copy)
    return subscriptions, model


def readers(model: dict[int, Facts], index: IndexId, key: bytes) -> set[int]:
    """The definition, one read after the other."""
    return {who for who, reads in model.items() if any(index == i and this.contains(key) for i, this in reads)}


def reading(*what: KeyRange | bytes, index: IndexId = HERE) -> ReadSet:
    reads = ReadSet()
    for this in what:
        if isinstance(this, bytes):
            reads.add_point(index, this)
        else:
            reads.add_range(index, this)
    return reads


def is_empty(subscriptions: Subscriptions[int]) -> bool:
    return not (len(subscriptions) or subscriptions._registered or subscriptions._readers)


@given(steps, st.lists(keys(), min_size=1, max_size=6))
def test_touched_equals_each_read_asked_alone(taken: list[tuple[int, ReadSet | None]], written: list[bytes]) -> None:
    subscriptions, model = after(taken)

    assert len(subscriptions) == len(model)
    for index in INDEXES:
        for key in written:
            assert subscriptions.touched(index, [key]) == readers(model, index, key)
        assert subscriptions.touched(index, written) == set().union(*(readers(model, index, key) for key in written))


@given(steps, writes())
def test_stale_is_whoever_any_write_touches(
    taken: list[tuple[int, ReadSet | None]], written: list[tuple[IndexId, bytes]]
) -> None:
    subscriptions, model = after(taken)

    assert subscriptions.stale(touching(written)) == set().union(
        *(readers(model, index, key) for index, key in written)
    )


@given(steps, st.randoms(use_true_random=False))
def test_whoever_leaves_takes_everything_along(taken: list[tuple[int, ReadSet | None]], random: Random) -> None:
    subscriptions, model = after(taken)
    leaving = list(model)
    random.shuffle(leaving)

    for subscriber in leaving:
        assert subscriber in subscriptions
        subscriptions.unregister(subscriber)
        subscriptions.unregister(subscriber)

    assert is_empty(subscriptions)


@given(steps, read_sets())
def test_what_is_filed_depends_on_the_last_registrations_only(
    taken: list[tuple[int, ReadSet | None]], last: ReadSet
) -> None:
    """By difference or from nothing: the same filings, down to the counts of prefix lengths."""
    by_difference, _ = after([*taken, (0, last)])
    fresh, _ = after([(who, by_difference._registered[who]) for who in by_difference._registered])

    assert by_difference._readers.keys() == fresh._readers.keys()
    for index, filed in by_difference._readers.items():
        other = fresh._readers[index]
        assert filed.points == other.points
        assert filed.prefixes == other.prefixes
        assert filed.lengths == other.lengths
        assert filed.trees.keys() == other.trees.keys()
        assert {this: handle.item for this, handle in filed.intervals.items()} == {
            this: handle.item for this, handle in other.intervals.items()
        }


def test_reading_the_same_again_moves_nothing() -> None:
    """Most reruns read what they read before; registering again must not rebuild anything."""
    kept, left, entered = KeyRange(b"\x0d1", b"\x0d3"), KeyRange(b"\x0d5", b"\x0d6"), KeyRange(b"\x0d7", None)
    subscriptions: Subscriptions[int] = Subscriptions()
    subscriptions.register(1, reading(kept, left))
    handle = subscriptions._readers[HERE].intervals[kept]
    tree = subscriptions._readers[HERE].trees[b""]

    subscriptions.register(1, reading(left, kept))
    assert subscriptions._readers[HERE].intervals[kept] is handle
    assert tree._added == 2

    subscriptions.register(1, reading(kept, entered))
    assert subscriptions._readers[HERE].intervals[kept] is handle
    assert tree._added == 3
    assert subscriptions.touched(HERE, [b"\x0d5"]) == set()
    assert subscriptions.touched(HERE, [b"\x0d7"]) == {1}


def test_equal_ranges_of_many_are_one_interval() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    for subscriber in range(1_000):
        subscriptions.register(subscriber, reading(KeyRange(b"\x0d1", None)))

    assert subscriptions.touched(HERE, [b"\x0d1"]) == set(range(1_000))
    assert subscriptions.visited == 1


def test_an_empty_read_set_waits_for_nothing() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    subscriptions.register(1, reading(EVERYTHING))
    subscriptions.register(1, ReadSet())

    assert 1 in subscriptions
    assert not subscriptions._readers
    subscriptions.unregister(1)
    assert is_empty(subscriptions)


def test_other_indexes_are_not_looked_at() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    subscriptions.register(1, reading(EVERYTHING, index=THERE))

    assert subscriptions.touched(HERE, [b"\x03"]) == set()
    assert subscriptions.touched(THERE, [b"\x03"]) == {1}


@pytest.mark.parametrize("lengths", [1, FEW_LENGTHS, FEW_LENGTHS + 1, 40])
def test_prefixes_of_any_lengths_are_found_without_a_search(lengths: int) -> None:
    """Few lengths are tried one by one; for many, the fields of the written key tell where to look."""
    subscriptions: Subscriptions[int] = Subscriptions()
    for number in range(lengths):
        subscriptions.register(number, reading(prefix(encode_key(["x" * number]))))
    subscriptions.register(-1, reading(EVERYTHING))
    subscriptions.register(-2, reading(prefix(encode_key(["x", None]))))
    subscriptions.register(-3, reading(encode_key(["x", None, 1.0])))

    for number in range(lengths):
        key = encode_key(["x" * number, None, 1.0])
        assert subscriptions.touched(HERE, [key]) == ({-1, -2, -3, 1} if number == 1 else {-1, number})
    assert subscriptions.visited == 0


def number(value: int) -> Value:
    return float(value)


def under(*head: Value) -> Callable[[int, int], KeyRange]:
    """Ranges of the field after `head`."""
    fixed = encode_key(head)

    def between(low: int, high: int) -> KeyRange:
        return KeyRange(fixed + encode_key([number(low)]), fixed + encode_key([number(high)]), len(fixed))

    return between


def overlapping(n: int) -> list[KeyRange]:
    return [under()(10 * i, 10 * i + 100) for i in range(n)]


def unbounded(n: int) -> list[KeyRange]:
    """From somewhere on, with an end or without, all over one index."""
    return [
        KeyRange(encode_key([number(10 * i)]), None) if i % 100 == 0 else under()(10 * i, 10 * i + 1_000)
        for i in range(n)
    ]


def newest_of_each(n: int) -> list[KeyRange]:
    """What `.order("desc").take(…)` reads: the upper part of one channel each."""
    channels = [encode_key([f"channel {i}"]) for i in range(n)]
    return [KeyRange(head + encode_key([number(50)]), head + b"\xff", len(head)) for head in channels]


def equalities(n: int) -> list[KeyRange]:
    return [prefix(encode_key([f"channel {i}"])) for i in range(n)]


@pytest.mark.parametrize(
    "shape", [overlapping, unbounded, newest_of_each, equalities], ids=lambda shape: shape.__name__
)
def test_nodes_visited_per_key_are_log_n_and_matches(shape: Callable[[int], list[KeyRange]]) -> None:
    """Counted, not timed: a commit among ten thousand live queries looks at those it concerns, and a path to them."""
    for n in (100, 1_000, 10_000):
        subscriptions: Subscriptions[int] = Subscriptions(seed=3)
        for subscriber, key_range in enumerate(shape(n)):
            subscriptions.register(subscriber, reading(key_range))
        random = Random(n)
        for _ in range(50):
            i = random.randrange(n)
            numbered = shape in (overlapping, unbounded)
            key = encode_key([number(10 * i), 1.0]) if numbered else encode_key([f"channel {i}", 60.0])
            before = subscriptions.visited
            matches = len(subscriptions.touched(HERE, [key]))
            assert matches
            assert subscriptions.visited - before <= 4 * log2(n) + 3 * matches

        for subscriber in random.sample(range(n), n):
            subscriptions.unregister(subscriber)
        assert is_empty(subscriptions)


@given(ranges(), keys())
def test_a_bound_past_its_prefix_is_still_found(key_range: KeyRange, key: bytes) -> None:
    """A range that claims a prefix but reaches out of it is filed where every key looks."""
    wide = KeyRange(key_range.start, None, key_range.prefix_length)
    subscriptions: Subscriptions[int] = Subscriptions()
    subscriptions.register(1, reading(wide))

    assert (1 in subscriptions.touched(HERE, [key])) == wide.contains(key)


def test_the_whole_index_in_two_forms_is_two_filings() -> None:
    """`[b"", None)` and `[b"", FF)` hold the same keys; exchanging one for the other must not lose the subscriber."""
    index = IndexId(1)
    subscriptions: Subscriptions[str] = Subscriptions()
    for whole in (KeyRange(b"", b"\xff"), KeyRange(b"", None), KeyRange(b"", b"\xff")):
        reads = ReadSet()
        reads.add_range(index, whole)
        subscriptions.register("reader", reads)
        assert subscriptions.touched(index, [b"\x03\x03"]) == {"reader"}
    subscriptions.unregister("reader")
    assert subscriptions.touched(index, [b"\x03\x03"]) == set()


def test_who_leaves_an_interval_of_many_leaves_the_others_there() -> None:
    part = KeyRange(encode_key([1.0]), encode_key([5.0]), 0)
    subscriptions: Subscriptions[int] = Subscriptions()
    for number in range(4):
        subscriptions.register(number, reading(part))

    for number in range(4):
        subscriptions.unregister(number)
        left = set(range(number + 1, 4))
        assert set(subscriptions.touched(HERE, [encode_key([3.0])])) == left
    assert is_empty(subscriptions)
