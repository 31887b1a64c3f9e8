"""The tree: a B-tree over documents, ordered by position, whose inner nodes know what is below them.

Owns the rules of a B-tree: a node has at most `max_size` items and, unless it is the root, at least half as many;
all leaves are at one depth. Promises that each operation reads and writes about one path from the root to a leaf.
Knows nothing of functions or of what lies between positions. Used by the component's functions.

A lazy root does not know what its subtrees hold: an operation writes it only when a subtree of it is split or merged,
so that writers of different parts of the tree have no document in common. Whoever reads looks at the subtrees instead.
"""

from collections.abc import Iterator
from itertools import count, pairwise
from math import fsum
from typing import Any, Final

from reactor import ReactorError
from reactor.components.aggregate.nodes import Held, Item, Node, Nodes
from reactor.components.aggregate.order import Rank
from reactor.components.aggregate.positions import rank_item

DELETE_MISSING_KEY: Final = "DELETE_MISSING_KEY"


class Tree:
    """One tree. Who changed it must `flush` the nodes, and keep `root`, which may be another node then."""

    def __init__(self, nodes: Nodes, root: str, max_size: int, *, is_root_lazy: bool) -> None:
        self.root = root
        self._nodes = nodes
        self._max_size = max_size
        self._min_size = max_size // 2
        self._is_root_lazy = is_root_lazy

    # Writes.

    def insert(self, item: Item) -> None:
        """Put an item in.

        Raises:
            ReactorError: there is one with this key and id.
        """
        position = rank_item(item.key, item.id)
        path: list[tuple[Node, int]] = []
        node = self._nodes.load(self.root)
        while True:
            index = node.find(position)
            if node.holds(index, position):
                raise ReactorError(f"key {[item.key, item.id]!r} already exists in node {node.id}")
            if node.is_leaf:
                break
            path.append((node, index))
            node = self._nodes.load(node.subtrees[index])
        node.insert_item(index, item)
        while path:
            split = self._split(node)
            parent, index = path.pop()
            if not parent.is_lazy:
                parent.set_held(index, node.held())
            if split is not None:
                middle, right = split
                parent.insert_item(index, middle)
                parent.insert_subtree(index + 1, right.id, right.held())
            node = parent
        self._split_root(node)

    def update(self, item: Item) -> None:
        """Give an item other numbers.

        Raises:
            ReactorError: DELETE_MISSING_KEY, there is none with this key and id.
        """
        position = rank_item(item.key, item.id)
        path: list[tuple[Node, int]] = []
        node = self._nodes.load(self.root)
        while True:
            index = node.find(position)
            if node.holds(index, position):
                break
            if node.is_leaf:
                raise missing_key(item.key, item.id)
            path.append((node, index))
            node = self._nodes.load(node.subtrees[index])
        node.set_item(index, item)
        while path:
            parent, index = path.pop()
            if not parent.is_lazy:
                parent.set_held(index, node.held())
            node = parent

    def delete(self, key: Any, document_id: str) -> None:
        """Take an item out.

        Raises:
            ReactorError: DELETE_MISSING_KEY, there is none with this key and id.
        """
        root = self._nodes.load(self.root)
        if not self._delete(root, rank_item(key, document_id)):
            raise missing_key(key, document_id)
        if not root.keys and root.subtrees:
            self.root = root.subtrees[0]
            self._nodes.remove(root)
            if self._is_root_lazy:
                self._nodes.load(self.root).forget_held()

    def make_root_lazy(self) -> None:
        """Let the root forget what its subtrees hold."""
        self._nodes.load(self.root).forget_held()

    def _delete(self, node: Node, position: Rank) -> bool:
        index = node.find(position)
        found = node.holds(index, position)
        if node.is_leaf:
            if found:
                node.pop_item(index)
            return found
        below = self._nodes.load(node.subtrees[index])
        if found:
            node.set_item(index, self._pop_last(below))
        elif not self._delete(below, position):
            return False
        self._refill(node, index, below)
        return True

    def _pop_last(self, node: Node) -> Item:
        if node.is_leaf:
            return node.pop_item(-1)
        below = self._nodes.load(node.subtrees[-1])
        item = self._pop_last(below)
        self._refill(node, len(node), below)
        return item

    def _refill(self, parent: Node, index: int, node: Node) -> None:
        """Bring `parent` up to date with its subtree at `index`, which has lost an item, and mend what has too few."""
        if len(node) >= self._min_size:
            if not parent.is_lazy:
                parent.set_held(index, node.held())
            return
        left = self._nodes.load(parent.subtrees[index - 1]) if index > 0 else None
        if left is not None and len(left) > self._min_size:
            node.insert_item(0, parent.item(index - 1))
            parent.set_item(index - 1, left.pop_item(-1))
            if not node.is_leaf:
                node.insert_subtree(0, *left.pop_subtree(-1))
            self._update_pair(parent, index - 1, left, node)
            return
        right = self._nodes.load(parent.subtrees[index + 1]) if index < len(parent) else None
        if right is not None and len(right) > self._min_size:
            node.insert_item(len(node), parent.item(index))
            parent.set_item(index, right.pop_item(0))
            if not node.is_leaf:
                node.insert_subtree(len(node.subtrees), *right.pop_subtree(0))
            self._update_pair(parent, index, node, right)
        elif left is not None:
            self._merge(parent, index - 1, left, node)
        elif right is not None:
            self._merge(parent, index, node, right)

    def _update_pair(self, parent: Node, index: int, left: Node, right: Node) -> None:
        if not parent.is_lazy:
            parent.set_held(index, left.held())
            parent.set_held(index + 1, right.held())

    def _merge(self, parent: Node, index: int, left: Node, right: Node) -> None:
        left.append(parent.pop_item(index), right)
        parent.pop_subtree(index + 1)
        if not parent.is_lazy:
            parent.set_held(index, left.held())
        self._nodes.remove(right)

    def _split(self, node: Node) -> tuple[Item, Node] | None:
        if len(node) <= self._max_size:
            return None
        middle, right = node.split(self._min_size)
        self._nodes.add(right)
        return middle, right

    def _split_root(self, root: Node) -> None:
        if len(root) > self._max_size and root.is_lazy:
            self._count_subtrees(root)
        split = self._split(root)
        if split is None:
            return
        middle, right = split
        grown = Node([], [], {}, [root.id], None if self._is_root_lazy else [0.0], None if self._is_root_lazy else {})
        grown.insert_item(0, middle)
        grown.set_held(0, root.held())
        grown.insert_subtree(1, right.id, right.held())
        self._nodes.add(grown)
        self.root = grown.id

    def _count_subtrees(self, node: Node) -> None:
        """Let a lazy node learn what its subtrees hold."""
        node.counts, node.totals = [0.0] * len(node.subtrees), {}
        for index, subtree in enumerate(node.subtrees):
            node.set_held(index, self._nodes.load(subtree).held())

    # Reads. A bound that is None is beyond all items.

    def contains(self, key: Any, document_id: str) -> bool:
        """Return whether there is an item with this key and id."""
        position = rank_item(key, document_id)
        node = self._nodes.load(self.root)
        while True:
            index = node.find(position)
            if node.holds(index, position):
                return True
            if node.is_leaf:
                return False
            node = self._nodes.load(node.subtrees[index])

    def check_contains(self, key: Any, document_id: str) -> None:
        """Check that there is an item with this key and id.

        Raises:
            ReactorError: DELETE_MISSING_KEY, there is none.
        """
        if not self.contains(key, document_id):
            raise missing_key(key, document_id)

    def held_between(self, low: Rank | None, high: Rank | None) -> Held:
        """Return what lies strictly between two positions."""
        counts: list[float] = []
        sums: dict[str, list[float]] = {}
        for part in self._parts(self._nodes.load(self.root), low, high):
            counts.append(part.size)
            for name, number in part.sums.items():
                sums.setdefault(name, []).append(number)
        return Held(fsum(counts), {name: fsum(numbers) for name, numbers in sums.items()})

    def at(self, offset: int, low: Rank | None, high: Rank | None) -> Item:
        """Return an item by its place between two positions, counted from 0, or back from the end with -1.

        Raises:
            ReactorError: there are fewer.
        """
        root = self._nodes.load(self.root)
        if offset >= 0:
            found, left = self._nth(root, offset, low, high, 1)
        else:
            found, left = self._nth(root, -offset - 1, low, high, -1)
        if found is None:
            raise ReactorError(f"offset exceeded count by {left}")
        return found

    def items(self, low: Rank | None, high: Rank | None, step: int) -> Iterator[Item]:
        """Give the items strictly between two positions in ascending (`step` 1) or descending (-1) order."""
        yield from self._walk(self._nodes.load(self.root), low, high, step)

    def _held_by(self, node: Node, index: int) -> Held:
        return self._nodes.load(node.subtrees[index]).held() if node.is_lazy else node.held_by(index)

    def _parts(self, node: Node, low: Rank | None, high: Rank | None) -> Iterator[Held]:
        """Give what lies between two positions, in as few parts as the nodes allow."""
        first = 0 if low is None else node.find(low)
        last = len(node) if high is None else node.find(high)
        sums = {name: fsum(column[first:last]) for name, column in node.sums.items()}
        yield Held(max(0, last - first), sums)
        if node.is_leaf or first > last:
            return
        for index in range(first, last + 1):
            below_low = low if index == first else None
            below_high = high if index == last else None
            if below_low is None and below_high is None:
                yield self._held_by(node, index)
            else:
                yield from self._parts(self._nodes.load(node.subtrees[index]), below_low, below_high)

    def _nth(self, node: Node, offset: int, low: Rank | None, high: Rank | None, step: int) -> tuple[Item | None, int]:
        """Return the item at an offset, or None and by how much the offset is too large."""
        first = 0 if low is None else node.find(low)
        last = len(node) if high is None else node.find(high)
        for index in range(first, last + 1) if step > 0 else range(last, first - 1, -1):
            if step < 0 and index < last:
                if offset == 0:
                    return node.item(index), 0
                offset -= 1
            if not node.is_leaf:
                below_low = low if index == first else None
                below_high = high if index == last else None
                if below_low is None and below_high is None:
                    within = int(self._held_by(node, index).size)
                    if within <= offset:
                        offset -= within
                    else:
                        return self._nth(self._nodes.load(node.subtrees[index]), offset, None, None, step)
                else:
                    below = self._nodes.load(node.subtrees[index])
                    found, offset = self._nth(below, offset, below_low, below_high, step)
                    if found is not None:
                        return found, 0
            if step > 0 and index < last:
                if offset == 0:
                    return node.item(index), 0
                offset -= 1
        return None, offset

    def _walk(self, node: Node, low: Rank | None, high: Rank | None, step: int) -> Iterator[Item]:
        first = 0 if low is None else node.find(low)
        last = len(node) if high is None else node.find(high)
        for index in range(first, last + 1) if step > 0 else range(last, first - 1, -1):
            if step < 0 and index < last:
                yield node.item(index)
            if not node.is_leaf:
                below = self._nodes.load(node.subtrees[index])
                yield from self._walk(below, low if index == first else None, high if index == last else None, step)
            if step > 0 and index < last:
                yield node.item(index)

    # Checks.

    def validate(self) -> Held:
        """Check every rule of the tree; return what it holds. Reads all of it.

        Raises:
            ReactorError: a rule is broken; the text says which, in which node.
        """
        held, _ = self._validate(self.root, None, None)
        return held

    def _validate(self, node_id: str, low: Rank | None, high: Rank | None) -> tuple[Held, int]:
        node = self._nodes.load(node_id)
        is_root = node_id == self.root
        size = len(node)

        def check(rule: bool, text: str) -> None:
            if not rule:
                raise ReactorError(f"node {node_id} of {size} items: {text}")

        check(size <= self._max_size, f"more items than {self._max_size}")
        check(is_root or size >= self._min_size, f"fewer items than {self._min_size}")
        check(len(node.ids) == size and all(len(c) == size for c in node.sums.values()), "columns differ in length")
        check(node.is_leaf or len(node.subtrees) == size + 1, f"{len(node.subtrees)} subtrees")
        check(is_root or not node.is_lazy, "only a root may be lazy")
        ranks = [node.rank_at(index) for index in range(size)]
        bounded = [*([] if low is None else [low]), *ranks, *([] if high is None else [high])]
        check(all(a < b for a, b in pairwise(bounded)), "not in order")
        parts = [Held(size, {name: fsum(column) for name, column in node.sums.items()})]
        depths = set()
        for index, subtree, before, behind in zip(count(), node.subtrees, [low, *ranks], [*ranks, high], strict=False):
            held, depth = self._validate(subtree, before, behind)
            depths.add(depth)
            parts.append(held)
            if not node.is_lazy:
                noted = node.held_by(index)
                check(noted.size == held.size, f"counts {noted.size} items in {subtree}, which has {held.size}")
                for name in noted.sums.keys() | held.sums.keys():
                    a, b = noted.sums.get(name, 0.0), held.sums.get(name, 0.0)
                    check(abs(a - b) <= 1e-4, f"sums {name} of {subtree} up to {a}, it is {b}")
        check(len(depths) <= 1, "leaves at several depths")
        names = {name for part in parts for name in part.sums}
        sums = {name: fsum(part.sums.get(name, 0.0) for part in parts) for name in names}
        return Held(fsum(part.size for part in parts), sums), 1 + max(depths, default=0)


def missing_key(key: Any, document_id: str) -> ReactorError:
    """Return the error of taking out an item that is not there."""
    message = f"key {[key, document_id]!r} not found: it was never inserted, or its document changed without this tree"
    return ReactorError({"code": DELETE_MISSING_KEY, "message": message})
