"""The order of keys: that of the index values of the database, across types.

Owns what makes two values comparable in Python. Promises null < int64 < number < boolean < string < bytes < array <
object, that NaNs are equal to each other and above all numbers, and that -0.0 equals 0.0. Used by positions and nodes.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from reactor import Int64

Rank: TypeAlias = tuple[Any, ...]
"""A value in a form that Python compares: the rank of its type, then itself."""

NULL: Final[Rank] = (1,)
NAN: Final[Rank] = (3.5,)


def _rank_float(value: float) -> Rank:
    return (3, value) if value == value else NAN


def _rank_object(value: dict[str, Any]) -> Rank:
    return (9, tuple((name, rank(value[name])) for name in sorted(value)))


_RANKS: Final[dict[type, Callable[[Any], Rank]]] = {
    type(None): lambda value: NULL,
    Int64: lambda value: (2, int(value)),
    float: _rank_float,
    int: lambda value: (3, value),
    bool: lambda value: (4, value),
    str: lambda value: (5, value),
    bytes: lambda value: (6, value),
    list: lambda value: (7, tuple(map(rank, value))),
    tuple: lambda value: (7, tuple(map(rank, value))),
    dict: _rank_object,
}


def rank(value: Any) -> Rank:
    """Return `value`, one of the document model, in a form that Python compares."""
    return _RANKS[type(value)](value)
