"""What annotations mean, and what arrives for them."""

import dataclasses
import enum
import inspect
import typing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, Required, TypedDict, Union

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.schema.annotations import (
    SUPPORTED,
    AnnotationSpec,
    UnsupportedAnnotation,
    resolve,
    unconvert,
    validator_from_annotation,
)
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.stored import normalise
from reactor.values.types import Int64
from tests.schema import postponed
from tests.schema.postponed import Line, Options, Partial, Point
from tests.schema.strategies import values_for


def deliver(spec: AnnotationSpec, value: object) -> Any:
    """What a function receives when a client sends `value`."""
    arrived = normalise(value).value
    assert spec.validator.accepts(arrived, None)
    return arrived if spec.convert is None else spec.convert(arrived)


def give_back(spec: AnnotationSpec, result: object) -> Any:
    """What a client receives when a function returns `result`."""
    sent = normalise(result if spec.unconvert is None else spec.unconvert(result)).value
    assert spec.validator.accepts(sent, None)
    return sent


Score = NewType("Score", float)
ChannelId = Annotated[str, v.id("channels")]


class Alias:
    """Stands for `type Alias = int` of Python 3.12."""

    __value__ = int


MEANINGS: list[tuple[Any, Validator]] = [
    (str, v.string()),
    (bool, v.boolean()),
    (bytes, v.bytes()),
    (None, v.null()),
    (type(None), v.null()),
    (float, v.number()),
    (int, v.integer()),
    (Int64, v.int64()),
    (Any, v.any()),
    (dict, v.any()),
    (list, v.any()),
    (typing.Dict, v.any()),  # noqa: UP006
    (typing.List, v.any()),  # noqa: UP006
    (inspect.Parameter.empty, v.any()),
    (str | None, v.nullable(v.string())),
    (Optional[str], v.nullable(v.string())),  # noqa: UP045
    (Union[int, str, None], v.union(v.integer(), v.string(), v.null())),  # noqa: UP007
    (list[str], v.array(v.string())),
    (typing.List[int], v.array(v.integer())),  # noqa: UP006
    (dict[str, float], v.record(v.string(), v.number())),
    (typing.Dict[str, bool], v.record(v.string(), v.boolean())),  # noqa: UP006
    (dict[ChannelId, Any], v.record(v.id("channels"), v.any())),
    (Literal["a"], v.literal("a")),
    (Literal["a", 1, True, None], v.union(v.literal("a"), v.literal(1), v.literal(True), v.null())),
    (Score, v.number()),
    (ChannelId, v.id("channels")),
    (Annotated[int, "a note"], v.integer()),
    (Annotated[int, "a note", v.int64()], v.int64()),
    (list[dict[str, list[int | None]]], v.array(v.record(v.string(), v.array(v.nullable(v.integer()))))),
    (Options, v.object({"name": v.string(), "limit": v.optional(v.integer())})),
    (Partial, v.object({"name": v.string(), "limit": v.optional(v.integer())})),
    (Point, v.object({"x": v.integer(), "y": v.optional(v.number())})),
    ("int | None", v.nullable(v.integer())),
    (list["Point"], v.array(v.object({"x": v.integer(), "y": v.optional(v.number())}))),
    (typing.List["Score"], v.array(v.number())),  # noqa: UP006
    (Alias, v.integer()),
    ('list["Point"]', v.array(v.object({"x": v.integer(), "y": v.optional(v.number())}))),
]


@pytest.mark.parametrize(("annotation", "validator"), MEANINGS, ids=[str(case[0]) for case in MEANINGS])
def test_annotation_means_one_shape(annotation: Any, validator: Validator) -> None:
    assert validator_from_annotation(annotation, {"Point": Point, "Score": Score}).validator == validator


class Color(enum.Enum):
    RED = 1


@dataclass
class Node:
    children: "list[Node]"


@dataclass
class Holder:
    when: datetime | None


@dataclass
class Secret:
    seed: dataclasses.InitVar[int]


@dataclass
class Dangling:
    thing: "DoesNotExist"  # type: ignore[name-defined]  # noqa: F821


T = typing.TypeVar("T")


@dataclass
class Box(typing.Generic[T]):
    content: T


@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        (datetime, "datetime"),
        (Color, "Color"),
        (object, "object"),
        (set[str], "set[str]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (typing.Sequence[str], "Sequence[str]"),
        (complex | None, "complex"),
        (dict[int, str], "the keys of a dict must be str"),
        (dict[Literal["a"], str], "the keys of a dict must be str"),
        (Literal[b"x"], "Literal[b'x']"),
        (Literal[Color.RED], "Literal"),
        (Literal[1152921504606846976], "Int64"),
        (list[Color], "Color"),
        (Node, "Node (field 'children' of Node) contains itself"),
        (Holder, "datetime (field 'when' of Holder) is not supported"),
        (Secret, "'seed' is an InitVar"),
        (Dangling, "name 'DoesNotExist' is not defined"),
        (Box[int], "Box[int]"),
        (Box, "~T (field 'content' of Box)"),
        ("Missing", "name 'Missing' is not defined"),
        ("list[", "can't be resolved"),
        (3, "3 is not supported"),
        ([], "[] is not supported"),
        (Required[str], "Required"),
    ],
)
def test_anything_else_is_refused_with_the_list(annotation: Any, named: str) -> None:
    with pytest.raises(UnsupportedAnnotation) as failure:
        validator_from_annotation(annotation)
    assert named in str(failure.value)
    assert SUPPORTED in str(failure.value)


def test_ints_arrive_as_int_wherever_they_stand() -> None:
    spec = validator_from_annotation(dict[str, list[int | None] | Literal[7] | Options])
    arrived = deliver(spec, {"a": [1, None], "b": 7, "c": {"name": "n", "limit": 3}, "d": {"name": "n"}})
    assert arrived == {"a": [1, None], "b": 7, "c": {"name": "n", "limit": 3}, "d": {"name": "n"}}
    assert type(arrived["a"][0]) is type(arrived["b"]) is type(arrived["c"]["limit"]) is int


def test_what_fits_no_member_is_left_alone() -> None:
    convert = validator_from_annotation(int | None).convert
    assert convert is not None
    assert convert("x") == "x"


def test_float_and_int64_arrive_as_they_are() -> None:
    assert validator_from_annotation(list[float]).convert is None
    assert validator_from_annotation(dict[str, Int64]).convert is None
    assert type(deliver(validator_from_annotation(Int64 | None), Int64(3))) is Int64


def test_union_of_int_and_float_gives_ints_where_it_can() -> None:
    spec = validator_from_annotation(int | float)
    assert type(deliver(spec, 3)) is int
    assert type(deliver(spec, 3.5)) is float


def test_annotated_validator_decides_what_arrives() -> None:
    assert deliver(validator_from_annotation(Annotated[list[Any], v.array(v.integer())]), [1]) == [1]
    assert type(deliver(validator_from_annotation(Annotated[int, v.int64()]), Int64(1))) is Int64
    assert type(deliver(validator_from_annotation(Annotated[float, v.number()]), 1)) is float


def test_dataclass_arrives_as_an_instance_and_leaves_as_a_dict() -> None:
    spec = validator_from_annotation(list[Point] | None)
    arrived = deliver(spec, [{"x": 1, "y": 2}, {"x": 3}])
    assert arrived == [Point(1, 2.0), Point(3)]
    assert type(arrived[0].x) is int
    assert give_back(spec, arrived) == [{"x": 1.0, "y": 2.0}, {"x": 3.0, "y": 0.0}]
    assert deliver(spec, None) is None


@dataclass(kw_only=True)
class Account:
    owner: str
    tags: list[str] = field(default_factory=list)
    nick: str | None = None
    key: str = field(init=False, default="")
    limit: typing.ClassVar[int] = 3


def test_only_fields_of_the_constructor_count() -> None:
    spec = validator_from_annotation(Account)
    assert spec.validator == v.object(
        {
            "owner": v.string(),
            "tags": v.optional(v.array(v.string())),
            "nick": v.optional(v.nullable(v.string())),
        }
    )
    account = deliver(spec, {"owner": "o"})
    assert account == Account(owner="o")
    assert give_back(spec, account) == {"owner": "o", "tags": [], "nick": None}


class Circle(msgspec.Struct, tag="circle", rename="camel"):
    radius_cm: float


class Square(msgspec.Struct, tag="square", tag_field="type", rename={"side": "sideLength"}):
    side: int
    color: str | msgspec.UnsetType = msgspec.UNSET


def test_structs_use_their_encoded_names_and_tags() -> None:
    spec = validator_from_annotation(Circle | Square)
    assert spec.validator == v.union(
        v.object({"type": v.literal("circle"), "radiusCm": v.number()}),
        v.object({"type": v.literal("square"), "sideLength": v.integer(), "color": v.optional(v.union(v.string()))}),
    )
    square = deliver(spec, {"type": "square", "sideLength": 2})
    assert square == Square(2)
    assert type(square.side) is int
    assert give_back(spec, square) == {"type": "square", "sideLength": 2.0}
    assert deliver(spec, {"type": "circle", "radiusCm": 1.5}) == Circle(1.5)
    assert give_back(spec, Circle(1.5)) == {"type": "circle", "radiusCm": 1.5}


class Plain(TypedDict):
    a: str
    b: float


class Closed(TypedDict):
    name: str
    at: NotRequired[Point]


def test_typed_dict_is_delivered_as_a_dict() -> None:
    plain = validator_from_annotation(Plain)
    assert plain.convert is None
    assert plain.unconvert is None
    spec = validator_from_annotation(Closed)
    assert deliver(spec, {"name": "n"}) == {"name": "n"}
    arrived = deliver(spec, {"name": "n", "at": {"x": 1}})
    assert arrived == {"name": "n", "at": Point(1)}
    assert give_back(spec, arrived) == {"name": "n", "at": {"x": 1.0, "y": 0.0}}


def test_nothing_is_done_where_nothing_has_to_be() -> None:
    for annotation in (str, list[str], dict[str, list[float]], str | None, Any, Literal["a", "b"], ChannelId):
        spec = validator_from_annotation(annotation)
        assert spec.convert is None
        assert spec.unconvert is None
    assert validator_from_annotation(int).unconvert is None


def test_postponed_annotations_are_read_with_the_names_of_the_function() -> None:
    """The context parameter names a type that exists only for type checkers; the others must not suffer."""
    annotations = postponed.handler.__annotations__
    assert all(isinstance(annotation, str) for annotation in annotations.values())
    names = postponed.handler.__globals__
    point = v.object({"x": v.integer(), "y": v.optional(v.number())})
    line = validator_from_annotation(annotations["line"], names)
    assert line.validator == v.object(
        {
            "start": point,
            "end": v.optional(v.nullable(point)),
            "length": v.optional(v.nullable(v.int64())),
        }
    )
    assert deliver(line, {"start": {"x": 1}}) == Line(Point(1))
    assert validator_from_annotation(annotations["channel"], names).validator == v.id("channels")
    assert validator_from_annotation(annotations["names"], names).validator == v.nullable(v.array(v.string()))
    assert validator_from_annotation(annotations["return"], names).validator == v.object(
        {
            "name": v.string(),
            "limit": v.optional(v.integer()),
        }
    )
    with pytest.raises(UnsupportedAnnotation, match="QueryCtx"):
        resolve(annotations["ctx"], names)
    with pytest.raises(UnsupportedAnnotation, match="DoesNotExist"):
        validator_from_annotation(postponed.lost.__annotations__["thing"], postponed.lost.__globals__)


def test_results_lose_their_classes_at_any_depth() -> None:
    assert unconvert({"a": [Point(1), (Point(2), None)], "b": Line(Point(3))}) == {
        "a": [{"x": 1, "y": 0.0}, [{"x": 2, "y": 0.0}, None]],
        "b": {"start": {"x": 3, "y": 0.0}, "end": None, "length": None},
    }
    assert unconvert(Point) is Point


plain_types: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([str, bool, bytes, None, float, int, Int64, Any, Point, Options, Literal["a", 1]]),
    lambda inner: inner.map(lambda t: list[t]) | inner.map(lambda t: dict[str, t]) | inner.map(lambda t: Optional[t]),  # type: ignore[valid-type]  # noqa: UP045
    max_leaves=3,
)


@given(plain_types, st.data())
def test_what_arrives_can_be_given_back_unchanged(annotation: Any, data: st.DataObject) -> None:
    spec = validator_from_annotation(annotation)
    value = normalise(data.draw(values_for(spec.validator))).value
    if not spec.validator.accepts(value, None):
        return
    arrived = value if spec.convert is None else spec.convert(value)
    returned = normalise(arrived if spec.unconvert is None else spec.unconvert(arrived)).value
    assert spec.validator.accepts(returned, None)

    def shown(given: object) -> str:  # a default that was missing is given back, and an int has no negative zero
        return repr(given).replace("-0.0", "0.0").replace(", 'y': 0.0", "")

    assert shown(returned) == shown(value)
