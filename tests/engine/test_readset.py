"""A read set is touched by exactly the keys that were read, in whatever form it stands."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.keyrange import IndexId, KeyRange, RangeSet, point, prefix
from reactor.engine.readset import ReadKind, ReadSet
from reactor.values.keys import encode_key
from tests.engine.strategies import INDEXES, keys, ranges, read_sets

Reads = list[tuple[IndexId, bytes | KeyRange]]

indexes = st.sampled_from(INDEXES)
reads_made: st.SearchStrategy[Reads] = st.lists(st.tuples(indexes, keys() | ranges()), max_size=12)

HERE = IndexId(1)


def recorded(made: Reads) -> ReadSet:
    reads = ReadSet()
    for index, what in made:
        if isinstance(what, bytes):
            reads.add_point(index, what)
        else:
            reads.add_range(index, what)
    return reads


def touched(made: Reads, index: IndexId, key: bytes) -> bool:
    """The definition, one read after the other."""
    return any(
        index == where and (what == key if isinstance(what, bytes) else what.contains(key)) for where, what in made
    )


@given(reads_made, indexes, keys())
def test_touches_equals_each_read_asked_alone(made: Reads, index: IndexId, key: bytes) -> None:
    assert recorded(made).touches(index, key) == touched(made, index, key)


@given(reads_made, reads_made, indexes, keys())
def test_compaction_changes_no_answer_and_recording_goes_on(
    made: Reads, later: Reads, index: IndexId, key: bytes
) -> None:
    reads = recorded(made)
    reads.compact()
    assert reads.touches(index, key) == touched(made, index, key)

    reads.merge(recorded(later))
    assert reads.touches(index, key) == touched(made + later, index, key)


@given(reads_made, st.randoms(use_true_random=False))
def test_the_same_reads_compact_to_the_same_set(made: Reads, random: Random) -> None:
    """Registration by difference rests on this: a rerun that reads the same moves nothing."""
    one = recorded(made)
    other = recorded(sorted(made + made, key=lambda _: random.random()))
    one.compact()
    other.compact()

    assert one.points == other.points
    assert {index: [(this.start, this.end) for this in where] for index, where in one.ranges.items()} == {
        index: [(this.start, this.end) for this in where] for index, where in other.ranges.items()
    }
    assert all(one.points.values())
    assert all(map(len, one.ranges.values()))


@given(read_sets(), read_sets())
def test_merge_leaves_the_other_alone(reads: ReadSet, other: ReadSet) -> None:
    points = {index: set(where) for index, where in other.points.items()}
    ranges_before = {index: list(where) for index, where in other.ranges.items()}

    reads.merge(other)
    reads.add_point(HERE, b"more")

    assert other.points == points
    assert {index: list(where) for index, where in other.ranges.items()} == ranges_before


@given(reads_made)
def test_intervals_are_counted_once_however_often_read(made: Reads) -> None:
    once, thrice = recorded(made), recorded(made * 3)

    assert thrice.recorded >= thrice.interval_count == once.interval_count == len_of(once)


def len_of(reads: ReadSet) -> int:
    return sum(map(len, reads.points.values())) + sum(map(len, reads.ranges.values()))


def test_points_inside_a_range_count_with_it() -> None:
    reads = ReadSet()
    reads.add_range(HERE, prefix(encode_key(["a"])))
    reads.add_point(HERE, encode_key(["a", "b"]))
    reads.add_point(HERE, encode_key(["b", "a"]))

    assert reads.interval_count == 2


def test_a_range_of_one_key_is_a_point() -> None:
    reads = ReadSet()
    reads.add_range(HERE, point(b"k"))
    reads.compact()

    assert reads.points == {HERE: {b"k"}}
    assert not reads.ranges


def test_an_impossible_range_is_no_interval() -> None:
    """Above 5 and below 3: nothing can ever enter it."""
    reads = ReadSet()
    reads.add_range(HERE, KeyRange(b"5", b"3"))

    assert reads.interval_count == 0
    assert not reads.ranges


def test_a_range_set_is_a_read_kind() -> None:
    kind: ReadKind = RangeSet()

    assert not kind.contains(b"")
