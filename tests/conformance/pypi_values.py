"""Values of every type through the `convex` package of PyPI and back. Ends with an error at the first that changed."""

import math
import sys
from typing import Any

from convex import ConvexClient, ConvexInt64

VALUES: list[Any] = [
    *(None, True, False),
    *(0.0, -0.0, 1.0, -1.5, 1e21, 5e-324, sys.float_info.max, math.nan, math.inf, -math.inf),
    *(ConvexInt64(0), ConvexInt64(-1), ConvexInt64(2**63 - 1), ConvexInt64(-(2**63))),
    *("", "plain", "ä€😀", '\x00\n\u2028"\\'),
    *(b"", b"\x00", b"\x00\xff\x80\n"),
    *([], [[]], [1.0, -0.0, math.nan, ConvexInt64(1), "", None, b"\x07"]),
    *({}, {"a": {"b": [{"c": -0.0}, {"d": ConvexInt64(2**62)}]}, "with space": b"\x01"}),
]
FROM_PYTHON: dict[str, Any] = {
    "null": None,
    "booleans": [True, False],
    "numbers": [1.0, 1.5, -0.0, 1e300, math.nan, math.inf, -math.inf],
    "int64": [ConvexInt64(number) for number in (0, -1, 2**63 - 1, -(2**63))],
    "strings": ["", "ä€😀\x00"],
    "bytes": [b"", b"\x00\xff\x80"],
    "nested": {"inner": {"array": [[], {}]}},
}


def same(a: object, b: object) -> bool:
    """Compare with types, so that 0.0 is not -0.0 and NaN is itself."""
    return sorted_text(a) == sorted_text(b)


def sorted_text(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {sorted_text(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(sorted_text, value)) + "]"
    return f"ConvexInt64({value.value})" if isinstance(value, ConvexInt64) else repr(value)


def main(url: str) -> None:
    client = ConvexClient(url)
    made = client.query("things:made")
    assert same(made, FROM_PYTHON), made
    for at, value in enumerate(VALUES):
        name = f"pypi{at}"
        for result in (
            client.query("things:echo", {"value": value}),
            client.mutation("things:keep", {"name": name, "value": value}),
            client.query("things:kept", {"name": name}),
        ):
            assert same(result, value), f"{value!r} became {result!r}"
    print(len(VALUES), flush=True)


main(sys.argv[1])
