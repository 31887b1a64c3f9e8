"""Questions about ranges of a tree: what they hold, what stands where in them, and their pages."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from reactor import QueryCtx, ReactorError, query, undefined, v
from reactor.components.aggregate.cursors import END, read_cursor, write_cursor
from reactor.components.aggregate.nodes import Held, Item
from reactor.components.aggregate.operations import PLACE
from reactor.components.aggregate.positions import before, behind, rank_position
from reactor.components.aggregate.tree import Tree
from reactor.components.aggregate.trees import Trees
from reactor.components.aggregate.wire import HELD, ITEM, RANGE, STALE, held_to_wire, item_to_wire, rank_bound

NAMESPACE_PAGE_END = "endcursor"


@query(args={"stale": STALE, **RANGE}, returns=HELD)
def aggregate_between(
    ctx: QueryCtx, namespace: Any = undefined, k1: Any = None, k2: Any = None, stale: bool = False
) -> dict[str, Any]:
    """Return the count and the sums of a range."""
    return held_to_wire(held(Trees(ctx.db, looks_past_queue=stale), namespace, k1, k2))


@query(args={"queries": v.array(v.object(RANGE)), "stale": STALE}, returns=v.array(HELD))
def aggregate_between_batch(ctx: QueryCtx, queries: list[dict[str, Any]], stale: bool = False) -> list[dict[str, Any]]:
    """Return count and sums of several ranges. What they have in common is read once."""
    trees = Trees(ctx.db, looks_past_queue=stale)
    return [held_to_wire(held(trees, *range_of(asked))) for asked in queries]


@query(args={"offset": v.integer(), "stale": STALE, **RANGE}, returns=ITEM)
def at_offset(
    ctx: QueryCtx,
    offset: int,
    namespace: Any = undefined,
    k1: Any = None,
    k2: Any = None,
    stale: bool = False,
) -> dict[str, Any]:
    """Return an item by its place in a range: 0 is the first, -1 the last."""
    return item_to_wire(
        existing(Trees(ctx.db, looks_past_queue=stale), namespace).at(offset, rank_bound(k1), rank_bound(k2))
    )


@query(args={"queries": v.array(v.object({"offset": v.integer(), **RANGE})), "stale": STALE}, returns=v.array(ITEM))
def at_offset_batch(ctx: QueryCtx, queries: list[dict[str, Any]], stale: bool = False) -> list[dict[str, Any]]:
    """Return items by their places in ranges. What they have in common is read once."""
    trees = Trees(ctx.db, looks_past_queue=stale)
    items = []
    for asked in queries:
        namespace, k1, k2 = range_of(asked)
        items.append(item_to_wire(existing(trees, namespace).at(asked["offset"], rank_bound(k1), rank_bound(k2))))
    return items


@query(args={"fractions": v.array(v.number()), "stale": STALE, **RANGE}, returns=v.array(ITEM))
def at_fractions(
    ctx: QueryCtx,
    fractions: Sequence[float],
    namespace: Any = undefined,
    k1: Any = None,
    k2: Any = None,
    stale: bool = False,
) -> list[dict[str, Any]]:
    """Return for each fraction the first item that so large a part of the range is not behind; nothing if it is empty.

    0 is the first item, 1 the last, 0.5 the (lower) median.
    """
    trees = Trees(ctx.db, looks_past_queue=stale)
    size = int(held(trees, namespace, k1, k2).size)
    if not size:
        return []
    tree, low, high = existing(trees, namespace), rank_bound(k1), rank_bound(k2)
    places = [max(0, math.ceil(fraction * size) - 1) for fraction in fractions]
    return [item_to_wire(tree.at(place, low, high)) for place in places]


@query(
    args={
        "limit": v.integer(),
        "order": v.union(v.literal("asc"), v.literal("desc")),
        "cursor": v.optional(v.string()),
        "stale": STALE,
        **RANGE,
    },
    returns=v.object({"page": v.array(ITEM), "cursor": v.string(), "isDone": v.boolean()}),
)
def paginate(
    ctx: QueryCtx,
    limit: int,
    order: str,
    cursor: str | None = None,
    namespace: Any = undefined,
    k1: Any = None,
    k2: Any = None,
    stale: bool = False,
) -> dict[str, Any]:
    """Return a page of a range, and the cursor of the next one."""
    if limit <= 0:
        raise ReactorError(f"limit must be positive, not {limit}")
    tree = Trees(ctx.db, looks_past_queue=stale).find(namespace)
    if tree is None or cursor == END:
        return {"page": [], "cursor": END, "isDone": True}
    low, high = rank_bound(k1), rank_bound(k2)
    if cursor is not None:
        last = read_cursor(cursor, 2)
        if order == "asc":
            start = rank_position(behind(*last))
            low = start if low is None else max(low, start)
        else:
            start = rank_position(before(*last))
            high = start if high is None else min(high, start)
    items = tree.items(low, high, 1 if order == "asc" else -1)
    page = list(islice(items, limit))
    is_done = next(items, None) is None
    return {
        "page": [item_to_wire(item) for item in page],
        "cursor": END if is_done else write_cursor(page[-1].key, page[-1].id),
        "isDone": is_done,
    }


@query(
    args={"limit": v.integer(), "cursor": v.optional(v.string()), "stale": STALE},
    returns=v.object({"page": v.array(v.any()), "cursor": v.string(), "isDone": v.boolean()}),
)
def paginate_namespaces(ctx: QueryCtx, limit: int, cursor: str | None = None, stale: bool = False) -> dict[str, Any]:
    """Return a page of the namespaces there are. The absent one is not listed: it has no value."""
    if limit <= 0:
        raise ReactorError(f"limit must be positive, not {limit}")
    if cursor == NAMESPACE_PAGE_END:
        return {"page": [], "cursor": NAMESPACE_PAGE_END, "isDone": True}
    found = list(islice(Trees(ctx.db, looks_past_queue=stale).behind(cursor), limit))
    page = [tree["namespace"] for tree in found if "namespace" in tree]
    if len(found) < limit:
        return {"page": page, "cursor": NAMESPACE_PAGE_END, "isDone": True}
    return {"page": page, "cursor": found[-1]["_id"], "isDone": False}


@query(
    args={"limit": v.integer(), "cursor": v.nullable(v.string())},
    returns=v.object({"page": v.array(PLACE), "cursor": v.string(), "isDone": v.boolean()}),
)
def paginate_all(ctx: QueryCtx, limit: int, cursor: str | None) -> dict[str, Any]:
    """Return a page of where all items stand, of one namespace after the other."""
    items = items_of_all(Trees(ctx.db), None if cursor is None else read_cursor(cursor, 3))
    found = list(islice(items, limit))
    is_done = next(items, None) is None
    return {
        "page": [
            {"key": item.key, "id": item.id, "namespace": document.get("namespace", undefined)}
            for document, item in found
        ],
        "cursor": END if is_done else write_cursor(found[-1][0]["_id"], found[-1][1].key, found[-1][1].id),
        "isDone": is_done,
    }


@query(args={"namespace": v.optional(v.any())}, returns=HELD)
def validate(ctx: QueryCtx, namespace: Any = undefined) -> dict[str, Any]:
    """Check every rule of a tree; return what it holds. Reads all of it."""
    tree = Trees(ctx.db, looks_past_queue=True).find(namespace)
    return held_to_wire(Held(0, {}) if tree is None else tree.validate())


def items_of_all(trees: Trees, last: list[Any] | None) -> Iterator[tuple[dict[str, Any], Item]]:
    """Give all items behind the last one, of one namespace after the other, each with the document of its tree."""
    tree_id = None
    if last is not None:
        tree_id, key, document_id = last
        document = trees.by_id(tree_id)
        if document is not None:  # otherwise cleared meanwhile
            low = rank_position(behind(key, document_id))
            yield from ((document, item) for item in trees.tree_of(document).items(low, None, 1))
    for document in trees.behind(tree_id):
        yield from ((document, item) for item in trees.tree_of(document).items(None, None, 1))


def range_of(asked: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return namespace and bounds of a range."""
    return asked.get("namespace", undefined), asked.get("k1"), asked.get("k2")


def held(trees: Trees, namespace: Any, k1: Any, k2: Any) -> Held:
    """Return what a range holds: nothing, where there is no tree."""
    tree = trees.find(namespace)
    return Held(0, {}) if tree is None else tree.held_between(rank_bound(k1), rank_bound(k2))


def existing(trees: Trees, namespace: Any) -> Tree:
    """Return the tree of a namespace.

    Raises:
        ReactorError: nothing was ever inserted.
    """
    tree = trees.find(namespace)
    if tree is None:
        raise ReactorError("tree is empty")
    return tree
