"""Cursors of pages: the last item, as JSON; an empty one is the end.

A float always has a point or an exponent, so an integer is an `Int64`.
"""

import base64
import json
from typing import Any, Final

from reactor import Error, Int64, ReactorError

END: Final = ""


def write_cursor(*parts: Any) -> str:
    """Return the text of a cursor."""
    return json.dumps(parts, default=_encode, separators=(",", ":"))


def read_cursor(cursor: str, length: int) -> list[Any]:
    """Return the parts of a cursor, of which the last is an id.

    Raises:
        ReactorError: it is none of ours.
    """
    try:
        parts = json.loads(cursor, parse_int=lambda text: Int64(int(text)), object_hook=_decode)
    except (ValueError, TypeError, RecursionError, Error) as error:
        raise _invalid(cursor) from error
    if not isinstance(parts, list) or len(parts) != length or not isinstance(parts[-1], str):
        raise _invalid(cursor)
    return parts


def _invalid(cursor: str) -> ReactorError:
    return ReactorError(f"invalid cursor {cursor[:100]!r}: pass what the last page gave as its cursor")


def _encode(value: Any) -> Any:
    return {"$bytes": base64.b64encode(value).decode()}


def _decode(fields: dict[str, Any]) -> Any:
    return base64.b64decode(fields["$bytes"]) if fields.keys() == {"$bytes"} else fields
