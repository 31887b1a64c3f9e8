"""The forms in which items, ranges and results cross the border of the component."""

from typing import Any, Final

from reactor import undefined, v
from reactor.components.aggregate.nodes import Held, Item
from reactor.components.aggregate.order import Rank
from reactor.components.aggregate.positions import rank_position

SUMS: Final = v.record(v.string(), v.number())
NAMESPACE: Final = v.optional(v.any())
POSITION: Final = v.array(v.any())
STALE: Final = v.optional(v.boolean())
"""True looks past operations that wait."""
RANGE: Final = {"namespace": NAMESPACE, "k1": v.optional(POSITION), "k2": v.optional(POSITION)}
ITEM: Final = v.object({"key": v.any(), "id": v.string(), "sums": SUMS})
HELD: Final = v.object({"count": v.integer(), "sums": SUMS})


def rank_bound(position: Any) -> Rank | None:
    """Return a bound as the tree takes it: None is beyond all items."""
    return None if position is undefined or position is None else rank_position(position)


def item_to_wire(item: Item) -> dict[str, Any]:
    """Return an item as callers get it. Numbers that are 0 are left out."""
    return {"key": item.key, "id": item.id, "sums": {name: number for name, number in item.sums.items() if number}}


def held_to_wire(held: Held) -> dict[str, Any]:
    """Return a count and its sums as callers get them. Sums that are 0 are left out."""
    return {"count": int(held.size), "sums": {name: number for name, number in held.sums.items() if number}}
