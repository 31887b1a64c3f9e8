"""Text that user code made, as text that can leave in UTF-8."""

from typing import Any, TypeVar

import msgspec

from reactor.protocol.sync import ServerMessage, encode_server_message

T = TypeVar("T")


def printable(value: T) -> T:
    """Return a struct, sequence or string with lone surrogates replaced by `?`, everything else unchanged."""
    changed: Any = value
    if isinstance(value, str):
        changed = value.encode("utf-8", "replace").decode()
    elif isinstance(value, list | tuple):
        changed = type(value)(printable(item) for item in value)
    elif isinstance(value, msgspec.Struct):
        fields = {name: printable(getattr(value, name)) for name in value.__struct_fields__}
        changed = msgspec.structs.replace(value, **fields)
    return changed  # type: ignore[no-any-return]


def encode(message: ServerMessage) -> bytes:
    """Return the frame of a message, whatever text user code has put into its errors and log lines."""
    try:
        return encode_server_message(message)
    except UnicodeEncodeError:
        return encode_server_message(printable(message))
