"""Validators as Python types, in the text of a stub.

Owns the classes that nested objects become. What is given to a function and what comes back are different types: a
caller may pass any sequence and any `int`, and gets lists and `Int64`. Used by `python`.
"""

import json
from collections.abc import Mapping
from typing import Final

from reactor.codegen.names import is_python_name, pascal_case
from reactor.schema.containers import Array, Object, Record, Union
from reactor.schema.scalars import Anything, Id, Literal
from reactor.schema.validator import Validator
from reactor.values.types import Int64

_GIVEN: Final = {"int64": "_builtins.int", "commitTs": "_builtins.int"}
_SCALARS: Final = {
    "null": "None",
    "boolean": "_builtins.bool",
    "float64": "_builtins.float",
    "string": "_builtins.str",
    "bytes": "_builtins.bytes",
    "int64": "_Int64",
    "commitTs": "_Int64",
    "integer": "_builtins.int",
    "any": "_Any",
}

_Shape = tuple[str, bool]


class TypeWriter:
    """Writes types, and collects the classes that they need in `classes`, which go before them in the stub.

    `ids` is the name of the id type of each table that has one.
    """

    def __init__(self, ids: Mapping[str, str]) -> None:
        self._ids = ids
        self._taken: set[str] = set()
        self._documents: dict[_Shape, str] = {}
        self._written: dict[_Shape, str] = {}  # the class of each shape that this function has
        self.classes: list[str] = []

    def type_of(self, validator: Validator, name: str, *, is_given: bool) -> str:
        """Return the type of a value: one that is given to a function or comes back. `name` is for classes."""
        match validator:
            case Id():
                return self._ids.get(validator.table, "_builtins.str")
            case Literal():
                return _literal(validator.value, is_given)
            case Array():
                element = self.type_of(validator.element, name, is_given=is_given)
                if not is_given:
                    return f"_builtins.list[{element}]"
                if _takes_text(validator.element):  # a text is a sequence of texts, but no list of them
                    return f"_builtins.list[{element}] | _builtins.tuple[{element}, ...]"
                return f"_Sequence[{element}]"
            case Record():
                values = self.type_of(validator.values, name, is_given=is_given)
                return f"{'_Mapping' if is_given else '_builtins.dict'}[_builtins.str, {values}]"
            case Union():
                members = [self.type_of(member, name, is_given=is_given) for member in validator.members]
                return " | ".join(dict.fromkeys(members)) or "_Never"
            case Object():
                shape = _shape(validator, is_given)
                found = self._written.get(shape) or self._documents.get(shape)
                if found is None:
                    found = self._written[shape] = self.write_class(name, validator.fields, is_given=is_given)
                return found
        return (_GIVEN if is_given and validator.kind in _GIVEN else _SCALARS)[validator.kind]

    def write_class(
        self,
        name: str,
        fields: Mapping[str, Validator],
        *,
        is_given: bool,
        before: Mapping[str, str] | None = None,
        is_patch: bool = False,
    ) -> str:
        """Write a `TypedDict` and return its name.

        Args:
            name: what to call it; a number is added if that is taken.
            fields: sorted by name in the text.
            is_given: as for `type_of`.
            before: fields with their types that come first.
            is_patch: every field may be missing, and an optional one may be taken away.
        """
        name = self.reserve(name)
        typed = dict(before or {})
        for field, validator in sorted(fields.items()):
            text = self.type_of(validator, f"_{pascal_case(name, field)}", is_given=is_given)
            if is_patch:
                text = f"{text} | _Undefined" if validator.is_optional else text
            typed[field] = f"_NotRequired[{text}]" if validator.is_optional or is_patch else text
        if all(map(is_python_name, typed)):
            lines = [f"    {field}: {text}" for field, text in typed.items()] or ["    pass"]
            self.classes.append("\n".join((f"class {name}(_TypedDict):", *lines)))
        else:
            lines = [f"    {json.dumps(field)}: {text}," for field, text in typed.items()]
            self.classes.append("\n".join((f'{name} = _TypedDict("{name}", {{', *lines, "})")))
        return name

    def remember(self, shape: Object, name: str) -> None:
        """Call this shape `name` wherever it comes back: it is that of a table's documents."""
        self._documents.setdefault(_shape(shape, False), name)

    def is_public(self, name: str) -> bool:
        """Whether `name` is that of a type which users import."""
        return not name.startswith("_") and name in self._taken

    def forget_shapes(self) -> None:
        """Begin another function: its classes get names of its own."""
        self._written.clear()

    def release(self, *names: str) -> None:
        """Give up what `reserve` took, for who writes it."""
        self._taken.difference_update(names)

    def share_names(self, other: "TypeWriter") -> None:
        """Take no name that `other` takes."""
        self._taken = other._taken

    def reserve(self, name: str) -> str:
        """Return `name`, with a number when it is taken, and take it."""
        found, number = name, 2
        while found in self._taken:
            found, number = f"{name}{number}", number + 1
        self._taken.add(found)
        return found


def _shape(validator: Validator, is_given: bool) -> _Shape:
    return json.dumps(validator.to_json(stored=True), sort_keys=True), is_given


def _literal(value: object, is_given: bool) -> str:
    match value:
        case str() | bool():
            return f"_Literal[{value!r}]"
        case Int64():
            return f"_Literal[{int(value)}]" if is_given else "_Int64"
    return "_builtins.float"


def _takes_text(validator: Validator) -> bool:
    match validator:
        case Union():
            return any(map(_takes_text, validator.members))
        case Literal():
            return isinstance(validator.value, str)
    return isinstance(validator, Anything | Id) or validator.kind == "string"
