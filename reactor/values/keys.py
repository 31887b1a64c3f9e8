"""Index keys: bytes that sort as the values do.

Owns the order-preserving encoding of values and of index entries, and the bounds of ranges over them. Promises that
`a < b` in `values/order.py` exactly when `encode_value_key(a) < encode_value_key(b)`, and that no key is a prefix of
another, so a concatenation sorts field by field. Used by indexes, range reads and subscriptions.

The byte 0xFF never starts a value, so prefix + 0xFF is just past everything that continues the prefix.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from reactor.errors import ValidationError
from reactor.values.types import Int64, Undefined, Value, undefined

AFTER: Final = b"\xff"
"""What to append to a prefix to stand just past all its continuations."""

ID_TAG: Final = b"\x10"
"""Starts the last field of every index key, the id; that is base32 text, so this is the last such byte of the key."""

_FLOAT_TAG = 0x0D
_STRING_TAG = 0x10
_BYTES_TAG = 0x11
_ARRAY_TAG = 0x12
_OBJECT_TAG = 0x15

_BITS = struct.Struct(">Q")
_DOUBLE = struct.Struct(">d")
_TAGGED_DOUBLE = struct.Struct(">Bd")
_TAGGED_BITS = struct.Struct(">BQ")
_ALL_BITS = 2**64 - 1
_SIGN_BIT = 2**63


def encode_value_key(value: Value | Undefined) -> bytes:
    """Return the key of one normalised value."""
    return _ENCODERS[type(value)](value)


def encode_key(values: Iterable[Value | Undefined]) -> bytes:
    """Return the key of an index entry with these field values, in order."""
    return b"".join([_ENCODERS[type(value)](value) for value in values])


def get_path(document: dict[str, Any], path: tuple[str, ...]) -> Value | Undefined:
    """Return the value at a field path; `undefined` when a step is missing or does not lead through an object."""
    value: Any = document
    for name in path:
        if type(value) is not dict:
            return undefined
        value = value.get(name, undefined)
    return value  # type: ignore[no-any-return]


class IndexKeyEncoder:
    """Gives the key of a document in one index: its stored fields, then `_id`.

    `fields` are dotted paths, with `_creationTime` where the index stores it.
    """

    __slots__ = ("_flat", "_paths", "fields")

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields: tuple[str, ...] = tuple(fields)
        self._flat = all("." not in field for field in fields)
        self._paths: tuple[tuple[str, ...], ...] = tuple(tuple(field.split(".")) for field in fields)

    def __call__(self, document: dict[str, Any]) -> bytes:
        """Return the key of `document`, which must be normalised and have its `_id`."""
        encoders = _ENCODERS
        parts = []
        if self._flat:
            get = document.get
            for field in self.fields:
                value = get(field, undefined)
                parts.append(encoders[type(value)](value))
        else:
            for path in self._paths:
                value = get_path(document, path)
                parts.append(encoders[type(value)](value))
        parts.append(b"\x10%b\x00" % document["_id"].encode())  # an id has no NUL to escape
        return b"".join(parts)


def prefix_bounds(prefix: bytes) -> tuple[bytes, bytes]:
    """Return start and exclusive end of the keys that begin with these field values."""
    return prefix, prefix + AFTER


def lower_bound(prefix: bytes, value: Value | Undefined, inclusive: bool) -> bytes:
    """Return the start of the keys whose field after `prefix` is at least, or above, `value`."""
    key = prefix + encode_value_key(value)
    return key if inclusive else key + AFTER


def upper_bound(prefix: bytes, value: Value | Undefined, inclusive: bool) -> bytes:
    """Return the exclusive end of the keys whose field after `prefix` is at most, or below, `value`."""
    key = prefix + encode_value_key(value)
    return key + AFTER if inclusive else key


def field_ends(key: bytes) -> tuple[int, ...]:
    """Return where each field of a whole key ends, so that `key[:end]` are its field prefixes.

    Raises:
        ValidationError: the bytes are not a key. A range bound that ends in `AFTER` is not one either.
    """
    ends = []
    at = 0
    length = len(key)
    try:
        while at < length:
            tag = key[at]
            width = _WIDTHS[tag]
            if width:
                at += width
            elif tag in (_STRING_TAG, _BYTES_TAG):
                at = _text_end(key, at + 1)
            else:
                at = _container_end(key, at)
            ends.append(at)
    except (IndexError, ValueError):
        at = length + 1
    if at > length:
        raise ValidationError(f"Not an index key: {key[:64].hex()}")
    return tuple(ends)


def _text_end(key: bytes, at: int) -> int:
    at = key.index(0, at) + 1
    while at < len(key) and key[at] == 0xFF:  # an escaped NUL, not the end
        at = key.index(0, at) + 1
    return at


def _container_end(key: bytes, at: int) -> int:
    """Return the end of the array or object that starts at `at`; its bytes may nest deeper than any value."""
    is_object: list[bool] = []
    while True:
        tag = key[at]
        width = _WIDTHS[tag]
        if width:
            at += width
        elif tag in (_STRING_TAG, _BYTES_TAG):
            at = _text_end(key, at + 1)
        elif tag in (_ARRAY_TAG, _OBJECT_TAG):
            is_object.append(tag == _OBJECT_TAG)
            at += 1
        else:
            raise ValueError(f"no value has tag {tag:#x}")
        while key[at] == 0 and not (is_object[-1] and key[at + 1 : at + 2] == AFTER):
            is_object.pop()
            at += 1
            if not is_object:
                return at
        if is_object[-1]:
            at = at + 2 if key[at] == 0 else _text_end(key, at)


def _undefined_key(value: Undefined) -> bytes:
    return b"\x01"


def _null_key(value: None) -> bytes:
    return b"\x03"


def _boolean_key(value: bool) -> bytes:
    return b"\x0f" if value else b"\x0e"


def _int64_key(value: int) -> bytes:
    if value > 0:
        bits = value.bit_length()
        return (
            b"\x09%b" % value.to_bytes(1, "big")
            if bits < 8
            else b"\x0a%b" % value.to_bytes(2, "big")
            if bits < 16
            else b"\x0b%b" % value.to_bytes(4, "big")
            if bits < 32
            else b"\x0c%b" % value.to_bytes(8, "big")
        )
    if value == 0:
        return b"\x08"
    bits = (~value).bit_length()
    return (
        b"\x07%b" % value.to_bytes(1, "big", signed=True)
        if bits < 8
        else b"\x06%b" % value.to_bytes(2, "big", signed=True)
        if bits < 16
        else b"\x05%b" % value.to_bytes(4, "big", signed=True)
        if bits < 32
        else b"\x04%b" % value.to_bytes(8, "big", signed=True)
    )


def _float_key(value: float) -> bytes:
    if value > 0.0:
        return _TAGGED_DOUBLE.pack(_FLOAT_TAG, -value)  # setting the sign bit is a negation
    bits: int = _BITS.unpack(_DOUBLE.pack(value))[0]
    return _TAGGED_BITS.pack(_FLOAT_TAG, bits ^ (_ALL_BITS if bits & _SIGN_BIT else _SIGN_BIT))


def _integer_key(value: int) -> bytes:
    return _float_key(float(value))


def _string_key(value: str) -> bytes:
    data = value.encode()
    return b"\x10%b\x00" % (data.replace(b"\x00", b"\x00\xff") if "\x00" in value else data)


def _bytes_key(value: bytes) -> bytes:
    return b"\x11%b\x00" % value.replace(b"\x00", b"\x00\xff")


def _array_key(value: list[Any]) -> bytes:
    return b"\x12%b\x00" % encode_key(value)


def _object_key(value: dict[str, Any]) -> bytes:
    parts = [b"\x15"]
    for name, item in sorted(value.items(), key=itemgetter(0)):
        parts.append(b"%b\x00" % name.encode() if name else b"\x00\xff")
        parts.append(_ENCODERS[type(item)](item))
    parts.append(b"\x00")
    return b"".join(parts)


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Undefined: _undefined_key,
    type(None): _null_key,
    bool: _boolean_key,
    Int64: _int64_key,
    float: _float_key,
    int: _integer_key,
    str: _string_key,
    bytes: _bytes_key,
    list: _array_key,
    dict: _object_key,
}

# Bytes of a value that its tag alone determines; 0 for those with an end mark and for what is no tag.
_WIDTHS: Final = bytes(
    {1: 1, 3: 1, 4: 9, 5: 5, 6: 3, 7: 2, 8: 1, 9: 2, 10: 3, 11: 5, 12: 9, 13: 9, 14: 1, 15: 1}.get(tag, 0)
    for tag in range(256)
)
