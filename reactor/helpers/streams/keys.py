"""Index keys as Python values: their order, and the text of a cursor.

A key is a tuple of what a document has in the fields that an index is ordered by, `undefined` where it has nothing; a
shorter one stands for all keys that begin with it. Promises the order in which the database keeps values of all types,
and that whatever text is given as a cursor, it is a key or an `InvalidCursor`.
"""

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from typing import Any, Final

from reactor import Error, Int64, ReactorError, undefined

Key = tuple[Any, ...]
Comparable = tuple[Any, ...]

BEFORE: Final = (-1,)  # stands before every value,
BEHIND: Final = (9,)  # and behind
END: Final = "[]"  # the cursor that nothing follows

_MAGNITUDE: Final = 2**63 - 1


def comparable(value: Any) -> Comparable:
    """Return what sorts as a value does in an index."""
    if value is undefined:
        return (0,)
    if value is None:
        return (1,)
    if isinstance(value, Int64):
        return (2, int(value))
    if isinstance(value, bool):
        return (4, value)
    if isinstance(value, int | float):
        bits = struct.unpack(">q", struct.pack(">d", value))[0]
        return (3, bits if bits >= 0 else bits ^ _MAGNITUDE)
    if isinstance(value, str):
        return (5, value)
    if isinstance(value, bytes):
        return (6, value)
    if isinstance(value, list):
        return (7, tuple(map(comparable, value)))
    if isinstance(value, dict):
        return (8, tuple((name, comparable(value[name])) for name in sorted(value)))
    raise TypeError(f"{type(value).__name__} is no value that an index is ordered by")


def comparable_key(key: Key) -> Comparable:
    """Return what sorts as a key does."""
    return tuple(map(comparable, key))


def key_of(document: dict[str, Any], fields: Sequence[str]) -> Key:
    """Return the key of a document in an index over `fields`, which may be paths such as `author.name`."""
    return tuple(_at(document, field) for field in fields)


def _at(document: Any, path: str) -> Any:
    value = document
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return undefined
        value = value[name]
    return value


def write_cursor(key: Key) -> str:
    """Return a key as text."""
    return json.dumps([_to_json(value) for value in key], ensure_ascii=False, separators=(",", ":"))


def read_cursor(text: str, length: int) -> Key | None:
    """Return the key that a cursor is of, of at most `length` values; None for the end.

    Raises:
        ReactorError: it is no such cursor. Official clients begin again at the first page.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, list) or len(values) > length:
            raise ValueError(f"{length} values are wanted")
        return tuple(map(_from_json, values)) or None
    except (ValueError, TypeError, RecursionError, struct.error, Error) as error:
        raise ReactorError(
            {
                "isConvexSystemError": True,
                "paginationError": "InvalidCursor",
                "message": f"InvalidCursor: a cursor of another stream, or none at all: {error}",
            }
        ) from None


def _to_json(value: Any) -> Any:
    if value is undefined:
        return {"$undefined": None}
    if isinstance(value, Int64):
        return {"$integer": str(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"$float": struct.pack(">d", value).hex()}
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        return {name: _to_json(item) for name, item in value.items()}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError("a number is written otherwise")
        return value
    if not any(name.startswith("$") for name in value):
        return {name: _from_json(item) for name, item in value.items()}
    ((kind, text),) = value.items()
    if kind == "$undefined":
        return undefined
    if kind == "$integer":
        return Int64(int(text))
    if kind == "$float":
        return struct.unpack(">d", bytes.fromhex(text))[0]
    if kind == "$bytes":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(str(error)) from None
    raise ValueError(f"there is no value {kind}")
