"""The types a value may have in Python.

Owns `Value`, `Int64` and `undefined`. Promises that `Int64` survives arithmetic and that there is one `undefined`.
Used by everything that touches a document, an argument or a result.
"""

from typing import Any, Final, Self, SupportsIndex, TypeAlias, cast, final

from reactor.errors import ValidationError

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


@final
class Int64(int):
    """A Convex int64, which is a BigInt to JavaScript; a plain `int` is a float64.

    It hashes and compares as the `int` it is. Arithmetic with an `int` stays an `Int64`, with a `float` gives a
    `float`; `int(x)` leaves the type.

    Raises:
        ValidationError: the number, or the result of an operation, needs more than 64 bits.
    """

    __slots__ = ()

    def __new__(cls, value: int = 0) -> Self:
        self = int.__new__(cls, value)
        if not INT64_MIN <= self <= INT64_MAX:
            raise ValidationError(f"{describe_int(int(self))} is outside allowed range for an int64")
        return self

    def __repr__(self) -> str:
        return f"Int64({int(self)})"

    def __str__(self) -> str:
        return int.__repr__(self)

    def __add__(self, other: int) -> "Int64":
        return _wrap(int.__add__(self, other))

    def __radd__(self, other: int) -> "Int64":
        return _wrap(int.__radd__(self, other))

    def __sub__(self, other: int) -> "Int64":
        return _wrap(int.__sub__(self, other))

    def __rsub__(self, other: int) -> "Int64":
        return _wrap(int.__rsub__(self, other))

    def __mul__(self, other: int) -> "Int64":
        return _wrap(int.__mul__(self, other))

    def __rmul__(self, other: int) -> "Int64":
        return _wrap(int.__rmul__(self, other))

    def __floordiv__(self, other: int) -> "Int64":
        return _wrap(int.__floordiv__(self, other))

    def __rfloordiv__(self, other: int) -> "Int64":
        return _wrap(int.__rfloordiv__(self, other))

    def __mod__(self, other: int) -> "Int64":
        return _wrap(int.__mod__(self, other))

    def __rmod__(self, other: int) -> "Int64":
        return _wrap(int.__rmod__(self, other))

    def __divmod__(self, other: int) -> tuple["Int64", "Int64"]:
        return _wrap_pair(int.__divmod__(self, other))

    def __rdivmod__(self, other: int) -> tuple["Int64", "Int64"]:
        return _wrap_pair(int.__rdivmod__(self, other))

    def __pow__(self, other: int, modulo: int | None = None) -> Any:
        return _wrap(int.__pow__(self, other, modulo))

    def __rpow__(self, other: int, modulo: int | None = None) -> Any:
        return _wrap(int.__rpow__(self, other, modulo))

    def __and__(self, other: int) -> "Int64":
        return _wrap(int.__and__(self, other))

    def __rand__(self, other: int) -> "Int64":
        return _wrap(int.__rand__(self, other))

    def __or__(self, other: int) -> "Int64":
        return _wrap(int.__or__(self, other))

    def __ror__(self, other: int) -> "Int64":
        return _wrap(int.__ror__(self, other))

    def __xor__(self, other: int) -> "Int64":
        return _wrap(int.__xor__(self, other))

    def __rxor__(self, other: int) -> "Int64":
        return _wrap(int.__rxor__(self, other))

    def __lshift__(self, other: int) -> "Int64":
        return _wrap(int.__lshift__(self, other))

    def __rlshift__(self, other: int) -> "Int64":
        return _wrap(int.__rlshift__(self, other))

    def __rshift__(self, other: int) -> "Int64":
        return _wrap(int.__rshift__(self, other))

    def __rrshift__(self, other: int) -> "Int64":
        return _wrap(int.__rrshift__(self, other))

    def __neg__(self) -> "Int64":
        return _wrap(int.__neg__(self))

    def __pos__(self) -> "Int64":
        return self

    def __abs__(self) -> "Int64":
        return _wrap(int.__abs__(self))

    def __invert__(self) -> "Int64":
        return _wrap(int.__invert__(self))

    def __round__(self, ndigits: SupportsIndex = 0, /) -> "Int64":
        return _wrap(int.__round__(self, ndigits))

    def __trunc__(self) -> "Int64":
        return self

    def __floor__(self) -> "Int64":
        return self

    def __ceil__(self) -> "Int64":
        return self


def describe_int(number: int) -> str:
    """Return `number` in digits, or its length when Python would refuse to print that many."""
    bits = number.bit_length()
    return str(number) if bits <= 1024 else f"An integer of {bits} bits"


def _wrap(result: object) -> Int64:
    # `NotImplemented` lets the other operand answer, and a power with a negative exponent is a float.
    return Int64(result) if isinstance(result, int) else cast(Int64, result)


def _wrap_pair(result: object) -> tuple[Int64, Int64]:
    return cast(tuple[Int64, Int64], tuple(map(Int64, result)) if isinstance(result, tuple) else result)


@final
class Undefined:
    """The type of `undefined`."""

    __slots__ = ()

    def __new__(cls) -> "Undefined":
        return undefined

    def __repr__(self) -> str:
        return "undefined"

    def __reduce__(self) -> str:
        return "undefined"

    def __bool__(self) -> bool:
        raise TypeError("undefined is neither true nor false; compare with `is undefined`")


undefined: Final[Undefined] = object.__new__(Undefined)
"""A missing field: dropped in objects, removes a field in `patch`, stands for "missing" in index ranges."""

Value: TypeAlias = bool | float | int | Int64 | str | bytes | list[Any] | dict[str, Any] | None
"""What a document is made of. Normalised values hold no plain `int`: numbers are `float` or `Int64`."""

Object: TypeAlias = dict[str, Value]
