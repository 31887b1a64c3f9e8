"""Positions: where an item stands among all items, and where a range of them begins and ends.

An item stands at `[exploded key, id, ""]`; bounds are positions at which no item can stand, so a range is always what
lies strictly between two of them. An array key is exploded to `["", a, "", b, ""]`, so that a prefix of it can be
followed by null, which is before every string, or by an array, which is behind every string. Owns this encoding.
Promises that ids decide between equal keys, in bounds too. Used by the client, which sends bounds as positions, and by
the tree, which compares them.
"""

from typing import Any, Final, TypeAlias

from reactor.components.aggregate.order import Rank, rank

Position: TypeAlias = list[Any]

_STRING: Final = 5
_LAST: Final[Rank] = (_STRING, "")


def explode(key: Any) -> Any:
    """Return a key as it stands in a position."""
    if not isinstance(key, list | tuple):
        return key
    exploded: list[Any] = [""]
    for part in key:
        exploded += (part, "")
    return exploded


def before(key: Any, document_id: str | None = None) -> Position:
    """Return the position just before an item, or before all items of a key."""
    return [explode(key), document_id, None]


def behind(key: Any, document_id: str | None = None) -> Position:
    """Return the position just behind an item, or behind all items of a key."""
    return [explode(key), [] if document_id is None else document_id, []]


def around_prefix(prefix: list[Any]) -> tuple[Position, Position]:
    """Return the positions before and behind all items whose array key begins with `prefix`."""
    exploded = explode(prefix)[:-1]
    return [[*exploded, None], None, None], [[*exploded, []], None, None]


def rank_position(position: Position) -> Rank:
    """Return a bound in a form that compares with what `rank_item` returns."""
    return tuple(map(rank, position))


def rank_item(key: Any, document_id: str) -> Rank:
    """Return the position of an item in a form that Python compares."""
    return (rank(explode(key)), (_STRING, document_id), _LAST)
