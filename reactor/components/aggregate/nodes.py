"""The nodes of a tree, and the documents they are kept in.

A node keeps its items by column: the keys, the ids, and a list of numbers for each name that is summed. Beside the ids
of its subtrees it keeps what each of them holds, so that a whole subtree is counted without being read. Owns this
layout. Promises that each node is read at most once in a call, and written once at its end, only where it changed.
Used by the tree.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import chain
from math import fsum
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from reactor import undefined
from reactor.components.aggregate.order import Rank
from reactor.components.aggregate.positions import rank_item

Sums: TypeAlias = Mapping[str, float]
Columns: TypeAlias = dict[str, list[float]]


class Item(NamedTuple):
    """One item of a tree. Of its numbers, those that are 0 may be missing."""

    key: Any
    id: str
    sums: Sums


class Held(NamedTuple):
    """What a subtree, or a range of items, holds."""

    size: float
    sums: dict[str, float]


class Documents(Protocol):
    """`ctx.db` of a plain `def` mutation, as far as nodes need it. A query has no more than `get`."""

    def get(self, document_id: str, /) -> dict[str, Any] | None:
        """Return a document."""

    def insert(self, table: str, document: Mapping[str, Any], /) -> str:
        """Insert a document, return its id."""

    def patch(self, document_id: str, fields: Mapping[str, Any], /) -> None:
        """Change fields of a document."""

    def delete(self, document_id: str, /) -> None:
        """Delete a document."""


NOTHING: Final[Sums] = {}


class Node:
    """Items in order and, unless it is a leaf, a subtree before each, and one behind the last."""

    __slots__ = (
        "counts",
        "has_new_counts",
        "has_new_items",
        "has_new_subtrees",
        "id",
        "ids",
        "keys",
        "subtrees",
        "sums",
        "totals",
    )

    def __init__(
        self,
        keys: list[Any],
        ids: list[str],
        sums: Columns,
        subtrees: list[str],
        counts: list[float] | None = None,
        totals: Columns | None = None,
    ) -> None:
        self.id = ""
        self.keys = keys
        self.ids = ids
        self.sums = sums
        self.subtrees = subtrees
        self.counts = counts
        self.totals = totals
        self.has_new_items = False
        self.has_new_subtrees = False
        self.has_new_counts = False

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def is_leaf(self) -> bool:
        """Whether nothing is below."""
        return not self.subtrees

    @property
    def is_lazy(self) -> bool:
        """Whether it does not know what its subtrees hold."""
        return self.counts is None and bool(self.subtrees)

    # Items.

    def find(self, bound: Rank) -> int:
        """Return how many items are before a position."""
        return bisect_left(range(len(self.keys)), bound, key=self.rank_at)

    def rank_at(self, index: int) -> Rank:
        """Return the position of an item."""
        return rank_item(self.keys[index], self.ids[index])

    def holds(self, index: int, position: Rank) -> bool:
        """Return whether the item at `index`, where `find` says it would be, is the one of this position."""
        return index < len(self.keys) and self.rank_at(index) == position

    def item(self, index: int) -> Item:
        """Return an item."""
        sums = {name: column[index] for name, column in self.sums.items() if column[index]}
        return Item(self.keys[index], self.ids[index], sums)

    def insert_item(self, index: int, item: Item) -> None:
        """Put an item before that at `index`."""
        self.has_new_items = True
        _insert(self.sums, index, len(self.keys), item.sums)
        self.keys.insert(index, item.key)
        self.ids.insert(index, item.id)

    def set_item(self, index: int, item: Item) -> None:
        """Put an item in the place of another."""
        self.has_new_items = True
        self.keys[index] = item.key
        self.ids[index] = item.id
        _set(self.sums, index, len(self.keys), item.sums)

    def pop_item(self, index: int) -> Item:
        """Take an item out."""
        self.has_new_items = True
        sums = {name: column.pop(index) for name, column in self.sums.items()}
        return Item(self.keys.pop(index), self.ids.pop(index), sums)

    # Subtrees.

    def held_by(self, index: int) -> Held:
        """Return what the subtree at `index` holds. Not to be asked of a lazy node."""
        assert self.counts is not None
        assert self.totals is not None
        return Held(self.counts[index], {name: column[index] for name, column in self.totals.items()})

    def set_held(self, index: int, held: Held) -> None:
        """Note what the subtree at `index` holds now. A lazy node does not."""
        if self.counts is not None:
            assert self.totals is not None
            self.has_new_counts = True
            self.counts[index] = held.size
            _set(self.totals, index, len(self.subtrees), held.sums)

    def insert_subtree(self, index: int, subtree: str, held: Held) -> None:
        """Put a subtree before that at `index`."""
        self.has_new_subtrees = self.has_new_counts = True
        if self.counts is not None:
            assert self.totals is not None
            _insert(self.totals, index, len(self.subtrees), held.sums)
            self.counts.insert(index, held.size)
        self.subtrees.insert(index, subtree)

    def pop_subtree(self, index: int) -> tuple[str, Held]:
        """Take a subtree out; return it with what it holds, which a lazy node does not know."""
        self.has_new_subtrees = self.has_new_counts = True
        held = Held(0.0, {})
        if self.counts is not None:
            assert self.totals is not None
            held = Held(self.counts.pop(index), {name: column.pop(index) for name, column in self.totals.items()})
        return self.subtrees.pop(index), held

    def forget_held(self) -> None:
        """Make the node lazy, unless it is a leaf."""
        if self.counts is not None:
            self.has_new_counts = True
            self.counts = self.totals = None

    def held(self) -> Held:
        """Return what the node and all below it hold. Not to be asked of a lazy node."""
        if self.counts is None:
            return Held(float(len(self.keys)), {name: fsum(column) for name, column in self.sums.items()})
        assert self.totals is not None
        sums = {
            name: fsum(chain(self.sums.get(name, ()), self.totals.get(name, ())))
            for name in self.sums.keys() | self.totals.keys()
        }
        return Held(len(self.keys) + fsum(self.counts), sums)

    # Whole nodes.

    def split(self, middle: int) -> tuple[Item, "Node"]:
        """Keep the items before `middle`; return that at `middle`, and a node with those behind."""
        self.has_new_items = True
        right = Node(
            self.keys[middle + 1 :], self.ids[middle + 1 :], _cut(self.sums, middle + 1), self.subtrees[middle + 1 :]
        )
        del self.keys[middle + 1 :], self.ids[middle + 1 :]
        if self.subtrees:
            self.has_new_subtrees = self.has_new_counts = True
            del self.subtrees[middle + 1 :]
        if self.counts is not None:
            assert self.totals is not None
            right.counts, right.totals = self.counts[middle + 1 :], _cut(self.totals, middle + 1)
            del self.counts[middle + 1 :]
        return self.pop_item(middle), right

    def append(self, item: Item, right: "Node") -> None:
        """Take over an item, and all of a node behind it."""
        self.insert_item(len(self.keys), item)
        _extend(self.sums, len(self.keys), right.sums, len(right.keys))
        self.keys += right.keys
        self.ids += right.ids
        if self.counts is not None:
            assert self.totals is not None
            assert right.counts is not None
            assert right.totals is not None
            self.has_new_subtrees = self.has_new_counts = True
            _extend(self.totals, len(self.subtrees), right.totals, len(right.subtrees))
            self.counts += right.counts
            self.subtrees += right.subtrees

    def fields(self) -> dict[str, Any]:
        """Return the whole document."""
        fields: dict[str, Any] = {
            "keys": self.keys,
            "ids": self.ids,
            "sums": _without_zeros(self.sums),
            "subtrees": self.subtrees,
        }
        if self.counts is not None and self.totals is not None:
            fields |= {"counts": self.counts, "totals": _without_zeros(self.totals)}
        return fields


class Nodes:
    """The nodes that one call works with."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._loaded: dict[str, Node] = {}

    def load(self, node_id: str) -> Node:
        """Return a node. Each call with one id returns the same object."""
        node = self._loaded.get(node_id)
        if node is None:
            document = self._documents.get(node_id)
            assert document is not None, f"node {node_id} of a tree is missing"
            node = Node(
                document["keys"],
                document["ids"],
                document["sums"],
                document["subtrees"],
                document.get("counts"),
                document.get("totals"),
            )
            node.id = node_id
            self._loaded[node_id] = node
        return node

    def add(self, node: Node) -> None:
        """Write a new node."""
        node.id = self._documents.insert("btreeNode", node.fields())
        node.has_new_items = node.has_new_subtrees = node.has_new_counts = False
        self._loaded[node.id] = node

    def remove(self, node: Node) -> None:
        """Delete a node."""
        del self._loaded[node.id]
        self._documents.delete(node.id)

    def flush(self) -> None:
        """Write what changed."""
        for node in self._loaded.values():
            if node.has_new_items or node.has_new_subtrees or node.has_new_counts:
                self._documents.patch(node.id, dict(_changes(node)))
                node.has_new_items = node.has_new_subtrees = node.has_new_counts = False


def _changes(node: Node) -> Iterator[tuple[str, Any]]:
    if node.has_new_items:
        yield "keys", node.keys
        yield "ids", node.ids
        yield "sums", _without_zeros(node.sums)
    if node.has_new_subtrees:
        yield "subtrees", node.subtrees
    if node.has_new_counts:
        yield "counts", undefined if node.counts is None else node.counts
        yield "totals", undefined if node.totals is None else _without_zeros(node.totals)


# Columns. One that is missing is all zeros.


def _insert(columns: Columns, index: int, length: int, sums: Sums) -> None:
    for name in sums:
        if name not in columns:
            columns[name] = [0.0] * length
    for name, column in columns.items():
        column.insert(index, sums.get(name, 0.0))


def _set(columns: Columns, index: int, length: int, sums: Sums) -> None:
    for name in sums:
        if name not in columns:
            columns[name] = [0.0] * length
    for name, column in columns.items():
        column[index] = sums.get(name, 0.0)


def _cut(columns: Columns, start: int) -> Columns:
    behind = {name: column[start:] for name, column in columns.items()}
    for column in columns.values():
        del column[start:]
    return behind


def _extend(columns: Columns, length: int, others: Columns, added: int) -> None:
    for name in columns.keys() | others.keys():
        column = columns.setdefault(name, [])
        column += [0.0] * (length - len(column))
        column += others.get(name) or [0.0] * added


def _without_zeros(columns: Columns) -> Columns:
    return {name: column for name, column in columns.items() if any(column)}
