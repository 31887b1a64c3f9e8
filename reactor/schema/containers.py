"""Validators of values that hold others: arrays, objects, records; and unions.

Owns the walk through nested values. Used by `validators`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reactor.errors import ValidationError
from reactor.schema.compiled import Source, array_body, call, object_body, record_body
from reactor.schema.mismatch import Mismatch, MismatchKind, Path
from reactor.schema.scalars import Anything, BigInt, Float64, Integer, Literal, TypeValidator
from reactor.schema.validator import (
    TableNumbers,
    Validator,
    invalid_validator,
    is_plain_int,
    require_validator,
)
from reactor.values.stored import normalise
from reactor.values.types import Int64, Value


class Array(Validator):
    """Accepts a list whose every item satisfies `element`."""

    __slots__ = ("element",)
    kind = "array"

    def __init__(self, element: Validator) -> None:
        require_validator(element, "v.array()", None, "v.array() element must be a validator")
        super().__init__((element,))
        self.element = element

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        if not isinstance(value, list):
            return self._no_match(value, path)
        for position, item in enumerate(value):
            if found := self.element.mismatch(item, tables, f"{path}[{position}]"):
                return found
        return None

    def condition(self, source: Source, name: str) -> str:
        element = self.element
        only_type = element.python_type if isinstance(element, TypeValidator) and element.kind != Integer.kind else None
        return call(source.helper(self, lambda: array_body(source, element, only_type)), name)

    def coerce(self, value: object) -> object:
        return [self.element.coerce(item) for item in value] if isinstance(value, list | tuple) else value

    def view(self, value: Value) -> Value:
        return [self.element.view(item) for item in value] if isinstance(value, list) else value

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        return {"type": "array", "value": self.element.to_json(stored=stored)}

    def text(self) -> str:
        return f"v.array({self.element.text()})"


class Object(Validator):
    """Accepts an object with exactly the declared fields; optional ones may be missing."""

    __slots__ = ("_coerced", "_sorted", "_viewed", "fields")
    kind = "object"

    def __init__(self, fields: Mapping[str, Validator]) -> None:
        if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
            raise invalid_validator("v.object() takes a dict from field names to validators")
        for name, field in fields.items():
            require_validator(field, "v.object()", name, "v.object() entries must be validators")
        super().__init__(fields.values())
        self.fields = dict(fields)
        self._sorted = tuple(sorted(fields.items()))
        self._viewed = tuple((name, field) for name, field in self._sorted if field.has_view)
        self._coerced = tuple((name, field) for name, field in self._sorted if field.needs_coercion)

    def pick(self, *names: str) -> "Object":
        """Return an object with only these fields.

        Raises:
            SchemaInvalid: there is no such field.
        """
        self._require(names, "pick")
        return Object({name: self.fields[name] for name in names})

    def omit(self, *names: str) -> "Object":
        """Return an object without these fields.

        Raises:
            SchemaInvalid: there is no such field.
        """
        self._require(names, "omit")
        return Object({name: field for name, field in self.fields.items() if name not in names})

    def partial(self) -> "Object":
        """Return an object with every field optional."""
        return Object({name: field.optional() for name, field in self.fields.items()})

    def extend(self, fields: Mapping[str, Validator]) -> "Object":
        """Return an object with more fields; one of the same name replaces the old one."""
        return Object({**self.fields, **fields})

    def _require(self, names: Sequence[str], verb: str) -> None:
        for name in names:
            if name not in self.fields:
                raise invalid_validator(
                    f'v.object() has no field "{name}" to {verb}. Its fields: {", ".join(self.fields)}'
                )

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        if not isinstance(value, dict):
            return self._no_match(value, path)
        for name, field in self._sorted:
            if name in value:
                if found := field.mismatch(value[name], tables, f"{path}.{name}"):
                    return found
            elif not field.is_optional:
                return Mismatch(MismatchKind.MISSING_REQUIRED_FIELD, path, value, self.text, name)
        extra = min((name for name in value if name not in self.fields), default=None)
        if extra is not None:
            return Mismatch(MismatchKind.EXTRA_FIELD, path, value, self.text, extra)
        return None

    def condition(self, source: Source, name: str) -> str:
        literals_first = sorted(self._sorted, key=lambda field: not isinstance(field[1], Literal))
        return call(source.helper(self, lambda: object_body(source, literals_first)), name)

    def coerce(self, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {**value, **{name: field.coerce(value[name]) for name, field in self._coerced if name in value}}

    def view(self, value: Value) -> Value:
        if not isinstance(value, dict):
            return value
        viewed = value.copy()
        for name, field in self._viewed:
            if name in viewed:
                viewed[name] = field.view(viewed[name])
        return viewed

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        fields = {name: _field_json(field, stored) for name, field in self.fields.items()}
        return {"type": "object", "value": fields}

    def text(self) -> str:
        return f"v.object({{{', '.join(f'{name}: {field}' for name, field in self._sorted)}}})"


class Record(Validator):
    """Accepts an object with any fields whose names satisfy `keys` and whose values satisfy `values`."""

    __slots__ = ("keys", "values")
    kind = "record"

    def __init__(self, keys: Validator, values: Validator) -> None:
        for part, name in ((keys, "keys"), (values, "values")):
            require_validator(part, "v.record()", name, "v.record() keys and values must be validators")
            if part.is_optional:
                raise invalid_validator(f"Record validator cannot have optional {name}")
        super().__init__((values,))
        self.keys, self.values = keys, values

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        if not isinstance(value, dict):
            return self._no_match(value, path)
        for name, item in sorted(value.items()):
            found = self.keys.mismatch(name, tables, f"{path}.keys()")
            found = found or self.values.mismatch(item, tables, f"{path}.values()")
            if found:
                return found
        return None

    def condition(self, source: Source, name: str) -> str:
        return call(source.helper(self, lambda: record_body(source, self.keys, self.values)), name)

    def coerce(self, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {name: self.values.coerce(item) for name, item in value.items()}

    def view(self, value: Value) -> Value:
        return {name: self.values.view(item) for name, item in value.items()} if isinstance(value, dict) else value

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        return {"type": "record", "keys": self.keys.to_json(stored=stored), "values": _field_json(self.values, stored)}

    def text(self) -> str:
        return f"v.record({self.keys.text()}, {self.values.text()})"


class Union(Validator):
    """Accepts what any member accepts; conversions are those of the first member that does."""

    __slots__ = ("members",)
    kind = "union"

    def __init__(self, members: Sequence[Validator]) -> None:
        for position, member in enumerate(members):
            where = f"member at index {position}"
            require_validator(member, "v.union()", where, "All members of v.union() must be validators")
        super().__init__(members)
        self.members = tuple(members)

    def flat(self) -> list[Validator]:
        """Return the members with those of nested unions in place of the unions."""
        flat: list[Validator] = []
        for member in self.members:
            flat += member.flat() if isinstance(member, Union) else [member]
        return flat

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        found = None
        for member in self.members:
            found = member.mismatch(value, tables, path)
            if found is None:
                return None
        return found if found is not None and len(self.members) == 1 else self._no_match(value, path)

    def condition(self, source: Source, name: str) -> str:
        members = self.flat()
        strings = [m.value for m in members if isinstance(m, Literal) and isinstance(m.value, str)]
        tests = [f"(type({name}) is str and {name} in {source.constant(frozenset(strings))})"] if strings else []
        for member in members:
            if not (isinstance(member, Literal) and isinstance(member.value, str)):
                tests.append(member.condition(source, name))
        return f"({' or '.join(tests) or 'False'})"

    def coerce(self, value: object) -> object:
        if is_plain_int(value):
            numeric = [m for m in self.flat() if isinstance(m, Anything | Float64 | Integer | BigInt) or _is_number(m)]
            return Int64(value) if numeric and all(m.needs_coercion for m in numeric) else value
        candidates = [m for m in self.flat() if isinstance(value, _CONTAINERS.get(m.kind, ()))]
        if len(candidates) < 2:
            return candidates[0].coerce(value) if candidates else value
        if not _is_normal(self, value):
            for member in candidates:
                coerced = member.coerce(value)
                if _is_normal(member, coerced):
                    return coerced
        return value

    def view(self, value: Value) -> Value:
        for member in self.members:
            if member.accepts(value, None):
                return member.view(value)
        return value

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        return {"type": "union", "value": [member.to_json(stored=stored) for member in self.members]}

    def text(self) -> str:
        return f"v.union({', '.join(member.text() for member in self.members)})"


_CONTAINERS: Final[dict[str, tuple[type, ...]]] = {
    Anything.kind: (dict, list, tuple),
    Array.kind: (list, tuple),
    Object.kind: (dict,),
    Record.kind: (dict,),
}


def _field_json(field: Validator, stored: bool) -> dict[str, Any]:
    return {"fieldType": field.to_json(stored=stored), "optional": field.is_optional}


def _is_number(validator: Validator) -> bool:
    return isinstance(validator, Literal) and isinstance(validator.value, float | Int64)


def _is_normal(validator: Validator, value: object) -> bool:
    """Tell whether `value`, once normalised, has the shape; ids pass unresolved."""
    try:
        return validator.accepts(normalise(value).value, None)
    except ValidationError:
        return False
