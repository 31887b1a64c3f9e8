"""Filter expressions mean what the fact sheet says: against an interpreter that knows nothing of compiling."""

import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.filter import Expression, FilterBuilder, compile_filter, expression
from reactor.errors import FilterError, InvalidArgument, ValidationError
from reactor.limits import MAX_FILTER_NESTING
from reactor.values.json import value_from_json
from reactor.values.order import compare
from reactor.values.types import INT64_MAX, INT64_MIN, Int64, Value, undefined
from tests.values.strategies import documents, law, scalars

q = FilterBuilder()
PAIRS: dict[str, Callable[[Any, Any], Expression]] = {
    "$eq": q.eq,
    "$neq": q.neq,
    "$lt": q.lt,
    "$lte": q.lte,
    "$gt": q.gt,
    "$gte": q.gte,
    "$add": q.add,
    "$sub": q.sub,
    "$mul": q.mul,
    "$div": q.div,
    "$mod": q.mod,
}


class Fails(Exception):
    """The sheet gives no value."""


def meaning(node: dict[str, Any], document: dict[str, Any]) -> Any:
    """Evaluate the JSON form of an expression, slowly."""
    ((name, body),) = node.items()
    if name == "$literal":
        return undefined if body == {"$undefined": None} else value_from_json(body)
    if name == "$field":
        value: Any = document
        for step in body.split("."):
            value = value.get(step, undefined) if isinstance(value, dict) else undefined
        return value
    if name == "$not":
        return not boolean(meaning(body, document))
    if name in ("$and", "$or"):
        for part in body:
            if boolean(meaning(part, document)) is (name == "$or"):
                return name == "$or"
        return name == "$and"
    if name == "$neg":
        value = meaning(body, document)
        if type(value) is float:
            return -value
        return whole(value, lambda: -int(value))
    left, right = (meaning(side, document) for side in body)
    if name in ("$eq", "$neq", "$lt", "$lte", "$gt", "$gte"):
        order = compare(left, right)
        return {
            "$eq": order == 0,
            "$neq": order != 0,
            "$lt": order < 0,
            "$lte": order <= 0,
            "$gt": order > 0,
            "$gte": order >= 0,
        }[name]
    if type(left) is float and type(right) is float:
        return of_floats(name, left, right)
    if type(left) is not Int64 or type(right) is not Int64:
        raise Fails
    return whole(left, lambda: of_integers(name, int(left), int(right)))


def boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Fails
    return value


def whole(value: Any, result: Callable[[], int]) -> Int64:
    if type(value) is not Int64:
        raise Fails
    try:
        return Int64(result())
    except (ZeroDivisionError, ValidationError):
        raise Fails from None


def of_integers(name: str, left: int, right: int) -> int:
    if name == "$div":
        return _truncated(left, right)
    if name == "$mod":
        if (left, right) == (INT64_MIN, -1):
            raise Fails
        return left - right * _truncated(left, right)
    return int({"$add": operator.add, "$sub": operator.sub, "$mul": operator.mul}[name](left, right))


def _truncated(left: int, right: int) -> int:
    quotient = left // right
    return quotient + 1 if quotient < 0 and quotient * right != left else quotient


def of_floats(name: str, left: float, right: float) -> float:
    if name == "$div" and right == 0:
        if left == 0 or math.isnan(left):
            return math.nan
        return math.inf if math.copysign(1, left) == math.copysign(1, right) else -math.inf
    if name == "$mod":
        return math.nan if right == 0 or math.isinf(left) else math.fmod(left, right)
    calculate: Any = {"$add": operator.add, "$sub": operator.sub, "$mul": operator.mul, "$div": operator.truediv}[name]
    return float(calculate(left, right))


fields = st.sampled_from(["a", "b", "c", "a.b", "missing"]).map(q.field)
leaves = fields | scalars.map(expression) | st.just(undefined).map(expression)
small = st.sampled_from([Int64(0), Int64(-7), Int64(3), Int64(INT64_MIN), Int64(-1), 2.5, -0.0, 0.0, math.inf])
numbers = fields | small.map(expression)


def expressions() -> st.SearchStrategy[Expression]:
    """Return expressions, most of which have a boolean value."""
    sums = st.recursive(
        numbers,
        lambda inner: (
            st.builds(
                lambda name, left, right: PAIRS[name](left, right),
                st.sampled_from(["$add", "$sub", "$mul", "$div", "$mod"]),
                inner,
                inner,
            )
            | inner.map(q.neg)
        ),
        max_leaves=3,
    )
    tests = st.builds(
        lambda name, left, right: PAIRS[name](left, right),
        st.sampled_from(["$eq", "$neq", "$lt", "$lte", "$gt", "$gte"]),
        leaves | sums,
        leaves | sums,
    )
    return st.recursive(
        tests | st.booleans().map(expression) | fields,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda parts: q.and_(*parts))
            | st.lists(inner, max_size=3).map(lambda parts: q.or_(*parts))
            | inner.map(q.not_)
        ),
        max_leaves=4,
    )


@law
@given(condition=expressions(), document=documents())
def test_a_compiled_filter_means_what_its_json_form_says(condition: Expression, document: dict[str, Value]) -> None:
    try:
        wanted: object = boolean(meaning(condition.to_json(), document))
    except Fails:
        wanted = FilterError
    try:
        found: object = compile_filter(condition)(document)
    except FilterError:
        found = FilterError

    assert found is wanted


@law
@given(left=leaves, right=leaves, document=documents())
def test_comparisons_never_fail(left: Expression, right: Expression, document: dict[str, Value]) -> None:
    for name in ("$eq", "$neq", "$lt", "$lte", "$gt", "$gte"):
        assert compile_filter(PAIRS[name](left, right))(document) in (True, False)


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        (q.lt(q.field("missing"), 5), True),
        (q.lt(Int64(5), 1.0), True),
        (q.eq(0.0, -0.0), False),
        (q.eq(q.field("missing"), undefined), True),
        (q.eq(q.field("n"), 3), True),
        (q.eq(q.field("n.deeper"), undefined), True),
        (q.eq(math.nan, math.nan), True),
        (q.gt(math.nan, math.inf), True),
        (q.and_(), True),
        (q.or_(), False),
        (q.and_(False, 5), False),
        (q.or_(True, q.add("a", 1)), True),
        (q.eq(q.div(Int64(-7), Int64(2)), Int64(-3)), True),
        (q.eq(q.mod(Int64(-7), Int64(2)), Int64(-1)), True),
        (q.eq(q.mod(-7, 2), -1), True),
        (q.eq(q.div(1, 0), math.inf), True),
        (q.eq(q.div(1, 4), 0.25), True),
        (q.eq(q.div(-1, 0.0), -math.inf), True),
        (q.eq(q.sub(math.inf, math.inf), math.nan), True),
        (q.eq(q.neg(Int64(3)), Int64(-3)), True),
        (q.eq(q.neg(q.field("n")), -3), True),
    ],
)
def test_values_of_the_sheet(condition: Expression, passes: bool) -> None:
    assert compile_filter(condition)({"n": 3.0}) is passes


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (q.eq(q.add("a", 1), 1), 'Cannot add "a" (type String) and 1.0 (type Float64)'),
        (q.eq(q.sub(Int64(1), 1), 1), "Cannot subtract 1 (type Int64) and 1.0 (type Float64)"),
        (q.eq(q.mul(q.field("x"), None), 1), "Cannot multiply undefined (type undefined) and null (type Null)"),
        (q.eq(q.div([1], {}), 1), "Cannot divide [1.0] (type Array) and {} (type Object)"),
        (q.eq(q.mod(True, b"a"), 1), 'Cannot mod true (type Boolean) and b"YQ==" (type Bytes)'),
        (
            q.eq(q.add(Int64(INT64_MAX), Int64(1)), 1),
            f"Cannot add {INT64_MAX} and 1: the result is out of range for Int64",
        ),
        (
            q.eq(q.div(Int64(INT64_MIN), Int64(-1)), 1),
            f"Cannot divide {INT64_MIN} and -1: the result is out of range for Int64",
        ),
        (
            q.eq(q.mod(Int64(INT64_MIN), Int64(-1)), 1),
            f"Cannot mod {INT64_MIN} and -1: the result is out of range for Int64",
        ),
        (q.eq(q.div(Int64(4), Int64(0)), 1), "Cannot divide 4 by zero"),
        (q.eq(q.mod(Int64(4), Int64(0)), 1), "Cannot divide 4 by zero"),
        (q.eq(q.neg("a"), 1), 'Cannot negate "a" (type String)'),
        (q.eq(q.neg(Int64(INT64_MIN)), 1), f"Cannot negate {INT64_MIN} (type Int64)"),
        (q.and_(True, 5), "Cannot use value 5.0 (type Float64) as a Boolean"),
        (q.or_(None), "Cannot use value null (type Null) as a Boolean"),
        (q.not_(q.field("x")), "Cannot use value undefined (type undefined) as a Boolean"),
        (q.field("x"), "Cannot use value undefined (type undefined) as a Boolean"),
        (q.add(1, 1), "Cannot use value 2.0 (type Float64) as a Boolean"),
    ],
)
def test_what_has_no_value_is_said_in_official_words(condition: Expression, text: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(condition)({})
    assert str(caught.value) == text


def test_operators_build_what_the_methods_build() -> None:
    a, b = q.field("a"), q.field("b")

    def same(left: Expression, right: Expression) -> bool:
        return left.to_json() == right.to_json()

    assert same(a == 1, q.eq(a, 1))
    assert same(a != b, q.neq(a, b))
    assert same(a < 1, q.lt(a, 1))
    assert same(a <= 1, q.lte(a, 1))
    assert same(a > 1, q.gt(a, 1))
    assert same(a >= 1, q.gte(a, 1))
    assert same(5 < a, q.gt(a, 5))  # Python turns it round
    assert same(a + 1, q.add(a, 1))
    assert same(1 + a, q.add(1, a))
    assert same(a - 1, q.sub(a, 1))
    assert same(1 - a, q.sub(1, a))
    assert same(a * 2, q.mul(a, 2))
    assert same(2 * a, q.mul(2, a))
    assert same(a / 2, q.div(a, 2))
    assert same(2 / a, q.div(2, a))
    assert same(a % 2, q.mod(a, 2))
    assert same(2 % a, q.mod(2, a))
    assert same(-a, q.neg(a))
    assert same(~a, q.not_(a))
    assert same(a & b, q.and_(a, b))
    assert same(True & a, q.and_(True, a))
    assert same(a | False, q.or_(a, False))
    assert same(False | a, q.or_(False, a))
    assert same(a & b & a, q.and_(a, b, a))
    assert same((a | b) & a, q.and_(q.or_(a, b), a))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda a: bool(a),
        lambda a: a == 1 and a == 2,
        lambda a: not a,
        lambda a: 1 < a < 5,
        lambda a: a in [1, 2],
    ],
)
def test_an_expression_is_no_boolean(misuse: Callable[[Expression], object]) -> None:
    with pytest.raises(TypeError, match="`&`"):
        misuse(q.field("a"))


def test_conditions_collected_in_a_loop_do_not_nest() -> None:
    condition = q.field("n") == 0
    for number in range(1, 1000):
        condition = condition | (q.field("n") == number)

    passes = compile_filter(condition)
    assert passes({"n": 999.0})
    assert not passes({"n": 1000.0})


def test_nesting_is_bounded() -> None:
    value = q.field("n")
    for _ in range(MAX_FILTER_NESTING - 2):
        value = value + 1
    assert compile_filter(value == MAX_FILTER_NESTING)({"n": 2.0})

    with pytest.raises(InvalidArgument, match=f"{MAX_FILTER_NESTING + 1} levels deep .limit: {MAX_FILTER_NESTING}"):
        bool(value + 1 + 1 == 0)


@pytest.mark.parametrize("path", [5, None, ["a"]])
def test_a_path_is_text(path: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"q\.field takes a path"):
        q.field(path)


def test_a_literal_is_a_value() -> None:
    with pytest.raises(ValidationError):
        q.eq(q.field("a"), {1, 2})
