"""A range query is a filter by the total order of values; bounds that do not fit an index are refused in its words."""

import asyncio
from collections.abc import Callable
from functools import cmp_to_key
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from reactor.engine.query import Bound, RangeError, compile_range, query_json
from reactor.values.order import compare
from reactor.values.stored import encode_stored
from reactor.values.types import Int64, Undefined, Value, undefined
from tests.engine.work import Document, Work, bound, contents, kept_history, opened, with_index
from tests.values.strategies import values

FIELDS = ("a", "b.c", "_creationTime")
OPERATORS: dict[str, Callable[[int], bool]] = {
    "eq": lambda sign: sign == 0,
    "gt": lambda sign: sign > 0,
    "gte": lambda sign: sign >= 0,
    "lt": lambda sign: sign < 0,
    "lte": lambda sign: sign <= 0,
}


class Step(NamedTuple):
    """One write: a new document, a new body for an existing one, or None to delete it. `which` wraps around."""

    which: int | None
    body: dict[str, Value] | None


class Case(NamedTuple):
    commits: list[list[Step]]  # the snapshot is taken before the last ones
    later: int
    own: list[Step]
    shape: list[tuple[str, Value | Undefined]]  # operators and values, of the fields in order
    target: tuple[str | None, str | None]
    descending: bool
    chunk: int
    takes: int | None


@st.composite
def cases(draw: DrawFn) -> Case:
    pool: list[Value] = draw(st.lists(values(4), min_size=1, max_size=5))
    some = st.sampled_from(pool)
    body = st.fixed_dictionaries({}, optional={"a": some, "b": st.fixed_dictionaries({"c": some}) | some})
    step = st.builds(Step, st.none() | st.integers(0, 20), body) | st.builds(Step, st.integers(0, 20), st.none())
    steps = st.lists(step, max_size=5)
    value = st.just(undefined) | some | values(3)
    return Case(
        commits=draw(st.lists(steps, min_size=1, max_size=4)),
        later=draw(st.integers(0, 2)),
        own=draw(steps),
        shape=[("eq", draw(value)) for _ in range(draw(st.integers(0, 2)))],
        target=(draw(st.sampled_from([None, "gt", "gte"])), draw(st.sampled_from([None, "lt", "lte"]))),
        descending=draw(st.booleans()),
        chunk=draw(st.integers(1, 7)),
        takes=draw(st.none() | st.integers(1, 5)),
    )


def bounds_of(case: Case, bounding: list[Value | Undefined]) -> tuple[Bound, ...]:
    """The bounds of a case; a query may state them in any order."""
    bounds = [Bound(operator, field, value) for (operator, value), field in zip(case.shape, FIELDS, strict=False)]
    field = FIELDS[len(case.shape)]
    bounds += [Bound(operator, field, value) for operator, value in zip(case.target, bounding, strict=True) if operator]
    return tuple(reversed(bounds))


def value_at(document: Document, field: str) -> Value | Undefined:
    value: Value | Undefined = document
    for name in field.split("."):
        value = value.get(name, undefined) if isinstance(value, dict) else undefined
    return value


def judged(documents: list[Document], bounds: tuple[Bound, ...], descending: bool) -> list[Document]:
    """The definition of a range query."""
    inside = [
        document
        for document in documents
        if all(OPERATORS[it.operator](compare(value_at(document, it.field), it.value)) for it in bounds)
    ]

    def by_fields(a: Document, b: Document) -> int:
        signs = (compare(value_at(a, field), value_at(b, field)) for field in (*FIELDS, "_id"))
        return next(filter(None, signs), 0)

    return sorted(inside, key=cmp_to_key(by_fields), reverse=descending)


def do(work: Work, steps: list[Step], ids: list[str]) -> None:
    """Make the writes of one transaction."""
    for which, body in steps:
        if which is None:
            ids.append(work.insert("things", body or {}))
            continue
        if not ids:
            continue
        document_id = ids[which % len(ids)]
        if work.get("things", document_id) is None:
            continue
        if body is None:
            work.delete("things", document_id)
        else:
            work.patch("things", document_id, {"a": undefined, "b": undefined, **body})


@given(cases(), st.lists(st.just(undefined) | values(3) | st.integers(0, 6), min_size=2, max_size=2))
def test_a_range_query_filters_by_the_total_order(case: Case, ends: list[Value | Undefined]) -> None:
    """At an older snapshot, with own writes over it, in either direction, whatever the chunk size."""
    asyncio.run(check_case(case, ends))


async def check_case(case: Case, ends: list[Value | Undefined]) -> None:
    database = await opened()
    database.create_table("things")
    with_index(database, "things", FIELDS)
    ids: list[str] = []
    standing = contents(database)["things"]
    snapshot = Work(database)
    for number, steps in enumerate(case.commits):
        work = Work(database)
        do(work, steps, ids)
        work.commit()
        if number + case.later < len(case.commits):
            snapshot.drop()
            snapshot = Work(database)
            standing = contents(database)["things"]
    known = [*standing.values()]
    assert {each: encode_stored(snapshot.get("things", each)) for each in standing} == {
        each: encode_stored(document) for each, document in standing.items()
    }
    # Small numbers stand for the creation time of a document, so that bounds on it can hit.
    ends = [(known[end % len(known)]["_creationTime"] if known else None) if type(end) is int else end for end in ends]
    bounds = bounds_of(case, ends)

    do(snapshot, case.own, [*standing])
    everything = [
        document
        for document_id in {*standing, *snapshot.transaction.writes}
        if (document := snapshot.get("things", document_id)) is not None
    ]
    expected = [encode_stored(document) for document in judged(everything, bounds, case.descending)]

    found = snapshot.scan("things", FIELDS, bounds, descending=case.descending, take=case.takes, chunk=case.chunk)
    assert [encode_stored(document) for document in found] == expected[: case.takes]
    assert snapshot.count("things", FIELDS, bounds) == len(expected)
    snapshot.drop()
    await database.close()
    assert not kept_history(database)


def test_bounds_in_any_order_mean_the_same() -> None:
    bounds = [bound("eq", "a", 1), bound("gte", "b.c", "x"), bound("lt", "b.c", "y")]

    assert compile_range("t.i", FIELDS, bounds) == compile_range("t.i", FIELDS, bounds[::-1])


def test_every_field_and_then_the_id_may_be_fixed() -> None:
    keys = compile_range("t.i", ("a",), [bound("eq", "a", 1), bound("eq", "_id", "x")])

    assert keys.prefix_length == len(keys.start)
    assert not keys.is_empty


def test_a_range_that_excludes_itself_is_empty() -> None:
    assert compile_range("t.i", FIELDS, [bound("gt", "a", 5), bound("lt", "a", 3)]).is_empty
    assert compile_range("t.i", FIELDS, [bound("gt", "a", 5), bound("lt", "a", 5)]).is_empty


NOT_IN_ORDER = (
    "Tried to query index messages.by_ab but the query didn't use the index fields in order.\n"
    'Index fields: ["a", "b", "_creationTime"]\n'
    "Query fields: [{}]\n"
    'First incorrect field: "{}"\n'
    "For more information see https://docs.convex.dev/using/indexes."
)
NOT_INDEXED = (
    'The index range included a comparison with "{}", but messages.by_ab with fields ["a", "b", "_creationTime"] '
    "doesn't index this field. For more information see https://docs.convex.dev/using/indexes."
)
TWO_FIELDS = (
    "Upper and lower bounds in `range` can only be applied to a single index field. This query against index "
    'messages.by_ab attempted to set a range bound on both "{}" and "{}". Consider using `filter` instead. '
    "See https://docs.convex.dev/using/indexes for more info."
)
DEFINED = 'Already defined {} bound in index range. Can\'t add "{}" {} {}.'

REFUSED: dict[str, tuple[list[tuple[str, str, object]], str, str]] = {
    "second field alone": ([("eq", "b", 1)], "InvalidIndexRange", NOT_IN_ORDER.format('"b"', "b")),
    "a field left out": (
        [("eq", "a", 1), ("eq", "_creationTime", 2)],
        "InvalidIndexRange",
        NOT_IN_ORDER.format('"a", "_creationTime"', "_creationTime"),
    ),
    "bound on the second field": ([("gt", "b", 1)], "InvalidIndexRange", NOT_IN_ORDER.format('"b"', "b")),
    "equality behind a bound": (
        [("gt", "a", 1), ("eq", "b", 1)],
        "InvalidIndexRange",
        NOT_IN_ORDER.format('"b", "a"', "b"),
    ),
    "id too early": ([("eq", "_id", "x")], "InvalidIndexRange", NOT_IN_ORDER.format('"_id"', "_id")),
    "unknown field": ([("eq", "c", 1)], "FieldNotInIndex", NOT_INDEXED.format("c")),
    "unknown field in a bound": ([("eq", "a", 1), ("lt", "a.b", 1)], "FieldNotInIndex", NOT_INDEXED.format("a.b")),
    "equality twice": (
        [("eq", "a", 1), ("eq", "a", 2)],
        "AlreadyDefinedBound",
        DEFINED.format("equality", "a", "==", "1.0"),
    ),
    "lower twice": (
        [("gt", "a", 1), ("gte", "a", 2)],
        "AlreadyDefinedBound",
        DEFINED.format("lower", "a", ">=", "2.0"),
    ),
    "lower twice, open": (
        [("gte", "a", 1), ("gt", "a", "é")],
        "AlreadyDefinedBound",
        DEFINED.format("lower", "a", ">", '"é"'),
    ),
    "upper twice": (
        [("lt", "a", 1), ("lte", "a", None)],
        "AlreadyDefinedBound",
        DEFINED.format("upper", "a", "<=", "null"),
    ),
    "upper twice, open": (
        [("lte", "a", 1), ("lt", "a", Int64(7))],
        "AlreadyDefinedBound",
        DEFINED.format("upper", "a", "<", "7"),
    ),
    "equality and lower": (
        [("eq", "a", 1), ("gt", "a", 2)],
        "AlreadyDefinedBound",
        DEFINED.format("inequality", "a", "==", "1.0"),
    ),
    "upper and equality": (
        [("lt", "a", 2), ("eq", "a", 1)],
        "AlreadyDefinedBound",
        DEFINED.format("inequality", "a", "==", "1.0"),
    ),
    "bounds on two fields": ([("gt", "a", 1), ("lt", "b", 2)], "BoundsOnMultipleFields", TWO_FIELDS.format("a", "b")),
    "lower bounds on two fields": (
        [("eq", "a", 1), ("gt", "b", 1), ("gte", "_creationTime", 2)],
        "BoundsOnMultipleFields",
        TWO_FIELDS.format("b", "_creationTime"),
    ),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_bounds_that_do_not_fit_are_refused_in_official_words(case: str) -> None:
    bounds, rule, text = REFUSED[case]

    with pytest.raises(RangeError) as refused:
        compile_range("messages.by_ab", ("a", "b", "_creationTime"), [bound(*each) for each in bounds])

    assert refused.value.rule == rule
    assert str(refused.value) == text


def test_the_form_of_a_query_tells_everything_about_it() -> None:
    """Cursors hold a hash of it: two queries that read otherwise must never share one."""
    ends = (Bound("eq", "channel", "c"), Bound("gt", "kind", Int64(5)), Bound("lte", "kind", undefined))
    forms = [
        query_json("notes", None, (), None, []),
        query_json("notes", None, (), "desc", []),
        query_json("notes", None, (), "desc", [{"limit": 1}]),
        query_json("notes", "by_channel", (), "desc", []),
        query_json("notes", "by_channel", ends[:1], "desc", []),
        query_json("notes", "by_channel", ends, "desc", []),
        query_json("tags", "by_channel", ends, "desc", []),
    ]
    assert forms[0] == {"source": {"type": "FullTableScan", "tableName": "notes", "order": None}, "operators": []}
    assert forms[5]["source"] == {
        "type": "IndexRange",
        "indexName": "notes.by_channel",
        "range": [
            {"type": "Eq", "fieldPath": "channel", "value": "c"},
            {"type": "Gt", "fieldPath": "kind", "value": {"$integer": "BQAAAAAAAAA="}},
            {"type": "Lte", "fieldPath": "kind", "value": {"$undefined": None}},
        ],
        "order": "desc",
    }
    assert all(forms.count(form) == 1 for form in forms)


def test_more_equalities_than_an_index_has_fields_are_refused() -> None:
    every = [Bound("eq", field, 1.0) for field in (*FIELDS, "_id")]
    compile_range("t.by", FIELDS, every)
    with pytest.raises(RangeError):
        compile_range("t.by", FIELDS, [*every, Bound("eq", "more", 1.0)])
