"""The interval tree finds what a walk over all intervals finds, and looks at hardly more than it finds."""

from collections.abc import Callable
from math import log2
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.intervaltree import Interval, IntervalTree

bounds = st.binary(max_size=2)
intervals = st.tuples(bounds, st.none() | bounds)
Bounds = tuple[bytes, bytes | None]


def holds(interval: Bounds, key: bytes) -> bool:
    start, end = interval
    return start <= key and (end is None or key < end)


def built(bounds_of: list[Bounds], seed: int) -> tuple[IntervalTree[int], list[Interval[int]]]:
    tree: IntervalTree[int] = IntervalTree(Random(seed).random)
    return tree, [tree.add(start, end, number) for number, (start, end) in enumerate(bounds_of)]


@given(st.lists(intervals, max_size=40), st.data(), st.integers(0, 3), st.lists(bounds, min_size=1, max_size=10))
def test_stab_equals_a_walk_over_all(
    bounds_of: list[Bounds], data: st.DataObject, seed: int, keys: list[bytes]
) -> None:
    """Equal intervals, empty ones and unbounded ones included, after removals in any order."""
    tree, handles = built(bounds_of, seed)
    order = data.draw(st.permutations(range(len(handles))))
    removed = set(order[: data.draw(st.integers(0, len(order)))])
    for number in order:
        if number in removed:
            tree.remove(handles[number])

    for key in keys:
        expected = [n for n, interval in enumerate(bounds_of) if n not in removed and holds(interval, key)]
        assert sorted(tree.stab(key)) == expected
    assert bool(tree) == (len(removed) < len(bounds_of))


@given(st.lists(st.tuples(intervals, st.booleans()), max_size=60), st.integers(0, 3), bounds)
def test_adding_goes_on_after_removing(steps: list[tuple[Bounds, bool]], seed: int, key: bytes) -> None:
    tree: IntervalTree[int] = IntervalTree(Random(seed).random)
    alive: dict[int, tuple[Bounds, Interval[int]]] = {}
    random = Random(seed)
    for number, ((start, end), grows) in enumerate(steps):
        if grows or not alive:
            alive[number] = (start, end), tree.add(start, end, number)
        else:
            tree.remove(alive.pop(random.choice(list(alive)))[1])
        assert sorted(tree.stab(key)) == sorted(n for n, (interval, _) in alive.items() if holds(interval, key))


def test_the_item_of_a_handle_can_be_exchanged() -> None:
    tree: IntervalTree[str] = IntervalTree(Random(1).random)
    handle = tree.add(b"a", b"c", "before")

    handle.item = "after"

    assert tree.stab(b"b") == ["after"]


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


SPACE = 1 << 32


def staircase(n: int, random: Random) -> list[Bounds]:
    """Each overlaps its next ten neighbours."""
    step = SPACE // n
    return [(number(i * step), number(i * step + 10 * step)) for i in range(n)]


def nested(n: int, random: Random) -> list[Bounds]:
    """Each contains the next; a key at the edge lies in few, one in the middle in all."""
    step = SPACE // (2 * n)
    return [(number(i * step), number(SPACE - i * step)) for i in range(n)]


def scattered(n: int, random: Random) -> list[Bounds]:
    """Mostly short, one in a hundred long: the matches of a key lie far apart in the order of starts."""
    found: list[Bounds] = []
    for _ in range(n):
        start = random.randrange(SPACE)
        length = random.randrange(SPACE) if random.random() < 0.01 else SPACE // n
        found.append((number(start), number(start + length)))
    return found


def disjoint(n: int, random: Random) -> list[Bounds]:
    step = SPACE // n
    return [(number(i * step), number(i * step + step // 2)) for i in range(n)]


def unbounded(n: int, random: Random) -> list[Bounds]:
    """Half of them have no end, the rest are short."""
    return [
        (number(random.randrange(SPACE)), None) if i % 2 else (number(i * (SPACE // n)), number(i * (SPACE // n) + 9))
        for i in range(n)
    ]


def rising_ends(n: int, random: Random) -> list[Bounds]:
    """All start low and end late: a key below all ends but one start."""
    return [(number(i), number(SPACE + i)) for i in range(n)]


SHAPES = [staircase, nested, scattered, disjoint, unbounded, rising_ends]
ORDERS: list[Callable[[list[Bounds], Random], None]] = [
    lambda all_of, random: None,
    lambda all_of, random: all_of.reverse(),
    lambda all_of, random: random.shuffle(all_of),
]


def excess(shape: Callable[[int, Random], list[Bounds]], order: int, n: int) -> float:
    """Return the nodes looked at beyond three per match, for the worst of many keys, in units of log2(n)."""
    random = Random(n)
    all_of = shape(n, random)
    ORDERS[order](all_of, random)
    # Churn: a tree that was built, emptied by half and filled again must be as good as a new one.
    tree, handles = built(all_of, seed=7)
    for position in range(0, n, 2):
        tree.remove(handles[position])
        handles[position] = tree.add(*all_of[position], position)
    worst = 0.0
    for key in [number(random.randrange(SPACE)) for _ in range(60)] + [number(0), number(n // 2), number(SPACE * 2)]:
        before = tree.visited
        matches = len(tree.stab(key))
        worst = max(worst, tree.visited - before - 3 * matches)
    return worst / log2(n)


@pytest.mark.parametrize("order", range(len(ORDERS)), ids=["as made", "reversed", "shuffled"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_stab_looks_at_log_n_nodes_and_its_matches(shape: Callable[[int, Random], list[Bounds]], order: int) -> None:
    """The law that keeps a commit cheap under any number of live queries: O(log n + matches), counted."""
    for n in (100, 1_000, 10_000):
        assert excess(shape, order, n) <= 4


def test_a_handle_is_good_for_one_removal() -> None:
    tree, (first, second) = built([(b"a", b"b"), (b"a", b"b")], 0)
    tree.remove(first)
    with pytest.raises(AssertionError, match="removed once"):
        tree.remove(first)
    assert list(tree.stab(b"a")) == [1]
    tree.remove(second)
