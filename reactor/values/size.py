"""How much a value weighs, and the limits on it.

Owns the size and nesting rules of the document model and the texts said when a limit is passed. Sizes are the
model's own (a float64 counts 9 bytes), not those of any encoding. Used by `stored` while it normalises, and by limits
elsewhere.
"""

from typing import NoReturn

from reactor.errors import ValidationError
from reactor.limits import MAX_ARRAY_LENGTH, MAX_OBJECT_FIELDS, MAX_VALUE_BYTES, MAX_VALUE_NESTING
from reactor.values.types import Undefined, Value

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class ValueInvalid(ValidationError):
    """A value breaks a rule of the document model. `rule` is the official code, such as `ArrayTooLong`."""

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(message)


def format_size(count: int) -> str:
    """Return `count` bytes in binary units: `512 B`, `1 MiB`, `1.10 MiB`."""
    unit = 0
    amount = float(count)
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount /= 1024
        unit += 1
    return f"{amount:.0f} {_UNITS[unit]}" if amount.is_integer() else f"{amount:.2f} {_UNITS[unit]}"


def value_size(value: Value | Undefined) -> int:
    """Return the size of a normalised value in bytes; a missing value weighs nothing."""
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, int | float):
        return 9
    if isinstance(value, str):
        return 2 + (len(value) if value.isascii() else len(value.encode()))
    if isinstance(value, bytes):
        return 2 + len(value)
    if isinstance(value, list):
        return 2 + sum(map(value_size, value))
    if isinstance(value, dict):
        return 2 + sum(len(name) + 1 + value_size(item) for name, item in value.items())
    return 0


def value_nesting(value: Value) -> int:
    """Return how many arrays and objects enclose the innermost value, itself included: 0 for a scalar."""
    if isinstance(value, list):
        return 1 + max(map(value_nesting, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(value_nesting, value.values()), default=0)
    return 0


def array_too_long(length: int) -> NoReturn:
    """Refuse an array of `length` elements."""
    raise ValueInvalid("ArrayTooLong", f"Array length is too long ({length} > maximum length {MAX_ARRAY_LENGTH})")


def too_many_fields(count: int) -> NoReturn:
    """Refuse an object of `count` fields."""
    raise ValueInvalid(
        "TooManyFieldsError", f"Object has too many fields ({count} > maximum number {MAX_OBJECT_FIELDS})"
    )


def too_nested(levels: int) -> NoReturn:
    """Refuse a value nested `levels` deep."""
    raise ValueInvalid(
        "TooNestedError", f"Value is too nested (nested {levels} levels deep > maximum nesting {MAX_VALUE_NESTING})"
    )


def too_large(size: int, limit: int = MAX_VALUE_BYTES) -> NoReturn:
    """Refuse a value or document of `size` bytes."""
    raise ValueInvalid(
        "ValueTooLargeError", f"Value is too large ({format_size(size)} > maximum size {format_size(limit)})"
    )
