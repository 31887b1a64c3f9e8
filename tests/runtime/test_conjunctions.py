"""Rules made of equalities: which are recognised, what they demand, and that reading less keeps the order."""

import ast
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.query import Bound, compile_range
from reactor.runtime.rules.conjunctions import Trial, best_reading, is_conjunction
from reactor.values.keys import IndexKeyEncoder
from reactor.values.types import Int64


def made(source: str) -> tuple[Callable[..., Any], ast.Module]:
    source = textwrap.dedent(source)
    found: dict[str, Any] = {}
    exec(compile(source, "schema.py", "exec"), found)
    return found["rule"], ast.parse(source)


CONJUNCTIONS = [
    'doc["a"] == ctx',
    'ctx == doc["a"]',
    'doc.get("a") == ctx',
    'doc["a"]["b"] == ctx',
    'doc["a"].get("b") == ctx',
    'ctx is not None and doc["a"] == ctx["id"]',
    'doc["a"] == ctx and doc["b"] == 1 and True',
    '(doc["a"] == ctx) & (doc["b"] == ctx)',
    'ctx.admin or doc["a"] == ctx',
    'doc["a"] == 1 if ctx else doc["b"] == 2',
    "ctx is not None",
    "True",
]
OTHERS = [
    'doc["a"] is ctx',
    'doc["a"] is not None and doc["b"] == ctx',
    'doc["a"] != ctx',
    'doc["a"] < ctx',
    'not doc["a"] == ctx',
    'doc["a"] == ctx or ctx.admin',
    '(doc["a"] == ctx) | (doc["b"] == ctx)',
    'doc["a"] == ctx if doc["b"] == ctx else True',
    'doc["a"] == doc["b"]',
    'doc["a"] == ctx == 1',
    'doc["a"] in ctx',
    '"a" in doc',
    'isinstance(doc["a"], str) and doc["b"] == ctx',
    'doc["a"].startswith("x")',
    "doc[ctx] == 1",
    "doc[0] == 1",
    'doc.get("a", None) == ctx',
    "doc.get(default=1) == ctx",
    'doc.pop("a") == ctx',
    "len(doc) == 1",
    "ctx(doc)",
    'any(doc["a"] == x for x in ctx)',
    '[doc["a"] == ctx]',
    '(lambda doc: doc["a"] == ctx)',
    '(mine := doc["a"] == ctx)',
]


@pytest.mark.parametrize("body", CONJUNCTIONS)
def test_conjunctions_are_recognised(body: str) -> None:
    assert is_conjunction(*made(f"rule = lambda ctx, doc: {body}"))
    assert is_conjunction(*made(f"def rule(ctx, doc):\n    return {body}"))


@pytest.mark.parametrize("body", OTHERS)
def test_nothing_else_is(body: str) -> None:
    """What a symbol could not notice must never be asked of one: it would show or hide the wrong documents."""
    assert not is_conjunction(*made(f"rule = lambda ctx, doc: {body}"))
    assert not is_conjunction(*made(f"def rule(ctx, doc):\n    return {body}"))


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        (
            'def rule(ctx, doc):\n    "Owners."\n    me = ctx\n    if me is None:\n        return False\n'
            '    return doc["a"] == me',
            True,
        ),
        (
            'def rule(ctx, doc):\n    if ctx:\n        return doc["a"] == 1\n    else:\n        return doc["b"] == 2',
            True,
        ),
        ('def rule(ctx, doc, /):\n    return doc["a"] == 1', True),
        ('def rule(ctx, doc):\n    if doc["a"] == 1:\n        return True', False),
        ('def rule(ctx, doc):\n    a = doc["a"]\n    return a == 1', False),
        ('def rule(ctx, doc):\n    doc["a"] == 1\n    return True', False),
        ('def rule(ctx, doc):\n    for _ in ctx:\n        return doc["a"] == 1', False),
        ('def rule(ctx, doc, more=1):\n    return doc["a"] == 1', False),
        ('def rule(ctx, doc, *more):\n    return doc["a"] == 1', False),
        ('async def rule(ctx, doc):\n    return doc["a"] == 1', False),
        ('def same(f):\n    return f\n@same\ndef rule(ctx, doc):\n    return doc["a"] == 1', False),
        ('from functools import partial\nrule = partial(lambda ctx, doc: doc["a"] == 1)', False),
        ('a, rule = lambda ctx, doc: doc["a"] < 1, lambda ctx, doc: doc["a"] == 1', True),
        ('rule, a = lambda ctx, doc: doc["a"] < 1, lambda ctx, doc: doc["a"] == 1', False),
        ('rule = [lambda ctx, doc: doc["a"] == 1 for _ in "ab"][1]', True),
    ],
)  # fmt: skip
def test_functions_are_read_step_by_step(source: str, is_one: bool) -> None:
    assert is_conjunction(*made(source)) == is_one


def test_code_that_is_not_in_the_source_is_no_conjunction() -> None:
    function, _ = made('rule = lambda ctx, doc: doc["a"] == 1')

    assert not is_conjunction(function, ast.parse(""))


def demanded(rule: Callable[[Any], object]) -> tuple[bool, Mapping[str, object], bool]:
    trial = Trial()
    result = rule(trial.document)
    assert trial.is_whole
    return bool(result) and not trial.is_contradiction, trial.equalities, trial.rest


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (lambda doc: doc["a"] == "x" and doc["b"]["c"] == b"y", (True, {"a": "x", "b.c": b"y"}, False)),
        (lambda doc: "x" == doc["a"], (True, {"a": "x"}, False)),
        (lambda doc: doc["a"] == "x" and doc["a"] == "y", (False, {"a": "x"}, False)),
        (lambda doc: doc["a"] == "x" and False, (False, {"a": "x"}, False)),
        (lambda doc: doc["a"] == None, (True, {"a": None}, False)),  # noqa: E711
        (lambda doc: doc.get("a") == None, (True, {}, True)),  # noqa: E711 (a missing field as well)
        (lambda doc: doc["a"] == 1, (True, {}, True)),
        (lambda doc: doc["a"] == True, (True, {}, True)),  # noqa: E712 (Python takes 1.0 for it)
        (lambda doc: doc["a"] == Int64(1) and doc["b"] == "x", (True, {"b": "x"}, True)),
        (lambda doc: doc["a"] == ["x"], (True, {}, True)),
        (lambda doc: doc["a"] == "\ud800", (False, {}, False)),  # which can't be stored
    ],
)
def test_what_a_rule_demands(rule: Callable[[Any], object], wanted: object) -> None:
    assert demanded(rule) == wanted


def test_a_comparison_that_nobody_noticed_is_known() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    trial = Trial()
    assert Equal() == trial.document["a"]
    assert not trial.is_whole
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(trial.document["a"])


# Which index is read.

INDEXES = [
    ("_creationTime",),
    ("owner", "_creationTime"),
    ("team", "owner", "_creationTime"),
    ("n", "_creationTime"),
    ("owner", "n", "_creationTime"),
    ("n", "owner", "_creationTime"),
    ("team", "n", "_creationTime"),
    ("n", "m", "owner", "_creationTime"),
]


@pytest.mark.parametrize(
    ("fields", "bounds", "demanded", "chosen"),
    [
        (("_creationTime",), [], {"owner": "o"}, ("owner", "_creationTime")),
        (("_creationTime",), [], {"owner": "o", "team": "t"}, ("team", "owner", "_creationTime")),
        (("_creationTime",), [("gt", "_creationTime", 1.0)], {"owner": "o"}, ("owner", "_creationTime")),
        (("n", "_creationTime"), [], {"owner": "o"}, ("owner", "n", "_creationTime")),
        (("n", "_creationTime"), [("eq", "n", 1.0)], {"owner": "o"}, ("owner", "n", "_creationTime")),
        (("n", "_creationTime"), [("gt", "n", 1.0)], {"owner": "o"}, ("owner", "n", "_creationTime")),
        (("n", "_creationTime"), [], {"team": "t", "owner": "o"}, ("owner", "n", "_creationTime")),
        (("owner", "_creationTime"), [("eq", "owner", "o")], {"owner": "o"}, ("owner", "_creationTime")),
        (("owner", "_creationTime"), [("gt", "owner", "a")], {"owner": "o"}, ("owner", "_creationTime")),
        (("_creationTime",), [], {"other": "o"}, ("_creationTime",)),
        ((), [], {"owner": "o"}, ()),
    ],
)
def test_the_index_that_leaves_least(
    fields: tuple[str, ...], bounds: list[Any], demanded: dict[str, Any], chosen: tuple[str, ...]
) -> None:
    reading = best_reading(fields, [Bound(*bound) for bound in bounds], demanded, INDEXES)

    assert reading is not None
    assert reading.fields == chosen


def test_one_document_by_its_id() -> None:
    reading = best_reading(("n", "_creationTime"), [], {"_id": "x"}, INDEXES)

    assert reading == ((), [Bound("eq", "_id", "x")], {"_id"})


FIELDS = ("owner", "team", "n", "m", "_creationTime")
document = st.fixed_dictionaries(
    {"owner": st.sampled_from("op"), "team": st.sampled_from("tu"), "n": st.sampled_from([1.0, 2.0, 3.0]),
     "m": st.sampled_from([1.0, 2.0])}
)  # fmt: skip


@given(
    bodies=st.lists(document, max_size=20),
    indexes=st.lists(st.lists(st.sampled_from(FIELDS[:-1]), unique=True, max_size=3), max_size=6),
    fields=st.lists(st.sampled_from(FIELDS[:-1]), unique=True, max_size=3),
    count=st.integers(0, 3),
    upper=st.booleans(),
    example=document,
    demanded=st.dictionaries(st.sampled_from(["owner", "team"]), st.sampled_from("optu"), min_size=1),
)
def test_reading_less_gives_the_same_documents_in_the_same_order(
    bodies: list[dict[str, Any]],
    indexes: list[list[str]],
    fields: list[str],
    count: int,
    upper: bool,
    example: dict[str, Any],
    demanded: dict[str, Any],
) -> None:
    documents = [{**body, "_id": f"{n:032}", "_creationTime": float(n)} for n, body in enumerate(bodies)]
    asked = (*fields, "_creationTime")
    bounds = [Bound("eq", field, example[field]) for field in fields[:count]]
    if upper and count < len(fields):
        bounds.append(Bound("lte", fields[count], example[fields[count]]))

    def read(fields: tuple[str, ...], bounds: list[Bound]) -> list[dict[str, Any]]:
        keys, encoder = compile_range("t.i", fields, bounds), IndexKeyEncoder(fields)
        return sorted([this for this in documents if keys.contains(encoder(this))], key=encoder)

    wanted = [this for this in read(asked, bounds) if all(this[name] == value for name, value in demanded.items())]
    reading = best_reading(asked, bounds, demanded, [tuple([*index, "_creationTime"]) for index in indexes])
    if reading is None:
        assert wanted == []
        return
    found = read(reading.fields, reading.bounds)

    assert all(this[name] == demanded[name] for this in found for name in reading.guaranteed)
    assert [this for this in found if all(this[name] == value for name, value in demanded.items())] == wanted
