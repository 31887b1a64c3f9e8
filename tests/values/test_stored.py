"""Normal form, sizes and stored bytes."""

import datetime
import decimal
import enum
import math
import random
import sys
import uuid
from collections import OrderedDict, namedtuple
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import ValidationError
from reactor.limits import MAX_ARRAY_LENGTH, MAX_OBJECT_FIELDS, MAX_VALUE_NESTING
from reactor.values import stored
from reactor.values.size import ValueInvalid, value_nesting, value_size
from reactor.values.stored import decode_object, decode_stored, encode_stored, is_plain, normalise
from reactor.values.types import Int64, Value, undefined
from tests.values.strategies import law, values
from tests.values.vectors import exact, from_typed, load

SUPPORTED = "To learn about Convex's supported types, see https://docs.convex.dev/using/types."


class Colour(enum.StrEnum):
    RED = "red"


class Odd(str):
    """A string that hashes as no other."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return self is other


class Level(enum.IntEnum):
    HIGH = 3


class Kelvin(float):
    pass


class Blob(bytes):
    pass


class Silent:
    def __str__(self) -> str:
        raise RuntimeError("no text")


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("given_", "normal"),
    [
        (1, 1.0),
        (-(2**53), -(2.0**53)),
        (True, True),
        (Int64(1), Int64(1)),
        ((1, "a"), [1.0, "a"]),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        ({"b": 1, "a": {"d": undefined, "c": None}}, {"a": {"c": None}, "b": 1.0}),
        (Colour.RED, "red"),
        ({Colour.RED: Colour.RED}, {"red": "red"}),
        ({Odd("x"): 1, "a": 2}, {"a": 2.0, "x": 1.0}),
        (Level.HIGH, 3.0),
        (Kelvin(1.5), 1.5),
        (Blob(b"x"), b"x"),
        (Point(1, 2), [1.0, 2.0]),
        (OrderedDict(b=1, a=2), {"a": 2.0, "b": 1.0}),
        ([], []),
        ({}, {}),
        ({"": 1}, {"": 1.0}),
    ],
)
def test_python_values_have_one_normal_form(given_: object, normal: Value) -> None:
    assert exact(normalise(given_).value) == exact(normal)


@law
@given(values())
def test_normal_values_stay_and_measures_agree(value: Value) -> None:
    result = normalise(value)

    assert exact(result.value) == exact(value)
    assert result.size == value_size(value)
    assert result.nesting == value_nesting(value)
    assert result.plain == is_plain(value)


@law
@given(values(), st.randoms(use_true_random=False))
def test_stored_bytes_round_trip_and_are_canonical(value: Value, chance: random.Random) -> None:
    data = encode_stored(value)

    assert exact(decode_stored(data)) == exact(value)
    assert encode_stored(normalise(shuffled(value, chance)).value) == data


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        return tuple(shuffled(item, chance) for item in value)
    if isinstance(value, dict):
        items = [(name, shuffled(item, chance)) for name, item in value.items()]
        chance.shuffle(items)
        return dict(items)
    return value


def test_the_result_shares_nothing_mutable() -> None:
    inner: list[Any] = [1.0]
    numbers = [1.0, 2.0]
    value = {"a": inner, "b": {"c": numbers}}
    normal = normalise(value).value
    inner.append(2)
    numbers.append(3.0)

    assert normal == {"a": [1.0], "b": {"c": [1.0, 2.0]}}
    data = encode_stored(normal)
    first = decode_object(data)
    first["a"] = None
    assert decode_object(data) == {"a": [1.0], "b": {"c": [1.0, 2.0]}}


@pytest.mark.parametrize("case", load("values-json")["cases"], ids=lambda case: str(case["n"]))
def test_sizes_are_the_published_ones(case: dict[str, Any]) -> None:
    assert normalise(from_typed(case["typed"])).size == case["size"]


# The package's verdict on JavaScript values, with the nearest Python value. Python's `bytes` are ordinary values here
# and its `dict` is the object, so a view of another item type stands for Uint8Array and a mapping proxy for Map.
ENCODE_EDGES: dict[str, object] = {
    "undefined": undefined,
    "array with undefined": [undefined],
    "bigint 2^63": 2**63,
    "bigint -2^63-1": -(2**63) - 1,
    "Set": {1},
    "Map": MappingProxyType({}),
    "Date": datetime.date(1970, 1, 1),
    "Uint8Array": range(1),
    "function": len,
    "symbol": object(),
    "class instance": Silent(),
    "$key": {"$a": 1},
    "non-ascii key": {"é": 1},
    "control key": {"\x01": 1},
    "DEL key": {"\x7f": 1},
    "key 1025": {"k" * 1025: 1},
    "nested undefined in array": {"a": [1, undefined]},
    "top-level {a:undefined}": {"a": undefined},
}


@pytest.mark.parametrize("case", load("values-json")["encode_edge_cases"], ids=lambda case: case["input"])
def test_edge_cases_have_the_package_s_verdict(case: dict[str, Any]) -> None:
    value = ENCODE_EDGES[case["input"]]
    verdict = case["js_result"]
    if verdict["ok"]:
        assert normalise(value).value == verdict["wire"]
        return

    with pytest.raises(ValidationError) as failure:
        normalise(value)

    # The other texts print JavaScript's values, or are the server's: `starts with '$'`, where the package says `a '$'`.
    if "undefined" in case["input"] or case["input"] == "non-ascii key":
        assert str(failure.value) == verdict["js_error"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1}, "{1} is not a supported Convex type. " + SUPPORTED),
        (decimal.Decimal("1.5"), "1.5 is not a supported Convex type. " + SUPPORTED),
        (uuid.UUID(int=0), f"{uuid.UUID(int=0)} is not a supported Convex type. " + SUPPORTED),
        (Silent(), "Silent is not a supported Convex type. " + SUPPORTED),
        (
            {"a": [0.5, {"b": {1}}]},
            "{1} is not a supported Convex type (present at path .a[1].b in original object "
            '{"a":[0.5,{"b":"{1}"}]}). ' + SUPPORTED,
        ),
        (
            [{(1, 2)}],
            "{(1, 2)} is not a supported Convex type (present at path [0] in original object "
            '["{(1, 2)}"]). ' + SUPPORTED,
        ),
        (2**53 + 1, "Integer 9007199254740993 is outside the range of a Convex `Float64` (-2^53 to 2^53). Consider "
            "using an `Int64`, which corresponds to a `BigInt` in JavaScript Convex functions."),
        ({1: 2}, "Convex object keys must be strings, found 1"),
        ({"a": 1, None: 2}, "Convex object keys must be strings, found None"),
        ("a\ud800", "String contains a lone surrogate (U+D800), which is not valid Unicode"),
        ({"a": ["\udfff"]}, "String contains a lone surrogate (U+DFFF), which is not valid Unicode"),
        ({"a": "\udfff"}, "String contains a lone surrogate (U+DFFF), which is not valid Unicode"),
        ({"\ud800": 1}, "Field name ? has invalid character '\\u{d800}': "
            "Field names can only contain non-control ASCII characters"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused(value: object, text: str) -> None:
    with pytest.raises(ValidationError) as failure:
        normalise(value)

    assert str(failure.value) == text


def test_a_refusal_prints_little_of_a_large_or_endless_value() -> None:
    endless: list[Any] = [undefined]
    endless.append(endless)

    with pytest.raises(ValidationError, match=r"at path \[0\] in original object \(list\)"):
        normalise(endless)
    with pytest.raises(ValidationError) as failure:
        normalise(["x" * 100_000, undefined])
    assert len(str(failure.value)) < 2000
    assert "…" in str(failure.value)


def test_an_endless_value_is_too_nested() -> None:
    endless: list[Any] = []
    endless.append({"a": endless})

    with pytest.raises(ValueInvalid, match="nested 65 levels deep > maximum nesting 64"):
        normalise(endless)


def nested(levels: int, kind: type = list) -> Any:
    value: Any = 1.0
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


@pytest.mark.parametrize("kind", [list, dict])
def test_nesting_is_limited(kind: type) -> None:
    assert normalise(nested(MAX_VALUE_NESTING, kind)).nesting == MAX_VALUE_NESTING

    with pytest.raises(ValueInvalid) as failure:
        normalise(nested(MAX_VALUE_NESTING + 1, kind))

    assert failure.value.rule == "TooNestedError"
    assert str(failure.value) == "Value is too nested (nested 65 levels deep > maximum nesting 64)"


def test_array_length_is_limited() -> None:
    assert normalise([None] * MAX_ARRAY_LENGTH).size == MAX_ARRAY_LENGTH + 2

    with pytest.raises(ValueInvalid) as failure:
        normalise([None] * (MAX_ARRAY_LENGTH + 1))

    assert failure.value.rule == "ArrayTooLong"
    assert str(failure.value) == "Array length is too long (8193 > maximum length 8192)"


def test_field_count_is_limited_without_undefined() -> None:
    fields: dict[str, Any] = {f"f{n}": None for n in range(MAX_OBJECT_FIELDS)}
    assert normalise({**fields, "gone": undefined}).value == dict(sorted(fields.items()))

    with pytest.raises(ValueInvalid) as failure:
        normalise({**fields, "one": None})

    assert failure.value.rule == "TooManyFieldsError"
    assert str(failure.value) == "Object has too many fields (1025 > maximum number 1024)"


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": x}, lambda x: [[x], x]])
def test_size_is_limited(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MAX_VALUE_BYTES", 1000)
    assert normalise(wrap("x" * 100)).value == wrap("x" * 100)

    with pytest.raises(ValueInvalid) as failure:
        normalise(wrap("x" * 1000))

    assert failure.value.rule == "ValueTooLargeError"


def test_the_size_limit_is_32_mib() -> None:
    with pytest.raises(ValueInvalid, match=r"^Value is too large \(32\.00 MiB > maximum size 32 MiB\)$"):
        normalise("x" * (32 * 1024 * 1024))


def test_remembered_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: dict[tuple[Any, ...], Any] = {}
    monkeypatch.setattr(stored, "_SHAPES", shapes)
    for n in range(3000):
        assert normalise({f"f{n}": 1.0}).size == 2 + len(f"f{n}") + 1 + 9
    assert 0 < len(shapes) <= 1024
    shapes.clear()

    normalise({f"f{n}": 1.0 for n in range(65)})
    normalise({"x" * 1022: 1.0})
    normalise({Odd("x"): 1.0})

    assert list(shapes) == [("x",)]
    assert type(next(iter(shapes))[0]) is str


@pytest.mark.parametrize(
    ("numbers", "plain"),
    [([1.0, 2.5], True), ([0.0], True), ([-0.0, 1.0], False), ([1.0, math.inf], False), ([math.nan], False)],
)
def test_embeddings_know_whether_they_are_plain(numbers: list[float], plain: bool) -> None:
    result = normalise(numbers)

    assert result.value is not numbers
    assert result == (numbers, 2 + 9 * len(numbers), 1, plain)
    assert is_plain(numbers) is plain


def test_deep_use_of_the_stack_is_modest() -> None:
    """A handler may itself be deep in a stack when it hands over a value at the nesting limit."""
    deep = nested(MAX_VALUE_NESTING, dict)

    def down(levels: int) -> Any:
        return down(levels - 1) if levels else normalise(deep)

    assert down(sys.getrecursionlimit() // 3).nesting == MAX_VALUE_NESTING


@law
@given(st.binary(max_size=40) | values().map(encode_stored).flatmap(lambda data: st.integers(0, len(data)).map(
    lambda end: data[:end] + b"\xc1"[: end % 2])))  # fmt: skip
def test_decoding_damaged_bytes_raises_one_error(data: bytes) -> None:
    for decode in (decode_stored, decode_object):
        try:
            decode(data)
        except ValidationError:
            pass


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\xc0\xc0", b"\xa1\xff", b"\xd4\x05x", b"\xd4\x01x", b"\x91" * 100_000],
)
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValidationError, match="Stored value can't be decoded"):
        decode_stored(data)


def test_an_object_is_an_object() -> None:
    assert decode_object(encode_stored({"a": 1.0})) == {"a": 1.0}
    with pytest.raises(ValidationError, match="Stored value is not an object but list"):
        decode_object(encode_stored([]))


def test_only_normalised_values_can_be_stored() -> None:
    with pytest.raises(TypeError, match="object is not a normalised value"):
        encode_stored(object())  # type: ignore[arg-type]


def test_int64_is_an_extension() -> None:
    assert encode_stored(Int64(-2)) == msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\xff" * 7 + b"\xfe"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.sampled_from(
        [undefined, {1}, object(), range(3), Silent(), Int64(4), Colour.RED]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(
        st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@law
@given(anything)
def test_any_python_value_is_normalised_or_refused(value: object) -> None:
    try:
        result = normalise(value)
    except ValidationError as error:
        str(error).encode()
        return

    assert exact(decode_stored(encode_stored(result.value))) == exact(result.value)
