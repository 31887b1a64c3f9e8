"""Normalising a long array a few hundred items at a time, for who must not be busy for long.

Promises exactly what `normalise` gives, errors included. Used for the results of queries.
"""

from collections.abc import Generator
from typing import Any, Final

from reactor.errors import ValidationError
from reactor.limits import MAX_ARRAY_LENGTH, MAX_VALUE_BYTES, MAX_VALUE_NESTING
from reactor.values.stored import Normalised, normalise

STEP_ITEMS: Final = 256
"""Documents of ten fields take about half a millisecond."""


def is_long(value: object) -> bool:
    """Whether `value` is a long array, or an object with one in a field, such as a page."""
    return _place(value) is not None


def normalise_in_steps(value: object) -> Generator[None, None, Normalised]:
    """Do what `normalise` does, yielding now and then inside a long array.

    Raises:
        ValidationError: as `normalise`.
    """
    place = _place(value)
    if place is None:
        return normalise(value)
    container: Any = value
    items = list(container if place == "" else container[place])
    out: list[Any] = []
    size, nesting, plain = 2, 0, True
    try:
        for start in range(0, len(items) if len(items) <= MAX_ARRAY_LENGTH else 0, STEP_ITEMS):
            part = normalise(items[start : start + STEP_ITEMS])
            assert isinstance(part.value, list)
            out += part.value
            size += part.size - 2
            nesting, plain = max(nesting, part.nesting), plain and part.plain
            yield
        whole = Normalised(out, size, nesting, plain)
        if place:
            rest = normalise({**container, place: None})
            assert isinstance(rest.value, dict)
            rest.value[place] = out
            size += rest.size - 1  # without the null in its place
            whole = Normalised(rest.value, size, max(rest.nesting, nesting + 1), plain and rest.plain)
    except ValidationError:
        return normalise(value)  # which says what is wrong, and where
    if len(out) < len(items) or size > MAX_VALUE_BYTES or whole.nesting > MAX_VALUE_NESTING:
        return normalise(value)
    return whole


def _place(value: object) -> str | None:
    """Return the name of the field with a long array, "" when `value` itself is one, and None without any."""
    if type(value) is list or type(value) is tuple:
        return "" if len(value) > STEP_ITEMS else None
    if type(value) is dict:
        for name, item in value.items():
            if (type(item) is list or type(item) is tuple) and len(item) > STEP_ITEMS and type(name) is str:
                return name or None
    return None
