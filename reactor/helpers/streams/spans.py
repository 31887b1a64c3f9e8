"""Spans: the part of a stream between two keys, and the index ranges that it is read in.

One `with_index` fixes the first fields and bounds one more. What lies behind a whole key is several of these: the same
values but the last, which is greater; the same but the last two, of which the first is greater; and so on. Promises
that the ranges of a span cover it exactly, in order, and that a span never reaches out of the one it is cut from.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from reactor.helpers.streams.keys import BEFORE, BEHIND, Comparable, Key, comparable, comparable_key


class Edge(NamedTuple):
    """Where a span begins or ends: at all keys that begin with `key`, and with these or without."""

    key: Key
    is_inclusive: bool


class Span(NamedTuple):
    """Keys from `low` to `high`; None for no edge."""

    low: Edge | None = None
    high: Edge | None = None

    def within(self, other: "Span") -> "Span":
        """Return what both spans have in common."""
        return Span(
            max((edge for edge in (self.low, other.low) if edge is not None), key=_start, default=None),
            min((edge for edge in (self.high, other.high) if edge is not None), key=_end, default=None),
        )

    @property
    def is_empty(self) -> bool:
        """Whether no key can lie in it."""
        return self.low is not None and self.high is not None and _start(self.low) >= _end(self.high)

    def has(self, key: Key) -> bool:
        """Whether a whole key lies in it."""
        at = (*comparable_key(key), BEFORE)
        return (self.low is None or _start(self.low) <= at) and (self.high is None or at < _end(self.high))

    def head(self, length: int) -> "Span":
        """Return the span of the first `length` values of its keys."""
        return Span(*(None if edge is None else _head(edge, length) for edge in self))

    def tail(self, head: Key) -> "Span":
        """Return the span of what follows `head` in its keys."""
        return Span(*(None if edge is None else _tail(edge, head) for edge in self))

    def below(self, head: Key) -> "Span":
        """Return the same span of keys that have `head` before them."""
        edges = (None if edge is None else Edge((*head, *edge.key), edge.is_inclusive) for edge in self)
        around = Edge(head, True)
        return Span(*edges).within(Span(around, around))


def _start(edge: Edge) -> Comparable:
    return (*comparable_key(edge.key), BEFORE if edge.is_inclusive else BEHIND)


def _end(edge: Edge) -> Comparable:
    return (*comparable_key(edge.key), BEHIND if edge.is_inclusive else BEFORE)


def _head(edge: Edge, length: int) -> Edge:
    return edge if len(edge.key) <= length else Edge(edge.key[:length], True)


def _tail(edge: Edge, head: Key) -> Edge | None:
    if len(edge.key) <= len(head) or comparable_key(edge.key[: len(head)]) != comparable_key(head):
        return None
    return Edge(edge.key[len(head) :], edge.is_inclusive)


class Condition(NamedTuple):
    """One call on the range of `with_index`."""

    operator: str  # eq gt gte lt lte
    field: str
    value: Any


def ranges(fields: Sequence[str], span: Span, *, is_reverse: bool) -> list[Sequence[Condition]]:
    """Return the index ranges that cover `span`, in the order in which they are to be read."""
    if span.is_empty:
        return []
    found = list(_ranges(fields, span.low, span.high))
    return found[::-1] if is_reverse else found


def _ranges(fields: Sequence[str], low: Edge | None, high: Edge | None) -> Iterator[Sequence[Condition]]:
    low_key, high_key = () if low is None else low.key, () if high is None else high.key
    common = 0
    for mine, other in zip(map(comparable, low_key), map(comparable, high_key), strict=False):
        if mine != other:
            break
        common += 1
    # Above the lower edge, what has ever fewer of its values; then what lies between; then the same below the upper.
    for depth in range(len(low_key) - 1, common, -1):
        yield (*_equal(fields, low_key, depth), _above(fields, low, depth))
    middle = _equal(fields, low_key or high_key, common) if common else []
    if common < len(low_key):
        middle.append(_above(fields, low, common))
    if common < len(high_key):
        middle.append(_under(fields, high, common))
    yield middle
    for depth in range(common + 1, len(high_key)):
        yield (*_equal(fields, high_key, depth), _under(fields, high, depth))


def _equal(fields: Sequence[str], key: Key, count: int) -> list[Condition]:
    return [Condition("eq", field, value) for field, value in zip(fields[:count], key, strict=False)]


def _above(fields: Sequence[str], low: Edge | None, depth: int) -> Condition:
    assert low is not None
    is_last = depth == len(low.key) - 1
    return Condition("gte" if is_last and low.is_inclusive else "gt", fields[depth], low.key[depth])


def _under(fields: Sequence[str], high: Edge | None, depth: int) -> Condition:
    assert high is not None
    is_last = depth == len(high.key) - 1
    return Condition("lte" if is_last and high.is_inclusive else "lt", fields[depth], high.key[depth])


class Conditions:
    """The range that a user builds: `lambda q: q.eq("channel", c).gt("likes", 5)`."""

    def __init__(self) -> None:
        self.made: list[Condition] = []

    def eq(self, field: str, value: Any, /) -> "Conditions":
        """Keep documents whose field equals `value`."""
        return self._with("eq", field, value)

    def gt(self, field: str, value: Any, /) -> "Conditions":
        """Keep documents whose field is above `value`."""
        return self._with("gt", field, value)

    def gte(self, field: str, value: Any, /) -> "Conditions":
        """Keep documents whose field is `value` or above."""
        return self._with("gte", field, value)

    def lt(self, field: str, value: Any, /) -> "Conditions":
        """Keep documents whose field is below `value`."""
        return self._with("lt", field, value)

    def lte(self, field: str, value: Any, /) -> "Conditions":
        """Keep documents whose field is `value` or below."""
        return self._with("lte", field, value)

    def _with(self, operator: str, field: str, value: Any) -> "Conditions":
        self.made.append(Condition(operator, field, value))
        return self


Build = Callable[[Any], Any]


def span_of(index: str, fields: Sequence[str], made: Sequence[Condition]) -> tuple[Key, Span]:
    """Return the values that conditions fix, of the first of `fields`, and the span that they mean.

    Raises:
        ValueError: they do not use the fields in order, or contradict each other.
    """
    equal = {condition.field: condition.value for condition in made if condition.operator == "eq"}
    others = [condition for condition in made if condition.operator != "eq"]
    count = len(equal)
    wanted = fields[count] if count < len(fields) else None
    if (
        set(equal) != set(fields[:count])
        or any(condition.field != wanted for condition in others)
        or count + len(others) != len(made)
    ):
        used = ", ".join(f"{condition.operator} {condition.field}" for condition in made)
        raise ValueError(
            f"index {index!r} is over {', '.join(fields)}: equalities go on the first of these, in order, and bounds "
            f"on the next one, not {used}"
        )
    head = tuple(equal[field] for field in fields[:count])
    around = Edge(head, True) if head else None
    span = Span(around, around)
    for operator in ("gt", "gte", "lt", "lte"):
        values = [condition.value for condition in others if condition.operator == operator]
        for value in values:
            edge = Edge((*head, value), operator.endswith("e"))
            span = span.within(Span(edge, None) if operator[0] == "g" else Span(None, edge))
    return head, span
