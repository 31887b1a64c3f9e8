"""Filter expressions: what `.filter(lambda q: ...)` builds, and what it means for a document.

Owns the expression tree, its JSON form and its evaluation by `reference/values-and-schema.md` §6.4. Promises that a
comparison never fails, that everything else either has a value or raises `FilterError` in official words, and that
results are the same on every machine. Pure; used by `ctx.db.query`.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, Final, NoReturn

from reactor.errors import FilterError, InvalidArgument
from reactor.limits import MAX_FILTER_NESTING
from reactor.values.display import display
from reactor.values.json import json_from_value
from reactor.values.keys import get_path
from reactor.values.order import compare
from reactor.values.stored import normalise
from reactor.values.types import INT64_MAX, INT64_MIN, Int64, Undefined, undefined

Document = dict[str, Any]  # as it is stored: numbers are float or Int64
Evaluate = Callable[[Document], Any]

NEITHER: Final = (
    "A filter expression is neither true nor false before it meets a document. Combine expressions with `&`, `|` and "
    "`~`, each comparison in parentheses, not with `and`, `or`, `not` or a chained comparison."
)


class Expression:
    """A value that is known when a document is. Immutable.

    Operators build further expressions, so `==` does not compare two of them, and `bool()` of one is refused.
    """

    __slots__ = ("nesting", "operands", "operator")

    __hash__ = None  # type: ignore[assignment]  # since `==` builds

    def __init__(self, operator: str, operands: tuple[Any, ...]) -> None:
        self.operator = operator  # as in the JSON form: `$eq`, `$and`, `$field`, `$literal` …
        self.operands = operands  # of `$field` the names of the path, of `$literal` the value
        self.nesting = 1
        if operator not in ("$field", "$literal"):
            self.nesting += max([operand.nesting for operand in operands], default=0)
            if self.nesting > MAX_FILTER_NESTING:
                raise InvalidArgument(
                    f"A filter expression nests {self.nesting} levels deep (limit: {MAX_FILTER_NESTING}). "
                    "`q.and_` and `q.or_` take any number of expressions on one level."
                )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, the same for equal expressions."""
        name, operands = self.operator, self.operands
        if name == "$field":
            return {name: ".".join(operands)}
        if name == "$literal":
            (value,) = operands
            return {name: {"$undefined": None} if value is undefined else json_from_value(value)}
        if name in ("$not", "$neg"):
            return {name: operands[0].to_json()}
        return {name: [operand.to_json() for operand in operands]}

    def __bool__(self) -> NoReturn:
        raise TypeError(NEITHER)

    def __eq__(self, other: object) -> "Expression":  # type: ignore[override]
        return Expression("$eq", (self, expression(other)))

    def __ne__(self, other: object) -> "Expression":  # type: ignore[override]
        return Expression("$neq", (self, expression(other)))

    def __lt__(self, other: object) -> "Expression":
        return Expression("$lt", (self, expression(other)))

    def __le__(self, other: object) -> "Expression":
        return Expression("$lte", (self, expression(other)))

    def __gt__(self, other: object) -> "Expression":
        return Expression("$gt", (self, expression(other)))

    def __ge__(self, other: object) -> "Expression":
        return Expression("$gte", (self, expression(other)))

    def __add__(self, other: object) -> "Expression":
        return Expression("$add", (self, expression(other)))

    def __radd__(self, other: object) -> "Expression":
        return Expression("$add", (expression(other), self))

    def __sub__(self, other: object) -> "Expression":
        return Expression("$sub", (self, expression(other)))

    def __rsub__(self, other: object) -> "Expression":
        return Expression("$sub", (expression(other), self))

    def __mul__(self, other: object) -> "Expression":
        return Expression("$mul", (self, expression(other)))

    def __rmul__(self, other: object) -> "Expression":
        return Expression("$mul", (expression(other), self))

    def __truediv__(self, other: object) -> "Expression":
        return Expression("$div", (self, expression(other)))

    def __rtruediv__(self, other: object) -> "Expression":
        return Expression("$div", (expression(other), self))

    def __mod__(self, other: object) -> "Expression":
        return Expression("$mod", (self, expression(other)))

    def __rmod__(self, other: object) -> "Expression":
        return Expression("$mod", (expression(other), self))

    def __neg__(self) -> "Expression":
        return Expression("$neg", (self,))

    def __and__(self, other: object) -> "Expression":
        return Expression("$and", (*self._parts("$and"), expression(other)))

    def __rand__(self, other: object) -> "Expression":
        return Expression("$and", (expression(other), self))

    def __or__(self, other: object) -> "Expression":
        return Expression("$or", (*self._parts("$or"), expression(other)))

    def __ror__(self, other: object) -> "Expression":
        return Expression("$or", (expression(other), self))

    def __invert__(self) -> "Expression":
        return Expression("$not", (self,))

    def _parts(self, operator: str) -> tuple["Expression", ...]:
        # `a & b & c` is one conjunction of three: conditions collected in a loop do not nest.
        return self.operands if self.operator == operator and self.operands else (self,)


def expression(value: object) -> Expression:
    """Return `value` as an expression: itself, or the literal it is.

    Raises:
        ValidationError: it is neither an expression nor a value.
    """
    if isinstance(value, Expression):
        return value
    return Expression("$literal", (value if value is undefined else normalise(value).value,))


class FilterBuilder:
    """The `q` of `.filter(lambda q: ...)`. Every argument may be an expression or a plain value."""

    __slots__ = ()

    def field(self, path: str, /) -> Expression:
        """Return the document's value at a path such as `"author.name"`; `undefined` where there is none."""
        if not isinstance(path, str):
            raise InvalidArgument(f'q.field takes a path such as "author.name", not {type(path).__name__}.')
        return Expression("$field", tuple(path.split(".")))

    def eq(self, left: object, right: object, /) -> Expression:
        """Return whether both are the same value of the same type; 0.0 and -0.0 are two values."""
        return Expression("$eq", (expression(left), expression(right)))

    def neq(self, left: object, right: object, /) -> Expression:
        """Return whether the two differ."""
        return Expression("$neq", (expression(left), expression(right)))

    def lt(self, left: object, right: object, /) -> Expression:
        """Return whether `left` sorts before `right`; a missing field sorts before everything."""
        return Expression("$lt", (expression(left), expression(right)))

    def lte(self, left: object, right: object, /) -> Expression:
        """Return whether `left` sorts before `right` or equals it."""
        return Expression("$lte", (expression(left), expression(right)))

    def gt(self, left: object, right: object, /) -> Expression:
        """Return whether `left` sorts after `right`."""
        return Expression("$gt", (expression(left), expression(right)))

    def gte(self, left: object, right: object, /) -> Expression:
        """Return whether `left` sorts after `right` or equals it."""
        return Expression("$gte", (expression(left), expression(right)))

    def add(self, left: object, right: object, /) -> Expression:
        """Return the sum of two numbers of one type."""
        return Expression("$add", (expression(left), expression(right)))

    def sub(self, left: object, right: object, /) -> Expression:
        """Return the difference of two numbers of one type."""
        return Expression("$sub", (expression(left), expression(right)))

    def mul(self, left: object, right: object, /) -> Expression:
        """Return the product of two numbers of one type."""
        return Expression("$mul", (expression(left), expression(right)))

    def div(self, left: object, right: object, /) -> Expression:
        """Return the quotient of two numbers of one type; that of two int64 is cut off toward zero."""
        return Expression("$div", (expression(left), expression(right)))

    def mod(self, left: object, right: object, /) -> Expression:
        """Return what a division cut off toward zero leaves over; it has the sign of `left`."""
        return Expression("$mod", (expression(left), expression(right)))

    def neg(self, value: object, /) -> Expression:
        """Return the number with its sign changed."""
        return Expression("$neg", (expression(value),))

    def and_(self, *conditions: object) -> Expression:
        """Return whether all are true; what follows the first false one is not evaluated."""
        return Expression("$and", tuple(map(expression, conditions)))

    def or_(self, *conditions: object) -> Expression:
        """Return whether one is true; what follows the first true one is not evaluated."""
        return Expression("$or", tuple(map(expression, conditions)))

    def not_(self, condition: object, /) -> Expression:
        """Return the opposite of a boolean."""
        return Expression("$not", (expression(condition),))


def compile_filter(condition: Expression) -> Callable[[Document], bool]:
    """Return the function that tells whether a document passes.

    It raises:
        FilterError: the expression has no boolean value for that document.
    """
    return _boolean(_compile(condition))


def _compile(node: Expression) -> Evaluate:
    name, operands = node.operator, node.operands
    if name == "$literal":
        (value,) = operands
        return lambda document: value
    if name == "$field":
        return _field(operands)
    if name in _COMPARISONS:
        return _comparison(_COMPARISONS[name], *operands)
    if name in _ARITHMETIC:
        return _arithmetic(*_ARITHMETIC[name], _compile(operands[0]), _compile(operands[1]))
    if name == "$neg":
        return _negation(_compile(operands[0]))
    conditions = [_boolean(_compile(operand)) for operand in operands]
    if name == "$not":
        (condition,) = conditions
        return lambda document: not condition(document)
    if len(conditions) == 2:
        first, second = conditions
        if name == "$and":
            return lambda document: first(document) and second(document)
        return lambda document: first(document) or second(document)
    if name == "$and":
        return lambda document: all(condition(document) for condition in conditions)
    return lambda document: any(condition(document) for condition in conditions)


def _field(path: tuple[str, ...]) -> Evaluate:
    if len(path) == 1:
        (name,) = path
        return lambda document: document.get(name, undefined)
    return lambda document: get_path(document, path)


def _boolean(evaluate: Evaluate) -> Callable[[Document], bool]:
    def condition(document: Document) -> bool:
        value = evaluate(document)
        if value is True or value is False:
            return bool(value)
        raise FilterError(f"Cannot use value {_typed(value)} as a Boolean")

    return condition


# Comparisons.

_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$eq": operator.eq,
    "$neq": operator.ne,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}


def _comparison(test: Callable[[Any, Any], bool], left: Expression, right: Expression) -> Evaluate:
    if right.operator == "$literal":
        (value,) = right.operands
        kind = type(value)
        # Python orders these as the total order does, as long as both are of one type and neither is NaN or a zero.
        if kind in (str, bytes, Int64) or (kind is float and value == value and value != 0.0):
            return _quick_comparison(test, _compile(left), kind, value)
    first, second = _compile(left), _compile(right)
    return lambda document: test(compare(first(document), second(document)), 0)


def _quick_comparison(test: Callable[[Any, Any], bool], evaluate: Evaluate, kind: type, value: Any) -> Evaluate:
    def compare_quickly(document: Document) -> bool:
        found = evaluate(document)
        if type(found) is kind and found == found:
            return test(found, value)
        return test(compare(found, value), 0)

    return compare_quickly


# Arithmetic.


def _arithmetic(
    verb: str,
    of_int64: Callable[[int, int], int],
    of_float64: Callable[[float, float], float],
    left: Evaluate,
    right: Evaluate,
) -> Evaluate:
    def calculate(document: Document) -> Int64 | float:
        a, b = left(document), right(document)
        if type(a) is float and type(b) is float:
            result = of_float64(a, b)
            return result if result == result else math.nan  # one NaN: which bits it has differs between machines
        if type(a) is not Int64 or type(b) is not Int64:
            raise FilterError(f"Cannot {verb} {_typed(a)} and {_typed(b)}")
        try:
            whole = of_int64(int(a), int(b))
        except ZeroDivisionError:
            raise FilterError(f"Cannot divide {a} by zero") from None
        if not INT64_MIN <= whole <= INT64_MAX:
            raise FilterError(f"Cannot {verb} {a} and {b}: the result is out of range for Int64")
        return Int64(whole)

    return calculate


def _negation(operand: Evaluate) -> Evaluate:
    def negate(document: Document) -> Int64 | float:
        value = operand(document)
        if type(value) is float:
            return -value
        if type(value) is Int64 and value != INT64_MIN:
            return -value
        raise FilterError(f"Cannot negate {_typed(value)}")

    return negate


def _divide_int64(a: int, b: int) -> int:
    whole = abs(a) // abs(b)
    return whole if (a < 0) == (b < 0) else -whole


def _modulo_int64(a: int, b: int) -> int:
    if b == -1 and a == INT64_MIN:
        return INT64_MAX + 1  # out of range, as the division that leaves this rest is
    rest = abs(a) % abs(b)
    return rest if a >= 0 else -rest


def _divide_float64(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if not a or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _modulo_float64(a: float, b: float) -> float:
    return math.nan if not b or math.isinf(a) else math.fmod(a, b)


_ARITHMETIC: Final[dict[str, tuple[str, Callable[[int, int], int], Callable[[float, float], float]]]] = {
    "$add": ("add", operator.add, operator.add),
    "$sub": ("subtract", operator.sub, operator.sub),
    "$mul": ("multiply", operator.mul, operator.mul),
    "$div": ("divide", _divide_int64, _divide_float64),
    "$mod": ("mod", _modulo_int64, _modulo_float64),
}

# Messages.

_TYPES: Final[dict[type, str]] = {
    Undefined: "undefined",
    type(None): "Null",
    Int64: "Int64",
    float: "Float64",
    bool: "Boolean",
    str: "String",
    bytes: "Bytes",
    list: "Array",
    dict: "Object",
}


def _typed(value: Any) -> str:
    return f"{display(value)} (type {_TYPES[type(value)]})"
