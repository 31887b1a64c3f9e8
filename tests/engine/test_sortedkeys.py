"""Sorted keys equal a set that is sorted on each question, also where their blocks split and join."""

from collections.abc import Callable, Generator
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.sortedkeys import KEY_BYTES, SortedKeys

Built = TypeVar("Built", bound=SortedKeys)


class Small(SortedKeys):
    """Blocks so small that a short test crosses many of them."""

    most = 6
    least = 2


short_keys = st.binary(max_size=2)
sets = st.sets(short_keys, max_size=60)
Steps = list[tuple[bool, bytes]]
steps = st.lists(st.tuples(st.booleans(), short_keys), max_size=60)


def inside(model: set[bytes], start: bytes, end: bytes | None) -> list[bytes]:
    return [key for key in sorted(model) if start <= key and (end is None or key < end)]


def changed(model: set[bytes], changes: Steps) -> Small:
    """Apply `changes` to keys of the same content as `model`, and to `model`."""
    built = Small(model)
    for comes, key in changes:
        if comes:
            built.add(key)
            model.add(key)
        else:
            built.discard(key)
            model.discard(key)
        check(built, model)
    return built


def check(built: Small, model: set[bytes]) -> None:
    """The blocks hold every key once, in order, and are counted right."""
    flat = [key for block in built._blocks for key in block]
    assert flat == sorted(model)
    assert len(built) == len(model)
    assert built.bytes == sum(KEY_BYTES + len(key) for key in model)
    assert built._maxes == [block[-1] for block in built._blocks]
    assert all(len(block) <= Small.most for block in built._blocks)
    lengths = [0, *map(len, built._blocks)]
    assert [built._keys_before(at) for at in range(len(lengths))] == [
        sum(lengths[: at + 1]) for at in range(len(lengths))
    ]


@given(sets, steps, short_keys)
def test_membership_equals_a_set(model: set[bytes], changes: Steps, key: bytes) -> None:
    built = changed(model, changes)

    assert (key in built) == (key in model)


@given(sets, steps, short_keys, st.none() | short_keys, st.integers(0, 40), st.booleans())
def test_chunk_equals_a_sorted_set(
    model: set[bytes], changes: Steps, start: bytes, end: bytes | None, limit: int, reverse: bool
) -> None:
    built = changed(model, changes)

    expected = inside(model, start, end)
    if reverse:
        expected.reverse()
    assert built.chunk(start, end, limit, reverse) == expected[:limit]


@given(sets, steps, short_keys, st.none() | short_keys)
def test_count_equals_a_sorted_set(model: set[bytes], changes: Steps, start: bytes, end: bytes | None) -> None:
    assert changed(model, changes).count(start, end) == len(inside(model, start, end))


@given(sets, sets)
def test_replace_forgets_what_was_there(before: set[bytes], after: set[bytes]) -> None:
    built = Small(before)

    built.replace(after)

    check(built, after)


def test_growing_keys_fill_their_blocks() -> None:
    """Creation times only grow; half-empty blocks would double the memory for order."""
    built = Small()
    for number in range(60):
        built.add(bytes([number]))

    assert [len(block) for block in built._blocks] == [Small.most] * 10


def test_draining_leaves_no_blocks() -> None:
    model = {bytes([number]) for number in range(100)}
    built = Small(model)
    for number in range(100):
        key = bytes([number * 37 % 100])
        built.discard(key)
        model.discard(key)
        check(built, model)

    assert not built._blocks
    assert built.chunk(b"", None, 1) == built.chunk(b"", None, 1, True) == []
    assert built.count(b"", None) == 0


def test_many_blocks_keep_order() -> None:
    """Large sets live in several blocks; a scan and a count cross their borders."""
    built = SortedKeys(number.to_bytes(4, "big") for number in range(9_999, -1, -1))

    for number in range(0, 10_000, 3):
        built.discard(number.to_bytes(4, "big"))

    left = [number.to_bytes(4, "big") for number in range(10_000) if number % 3]
    assert built.chunk(b"", None, 20_000, False) == left
    low, high = (100).to_bytes(4, "big"), (9_000).to_bytes(4, "big")
    assert built.count(low, high) == len([key for key in left if low <= key < high])


@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_survive_changes_between_them(reverse: bool) -> None:
    """A scan continues by key, so keys that come or go in between are neither lost nor doubled."""
    built = SortedKeys(bytes([number]) for number in range(100))
    seen: list[bytes] = []
    resume: Callable[[bytes], tuple[bytes, bytes | None]] = (
        (lambda last: (b"", last)) if reverse else (lambda last: (last + b"\0", None))
    )
    start, end = b"", None
    while chunk := built.chunk(start, end, 7, reverse):
        seen.extend(chunk)
        built.discard(chunk[-1])  # what was read last is deleted, as a mutation that drains a table does
        start, end = resume(chunk[-1])

    assert seen == [bytes([number]) for number in (range(99, -1, -1) if reverse else range(100))]


def test_a_chunk_is_a_copy() -> None:
    built = SortedKeys([b"a", b"b"])
    chunk = built.chunk(b"", None, 10)

    built.discard(b"a")

    assert chunk == [b"a", b"b"]


@given(st.sets(st.binary(max_size=3), max_size=400), steps)
def test_keys_built_in_steps_equal_a_sorted_set(model: set[bytes], changes: Steps) -> None:
    built = run_to_end(Small.built(set(model)))

    check(built, model)
    for comes, key in changes:
        if comes:
            built.add(key)
            model.add(key)
        else:
            built.discard(key)
            model.discard(key)
        check(built, model)


@pytest.mark.parametrize("factor", [1, 7919, -1])
def test_many_keys_are_built_in_small_steps(factor: int) -> None:
    """Whatever order the keys come in, no step has more than a few of them to sort."""
    count = 50_000
    keys = [(number * factor % 104_729).to_bytes(4, "big") for number in range(count)]
    made = sum(1 for _ in SortedKeys.built(keys))
    built = run_to_end(SortedKeys.built(keys))

    assert made > 100
    assert built.chunk(b"", None, count) == sorted(keys)
    assert built.bytes == SortedKeys(keys).bytes
    assert all(len(block) <= SortedKeys.most for block in built._blocks)
    assert len(built._blocks) < count / SortedKeys.least / 3


def run_to_end(steps: Generator[None, None, Built]) -> Built:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
