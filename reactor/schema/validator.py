"""The base of all validators: what every shape must be able to do.

Owns the `Validator` contract and the way from a refused value to its error. Promises that `accepts` and `check` never
disagree, and that a validator never changes once built, so one may be shared by threads and by schemas. Used by
`scalars` and `containers`, which hold the shapes, and by everything that checks a value.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from copy import copy
from typing import Any, ClassVar, Protocol, TypeGuard, TypeVar

from reactor.errors import SchemaInvalid, ValidationError
from reactor.schema.compiled import Check, Source, compile_check
from reactor.schema.mismatch import ROOT, Mismatch, MismatchKind, Path
from reactor.values.types import Int64, Undefined, Value


class TableNumbers(Protocol):
    """Which table an id belongs to; the engine's catalog is one."""

    def table_name(self, number: int) -> str | None:
        """Return the table's name, or None when no visible table has that number."""


class Validator(ABC):
    """One shape. `is_optional` matters only for a field of an object: the field may be missing."""

    __slots__ = ("_check", "has_view", "is_optional", "needs_coercion")

    kind: ClassVar[str]
    is_optional: bool
    needs_coercion: bool
    has_view: bool

    def __init__(self, parts: "Iterable[Validator]" = ()) -> None:
        parts = tuple(parts)
        self.is_optional = False
        self.needs_coercion = any(part.needs_coercion for part in parts)
        self.has_view = any(part.has_view for part in parts)
        self._check: Check | None = None

    def optional(self: "SomeValidator") -> "SomeValidator":
        """Return the same shape as a field that may be missing."""
        validator = copy(self)
        validator.is_optional = True
        return validator

    def accepts(self, value: Value, tables: TableNumbers | None) -> bool:
        """Tell whether a normalised value has this shape. Without `tables` any string passes for an id."""
        check = self._check
        if check is None:
            check = self._check = compile_check(self)
        return check(value, tables)

    def check(self, value: Value, tables: TableNumbers | None, path: Path = ROOT) -> None:
        """Explain what is wrong with a value that `accepts` refused.

        Raises:
            ValidationError: `value` does not have this shape. The text has no prefix; callers add theirs.
        """
        found = self.mismatch(value, tables, path)
        if found is not None:
            raise ValidationError(found.text())

    def coerce(self, value: object) -> object:
        """Return `value`, not normalised yet, with each plain int as `Int64` where nothing else is meant.

        Callers skip the call unless `needs_coercion`. What does not fit the shape is left alone, for `check` to refuse.

        Raises:
            ValidationError: an int meant as `Int64` is out of its range.
        """
        return value

    def view(self, value: Value) -> Value:
        """Return `value` with an `int` at every `v.integer()`; nothing of `value` is changed.

        Callers skip the call unless `has_view`. What does not fit the shape (older data) is left alone.
        """
        return value

    @abstractmethod
    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        """Return the first thing that is wrong with `value`, or None."""

    @abstractmethod
    def condition(self, source: Source, name: str) -> str:
        """Return the expression of the fast check, safe to stand after `not`."""

    @abstractmethod
    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        """Return the official export, or with `stored` the form that remembers `v.integer()`."""

    @abstractmethod
    def text(self) -> str:
        """Return how the shape prints, whether or not it is optional."""

    def __str__(self) -> str:
        return f"v.optional({self.text()})" if self.is_optional else self.text()

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Validator) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[bool, str]:
        # As text, because Python's 1.0 == True would make two literals equal.
        return self.is_optional, json.dumps(self.to_json(stored=True), sort_keys=True)

    def _no_match(self, value: Value, path: Path) -> Mismatch:
        return Mismatch(MismatchKind.NO_MATCH, path, value, self.text)


SomeValidator = TypeVar("SomeValidator", bound=Validator)


def is_plain_int(value: object) -> TypeGuard[int]:
    """Tell whether `value` is an int that says neither bool nor int64."""
    return isinstance(value, int) and not isinstance(value, bool | Int64)


def invalid_validator(text: str) -> SchemaInvalid:
    """Return the error of a builder that was given something it does not take."""
    return SchemaInvalid("InvalidValidator", text)


def require_validator(part: object, builder: str, field: str | None, otherwise: str) -> None:
    """Refuse a `part` that is no validator.

    Raises:
        SchemaInvalid: it is missing (the official text for that names builder and field), or, with the text
            `otherwise`, it is something else.
    """
    if part is None or isinstance(part, Undefined):
        where = f"in {builder}" if field is None else f'for field "{field}" in {builder}'
        raise invalid_validator(
            f"A validator is undefined {where}. This is often caused by circular imports. "
            "See https://docs.convex.dev/error#undefined-validator for details."
        )
    if not isinstance(part, Validator):
        raise invalid_validator(otherwise)
