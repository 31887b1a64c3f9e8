"""Reads the published vectors and their neutral description of values."""

import json
import struct
from pathlib import Path
from typing import Any

from reactor.values.types import Int64, Value

FOLDER = Path(__file__).parent.parent / "vectors"


def load(name: str) -> dict[str, Any]:
    """Return one vector file."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


def from_typed(typed: dict[str, Any]) -> Value:
    """Return the value that a neutral description stands for."""
    match typed["t"]:
        case "null":
            return None
        case "boolean":
            return bool(typed["v"])
        case "int64":
            return Int64(int(typed["dec"]))
        case "float64":
            return from_bits(int(typed["bits"], 16))
        case "string":
            return bytes.fromhex(typed["utf8_hex"]).decode()
        case "bytes":
            return bytes.fromhex(typed["hex"])
        case "array":
            return [from_typed(item) for item in typed["items"]]
        case "object":
            return {name: from_typed(item) for name, item in typed["fields"]}
        case other:
            raise AssertionError(f"no such type of value: {other}")


def from_bits(bits: int) -> float:
    """Return the float64 with these bits."""
    number: float = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    return number


def exact(value: Value) -> Any:
    """Return what tells values apart that `==` does not: types, bits of floats, order of fields."""
    if isinstance(value, float):
        return "float64", struct.pack(">d", value)
    if isinstance(value, list):
        return "array", [exact(item) for item in value]
    if isinstance(value, dict):
        return "object", [(name, exact(item)) for name, item in value.items()]
    return type(value).__name__, value
