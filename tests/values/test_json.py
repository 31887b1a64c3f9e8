"""Values on the wire."""

import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import InvalidArgument, ValidationError
from reactor.limits import MAX_ARGS_BYTES
from reactor.values.json import (
    BadFormat,
    Format,
    decode_args,
    decode_json,
    encode_format,
    encode_json,
    json_from_value,
    parse_format,
    read_json,
    value_from_json,
)
from reactor.values.stored import is_plain, normalise
from reactor.values.types import Int64, Value
from tests.values.strategies import law, values
from tests.values.vectors import exact, from_typed, load

VECTORS = load("values-json")


def numbers_as_floats(parsed: Any) -> Any:
    """Return parsed JSON with 1 and 1.0 made the same, and true kept apart from both."""
    if isinstance(parsed, list):
        return [numbers_as_floats(item) for item in parsed]
    if isinstance(parsed, dict):
        return {name: numbers_as_floats(item) for name, item in parsed.items()}
    if isinstance(parsed, bool) or not isinstance(parsed, int | float):
        return parsed
    return "number", float(parsed)


# --- published vectors


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: str(case["n"]))
def test_values_have_the_published_wire_form(case: dict[str, Any]) -> None:
    value = normalise(from_typed(case["typed"])).value

    # The texts differ where ours has a decimal point (1.0) or its own exponent; what they spell must not.
    assert numbers_as_floats(json.loads(encode_json(value))) == numbers_as_floats(case["wire"])
    assert exact(decode_json(case["wire_text_js"])) == exact(value)
    assert exact(value_from_json(case["wire"])) == exact(value)
    assert exact(decode_json(encode_json(value))) == exact(value)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: str(case["n"]))
def test_values_have_the_published_clean_form(case: dict[str, Any]) -> None:
    value = normalise(from_typed(case["typed"])).value

    clean = json.loads(encode_format(value, "json"))

    assert numbers_as_floats(clean) == numbers_as_floats(case["json_format"])  # -0.0 equals the 0 of the vectors


# Where the server's verdict is not the package's: it lets an encoded +0.0 through, refuses a lone surrogate, and
# knows no `$commitTs` from clients.
SERVER_VERDICTS: dict[str, bool] = {
    '{"$float":"AAAAAAAAAAA="}': True,
    '{"$commitTs":null}': False,
    '"\\ud800"': False,
}
# Where the server has its own text. For other refusals it says what the package says, or no text is known.
SERVER_TEXTS: dict[str, str] = {
    '{"$integer":"AQ=="}': "Int64 must be exactly eight bytes",
    '{"$integer":"AQAAAAAAAAAA"}': "Int64 must be exactly eight bytes",
    '{"$float":"AAAAAAAA8D8="}': "Float64 1 should be encoded as a number",
    '{"$float":"AA=="}': "Float64 must be exactly eight bytes",
    '{"$set":[]}': "Received a Set which is no longer supported as a Convex type.",
    '{"$map":[]}': "Received a Map which is no longer supported as a Convex type.",
    '{"$integer":1}': "Malformed $integer field: expected a base64 string",
    '{"$integer":"!!!"}': "Malformed $integer field: not valid base64",
    '{"$float":1.5}': "Malformed $float field: expected a base64 string",
    '{"$bytes":1}': "Malformed $bytes field: expected a base64 string",
    '{"$commitTs":1}': "Field name $commitTs starts with '$', which is reserved.",
    '{"$commitTs":null}': "Field name $commitTs starts with '$', which is reserved.",
    '{"$undefined":null}': "Field name $undefined starts with '$', which is reserved.",
    '{"$a":1}': "Field name $a starts with '$', which is reserved.",
    '[{"$a":1}]': "Field name $a starts with '$', which is reserved.",
    '{"a":{"$b":1}}': "Field name $b starts with '$', which is reserved.",
    '{"$integer":"AQAAAAAAAAA=","b":1}': "Field name $integer starts with '$', which is reserved.",
    '{"$bytes":"AA==","$integer":"x"}': "Field name $bytes starts with '$', which is reserved.",
    '{"\\u0000":1}': "Field name \0 has invalid character '\\0': "
        "Field names can only contain non-control ASCII characters",
    '{"\\u007f":1}': "Field name \x7f has invalid character '\\u{7f}': "
        "Field names can only contain non-control ASCII characters",
    '{"a\\n":1}': "Field name a\n has invalid character '\\n': "
        "Field names can only contain non-control ASCII characters",
}  # fmt: skip


@pytest.mark.parametrize("case", VECTORS["decode_edge_cases"], ids=lambda case: case["wire_text"][:40])
def test_edge_cases_decode_as_published(case: dict[str, Any]) -> None:
    text, verdict = case["wire_text"], case["js_result"]
    if "key_length" in case:  # the file gives these two shortened
        text = json.dumps({"k" * case["key_length"]: 1})
    if SERVER_VERDICTS.get(text, verdict["ok"]):
        expected = from_typed(verdict["value"]) if verdict["ok"] else 0.0
        assert exact(decode_json(text)) == exact(expected)
        return

    with pytest.raises(ValidationError) as failure:
        decode_json(text)

    if text in SERVER_TEXTS:
        assert str(failure.value) == SERVER_TEXTS[text]
    elif "key_length" in case:
        assert str(failure.value) == "Field name is too long (1025 > maximum 1024)"
    elif not verdict["ok"]:
        assert str(failure.value) == verdict["js_error"]


# --- decoding


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("1e0", 1.0),
        ("-0", -0.0),
        ("-0.0", -0.0),
        ('[-0, 1, "-0", 12, -0.5, 9007199254740993]', [-0.0, 1.0, "-0", 12.0, -0.5, 9007199254740992.0]),
        ('"2024-01-05 x-0"', "2024-01-05 x-0"),
        ("12345678901234567890123", 12345678901234567890123.0),
        ("1e-400", 0.0),
        ("true", True),
        ('{"b": 1, "a": 2}', {"a": 2.0, "b": 1.0}),
        ('{"a": 1, "a": 2}', {"a": 2.0}),
        ('"\\ud83d\\ude00"', "😀"),
        ('{"$float":"AAAAAAAAAIA="}', -0.0),
        ('{"a":{"$integer":"BQAAAAAAAAA="}}', {"a": Int64(5)}),
        ('[{"$bytes":""}]', [b""]),
    ],
)
def test_json_decodes_to_one_value(text: str, value: Value) -> None:
    assert exact(decode_json(text)) == exact(value)
    assert exact(decode_json(text.encode())) == exact(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e400",
        "-1e400",
        "[-0, 1e400]",
        "1" * 400,
        "[-0, " + "1" * 400 + "]",
        "1" * 10_000,
        '"\\ud800"',
        '"\\ude00\\ud83d"',
        '"\ud800"',
        '{"\\ud800": 1}',
        "[1,]",
        "1 2",
        "01",
        "'a'",
        "{1: 2}",
        '"\x01"',
        b'"\xff"',
        b"\xff",
        b"\xef\xbb\xbf1",
        b"1\x000\x00",
        "[" * 10_000 + "]" * 10_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        "[-0," + "[" * 10_000 + "]" * 10_000 + "]",
        '{"$bytes":"AA"}',
        '{"$bytes":"AB=="}',
        '{"$bytes":"-_=="}',
        '{"$bytes":"AA==\\n"}',
        '{"$bytes":"é"}',
        '{"$integer":null}',
    ],
)
def test_what_is_no_wire_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValidationError):
        decode_json(text)


def test_parsed_json_may_be_anything() -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    for parsed in [deep, {1: 2}, {"$bytes": {}}, 10**400, {"a"}]:
        with pytest.raises(ValidationError):
            value_from_json(parsed)


@law
@given(st.binary(max_size=30) | st.text(max_size=30) | st.text(st.sampled_from('[]{}",:0-1e.$ \\ud8'), max_size=20))
def test_arbitrary_input_is_a_value_or_a_validation_error(data: str | bytes) -> None:
    for decode in (decode_json, decode_args, read_json):
        try:
            decode(data)
        except ValidationError as error:
            str(error).encode()


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "$integer", "$float", "$bytes", "$set", "$x"]) | st.text(max_size=2),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@law
@given(json_like)
def test_arbitrary_parsed_json_is_a_value_or_a_validation_error(parsed: object) -> None:
    try:
        value = value_from_json(parsed)
    except ValidationError:
        return

    assert exact(decode_json(encode_json(value))) == exact(value)


# --- encoding


@law
@given(values())
def test_wire_json_round_trips(value: Value) -> None:
    data = encode_json(value)

    assert exact(decode_json(data)) == exact(value)
    assert exact(value_from_json(json_from_value(value))) == exact(value)
    result = read_json(data)
    assert result == normalise(result.value)
    assert encode_json(value, is_plain(value)) == data


def no_integers(text: str) -> Any:
    raise AssertionError(f"the official Python client can't read {text}")


@law
@given(values())
def test_every_number_leaves_with_a_point_or_an_exponent(value: Value) -> None:
    formats: list[Format] = ["convex_encoded_json", "json"]
    for format in formats:
        data = encode_format(value, format)
        json.loads(data, parse_int=no_integers, parse_constant=no_integers)
        assert data == msgspec.json.format(data, indent=-1)


@pytest.mark.parametrize(
    ("value", "wire", "clean", "export"),
    [
        (1.0, "1.0", "1.0", "1.0"),
        (1e16, "1e16", "1e16", "1e16"),
        (-0.0, '{"$float":"AAAAAAAAAIA="}', "-0.0", "-0.0"),
        (math.inf, '{"$float":"AAAAAAAA8H8="}', '"Infinity"', '{"$float":"AAAAAAAA8H8="}'),
        (-math.inf, '{"$float":"AAAAAAAA8P8="}', '"-Infinity"', '{"$float":"AAAAAAAA8P8="}'),
        (math.nan, '{"$float":"AAAAAAAA+H8="}', '"NaN"', '{"$float":"AAAAAAAA+H8="}'),
        (Int64(33), '{"$integer":"IQAAAAAAAAA="}', '"33"', "33"),
        (Int64(-(2**63)), '{"$integer":"AAAAAAAAAIA="}', '"-9223372036854775808"', "-9223372036854775808"),
        (b"\x01\x02", '{"$bytes":"AQI="}', '"AQI="', '{"$bytes":"AQI="}'),
        (None, "null", "null", "null"),
        (True, "true", "true", "true"),
        ("é", '"é"', '"é"', '"é"'),
        ([Int64(1), [2.0]], '[{"$integer":"AQAAAAAAAAA="},[2.0]]', '["1",[2.0]]', "[1,[2.0]]"),
        (
            {"a": b"", "b": {"c": Int64(0)}},
            '{"a":{"$bytes":""},"b":{"c":{"$integer":"AAAAAAAAAAA="}}}',
            '{"a":"","b":{"c":"0"}}',
            '{"a":{"$bytes":""},"b":{"c":0}}',
        ),
    ],
)
def test_the_three_formats(value: Value, wire: str, clean: str, export: str) -> None:
    formats: list[tuple[Format, str]] = [("convex_encoded_json", wire), ("json", clean), ("export_json", export)]
    for format, text in formats:
        assert encode_format(value, format).decode() == text


def test_a_nan_keeps_its_payload() -> None:
    odd = struct.unpack(">d", bytes.fromhex("7ff8000000000123"))[0]

    assert exact(decode_json(encode_json([odd]))) == exact([odd])


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("convex_encoded_json", "convex_encoded_json"),
        ("convex_json", "convex_encoded_json"),
        ("json", "json"),
        ("convex_clean_json", "json"),
        ("export_json", "export_json"),
    ],
)
def test_format_names(name: str, format: str) -> None:
    assert parse_format(name) == format


def test_an_unknown_format_is_a_bad_request() -> None:
    with pytest.raises(InvalidArgument) as failure:
        parse_format("xml")

    assert isinstance(failure.value, BadFormat)
    assert (failure.value.code, failure.value.status) == ("BadFormat", 400)
    assert str(failure.value) == "format param must be one of [`json`]. Got xml"


# --- arguments


def test_arguments_are_one_object() -> None:
    assert decode_args(b'{"b": 1, "a": [2]}') == {"a": [2.0], "b": 1.0}
    assert decode_args(msgspec.Raw(b'{"a": -0}')) == {"a": -0.0}

    with pytest.raises(ValidationError) as failure:
        decode_args('["a", 1]')

    assert str(failure.value) == (
        'Expected to receive an object as the function\'s argument. Instead received: ["a", 1.0]'
    )


def test_unreadable_arguments_name_the_function() -> None:
    with pytest.raises(ValidationError) as failure:
        decode_args('{"a": {"$b": 1}}', "messages:send")

    assert str(failure.value) == (
        "Invalid arguments for messages:send: Field name $b starts with '$', which is reserved."
    )


def test_arguments_nest_one_level_less() -> None:
    def text(levels: int) -> str:
        return '{"a":' * levels + "1" + "}" * levels

    decode_args(text(63))
    with pytest.raises(ValidationError) as failure:
        decode_args(text(64), "f")

    assert str(failure.value) == (
        "Invalid arguments for f: Value is too nested (nested 65 levels deep > maximum nesting 64)"
    )


def test_arguments_have_a_size_limit() -> None:
    room = MAX_ARGS_BYTES - 2 - 2 - 2 - 2  # an array of an object with one field `a` of a string
    assert len(str(decode_args('{"a":"' + "x" * room + '"}')["a"])) == room

    with pytest.raises(ValidationError) as failure:
        decode_args('{"a":"' + "x" * (room + 1024 * 1024) + '"}', "f")

    assert str(failure.value) == "Arguments for f are too large (actual: 17 MiB, limit: 16 MiB)"
