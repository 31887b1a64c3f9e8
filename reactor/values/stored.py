"""Values as they are kept: checked once on the way in, then as canonical bytes.

Owns the normal form of a value (what every other module of the engine may assume) and its stored bytes. Promises that
equal values have equal bytes, that decoding gives a fresh object each time, and that nothing outside the document model
gets in. Used by every write, every argument and every result.

The stored form is msgpack; a float64 is always a msgpack double and an `Int64` an extension of 8 bytes.
"""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from reactor.errors import ValidationError
from reactor.limits import (
    MAX_ARRAY_LENGTH,
    MAX_OBJECT_FIELDS,
    MAX_SAFE_INTEGER,
    MAX_VALUE_BYTES,
    MAX_VALUE_NESTING,
)
from reactor.values.display import sendable
from reactor.values.names import check_field_name
from reactor.values.size import array_too_long, too_large, too_many_fields, too_nested
from reactor.values.types import Int64, Value, describe_int, undefined

_INT64_EXTENSION = 1
_SUPPORTED_TYPES = "To learn about Convex's supported types, see https://docs.convex.dev/using/types."
_MAX_EXCERPT = 1000

# Sets of field names already found valid, each mapped to the names in their order and the cost in bytes of an object
# of only names: most objects share their shape. Bounded, since a record has names of the user's making.
_SHAPES: dict[tuple[Any, ...], tuple[tuple[str, ...], int]] = {}
_MAX_SHAPES = 1024
_MAX_SHAPE_FIELDS = 64
_MAX_SHAPE_BYTES = 1024

Untag: TypeAlias = Callable[[dict[Any, Any]], object]
"""Turns an object of one field into the value it stands for on the wire, or returns it as it is."""


_Read: TypeAlias = tuple[Any, int, int, bool]
_Reader: TypeAlias = Callable[[Any, int, Untag | None], _Read]


class Normalised(NamedTuple):
    """A value that satisfies the document model, with what was learnt while checking it."""

    value: Value
    """Only None, bool, float, Int64, str, bytes, list and dict (sorted by field), sharing nothing mutable with the
    input."""
    size: int
    """Bytes, as in `values/size.py`."""
    nesting: int
    """Levels of arrays and objects."""
    plain: bool
    """True when JSON can say it without `$` forms: no Int64, bytes, NaN, infinity or -0.0."""


_normalised = Normalised._make  # half the time of the constructor, which unpacks what is packed already


class _Refused(Exception):
    """A leaf that is no value; collects its path, innermost step first, on the way out."""

    def __init__(self, leaf: object) -> None:
        self.leaf = leaf
        self.path: list[str] = []


def normalise(value: object, untag: Untag | None = None) -> Normalised:
    """Check `value` against the document model and return its normal form.

    A plain `int` becomes a float64, a tuple an array, a `bytearray` or `memoryview` bytes; `undefined` fields are
    dropped. With `untag`, `value` is parsed JSON: integers of any size are float64, and `untag` reads `$` forms.

    Raises:
        ValidationError: a type, name, number or string the model does not have, or (`ValueInvalid`) a limit passed.
    """
    try:
        reader = _READERS.get(type(value)) or _reader_of(value)
        result = reader(value, MAX_VALUE_NESTING, untag)
    except _Refused as refusal:
        raise ValidationError(_refusal_text(refusal, value)) from None
    if result[1] > MAX_VALUE_BYTES:
        too_large(result[1])
    return _normalised(result)


def is_plain(value: Value) -> bool:
    """Return whether JSON can say a normalised value without `$` forms."""
    if isinstance(value, float):
        return _is_plain_float(value)
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    return not isinstance(value, Int64 | bytes)


def decode_stored(data: bytes) -> Value:
    """Return a fresh value from its stored bytes.

    Raises:
        ValidationError: the bytes are damaged. What can't be told from a stored value is not looked for.
    """
    try:
        return cast(Value, _decode(data))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(error) from error


def decode_object(data: bytes) -> dict[str, Value]:
    """Return a fresh object from its stored bytes.

    Raises:
        ValidationError: the bytes are damaged, or hold another type of value.
    """
    try:
        value = _decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(error) from error
    if type(value) is not dict:
        raise ValidationError(f"Stored value is not an object but {type(value).__name__}")
    return value


# One pass over a value. Each function returns the fields of its `Normalised` (a bare tuple is cheaper to make); `depth`
# is how many levels may still open.


def _object(fields: dict[Any, Any], depth: int, untag: Untag | None) -> _Read:
    if depth == 0:
        too_nested(MAX_VALUE_NESTING + 1)
    found = _SHAPES.get(tuple(fields))
    if found is None:
        fields, found = _admit(fields)
    names, size = found
    out: dict[str, Any] = {}
    nesting = 0
    plain = True
    name = ""
    try:
        for name in names:
            item = fields[name]
            kind = type(item)
            # The common scalars inline: a call for each field would double the cost of a write.
            if kind is str:
                size += 2 + (len(item) if item.isascii() else _utf8_length(item))
            elif kind is float:
                size += 9
                if item - item != 0.0 or (item == 0.0 and math.copysign(1.0, item) < 0.0):
                    plain = False
            elif kind is bool or item is None:
                size += 1
            elif item is undefined:
                size -= len(name) + 1
                continue
            else:
                item, item_size, item_nesting, item_plain = _any(item, depth - 1, untag)
                size += item_size
                if item_nesting > nesting:
                    nesting = item_nesting
                plain = plain and item_plain
            out[name] = item
    except _Refused as refusal:
        refusal.path.append(f".{name}")
        raise
    if len(out) > MAX_OBJECT_FIELDS:
        too_many_fields(len(out))
    if size > MAX_VALUE_BYTES:
        too_large(size)
    return out, size, nesting + 1, plain


def _array(items: list[Any] | tuple[Any, ...], depth: int, untag: Untag | None) -> _Read:
    if depth == 0:
        too_nested(MAX_VALUE_NESTING + 1)
    if len(items) > MAX_ARRAY_LENGTH:
        array_too_long(len(items))
    if items and set(map(type, items)) == {float}:  # embeddings
        plain = all(map(math.isfinite, items)) and (0.0 not in items or all(map(_is_plain_float, items)))
        return list(items), 2 + 9 * len(items), 1, plain
    out: list[Any] = []
    size = 2
    nesting = 0
    plain = True
    try:
        for item in items:
            item, item_size, item_nesting, item_plain = _any(item, depth - 1, untag)
            size += item_size
            if item_nesting > nesting:
                nesting = item_nesting
            plain = plain and item_plain
            out.append(item)
    except _Refused as refusal:
        refusal.path.append(f"[{len(out)}]")
        raise
    if size > MAX_VALUE_BYTES:
        too_large(size)
    return out, size, nesting + 1, plain


def _any(value: Any, depth: int, untag: Untag | None) -> _Read:
    reader = _READERS.get(type(value)) or _reader_of(value)
    return reader(value, depth, untag)


def _object_or_tagged(fields: dict[Any, Any], depth: int, untag: Untag | None) -> _Read:
    if untag is not None and len(fields) == 1:
        value = untag(fields)
        if value is not fields:
            return _any(value, depth, None)
    return _object(fields, depth, untag)


def _string(text: str, depth: int, untag: Untag | None) -> _Read:
    return text, 2 + (len(text) if text.isascii() else _utf8_length(text)), 0, True


def _float(number: float, depth: int, untag: Untag | None) -> _Read:
    return number, 9, 0, _is_plain_float(number)


def _integer(number: int, depth: int, untag: Untag | None) -> _Read:
    if not -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER:
        if untag is None:
            raise ValidationError(
                f"Integer {describe_int(number)} is outside the range of a Convex `Float64` (-2^53 to 2^53). Consider "
                "using an `Int64`, which corresponds to a `BigInt` in JavaScript Convex functions."
            )
        try:
            return float(number), 9, 0, True
        except OverflowError:
            raise ValidationError("Invalid JSON: number out of range") from None
    return float(number), 9, 0, True


def _int64(number: Int64, depth: int, untag: Untag | None) -> _Read:
    return number, 9, 0, False


def _bytes(data: bytes, depth: int, untag: Untag | None) -> _Read:
    return data, 2 + len(data), 0, False


def _one_byte(value: bool | None, depth: int, untag: Untag | None) -> _Read:
    return value, 1, 0, True


_READERS: dict[type, _Reader] = {
    str: _string,
    float: _float,
    bool: _one_byte,
    type(None): _one_byte,
    int: _integer,
    dict: _object_or_tagged,
    list: _array,
    tuple: _array,
    Int64: _int64,
    bytes: _bytes,
}


def _reader_of(value: object) -> _Reader:
    """Return how to read an instance of a subclass (an enum, a named tuple …) or another kind of buffer."""
    for base, exact in _SUBCLASSES:
        if isinstance(value, base):
            reader = _READERS[exact]
            if exact in (dict, tuple):
                return reader
            return lambda value, depth, untag: reader(_CONVERSIONS[base](value), depth, untag)
    raise _Refused(value)


_SUBCLASSES: tuple[tuple[type, type], ...] = (
    (str, str),
    (int, int),
    (float, float),
    (bytes, bytes),
    (bytearray, bytes),
    (memoryview, bytes),
    (list, tuple),
    (tuple, tuple),
    (dict, dict),
)
_CONVERSIONS: dict[type, Callable[[Any], object]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: bytes,
    bytearray: bytes,
    memoryview: bytes,
}


def _admit(fields: dict[Any, Any]) -> tuple[dict[str, Any], tuple[tuple[str, ...], int]]:
    """Check the field names of an object; return it under exact names, and these sorted with their cost in bytes."""
    exact: dict[str, Any] = {}
    for name, item in fields.items():
        if not isinstance(name, str):
            raise ValidationError(f"Convex object keys must be strings, found {_describe(name)}")
        text = str.__str__(name)
        check_field_name(text)
        exact[text] = item
    size = 2 + sum(map(len, exact)) + len(exact)
    found = tuple(sorted(exact)), size
    if len(exact) <= _MAX_SHAPE_FIELDS and size <= _MAX_SHAPE_BYTES:
        if len(_SHAPES) >= _MAX_SHAPES:
            _SHAPES.clear()
        _SHAPES[tuple(exact)] = found
    return exact, found


def _is_plain_float(number: float) -> bool:
    return number - number == 0.0 and (number != 0.0 or math.copysign(1.0, number) > 0.0)


def _utf8_length(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValidationError(f"String contains a lone surrogate (U+{code:04X}), which is not valid Unicode") from None


def _refusal_text(refusal: _Refused, whole: object) -> str:
    leaf = refusal.leaf
    if leaf is undefined:
        subject = "undefined is not a valid Convex value"
    else:
        subject = f"{_describe(leaf)} is not a supported Convex type"
    if not refusal.path:
        return f"{subject}. {_SUPPORTED_TYPES}"
    path = "".join(reversed(refusal.path))
    return f"{subject} (present at path {path} in original object {_excerpt(whole)}). {_SUPPORTED_TYPES}"


def _describe(leaf: object) -> str:
    try:
        return _shorten(str(leaf))
    except Exception:  # the text of a user's object is the user's code
        return type(leaf).__name__


def _excerpt(whole: object) -> str:
    try:
        return _shorten(json.dumps(whole, default=_describe, ensure_ascii=False, separators=(",", ":")))
    except (ValueError, TypeError, RecursionError):  # cycles, odd keys, endless depth
        return f"({type(whole).__name__})"


def _shorten(text: str) -> str:
    text = sendable(text)
    return text if len(text) <= _MAX_EXCERPT else f"{text[:_MAX_EXCERPT]}…"


def _damaged(error: Exception) -> ValidationError:
    return ValidationError(f"Stored value can't be decoded: {error}")


def _to_extension(value: object) -> msgspec.msgpack.Ext:
    if type(value) is Int64:
        return msgspec.msgpack.Ext(_INT64_EXTENSION, value.to_bytes(8, "big", signed=True))
    raise TypeError(f"{type(value).__name__} is not a normalised value")


def _from_extension(code: int, data: memoryview) -> Int64:
    if code != _INT64_EXTENSION or len(data) != 8:
        raise ValueError(f"unknown extension {code}")
    return Int64(int.from_bytes(data, "big", signed=True))


encode_stored: Callable[[Value], bytes] = msgspec.msgpack.Encoder(enc_hook=_to_extension).encode
"""Return the stored bytes of a normalised value. Who keeps them for long copies them: they have room to spare."""

_decode = msgspec.msgpack.Decoder(ext_hook=_from_extension).decode
