"""Values on the wire: JSON with `$` forms for what JSON can't say.

Owns the three formats a client may ask for. Input is always `convex_encoded_json`. Promises that every float64 leaves
with a point or an exponent (the official Python client refuses `1`), that objects leave sorted by field, and that no
input raises anything but `ValidationError`. Used by the protocol edges, scheduling and error data.
"""

import json
import re
import struct
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from decimal import Decimal
from typing import Any, Literal, TypeAlias, cast

import msgspec

from reactor.errors import InvalidArgument, ValidationError
from reactor.limits import MAX_ARGS_BYTES, MAX_VALUE_NESTING
from reactor.values.display import display
from reactor.values.size import format_size, too_nested
from reactor.values.stored import Normalised, is_plain, normalise
from reactor.values.types import Int64, Value

Format: TypeAlias = Literal["convex_encoded_json", "json", "export_json"]

_FORMATS: dict[str, Format] = {
    "convex_encoded_json": "convex_encoded_json",
    "convex_json": "convex_encoded_json",
    "json": "json",
    "convex_clean_json": "json",
    "export_json": "export_json",
}
_DOUBLE = struct.Struct("<d")
_NEGATIVE_ZERO = re.compile(rb"-0(?![0-9.eE])")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class BadFormat(InvalidArgument):
    """The `format` a client asked for is not one we print."""

    code = "BadFormat"


def parse_format(text: str) -> Format:
    """Return the format a client named, by its name or alias.

    Raises:
        BadFormat: there is no such format.
    """
    if text not in _FORMATS:
        raise BadFormat(f"format param must be one of [`json`]. Got {text}")
    return _FORMATS[text]


def read_json(data: bytes | str | msgspec.Raw) -> Normalised:
    """Decode wire JSON in one go to a normalised value, its size, nesting and plainness.

    Raises:
        ValidationError: it is no JSON, or not a value.
    """
    return normalise(_parse(data), _untag)


def decode_json(data: bytes | str | msgspec.Raw) -> Value:
    """Decode wire JSON to a normalised value.

    Raises:
        ValidationError: it is no JSON, or not a value.
    """
    return normalise(_parse(data), _untag).value


def value_from_json(parsed: object) -> Value:
    """Return the normalised value that already parsed wire JSON stands for.

    Raises:
        ValidationError: it is not a value.
    """
    return normalise(parsed, _untag).value


def decode_args(data: bytes | str | msgspec.Raw | Normalised, path: str = "the function") -> dict[str, Value]:
    """Decode the arguments of a call to `path`: one object. What is normalised already is only checked.

    Raises:
        ValidationError: it is no JSON, no object, or too large or nested for arguments.
    """
    try:
        args = data if isinstance(data, Normalised) else read_json(data)
        if args.nesting >= MAX_VALUE_NESTING:  # arguments are held as an array of one
            too_nested(args.nesting + 1)
    except ValidationError as error:
        raise ValidationError(f"Invalid arguments for {path}: {error}") from error
    if type(args.value) is not dict:
        raise ValidationError(
            f"Expected to receive an object as the function's argument. Instead received: {display(args.value)}"
        )
    if args.size + 2 > MAX_ARGS_BYTES:
        raise ValidationError(
            f"Arguments for {path} are too large "
            f"(actual: {format_size(args.size + 2)}, limit: {format_size(MAX_ARGS_BYTES)})"
        )
    return args.value


def json_from_value(value: Value) -> Any:
    """Return the wire form of a normalised value as JSON types."""
    if isinstance(value, float):
        return value if is_plain(value) else {"$float": _base64(_DOUBLE.pack(value))}
    if isinstance(value, Int64):
        return {"$integer": _base64(value.to_bytes(8, "little", signed=True))}
    if isinstance(value, bytes):
        return {"$bytes": _base64(value)}
    if isinstance(value, list):
        return list(map(json_from_value, value))
    if isinstance(value, dict):
        return {name: json_from_value(item) for name, item in value.items()}
    return value


def encode_json(value: Value, plain: bool | None = None) -> bytes:
    """Return the wire JSON of a normalised value. `plain`, where it is known, saves a look at the whole value."""
    if is_plain(value) if plain is None else plain:
        return _encode(value)
    return _encode(json_from_value(value))


def encode_format(value: Value, format: Format) -> bytes:
    """Return a normalised value in the format a client asked for."""
    if format == "json":
        return _encode(_clean(value))
    if format == "export_json":
        return _encode(_export(value))
    return encode_json(value)


def _clean(value: Value) -> Any:
    if isinstance(value, float):
        if value - value == 0.0:
            return value
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Int64):
        return str(value)
    if isinstance(value, bytes):
        return _base64(value)
    if isinstance(value, list):
        return list(map(_clean, value))
    if isinstance(value, dict):
        return {name: _clean(item) for name, item in value.items()}
    return value


def _export(value: Value) -> Any:
    if isinstance(value, float):
        return value if value - value == 0.0 else json_from_value(value)
    if isinstance(value, Int64):
        return int(value)
    if isinstance(value, list):
        return list(map(_export, value))
    if isinstance(value, dict):
        return {name: _export(item) for name, item in value.items()}
    return json_from_value(value)


def _parse(data: bytes | str | msgspec.Raw) -> object:
    if isinstance(data, str):
        try:
            data = data.encode()
        except UnicodeEncodeError as error:
            raise ValidationError(f"Invalid JSON: {error}") from error
    elif isinstance(data, msgspec.Raw):
        data = bytes(data)
    try:
        # msgspec reads `-0` as an integer, which has no sign to keep.
        if b"-0" in data and _NEGATIVE_ZERO.search(data):
            _decode(data)
            return json.loads(data.decode(), parse_int=_parse_int)
        return cast(object, _decode(data))
    except RecursionError:
        raise ValidationError("Invalid JSON: nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValidationError(f"Invalid JSON: {error}") from error


def _parse_int(text: str) -> float:
    return -0.0 if text == "-0" else int(text)


def _untag(fields: dict[Any, Any]) -> object:
    """Return what an object of one field stands for: `Int64`, `float`, `bytes`, or itself."""
    [(tag, text)] = fields.items()
    if tag == "$integer":
        data = _unbase64(tag, text)
        if len(data) != 8:
            raise ValidationError("Int64 must be exactly eight bytes")
        return Int64(int.from_bytes(data, "little", signed=True))
    if tag == "$float":
        data = _unbase64(tag, text)
        if len(data) != 8:
            raise ValidationError("Float64 must be exactly eight bytes")
        number: float = _DOUBLE.unpack(data)[0]
        if number - number == 0.0 and number != 0.0:
            digits = format(Decimal(repr(number)), "f").removesuffix(".0")
            raise ValidationError(f"Float64 {digits} should be encoded as a number")
        return number
    if tag == "$bytes":
        return _unbase64(tag, text)
    if tag in ("$set", "$map"):
        removed = tag[1:].capitalize()
        raise ValidationError(f"Received a {removed} which is no longer supported as a Convex type.")
    return fields


def _unbase64(tag: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise ValidationError(f"Malformed {tag} field: expected a base64 string")
    try:
        data = a2b_base64(text, strict_mode=True)
    except (Base64Error, ValueError):
        data = b""
    if _base64(data) != text:
        raise ValidationError(f"Malformed {tag} field: not valid base64")
    return data


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
