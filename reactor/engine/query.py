"""Index ranges: from the calls of a range builder to the key range they mean.

Owns the rules of `reference/values-and-schema.md` §6.2: equalities on a prefix of the fields, then at most one lower
and one upper bound on the next; and the JSON form of a whole query. Used by `ctx.db.query`.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from reactor.engine.keyrange import EVERYTHING, KeyRange
from reactor.engine.keyrange import prefix as prefix_range
from reactor.errors import Error
from reactor.values.display import display
from reactor.values.json import json_from_value
from reactor.values.keys import encode_value_key, lower_bound, upper_bound
from reactor.values.types import Undefined, Value, undefined

OPERATORS: Final = {"eq": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
MORE: Final = "See https://docs.convex.dev/using/indexes for more info."


class RangeError(Error):
    """The calls of an index range do not fit the index. `rule` is the official code, such as `InvalidIndexRange`."""

    code = "InvalidIndexRange"
    status = 400

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(message)


class Bound(NamedTuple):
    """One call on the range builder. `value` is normalised."""

    operator: str  # eq gt gte lt lte
    field: str
    value: Value | Undefined


def compile_range(index_name: str, fields: Sequence[str], bounds: Sequence[Bound]) -> KeyRange:
    """Return the key range that `bounds` select in an index over `fields` (stored fields, without `_id`).

    `index_name` is `table.index`, for messages.

    Raises:
        RangeError: a field is not indexed, the fields are not used in order, or bounds repeat or disagree.
    """
    if not bounds:
        return EVERYTHING
    allowed = (*fields, "_id")
    head = b""
    for (operator, name, value), field in zip(bounds, allowed, strict=False):
        if operator != "eq" or name != field:
            break
        head += encode_value_key(value)
    else:
        if len(bounds) <= len(allowed):
            return prefix_range(head)  # the common case: equalities in order
    equalities: dict[str, Bound] = {}
    lower: Bound | None = None
    upper: Bound | None = None
    for bound in bounds:
        if bound.field not in allowed:
            raise RangeError(
                "FieldNotInIndex",
                f'The index range included a comparison with "{bound.field}", but {index_name} with fields '
                f"{_names(fields)} doesn't index this field. "
                "For more information see https://docs.convex.dev/using/indexes.",
            )
        if bound.operator == "eq":
            if bound.field in equalities:
                raise _defined("equality", equalities[bound.field])
            equalities[bound.field] = bound
        elif bound.operator in ("gt", "gte"):
            if lower is not None:
                _same_field(index_name, lower, bound)
                raise _defined("lower", bound)
            lower = bound
        else:
            if upper is not None:
                _same_field(index_name, upper, bound)
                raise _defined("upper", bound)
            upper = bound
    if lower is not None and upper is not None:
        _same_field(index_name, lower, upper)
    inequality = lower or upper
    if inequality is not None and inequality.field in equalities:
        raise _defined("inequality", equalities[inequality.field])

    used = len(equalities)
    in_order = all(field in equalities for field in allowed[:used]) and (
        inequality is None or allowed[used] == inequality.field
    )
    if not in_order:
        asked = [bound.field for bound in sorted(equalities.values(), key=lambda bound: allowed.index(bound.field))]
        asked += [inequality.field] if inequality is not None else []
        wrong = next(name for name, right in zip(asked, allowed, strict=False) if name != right)
        raise RangeError(
            "InvalidIndexRange",
            f"Tried to query index {index_name} but the query didn't use the index fields in order.\n"
            f"Index fields: {_names(fields)}\nQuery fields: {_names(asked)}\n"
            f'First incorrect field: "{wrong}"\nFor more information see https://docs.convex.dev/using/indexes.',
        )

    prefix = b"".join([encode_value_key(equalities[field].value) for field in allowed[:used]])
    start = prefix if lower is None else lower_bound(prefix, lower.value, lower.operator == "gte")
    if upper is not None:
        end: bytes | None = upper_bound(prefix, upper.value, upper.operator == "lte")
    else:
        end = prefix + b"\xff" if prefix else None
    if end is not None and end < start:
        end = start
    return KeyRange(start, end, len(prefix))


def query_json(
    table: str, index: str | None, bounds: Sequence[Bound], order: str | None, operators: Sequence[object]
) -> dict[str, Any]:
    """Return the JSON form of a query: where it reads, in which order, and what it does with each document."""
    if index is None:
        source: dict[str, Any] = {"type": "FullTableScan", "tableName": table, "order": order}
    else:
        source = {"type": "IndexRange", "indexName": f"{table}.{index}", "range": _range_json(bounds), "order": order}
    return {"source": source, "operators": list(operators)}


def _range_json(bounds: Sequence[Bound]) -> list[dict[str, Any]]:
    return [
        {
            "type": bound.operator.capitalize(),
            "fieldPath": bound.field,
            "value": {"$undefined": None} if bound.value is undefined else json_from_value(bound.value),  # type: ignore[arg-type]
        }
        for bound in bounds
    ]


def _names(fields: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{field}"' for field in fields) + "]"


def _defined(kind: str, bound: Bound) -> RangeError:
    return RangeError(
        "AlreadyDefinedBound",
        f'Already defined {kind} bound in index range. Can\'t add "{bound.field}" '
        f"{OPERATORS[bound.operator]} {display(bound.value)}.",
    )


def _same_field(index_name: str, first: Bound, second: Bound) -> None:
    if first.field != second.field:
        raise RangeError(
            "BoundsOnMultipleFields",
            "Upper and lower bounds in `range` can only be applied to a single index field. "
            f"This query against index {index_name} attempted to set a range bound on both "
            f'"{first.field}" and "{second.field}". Consider using `filter` instead. {MORE}',
        )
