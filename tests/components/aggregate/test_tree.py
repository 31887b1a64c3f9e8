"""The tree by itself, on documents that are a dict: any history of writes gives what a sorted list gives."""

import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from reactor import ReactorError, undefined
from reactor.components.aggregate.bounds import Bound, Bounds, positions_of
from reactor.components.aggregate.nodes import Held, Item, Node, Nodes
from reactor.components.aggregate.order import Rank, rank
from reactor.components.aggregate.positions import rank_item, rank_position
from reactor.components.aggregate.tree import Tree
from tests.sizes import size


class Memory:
    """Documents in a dict, with a count of what was read and written."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.reads = 0
        self._made = 0

    def get(self, document_id: str, /) -> dict[str, Any] | None:
        self.reads += 1
        found = self.documents.get(document_id)
        return None if found is None else _copy(found)

    def insert(self, table: str, document: Mapping[str, Any], /) -> str:
        assert table == "btreeNode"
        self._made += 1
        self.documents[f"node{self._made}"] = _copy(document)
        return f"node{self._made}"

    def patch(self, document_id: str, fields: Mapping[str, Any], /) -> None:
        merged = {**self.documents[document_id], **_copy(fields)}
        self.documents[document_id] = {name: field for name, field in merged.items() if field is not undefined}

    def delete(self, document_id: str, /) -> None:
        del self.documents[document_id]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(field) for name, field in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


class Kept:
    """A tree whose every call is one of its own, as in the component: nothing but documents lasts."""

    def __init__(self, max_size: int, *, is_root_lazy: bool) -> None:
        self.memory = Memory()
        self.max_size = max_size
        self.is_root_lazy = is_root_lazy
        root = Node([], [], {}, [])
        Nodes(self.memory).add(root)
        self.root = root.id

    def call(self, method: str, *args: Any) -> Any:
        nodes = Nodes(self.memory)
        tree = Tree(nodes, self.root, self.max_size, is_root_lazy=self.is_root_lazy)
        result = getattr(tree, method)(*args)
        if method == "items":
            result = list(result)
        nodes.flush()
        self.root = tree.root
        return result


KEYS = (
    st.integers(0, 9).map(float)
    | st.sampled_from([None, True, "a", "b", b"a", [], [1.0], [1.0, "x"], [2.0], {"k": 1.0}])
    | st.lists(st.sampled_from([1.0, 2.0, "x"]), max_size=3)
)
IDS = st.sampled_from("pqrs")
NUMBERS = st.integers(-(10**13), 10**13).map(float)
SUMS = st.dictionaries(st.sampled_from(["cost", "tokens"]), NUMBERS)
BOUND = st.builds(Bound, KEYS, st.none() | IDS, st.booleans())
BOUNDS = (
    st.none()
    | st.builds(Bounds, st.none() | BOUND, st.none() | BOUND)
    | st.builds(lambda key: Bounds(eq=key), KEYS)
    | st.builds(lambda prefix: Bounds(prefix=prefix), st.lists(st.sampled_from([1.0, 2.0, "x"]), max_size=2))
)


def allows(bounds: Bounds | None, key: Any, document_id: str) -> bool:
    """Whether an item is within bounds: what they mean, said without positions."""
    if bounds is None:
        return True
    if bounds.prefix is not None:
        return isinstance(key, list) and key[: len(bounds.prefix)] == list(bounds.prefix)
    if bounds.eq is not undefined:
        return compared(key) == compared(bounds.eq)
    lower, upper = bounds.lower, bounds.upper
    return (lower is None or is_behind(lower, key, document_id)) and (
        upper is None or is_behind(Bound(upper.key, upper.id, not upper.inclusive), key, document_id) is False
    )


def is_behind(lower: Bound, key: Any, document_id: str) -> bool:
    here, there = compared(key), compared(lower.key)
    if here != there:
        return here > there
    if lower.id is None or document_id == lower.id:
        return lower.inclusive
    return document_id > lower.id


def compared(key: Any) -> Rank:
    return rank(key) if not isinstance(key, list) else (7, tuple(x for part in key for x in (rank(""), rank(part))))


class Trees(RuleBasedStateMachine):
    """Every write, then every question, against a dict in order."""

    @initialize(max_size=st.sampled_from([4, 6, 16]), is_root_lazy=st.booleans())
    def make(self, max_size: int, is_root_lazy: bool) -> None:
        self.kept = Kept(max_size, is_root_lazy=is_root_lazy)
        self.model: dict[Rank, Item] = {}

    @rule(key=KEYS, document_id=IDS, sums=SUMS)
    def insert(self, key: Any, document_id: str, sums: dict[str, float]) -> None:
        position = rank_item(key, document_id)
        if position in self.model:
            with pytest.raises(ReactorError, match="already exists in node"):
                self.kept.call("insert", Item(key, document_id, sums))
        else:
            self.kept.call("insert", Item(key, document_id, sums))
            self.model[position] = Item(key, document_id, sums)

    @rule(start=st.integers(0, 200), step=st.sampled_from([-1, 1]), sums=SUMS)
    def insert_a_run(self, start: int, step: int, sums: dict[str, float]) -> None:
        for offset in range(12):
            self.insert(float(start + step * offset), "p", sums)

    @rule(key=KEYS, document_id=IDS)
    def delete(self, key: Any, document_id: str) -> None:
        position = rank_item(key, document_id)
        if position in self.model:
            self.kept.call("delete", key, document_id)
            del self.model[position]
        else:
            with pytest.raises(ReactorError) as missing:
                self.kept.call("delete", key, document_id)
            assert missing.value.data["code"] == "DELETE_MISSING_KEY"

    @rule(where=st.floats(0, 1), count=st.integers(1, 12))
    def delete_a_run(self, where: float, count: int) -> None:
        items = self.ordered()
        first = int(where * len(items))
        for item in items[first : first + count]:
            self.delete(item.key, item.id)

    @rule(where=st.floats(0, 0.999), sums=SUMS)
    def update(self, where: float, sums: dict[str, float]) -> None:
        items = self.ordered()
        if items:
            item = items[int(where * len(items))]._replace(sums=sums)
            self.kept.call("update", item)
            self.model[rank_item(item.key, item.id)] = item

    @rule()
    def make_root_lazy(self) -> None:
        self.kept.is_root_lazy = True
        self.kept.call("make_root_lazy")

    @rule(bounds=BOUNDS, step=st.sampled_from([-1, 1]))
    def ask(self, bounds: Bounds | None, step: int) -> None:
        low, high = (None if p is None else rank_position(p) for p in positions_of(bounds))
        expected = [item for item in self.ordered() if allows(bounds, item.key, item.id)]

        same(self.kept.call("held_between", low, high), held(expected))
        found = self.kept.call("items", low, high, step)
        assert [(item.key, item.id) for item in found[::step]] == [(item.key, item.id) for item in expected]
        for offset in range(-len(expected), len(expected)):
            assert self.kept.call("at", offset, low, high)[:2] == expected[offset][:2]
        for past in (len(expected), -len(expected) - 1):
            with pytest.raises(ReactorError, match="offset exceeded count by 0"):
                self.kept.call("at", past, low, high)

    @invariant()
    def every_rule_holds(self) -> None:
        same(self.kept.call("validate"), held(self.ordered()))
        reachable = {self.kept.root} | below(self.kept.memory, self.kept.root)
        assert self.kept.memory.documents.keys() == reachable, "no node is left behind"

    def ordered(self) -> list[Item]:
        return [self.model[position] for position in sorted(self.model)]


@pytest.mark.parametrize("max_size", [4, 6])
@pytest.mark.parametrize("seed", range(size(2, 40)))
def test_a_long_history_of_random_writes_keeps_every_rule(seed: int, max_size: int) -> None:
    """Deep enough that inner nodes are split, merged, and take subtrees over from both sides."""
    rng = random.Random(seed)
    kept = Kept(max_size, is_root_lazy=bool(seed % 2))
    model: dict[float, Item] = {}
    for phase, chance in enumerate((0.9, 0.5, 0.15)):
        for step in range(300):
            if rng.random() < chance or not model:
                sums = {name: float(rng.randrange(1, 100)) for name in rng.sample(["a", "b", "c"], rng.randrange(2))}
                item = Item(rng.random(), "id", sums)
                kept.call("insert", item)
                model[item.key] = item
            else:
                # Whole stretches, so that neighbours stay full beside what is emptied.
                near = rng.choice([0.2, 0.8])
                key = min(model, key=lambda key, near=near: abs(key - near))
                kept.call("delete", key, "id")
                del model[key]
            if step % 10 == phase:
                same(kept.call("validate"), held(list(model.values())))
    for key in sorted(model):
        kept.call("delete", key, "id")
        del model[key]
        if len(model) % 10 == 0:
            same(kept.call("validate"), held(list(model.values())))
    assert len(kept.memory.documents) == 1, "the root, which is a leaf again"


def below(memory: Memory, node_id: str) -> set[str]:
    subtrees = memory.documents[node_id]["subtrees"]
    return set(subtrees).union(*(below(memory, subtree) for subtree in subtrees))


def held(items: list[Item]) -> Held:
    names = {name for item in items for name in item.sums}
    exact = {name: sum(Fraction(item.sums.get(name, 0.0)) for item in items) for name in names}
    return Held(len(items), {name: float(number) for name, number in exact.items()})


def same(one: Held, other: Held) -> None:
    assert one.size == other.size
    assert {k: n for k, n in one.sums.items() if n} == {k: n for k, n in other.sums.items() if n}


def test_any_history_gives_what_a_sorted_list_gives() -> None:
    run_state_machine_as_test(Trees, settings=settings(max_examples=size(25, 500), stateful_step_count=size(25, 50)))
