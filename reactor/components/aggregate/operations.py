"""Operations: what is done to trees, as it crosses the border of the component and lies in its queue.

Owns what each kind means. Promises that an operation which fails has changed nothing. Used by the functions that apply
operations at once, and by the loop that applies them later.
"""

import math
from typing import Any, Final, Literal, NotRequired, TypedDict

from reactor import ReactorError, undefined, v
from reactor.components.aggregate.nodes import NOTHING, Item
from reactor.components.aggregate.positions import rank_item
from reactor.components.aggregate.tree import Tree, missing_key
from reactor.components.aggregate.trees import Trees, rank_namespace
from reactor.components.aggregate.wire import NAMESPACE, SUMS

KINDS: Final = ("insert", "delete", "replace", "deleteIfExists", "replaceOrInsert")


class Place(TypedDict):
    """Where an item stands: key, id, and the namespace, which may be absent."""

    key: Any
    id: str
    namespace: NotRequired[Any]


class Entry(Place):
    """An item with what is summed of it."""

    sums: NotRequired[dict[str, float]]


class Operation(TypedDict):
    """`current` is an item that is taken out, `new` one that is put in.

    insert takes `new`, delete and deleteIfExists `current`, replace both, replaceOrInsert `new` and perhaps `current`.
    """

    kind: Literal["insert", "delete", "replace", "deleteIfExists", "replaceOrInsert"]
    current: NotRequired[Place]
    new: NotRequired[Entry]


PLACE: Final = v.object({"key": v.any(), "id": v.string(), "namespace": NAMESPACE})
ENTRY: Final = PLACE.extend({"sums": v.optional(SUMS)})
OPERATION: Final = v.object(
    {"kind": v.union(*map(v.literal, KINDS)), "current": v.optional(PLACE), "new": v.optional(ENTRY)}
)


def check(operations: list[Operation]) -> None:
    """Check that numbers can be summed.

    Raises:
        ReactorError: one is NaN or infinite: no later delete could take it out of a sum again.
    """
    for operation in operations:
        if "new" in operation:
            new = operation["new"]
            for name, number in new.get("sums", NOTHING).items():
                if not math.isfinite(number):
                    raise ReactorError(
                        f"sum {name!r} of {[new['key'], new['id']]!r} is {number}: only finite numbers add up"
                    )


def apply(trees: Trees, operation: Operation) -> None:
    """Do one operation. Nothing is written before `trees.flush()`.

    Raises:
        ReactorError: an item to put in is there already, or DELETE_MISSING_KEY: one to take out is not.
    """
    kind = operation["kind"]
    if kind == "insert":
        _insert(trees, operation["new"])
    elif kind == "delete":
        current = operation["current"]
        _tree_with(trees, current).delete(current["key"], current["id"])
    elif kind == "deleteIfExists":
        _take(trees, operation["current"])
    elif kind == "replace":
        _replace(trees, operation["current"], operation["new"])
    else:
        if "current" in operation and not is_same_place(operation["current"], operation["new"]):
            _take(trees, operation["current"])
        _put(trees, operation["new"])


def _insert(trees: Trees, new: Entry) -> None:
    trees.open(_namespace(new)).insert(_item(new))


def _replace(trees: Trees, current: Place, new: Entry) -> None:
    tree = _tree_with(trees, current)
    if is_same_place(current, new):
        tree.update(_item(new))
        return
    tree.check_contains(current["key"], current["id"])
    _insert(trees, new)
    tree.delete(current["key"], current["id"])


def _tree_with(trees: Trees, place: Place) -> Tree:
    tree = trees.find(_namespace(place))
    if tree is None:
        raise missing_key(place["key"], place["id"])
    return tree


def _take(trees: Trees, place: Place) -> None:
    tree = trees.find(_namespace(place))
    if tree is not None and tree.contains(place["key"], place["id"]):
        tree.delete(place["key"], place["id"])


def _put(trees: Trees, new: Entry) -> None:
    tree, item = trees.open(_namespace(new)), _item(new)
    if tree.contains(item.key, item.id):
        tree.update(item)
    else:
        tree.insert(item)


def is_same_place(one: Place, other: Place) -> bool:
    """Return whether two items are one: of equal keys, ids and namespaces."""
    return rank_namespace(_namespace(one)) == rank_namespace(_namespace(other)) and rank_item(
        one["key"], one["id"]
    ) == rank_item(other["key"], other["id"])


def _item(entry: Entry) -> Item:
    return Item(entry["key"], entry["id"], entry.get("sums", NOTHING))


def _namespace(place: Place) -> Any:
    return place.get("namespace", undefined)
