"""What changes a tree."""

import math
from typing import Any

from reactor import MutationCtx, ReactorError, mutation, undefined, v
from reactor.components.aggregate.nodes import NOTHING, Item, Sums
from reactor.components.aggregate.positions import rank_item
from reactor.components.aggregate.trees import Trees, rank_namespace
from reactor.components.aggregate.wire import ENTRY, PLACE

PAIR = {"current": v.object(PLACE), "new": v.object(ENTRY)}


@mutation(args=ENTRY, returns=v.null())
def insert(ctx: MutationCtx, key: Any, id: str, sums: Sums = NOTHING, namespace: Any = undefined) -> None:
    """Put an item in. One with this key and id must not be there."""
    trees = Trees(ctx.db)
    trees.open(namespace).insert(checked(Item(key, id, sums)))
    trees.flush()


@mutation(args={"items": v.array(v.object(ENTRY))}, returns=v.null())
def insert_many(ctx: MutationCtx, items: list[dict[str, Any]]) -> None:
    """Put items in, each of which must not be there."""
    trees = Trees(ctx.db)
    for entry in items:
        trees.open(entry.get("namespace", undefined)).insert(item_of(entry))
    trees.flush()


@mutation(args={"items": v.array(v.object(ENTRY))}, returns=v.null())
def insert_many_if_not_existing(ctx: MutationCtx, items: list[dict[str, Any]]) -> None:
    """Put items in; those that are there get the given numbers."""
    trees = Trees(ctx.db)
    for entry in items:
        put(trees, entry)
    trees.flush()


@mutation(args=PLACE, returns=v.null())
def delete(ctx: MutationCtx, key: Any, id: str, namespace: Any = undefined) -> None:
    """Take an item out, which must be there."""
    trees = Trees(ctx.db)
    trees.open(namespace).delete(key, id)
    trees.flush()


@mutation(args=PLACE, returns=v.null())
def delete_if_exists(ctx: MutationCtx, key: Any, id: str, namespace: Any = undefined) -> None:
    """Take an item out if it is there."""
    trees = Trees(ctx.db)
    take(trees, {"key": key, "id": id, "namespace": namespace})
    trees.flush()


@mutation(args=PAIR, returns=v.null())
def replace(ctx: MutationCtx, current: dict[str, Any], new: dict[str, Any]) -> None:
    """Put one item in the place of another, which must be there, also across namespaces."""
    trees = Trees(ctx.db)
    if is_same_place(current, new):
        trees.open(current.get("namespace", undefined)).update(item_of(new))
    else:
        trees.open(current.get("namespace", undefined)).delete(current["key"], current["id"])
        trees.open(new.get("namespace", undefined)).insert(item_of(new))
    trees.flush()


@mutation(args=PAIR, returns=v.null())
def replace_or_insert(ctx: MutationCtx, current: dict[str, Any], new: dict[str, Any]) -> None:
    """Take one item out if it is there, and put another in, or give it the given numbers if it is there."""
    trees = Trees(ctx.db)
    if not is_same_place(current, new):
        take(trees, current)
    put(trees, new)
    trees.flush()


def item_of(entry: dict[str, Any]) -> Item:
    """Return the item that an entry describes."""
    return checked(Item(entry["key"], entry["id"], entry.get("sums", NOTHING)))


def checked(item: Item) -> Item:
    """Return an item whose numbers can be summed.

    Raises:
        ReactorError: one is NaN or infinite, which no later delete could take out of a sum.
    """
    for name, number in item.sums.items():
        if not math.isfinite(number):
            raise ReactorError(f"sum {name!r} of {[item.key, item.id]!r} is {number}: only finite numbers add up")
    return item


def is_same_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two entries have one position in one namespace."""
    places = [
        (rank_namespace(entry.get("namespace", undefined)), rank_item(entry["key"], entry["id"]))
        for entry in (one, other)
    ]
    return places[0] == places[1]


def take(trees: Trees, place: dict[str, Any]) -> None:
    """Take an item out if it is there."""
    tree = trees.find(place.get("namespace", undefined))
    if tree is not None and tree.contains(place["key"], place["id"]):
        tree.delete(place["key"], place["id"])


def put(trees: Trees, entry: dict[str, Any]) -> None:
    """Put an item in, or give it its numbers if it is there."""
    tree, item = trees.open(entry.get("namespace", undefined)), item_of(entry)
    if tree.contains(item.key, item.id):
        tree.update(item)
    else:
        tree.insert(item)
