"""Which of many overlapping intervals contain a key?

Owns a dynamic priority search tree (McCreight 1985) on a treap: nodes are in order of interval start, and on the way
from the root each node also lifts the interval that ends last among those below it that are not lifted further up. A
stab leaves a subtree as soon as the lifted end is not past the key, so nearly every node it looks at is an answer.
Promises O(log n + matches) expected for a stab and O(log n) expected for a change, in any order of changes; a treap
that merely knew the greatest end of each subtree would pay a path of O(log n) for each scattered match. Used by
subscriptions.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar, final

T = TypeVar("T")


@final
class Interval(Generic[T]):
    """One interval in a tree, and the handle that removes it. `item` may be exchanged at any time."""

    __slots__ = ("_left", "_lifted", "_order", "_priority", "_right", "_top", "end", "item", "start")

    def __init__(self, start: bytes, end: bytes | None, item: T, order: tuple[bytes, int], priority: float) -> None:
        self.start: Final = start
        self.end: Final = end
        self.item = item
        self._order: Final = order
        self._priority: Final = priority
        self._left: Interval[T] | None = None
        self._right: Interval[T] | None = None
        self._top: Interval[T] | None = None  # ends last in this subtree, among those not lifted above it
        self._lifted = False  # is the `_top` of some node, possibly itself

    def _ends_after(self, other: "Interval[T]") -> bool:
        return other.end is not None and (self.end is None or self.end > other.end)


class IntervalTree(Generic[T]):
    """Half-open intervals of bytes, unbounded ones included; equal intervals may be added more than once."""

    __slots__ = ("_added", "_priority", "_root", "visited")

    def __init__(self, priority: Callable[[], float]) -> None:
        """`priority` gives evenly spread numbers that whoever chooses the intervals can't foresee."""
        self._root: Interval[T] | None = None
        self._priority = priority
        self._added = 0
        self.visited = 0  # nodes looked at by all stabs so far

    def __bool__(self) -> bool:
        return self._root is not None

    def stab(self, key: bytes) -> list[T]:
        """Return the items of all intervals that contain `key`, in no particular order."""
        found: list[T] = []
        waiting = [self._root] if self._root is not None else []
        visited = 0
        while waiting:
            node = waiting.pop()
            visited += 1
            top = node._top
            if top is None or (top.end is not None and top.end <= key):
                continue  # nothing from here down reaches past the key, save what was lifted above and seen there
            if top.start <= key:
                found.append(top.item)
            if not node._lifted and node.start <= key and (node.end is None or node.end > key):
                found.append(node.item)
            if node._left is not None:
                waiting.append(node._left)
            if node._right is not None and node.start <= key:
                waiting.append(node._right)
        self.visited += visited
        return found

    def add(self, start: bytes, end: bytes | None, item: T) -> Interval[T]:
        """Add [start, end) and return the handle for `remove`; `end` of `None` is unbounded."""
        self._added += 1
        node = Interval(start, end, item, (start, self._added), self._priority())
        path: list[Interval[T]] = []
        at = self._root
        while at is not None:
            path.append(at)
            at = at._left if node._order < at._order else at._right
        if not path:
            self._root = node
        elif node._order < path[-1]._order:
            path[-1]._left = node
        else:
            path[-1]._right = node
        _settle(path[0] if path else node, node)
        while path and path[-1]._priority < node._priority:
            parent = path.pop()
            self._raise(node, parent, path[-1] if path else None)
        return node

    def remove(self, handle: Interval[T]) -> None:
        """Remove what `add` returned `handle` for. A handle is good for one removal."""
        parent: Interval[T] | None = None
        holder: Interval[T] | None = None
        at = self._root
        while at is not None:
            if at._top is handle:
                holder = at
            if at is handle:
                break
            parent = at
            at = at._left if handle._order < at._order else at._right
        assert at is handle, "an interval is removed once, from the tree it was added to"
        handle._lifted = True  # so that nothing lifts it again on its way out
        if holder is not None:
            _lift(holder)
        while (child := _higher(handle._left, handle._right)) is not None:
            self._raise(child, handle, parent)
            parent = child
        self._replace(parent, handle, None)

    def _raise(self, child: Interval[T], parent: Interval[T], above: Interval[T] | None) -> None:
        """Rotate `child` over `parent`, whose own parent is `above`."""
        was_top = child._top
        child._top = parent._top  # both subtrees held the same intervals, so this one still ends last
        if parent._left is child:
            parent._left, child._right = child._right, parent
        else:
            parent._right, child._left = child._left, parent
        _lift(parent)
        if was_top is not None:
            was_top._lifted = False
            if was_top is not child:
                below = child._left if was_top._order < child._order else child._right
                assert below is not None
                _settle(below, was_top)
        self._replace(above, parent, child)

    def _replace(self, above: Interval[T] | None, old: Interval[T], new: Interval[T] | None) -> None:
        """Put `new` where `old` hung below `above`."""
        if above is None:
            self._root = new
        elif above._left is old:
            above._left = new
        else:
            above._right = new


def _higher(left: Interval[T] | None, right: Interval[T] | None) -> Interval[T] | None:
    if left is None or right is None:
        return left or right
    return left if left._priority > right._priority else right


def _lift(node: Interval[T]) -> None:
    """Choose the top of `node` anew from what is not lifted above it, and of every node that loses its own by that."""
    while True:
        best = None if node._lifted else node
        source: Interval[T] | None = None
        for child in (node._left, node._right):
            if child is not None and child._top is not None and (best is None or child._top._ends_after(best)):
                best, source = child._top, child
        node._top = best
        if best is not None:
            best._lifted = True
        if source is None:
            return
        node = source


def _settle(node: Interval[T], moving: Interval[T]) -> None:
    """Give `moving`, an interval at or below `node` that is lifted nowhere, its place on the way down to itself."""
    while True:
        top = node._top
        if top is None:
            node._top = moving
            moving._lifted = True
            return
        if moving._ends_after(top):
            node._top = moving
            moving._lifted, top._lifted = True, False
            moving = top
        if moving is node:
            return
        below = node._left if moving._order < node._order else node._right
        assert below is not None
        node = below
