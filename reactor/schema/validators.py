"""The namespace `v`, and validators from their JSON form.

Owns how shapes are written down: in Python by the methods of `v`, in JSON as official clients and our store keep them.
`to_json()` is the official export, in which `v.integer()` is a `number`. The form we store adds `"integer": true` to it
(`to_json(stored=True)`), so that `validator_from_json` restores exactly what was declared. Used by every schema and
function that declares a shape.
"""

from collections.abc import Mapping
from typing import Any, Final

from reactor.schema.containers import Array, Object, Record, Union
from reactor.schema.scalars import (
    Anything,
    BigInt,
    Boolean,
    Bytes,
    CommitTs,
    Float64,
    Id,
    Integer,
    Literal,
    Null,
    String,
)
from reactor.schema.validator import SomeValidator, invalid_validator, require_validator
from reactor.schema.validator import TableNumbers as TableNumbers  # annotations name these two beside `v`
from reactor.schema.validator import Validator as Validator
from reactor.values.json import value_from_json
from reactor.values.types import Int64


class Builders:
    """The namespace `v`: one method per shape. Each raises `SchemaInvalid` when given something else than it takes."""

    def id(self, table: str) -> Id:
        """Ids of documents of `table`."""
        return Id(table)

    def null(self) -> Null:
        """None."""
        return Null()

    def number(self) -> Float64:
        """Every float64, the number of JavaScript. Python code receives `float`."""
        return Float64()

    def float64(self) -> Float64:
        """Same as `number`."""
        return Float64()

    def int64(self) -> BigInt:
        """Every int64, the BigInt of JavaScript. Python code receives `Int64`."""
        return BigInt()

    def bigint(self) -> BigInt:
        """Same as `int64`."""
        return BigInt()

    def commit_ts(self) -> CommitTs:
        """An int64 that holds a commit timestamp in nanoseconds."""
        return CommitTs()

    def integer(self) -> Integer:
        """Integral numbers within ±2^53: a float64 on the wire, an `int` in Python code."""
        return Integer()

    def boolean(self) -> Boolean:
        """True and False."""
        return Boolean()

    def string(self) -> String:
        """Every string."""
        return String()

    def bytes(self) -> Bytes:
        """Every byte string."""
        return Bytes()

    def any(self) -> Anything:
        """Every value."""
        return Anything()

    def literal(self, value: str | float | Int64) -> Literal:
        """Exactly `value`. A plain int is a float64, as everywhere."""
        return Literal(value)

    def array(self, element: Validator) -> Array:
        """Lists of `element`."""
        return Array(element)

    def object(self, fields: Mapping[str, Validator]) -> Object:
        """Objects with exactly these fields."""
        return Object(fields)

    def record(self, keys: Validator, values: Validator) -> Record:
        """Objects with any fields whose names satisfy `keys` and whose values satisfy `values`."""
        return Record(keys, values)

    def union(self, *members: Validator) -> Union:
        """What any of `members` accepts."""
        return Union(members)

    def optional(self, validator: SomeValidator) -> SomeValidator:
        """The same shape, as a field that may be missing."""
        require_validator(validator, "v.optional()", None, "v.optional() takes a validator")
        return validator.optional()

    def nullable(self, validator: Validator) -> Union:
        """What `validator` accepts, or None."""
        return Union((validator, Null()))


v: Final = Builders()

_SIMPLE: Final[dict[str, type[Validator]]] = {
    "null": Null,
    "number": Float64,
    "bigint": BigInt,
    "commitTs": CommitTs,
    "boolean": Boolean,
    "string": String,
    "bytes": Bytes,
    "any": Anything,
    "map": Anything,  # removed types of old data
    "set": Anything,
}


def validator_from_json(obj: Any) -> Validator:
    """Return the validator that exports as `obj`, in the official or in the stored form.

    Raises:
        SchemaInvalid: `obj` is no validator.
    """
    match obj:
        case {"type": "number", "integer": True}:
            return Integer()
        case {"type": str(name)} if name in _SIMPLE:
            return _SIMPLE[name]()
        case {"type": "id", "tableName": table}:
            return Id(table)
        case {"type": "literal", "value": value}:
            return Literal(value_from_json(value))  # type: ignore[arg-type]
        case {"type": "array", "value": element}:
            return Array(validator_from_json(element))
        case {"type": "object", "value": dict(fields)}:
            return Object({name: _field_from_json(field) for name, field in fields.items()})
        case {"type": "record", "keys": keys, "values": values}:
            return Record(validator_from_json(keys), _field_from_json(values))
        case {"type": "union", "value": list(members)}:
            return Union([validator_from_json(member) for member in members])
    raise invalid_validator(f"This is not the JSON form of a validator: {obj!r}")


def _field_from_json(obj: Any) -> Validator:
    match obj:
        case {"fieldType": field, "optional": bool(is_optional)}:
            validator = validator_from_json(field)
            return validator.optional() if is_optional else validator
    raise invalid_validator(f"This is not the JSON form of a field: {obj!r}")
