"""Validators of values that hold no others: numbers, strings, ids, literals.

Owns the numeric conversions: a plain int to `Int64` on the way in, a float64 to `int` at `v.integer()` on the way out.
Used by `validators`, and by `containers` where a union must tell its members apart.
"""

from functools import lru_cache
from math import copysign
from struct import pack
from typing import Any, ClassVar, Final, TypeGuard

from reactor.errors import InvalidArgument
from reactor.limits import MAX_SAFE_INTEGER
from reactor.schema.compiled import Source
from reactor.schema.mismatch import Mismatch, MismatchKind, Path
from reactor.schema.validator import TableNumbers, Validator, invalid_validator, is_plain_int
from reactor.values.display import display
from reactor.values.ids import decode_id
from reactor.values.json import json_from_value
from reactor.values.stored import normalise
from reactor.values.types import Int64, Value

_REMEMBERED_IDS: Final = 8192  # each about 250 bytes; a hit costs a twentieth of decoding
_ID_LENGTHS: Final = range(31, 38)  # looked at before remembering, so that long garbage is not kept


class TypeValidator(Validator):
    """Accepts every value of one Python type. Normalised values are of exactly these types, not of subclasses."""

    __slots__ = ()

    python_type: ClassVar[type]
    json_type: ClassVar[str]

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        return None if type(value) is self.python_type else self._no_match(value, path)

    def condition(self, source: Source, name: str) -> str:
        return f"(type({name}) is {source.constant(self.python_type)})"

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        return {"type": self.json_type}

    def text(self) -> str:
        return f"v.{self.kind}()"


class Null(TypeValidator):
    """Accepts None."""

    __slots__ = ()
    kind = json_type = "null"
    python_type = type(None)


class Boolean(TypeValidator):
    """Accepts true and false."""

    __slots__ = ()
    kind = json_type = "boolean"
    python_type = bool


class Float64(TypeValidator):
    """Accepts every float64: NaN, infinities and -0.0 too."""

    __slots__ = ()
    kind, json_type = "float64", "number"
    python_type = float


class String(TypeValidator):
    """Accepts every string."""

    __slots__ = ()
    kind = json_type = "string"
    python_type = str


class Bytes(TypeValidator):
    """Accepts every byte string."""

    __slots__ = ()
    kind = json_type = "bytes"
    python_type = bytes


class BigInt(TypeValidator):
    """Accepts every int64. A plain int stands for one."""

    __slots__ = ()
    kind, json_type = "int64", "bigint"
    python_type = Int64

    def __init__(self) -> None:
        super().__init__()
        self.needs_coercion = True

    def coerce(self, value: object) -> object:
        return Int64(value) if is_plain_int(value) else value


class CommitTs(BigInt):
    """Accepts an int64: a commit timestamp in nanoseconds."""

    __slots__ = ()
    kind = json_type = "commitTs"


class Integer(TypeValidator):
    """Accepts a float64 that is integral and within ±2^53; Python code receives an int."""

    __slots__ = ()
    kind, json_type = "integer", "number"
    python_type = float

    def __init__(self) -> None:
        super().__init__()
        self.has_view = True

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        return None if _is_integral(value) else self._no_match(value, path)

    def condition(self, source: Source, name: str) -> str:
        limit = float(MAX_SAFE_INTEGER)
        return f"(type({name}) is float and -{limit!r} <= {name} <= {limit!r} and {name}.is_integer())"

    def view(self, value: Value) -> Value:
        return int(value) if _is_integral(value) else value

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        return {"type": "number", "integer": True} if stored else {"type": "number"}


class Anything(Validator):
    """Accepts every value."""

    __slots__ = ()
    kind = "any"

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        return None

    def condition(self, source: Source, name: str) -> str:
        return "True"

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        return {"type": "any"}

    def text(self) -> str:
        return "v.any()"


class Id(Validator):
    """Accepts an id of one table. The document need not exist."""

    __slots__ = ("table",)
    kind = "id"

    def __init__(self, table: str) -> None:
        if not isinstance(table, str):
            raise invalid_validator("v.id(tableName) requires a string")
        super().__init__()
        self.table = table

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        if not isinstance(value, str):
            return self._no_match(value, path)
        if tables is None:
            return None
        found = tables.table_name(table_number(value))
        if found is None:
            return self._no_match(value, path)
        if found == self.table:
            return None
        kind = MismatchKind.SYSTEM_TABLE if found.startswith("_") else MismatchKind.OTHER_TABLE
        return Mismatch(kind, path, value, self.text, found)

    def condition(self, source: Source, name: str) -> str:
        number, table = source.constant(table_number), source.constant(self.table)
        known = f"(tables is None or tables.table_name({number}({name})) == {table})"
        return f"(isinstance({name}, str) and {known})"

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        return {"type": "id", "tableName": self.table}

    def text(self) -> str:
        return f'v.id("{self.table}")'


class Literal(Validator):
    """Accepts one string, number, int64 or boolean. Floats are compared by their bits: 0.0 refuses -0.0."""

    __slots__ = ("value",)
    kind = "literal"

    def __init__(self, value: str | float | Int64) -> None:
        if not isinstance(value, str | float | int):
            raise invalid_validator("v.literal(value) must be a string, number, or boolean")
        super().__init__()
        self.value = normalise(value).value
        self.needs_coercion = isinstance(self.value, Int64)

    def mismatch(self, value: Value, tables: TableNumbers | None, path: Path) -> Mismatch | None:
        own = self.value
        if type(value) is type(own):
            if isinstance(own, float):
                if pack("<d", value) == pack("<d", own):
                    return None
            elif value == own:
                return None
        return Mismatch(MismatchKind.LITERAL, path, value, self.text)

    def condition(self, source: Source, name: str) -> str:
        own, constant = self.value, source.constant(self.value)
        if isinstance(own, bool):
            return f"({name} is {own})"
        if not isinstance(own, float):
            return f"(type({name}) is {source.constant(type(own))} and {name} == {constant})"
        if own != own:
            bits = f"{source.constant(pack)}('<d', {name}) == {source.constant(pack('<d', own))}"
        else:
            sign = f" and {source.constant(copysign)}(1.0, {name}) == {copysign(1.0, own)}" if own == 0 else ""
            bits = f"{name} == {constant}{sign}"
        return f"(type({name}) is float and {bits})"

    def coerce(self, value: object) -> object:
        return Int64(value) if self.needs_coercion and is_plain_int(value) else value

    def to_json(self, *, stored: bool = False) -> dict[str, Any]:
        return {"type": "literal", "value": json_from_value(self.value)}

    def text(self) -> str:
        return f"v.literal({'<bigint>' if isinstance(self.value, Int64) else display(self.value)})"


def table_number(text: str) -> int:
    """Return the table number inside an id, or 0, which no table has, when `text` is no id."""
    return _table_number(text) if len(text) in _ID_LENGTHS else 0


@lru_cache(_REMEMBERED_IDS)
def _table_number(text: str) -> int:
    try:
        return decode_id(text)[0]
    except InvalidArgument:
        return 0


def _is_integral(value: object) -> TypeGuard[float]:
    return isinstance(value, float) and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER and value.is_integer()
