"""Index keys sort as values do, and their bounds hold exactly what they say."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reactor.errors import ValidationError
from reactor.values.json import value_from_json
from reactor.values.keys import (
    AFTER,
    IndexKeyEncoder,
    encode_key,
    encode_value_key,
    field_ends,
    get_path,
    lower_bound,
    prefix_bounds,
    upper_bound,
)
from reactor.values.order import compare
from reactor.values.types import Undefined, Value, undefined
from tests.values.strategies import documents, law, values
from tests.values.vectors import from_typed, load

maybe_missing: st.SearchStrategy[Value | Undefined] = values(leaves=5) | st.just(undefined)


def as_object(wire: Any) -> dict[str, Any]:
    value = value_from_json(wire)
    assert isinstance(value, dict)
    return value


# --- published vectors


def test_keys_of_values_are_the_published_ones() -> None:
    vectors = load("ordering")
    assert encode_value_key(undefined).hex() == vectors["undefined_sort_key_hex"]
    for entry in vectors["values"]:
        assert encode_value_key(from_typed(entry["typed"])).hex() == entry["sort_key_hex"], entry


@pytest.mark.parametrize("entry", load("index-keys")["keys"], ids=lambda entry: entry["index"])
def test_index_keys_are_the_published_ones(entry: dict[str, Any]) -> None:
    encoder = IndexKeyEncoder(entry["stored_fields"])
    key = encoder(as_object(entry["doc"]))

    assert key.hex() == entry["key_hex"]
    parts = [
        encode_value_key(undefined if part == {"$undefined": None} else value_from_json(part))
        for part in entry["key_values"]
    ]
    assert [key[:end] for end in field_ends(key)] == [b"".join(parts[: n + 1]) for n in range(len(parts))]


def increment(key: bytes) -> bytes | None:
    """Return upstream's end of a prefix: the last byte below 0xFF goes up, what follows is cut."""
    stem = key.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


@pytest.mark.parametrize("entry", load("index-keys")["ranges"], ids=lambda entry: ", ".join(entry["range"]) or "all")
def test_ranges_are_the_published_ones_up_to_the_end_of_a_prefix(entry: dict[str, Any]) -> None:
    """Upstream ends a prefix P at inc(P), which lets in strings that go on with a NUL; we end it at P + 0xFF.

    Where P has every field, `_id` included, upstream ends at P + 0x00; nothing can lie between the two.
    """
    given_id = "j575efbgcywfzkr6h78cjw1pzx85rjae"
    fields = [*entry["stored_fields"], "_id"]
    prefix = b""
    start, end = prefix_bounds(b"")
    for step in entry["range"]:
        operator, field, text = step.split(" ", 2)
        value = (
            given_id if text == "(given)" else undefined if text == "undefined" else value_from_json(json.loads(text))
        )
        assert field == fields[len(field_ends(prefix))]
        if operator == "eq":
            prefix += encode_value_key(value)
            start, end = prefix_bounds(prefix)
        elif operator.startswith("g"):
            start = lower_bound(prefix, value, operator == "gte")
        else:
            end = upper_bound(prefix, value, operator == "lte")

    def upstream(bound: bytes) -> bytes | None:
        if not bound.endswith(AFTER):
            return bound
        whole = bound[:-1]
        return whole + b"\0" if len(field_ends(whole)) == len(fields) else increment(whole)

    theirs_start, theirs_end = upstream(start), upstream(end)
    assert theirs_start is not None
    assert theirs_start.hex() == entry["start_included_hex"]
    assert (theirs_end and theirs_end.hex()) == entry["end_excluded_hex"]


# --- laws


@law
@given(maybe_missing, maybe_missing)
@example("x", "x\0")
@example({}, {"": 1.0})
@example([], [None])
@example(b"", b"\0")
def test_keys_sort_as_values_do(a: Value | Undefined, b: Value | Undefined) -> None:
    left, right = encode_value_key(a), encode_value_key(b)

    assert (left > right) - (left < right) == compare(a, b)


@law
@given(st.lists(st.tuples(maybe_missing, maybe_missing) | maybe_missing.map(lambda same: (same, same)), max_size=4))
def test_joined_keys_sort_field_by_field(pairs: list[tuple[Any, Any]]) -> None:
    a, b = [left for left, _ in pairs], [right for _, right in pairs]
    verdict = next(filter(None, map(compare, a, b)), 0)

    left, right = encode_key(a), encode_key(b)

    assert (left > right) - (left < right) == verdict


@law
@given(st.lists(maybe_missing, max_size=5))
def test_field_ends_are_those_of_the_parts(fields: list[Any]) -> None:
    ends = []
    key = b""
    for field in fields:
        key += encode_value_key(field)
        ends.append(len(key))

    assert field_ends(key) == tuple(ends)
    assert key == encode_key(fields)


@law
@given(maybe_missing, maybe_missing, maybe_missing)
@example("x", "x\0", None)
@example({}, {"": None}, None)
def test_bounds_hold_exactly_what_they_say(value: Any, bound: Any, rest: Any) -> None:
    prefix = encode_value_key("p")
    key = prefix + encode_key([value, rest])
    verdict = compare(value, bound)

    assert (key >= lower_bound(prefix, bound, True)) == (verdict >= 0)
    assert (key >= lower_bound(prefix, bound, False)) == (verdict > 0)
    assert (key < upper_bound(prefix, bound, True)) == (verdict <= 0)
    assert (key < upper_bound(prefix, bound, False)) == (verdict < 0)
    start, end = prefix_bounds(prefix + encode_value_key(bound))
    assert (start <= key < end) == (verdict == 0)
    start, end = prefix_bounds(prefix)
    assert start <= key < end


@law
@given(documents(), st.lists(st.sampled_from(["a", "b", "c", "a.b", "c.a.b"]), max_size=3))
def test_an_index_key_is_the_keys_of_its_fields_and_the_id(document: dict[str, Any], fields: list[str]) -> None:
    document = {**document, "_creationTime": 1.5, "_id": "j57"}
    stored = [*fields, "_creationTime"]

    key = IndexKeyEncoder(stored)(document)

    parts = [get_path(document, tuple(field.split("."))) for field in stored]
    assert key == encode_key([*parts, "j57"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("a",), {"b": [1.0], "n": None}),
        (("a", "b"), [1.0]),
        (("a", "n"), None),
        (("a", "n", "x"), undefined),
        (("a", "x"), undefined),
        (("a", "b", "0"), undefined),
        (("x", "y"), undefined),
        ((), {"a": {"b": [1.0], "n": None}}),
    ],
)
def test_a_path_leads_through_objects_only(path: tuple[str, ...], value: Any) -> None:
    assert get_path({"a": {"b": [1.0], "n": None}}, path) == value


def test_a_plain_integer_has_the_key_of_its_float() -> None:
    assert encode_value_key(3) == encode_value_key(3.0)


@law
@given(st.binary(max_size=30) | st.lists(st.sampled_from([0, 1, 0x0D, 0x10, 0x12, 0x15, 0xFF]), max_size=12).map(bytes))
def test_arbitrary_bytes_have_fields_or_are_no_key(key: bytes) -> None:
    try:
        ends = field_ends(key)
    except ValidationError:
        return

    assert list(ends) == sorted(set(ends))
    assert ends[-1:] in ((), (len(key),))


@pytest.mark.parametrize(
    "damaged",
    [b"\x00", b"\x02", b"\xff", b"\x0d1234567", b"\x10", b"\x10a", b"\x10a\x00\xff", b"\x12", b"\x12\x03",
     b"\x12\x0d12", b"\x12\x02\x00", b"\x15a\x00", b"\x15\x00\xff", b"\x12\x10a", b"\x12" * 100_000, b"\x03\xff"],
)  # fmt: skip
def test_damaged_keys_are_refused(damaged: bytes) -> None:
    with pytest.raises(ValidationError, match=r"^Not an index key: "):
        field_ends(damaged)


def test_ends_of_nested_fields() -> None:
    fields: list[Any] = [[], {}, {"": {}}, {"a": [{"": "\0"}, b"\0"]}, [[["x"]], {"": [None]}], ""]
    lengths = [len(encode_value_key(field)) for field in fields]

    assert field_ends(encode_key(fields)) == tuple(sum(lengths[: n + 1]) for n in range(len(fields)))
