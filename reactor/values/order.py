"""The total order of values across types.

undefined < null < int64 < float64 < boolean < string < bytes < array < object. Owns the order as a comparison; `keys`
owns the same order as bytes. Used by filters and as the judge of `keys`.
"""

import struct
from typing import Any

from reactor.values.types import Int64, Undefined, Value

_DOUBLE = struct.Struct(">d")
_BITS = struct.Struct(">q")
_MAGNITUDE = 2**63 - 1


def compare(a: Value | Undefined, b: Value | Undefined) -> int:
    """Return a number below, at or above 0 as `a` sorts before, with or after `b`. Both must be normalised."""
    return _compare(a, b)


def _compare(a: Any, b: Any) -> int:
    rank, other = _RANKS[type(a)], _RANKS[type(b)]
    if rank != other:
        return -1 if rank < other else 1
    if rank == _FLOAT:
        return _sign(_float_order(a), _float_order(b))
    if rank == _ARRAY:
        return next(filter(None, map(_compare, a, b)), _sign(len(a), len(b)))
    if rank == _OBJECT:
        return _compare_objects(a, b)
    # Strings compare by code point, which is the order of their UTF-8 bytes; undefined and null equal themselves.
    return 0 if rank <= _NULL else _sign(a, b)


def _compare_objects(a: dict[str, Any], b: dict[str, Any]) -> int:
    for name, other in zip(sorted(a), sorted(b), strict=False):
        if verdict := _sign(name, other) or _compare(a[name], b[other]):
            return verdict
    return _sign(len(a), len(b))


def _sign(a: Any, b: Any) -> int:
    above: bool = a > b
    below: bool = a < b
    return above - below


def _float_order(number: float) -> int:
    """Return an integer that sorts as the IEEE total order does: by sign, then by magnitude."""
    bits: int = _BITS.unpack(_DOUBLE.pack(number))[0]
    return bits if bits >= 0 else bits ^ _MAGNITUDE


_NULL, _FLOAT, _ARRAY, _OBJECT = 1, 3, 7, 8
_RANKS: dict[type, int] = {
    Undefined: 0,
    type(None): _NULL,
    Int64: 2,
    float: _FLOAT,
    int: _FLOAT,  # a plain int is a float64, here as everywhere
    bool: 4,
    str: 5,
    bytes: 6,
    list: _ARRAY,
    dict: _OBJECT,
}
