"""Cursors of pages: the position of the last item, as JSON; an empty one is the end.

A float always has a point or an exponent, so an integer is an `Int64`.
"""

import base64
import json
from typing import Any, Final

from reactor import Int64, ReactorError
from reactor.components.aggregate.nodes import Item

END: Final = ""


def cursor_behind(item: Item) -> str:
    """Return the cursor with which a page behind `item` begins."""
    return json.dumps([item.key, item.id], default=_encode, separators=(",", ":"))


def read_cursor(cursor: str) -> tuple[Any, str]:
    """Return the key and the id of the item that a cursor stands behind.

    Raises:
        ReactorError: it is none of ours.
    """
    try:
        key, document_id = json.loads(cursor, parse_int=lambda text: Int64(int(text)), object_hook=_decode)
        if not isinstance(document_id, str):
            raise TypeError("no id")
        return key, document_id
    except (ValueError, TypeError, KeyError) as error:
        raise ReactorError(f"invalid cursor {cursor[:100]!r}: pass what the last page gave as `cursor`") from error


def _encode(value: Any) -> Any:
    return {"$bytes": base64.b64encode(value).decode()}


def _decode(fields: dict[str, Any]) -> Any:
    return base64.b64decode(fields["$bytes"]) if fields.keys() == {"$bytes"} else fields
