"""Reading a table and its index at an older timestamp equals reading a copy made at that time, as long as one may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from reactor.engine.catalog import BY_CREATION_TIME, Index, Table, id_key
from reactor.engine.history import History
from reactor.engine.keyrange import IndexId
from reactor.engine.snapshot import COUNT_CHUNK, Row, count_at, read_at, scan_at, stands_at
from reactor.engine.sortedkeys import SortedKeys
from reactor.errors import SnapshotTooOld
from reactor.values.keys import ID_TAG

PLACES = [b"%c" % letter for letter in b"abcd"]
IDS = [f"i{number}" for number in range(6)]

Standing = dict[str, tuple[bytes, bytes]]  # id -> its place in the index, its bytes
Kept = tuple[History[object], bytes, int]


def empty_table() -> tuple[Table, Index]:
    table = Table(10_001, "notes", IndexId(1), IndexId(2))
    return table, table.indexes[BY_CREATION_TIME]


def key_at(place: bytes, document_id: str) -> bytes:
    return place + id_key(document_id)


def write(index: Index, state: Standing, document_id: str, ts: int, new: tuple[bytes, bytes] | None) -> list[Kept]:
    """Do to a table and its index what a commit does; returns what their histories hold of it."""
    table, old = index.table, state.get(document_id)
    if old is None and new is None:
        return []
    kept: list[Kept] = [(table.history, id_key(document_id), ts)]  # type: ignore[list-item]
    table.history.record(id_key(document_id), ts, old[1] if old else None)
    if new is None:
        del table.documents[id_key(document_id)]
        del state[document_id]
    else:
        table.documents[id_key(document_id)] = new[1]
        state[document_id] = new
    if old is not None and (new is None or new[0] != old[0]):
        key = key_at(old[0], document_id)
        index.keys.discard(key)
        index.moves.record(key, ts, True)
        kept.append((index.moves, key, ts))  # type: ignore[arg-type]
    if new is not None and (old is None or new[0] != old[0]):
        key = key_at(new[0], document_id)
        index.keys.add(key)
        index.moves.record(key, ts, False)
        kept.append((index.moves, key, ts))  # type: ignore[arg-type]
    return kept


versions = st.none() | st.tuples(st.sampled_from(PLACES), st.binary(max_size=1))


@st.composite
def histories(draw: DrawFn) -> tuple[Index, list[Standing], int]:
    """A table after some commits, the state after each of them, and through which one its history was forgotten."""
    _, index = empty_table()
    states: list[Standing] = [{}]
    commits = draw(st.lists(st.dictionaries(st.sampled_from(IDS), versions), max_size=8))
    kept: list[Kept] = []
    for ts, commit in enumerate(commits, 1):
        state = dict(states[-1])
        for document_id, new in commit.items():
            kept += write(index, state, document_id, ts, new)
        states.append(state)
    floor = draw(st.integers(0, len(commits)))
    for history, key, ts in kept:
        if ts <= floor:
            history.forget(key, draw(st.sampled_from([ts, floor])))
    return index, states, floor


bounds = st.sampled_from([b"", *PLACES, *(key_at(place, IDS[2]) for place in PLACES)])


@given(histories(), bounds, st.none() | bounds, st.integers(1, 9), st.booleans())
def test_a_scan_in_chunks_equals_a_scan_of_the_state_then(
    made: tuple[Index, list[Standing], int], start: bytes, end: bytes | None, limit: int, reverse: bool
) -> None:
    index, states, floor = made
    for ts in range(floor, len(states)):
        entries = {key_at(place, document_id): data for document_id, (place, data) in states[ts].items()}
        expected = sorted(
            ((key, data) for key, data in entries.items() if start <= key and (end is None or key < end)),
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
        for document_id in IDS:
            place, data = states[ts].get(document_id, (None, None))
            assert read_at(index.table, id_key(document_id), ts) == data
            for other in PLACES:
                assert stands_at(index, key_at(other, document_id), ts) == (other == place)


@given(histories())
def test_what_everybody_is_past_leaves_nothing_behind(made: tuple[Index, list[Standing], int]) -> None:
    index, states, _ = made
    for key in [*index.table.history.versions]:
        index.table.history.forget(key, len(states))
    for key in [*index.moves.versions]:
        index.moves.forget(key, len(states))

    assert not index.table.history.versions
    assert len(index.moves) == len(index.moves.added) == len(index.moves.removed) == 0


def test_the_id_is_found_behind_any_field() -> None:
    """A string field may hold the byte that tags the id."""
    _, index = empty_table()
    state: Standing = {}
    write(index, state, "i1", 1, (b"\x10\x10a\x00\x11\x10\x00", b"data"))

    assert [data for _, data in scan_at(index, b"", None, 9, False, 1).rows] == [b"data"]
    assert ID_TAG == b"\x10"


def test_forgetting_a_hot_key_costs_its_versions_once() -> None:
    """A counter that changed a hundred thousand times under one snapshot must not stop the server when it ends."""
    table, index = empty_table()
    state: Standing = {}
    count = 100_000
    for ts in range(1, count + 1):
        write(index, state, "hot", ts, (b"a", b"%d" % ts))

    hot = id_key("hot")
    assert read_at(table, hot, count // 2) == b"%d" % (count // 2)
    for through in (count // 2, count):
        for _ in range(through):  # once for each commit, as the database does; quadratic, this takes minutes
            table.history.forget(hot, through)
    assert not table.history.versions


def test_a_chunk_is_bounded_though_everything_was_deleted() -> None:
    _, index = empty_table()
    state: Standing = {}
    for number in range(1000):
        write(index, state, f"i{number:04d}", 1, (b"a", b""))
    for number in range(1000):
        write(index, state, f"i{number:04d}", 2, None)

    chunk = scan_at(index, b"", None, 10, False, 1)

    keys = [key_at(b"a", f"i{number:04d}") for number in range(10)]
    assert [key for key, _ in chunk.rows] == keys
    assert chunk.resume == keys[-1] + b"\x00"


def test_a_count_walks_the_moves_in_parts_and_only_when_something_moved_since() -> None:
    """A count of the newest state must not pay for the history that some old reader still needs."""
    _, index = empty_table()
    state: Standing = {}
    count = 3 * COUNT_CHUNK + 1
    for ts, step, new in ((1, 1, (b"a", b"")), (2, 1, None), (3, 2, (b"a", b""))):
        for number in range(0, count, step):
            write(index, state, f"i{number:05d}", ts, new)
    copied: list[int] = []

    class Watched(SortedKeys):
        def chunk(self, start: bytes, end: bytes | None, limit: int, reverse: bool = False) -> list[bytes]:
            found = super().chunk(start, end, limit, reverse)
            copied.append(len(found))
            return found

    index.moves.added, index.moves.removed = (
        Watched(keys.chunk(b"", None, count)) for keys in (index.moves.added, index.moves.removed)
    )

    assert [count_at(index, b"", None, ts) for ts in (0, 1, 2)] == [0, count, 0]
    assert max(copied) == COUNT_CHUNK
    copied.clear()
    assert count_at(index, b"", None, 3) == count // 2 + 1
    assert not copied


def test_an_index_is_not_read_before_it_existed() -> None:
    _, index = empty_table()
    index.valid_from = 5

    with pytest.raises(SnapshotTooOld):
        scan_at(index, b"", None, 1, False, 4)
    with pytest.raises(SnapshotTooOld):
        count_at(index, b"", None, 4)
