"""Reading an index at an older timestamp equals reading a copy made at that time, as long as a reader may ask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from reactor.engine.catalog import BY_CREATION_TIME, Index
from reactor.engine.keyrange import IndexId
from reactor.engine.snapshot import Row, count_at, read_at, scan_at
from reactor.errors import SnapshotTooOld

KEYS = [b"%c" % letter for letter in b"abcdefgh"]

State = dict[bytes, bytes]


def empty_index() -> Index:
    return Index(IndexId(1), 10_001, BY_CREATION_TIME)


def write(index: Index, key: bytes, ts: int, after: bytes | None) -> None:
    """Do to the index what a commit does."""
    before = index.entries.get(key)
    if before is None and after is None:
        return
    index.history.record(key, ts, before, after)
    if after is None:
        index.entries.pop(key)
    else:
        index.entries[key] = after


@st.composite
def histories(draw: DrawFn) -> tuple[Index, list[State], int]:
    """An index after some commits, the state after each of them, and through which one its history was forgotten."""
    index = empty_index()
    states: list[State] = [{}]
    commits = draw(st.lists(st.dictionaries(st.sampled_from(KEYS), st.none() | st.binary(max_size=1)), max_size=8))
    written: list[tuple[int, bytes]] = []
    for ts, commit in enumerate(commits, 1):
        for key, after in commit.items():
            write(index, key, ts, after)
            written.append((ts, key))
        states.append(dict(index.entries.chunk(b"", None, len(KEYS))))
    floor = draw(st.integers(0, len(commits)))
    for ts, key in written:
        if ts <= floor:
            index.history.forget(key, draw(st.sampled_from([ts, floor])))
    return index, states, floor


bounds = st.sampled_from([b"", *KEYS])
ends = st.none() | st.sampled_from(KEYS)


@given(histories(), bounds, ends, st.integers(1, 9), st.booleans())
def test_a_scan_in_chunks_equals_a_scan_of_the_state_then(
    made: tuple[Index, list[State], int], start: bytes, end: bytes | None, limit: int, reverse: bool
) -> None:
    index, states, floor = made
    for ts in range(floor, len(states)):
        expected = sorted(
            ((key, value) for key, value in states[ts].items() if start <= key and (end is None or key < end)),
            reverse=reverse,
        )
        found: list[Row] = []
        low, high = start, end
        while True:
            chunk = scan_at(index, low, high, limit, reverse, ts)
            assert len(chunk.rows) <= 2 * limit  # bounded, however much history lies in the range
            found += chunk.rows
            if chunk.resume is None:
                break
            low, high = (low, chunk.resume) if reverse else (chunk.resume, high)

        assert found == expected
        assert count_at(index, start, end, ts) == len(expected)
        assert [read_at(index, key, ts) for key in KEYS] == [states[ts].get(key) for key in KEYS]


@given(histories())
def test_what_everybody_is_past_leaves_nothing_behind(made: tuple[Index, list[State], int]) -> None:
    index, states, _ = made
    for key in KEYS:
        index.history.forget(key, len(states))

    assert not index.history.versions
    assert len(index.history) == len(index.history.added) == len(index.history.removed) == 0


def test_forgetting_a_hot_key_costs_its_versions_once() -> None:
    """A counter that changed a hundred thousand times under one snapshot must not stop the server when it ends."""
    index = empty_index()
    count = 100_000
    for ts in range(1, count + 1):
        write(index, b"hot", ts, b"%d" % ts)

    assert read_at(index, b"hot", count // 2) == b"%d" % (count // 2)
    for through in (count // 2, count):
        for _ in range(through):  # once for each commit, as the database does; quadratic, this takes minutes
            index.history.forget(b"hot", through)
    assert not index.history.versions


def test_a_chunk_is_bounded_though_everything_was_deleted() -> None:
    index = empty_index()
    for number in range(1000):
        write(index, b"%04d" % number, 1, b"")
    for number in range(1000):
        write(index, b"%04d" % number, 2, None)

    chunk = scan_at(index, b"", None, 10, False, 1)

    assert [key for key, _ in chunk.rows] == [b"%04d" % number for number in range(10)]
    assert chunk.resume == b"0009\x00"


def test_an_index_is_not_read_before_it_existed() -> None:
    index = empty_index()
    index.valid_from = 5

    with pytest.raises(SnapshotTooOld):
        scan_at(index, b"", None, 1, False, 4)
    with pytest.raises(SnapshotTooOld):
        count_at(index, b"", None, 4)
