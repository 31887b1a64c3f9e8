"""The key of a call: a text that is the same for equal arguments and for no others.

Equal means of equal values: the order of an object's fields counts for nothing, a missing field is not null, an int64
is not a float64. Short arguments are their own readable key; long ones, such as prompts, are hashed, since an index has
no room for them.
"""

import hashlib
import json
from typing import Any, Final

from reactor import Int64

MAX_READABLE: Final = 300


def key_of(args: Any) -> str:
    """Return the key of some arguments, any value."""
    text = canonical(args)
    return text if len(text) <= MAX_READABLE else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return a value as text, in which equal values are equal and others are not. It begins with no letter s."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, Int64):
        return f"{int(value)}n"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return json.dumps(value)
