"""The sorted map equals a dict whose keys are sorted on each question, also where its blocks split and join."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.sortedmap import SortedMap


class Small(SortedMap[int]):
    """Blocks so small that a short test crosses many of them."""

    most = 6
    least = 2


short_keys = st.binary(max_size=2)
entries = st.dictionaries(short_keys, st.integers(), max_size=60)
Steps = list[tuple[str, bytes, int]]
steps = st.lists(st.tuples(st.sampled_from(["set", "pop"]), short_keys, st.integers()), max_size=60)


def inside(model: dict[bytes, int], start: bytes, end: bytes | None) -> list[tuple[bytes, int]]:
    return [(key, model[key]) for key in sorted(model) if start <= key and (end is None or key < end)]


def changed(model: dict[bytes, int], changes: Steps) -> Small:
    """Apply `changes` to a map of the same content as `model`, and to `model`."""
    built = Small(model.items())
    for verb, key, value in changes:
        if verb == "set":
            built[key] = model[key] = value
        else:
            assert built.pop(key, None) == model.pop(key, None)
        check(built)
    return built


def check(built: Small) -> None:
    """The blocks hold every key once, in order, and are counted right."""
    flat = [key for block in built._blocks for key in block]
    assert flat == sorted(built._values)
    assert built._maxes == [block[-1] for block in built._blocks]
    assert all(len(block) <= Small.most for block in built._blocks)
    lengths = [0, *map(len, built._blocks)]
    assert [built._keys_before(at) for at in range(len(lengths))] == [
        sum(lengths[: at + 1]) for at in range(len(lengths))
    ]


@given(entries, steps, short_keys)
def test_lookups_equal_a_dict(model: dict[bytes, int], changes: Steps, key: bytes) -> None:
    built = changed(model, changes)

    assert built.get(key) == model.get(key)
    assert built.get(key, -1) == model.get(key, -1)
    assert (key in built) == (key in model)
    assert len(built) == len(model)


@given(entries, steps, short_keys, st.none() | short_keys, st.integers(0, 40), st.booleans())
def test_chunk_equals_a_sorted_dict(
    model: dict[bytes, int], changes: Steps, start: bytes, end: bytes | None, limit: int, reverse: bool
) -> None:
    built = changed(model, changes)

    expected = inside(model, start, end)
    if reverse:
        expected.reverse()
    assert built.chunk(start, end, limit, reverse) == expected[:limit]


@given(entries, steps, short_keys, st.none() | short_keys)
def test_count_equals_a_sorted_dict(model: dict[bytes, int], changes: Steps, start: bytes, end: bytes | None) -> None:
    assert changed(model, changes).count(start, end) == len(inside(model, start, end))


@given(entries, entries)
def test_bulk_load_adds_and_replaces(model: dict[bytes, int], more: dict[bytes, int]) -> None:
    built = Small(model.items())

    built.bulk_load(more.items())

    check(built)

    assert built.chunk(b"", None, 100, False) == inside(model | more, b"", None)


@given(entries, short_keys, st.integers())
def test_bulk_load_of_little_into_much(model: dict[bytes, int], key: bytes, value: int) -> None:
    built = Small(model.items())

    built.bulk_load([(key, value)])

    check(built)
    assert built.chunk(b"", None, 100, False) == inside(model | {key: value}, b"", None)


def test_growing_keys_fill_their_blocks() -> None:
    """Creation times only grow; half-empty blocks would double the memory for order."""
    built = Small((bytes([number]), number) for number in range(0))
    for number in range(60):
        built[bytes([number])] = number

    assert [len(block) for block in built._blocks] == [Small.most] * 10


def test_draining_leaves_no_blocks() -> None:
    built = Small((bytes([number]), number) for number in range(100))
    for number in range(100):
        built.pop(bytes([number * 37 % 100]))
        check(built)

    assert not built._blocks
    assert built.chunk(b"", None, 1) == built.chunk(b"", None, 1, True) == []
    assert built.count(b"", None) == 0


def test_bulk_load_of_many_blocks_keeps_order() -> None:
    """Large maps live in several blocks; a scan and a count cross their borders."""
    built: SortedMap[int] = SortedMap()
    built.bulk_load((number.to_bytes(4, "big"), number) for number in range(9_999, -1, -1))

    for number in range(0, 10_000, 3):
        built.pop(number.to_bytes(4, "big"))

    left = [number for number in range(10_000) if number % 3]
    assert [value for _, value in built.chunk(b"", None, 20_000, False)] == left
    assert built.count((100).to_bytes(4, "big"), (9_000).to_bytes(4, "big")) == len(
        [number for number in left if 100 <= number < 9_000]
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_survive_changes_between_them(reverse: bool) -> None:
    """A scan continues by key, so entries that come or go in between are neither lost nor doubled."""
    built: SortedMap[int] = SortedMap((bytes([number]), number) for number in range(100))
    seen: list[int] = []
    resume: Callable[[bytes], tuple[bytes, bytes | None]] = (
        (lambda last: (b"", last)) if reverse else (lambda last: (last + b"\0", None))
    )
    start, end = b"", None
    while chunk := built.chunk(start, end, 7, reverse):
        seen.extend(value for _, value in chunk)
        built.pop(chunk[-1][0])  # what was read last is deleted, as a mutation that drains a table does
        start, end = resume(chunk[-1][0])

    assert seen == (list(range(99, -1, -1)) if reverse else list(range(100)))


def test_a_chunk_is_a_copy() -> None:
    built: SortedMap[int] = SortedMap([(b"a", 1), (b"b", 2)])
    chunk = built.chunk(b"", None, 10, False)

    built.pop(b"a")
    built[b"b"] = 3

    assert chunk == [(b"a", 1), (b"b", 2)]
