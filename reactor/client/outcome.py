"""What a function answered, before anybody has looked at it.

Promises a fresh value, or a fresh exception, for everyone who asks, so that two readers of one live query share
nothing they could change. Used by the session, which makes them, and the shells, which unwrap them.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from reactor.errors import Error, FunctionError, ProtocolError, ReactorError, ValidationError
from reactor.values.json import decode_json
from reactor.values.types import Value

_REQUEST_ID: Final = re.compile(r"\[Request ID: ([0-9a-f]+)\]")


class Outcome(msgspec.Struct, frozen=True):
    """A value, a failure of the function, or the reason why there will be no answer: exactly one of the three."""

    value: bytes | None = None  # wire JSON
    message: str | None = None
    data: bytes | None = None  # wire JSON; only beside `message`
    log_lines: tuple[str, ...] = ()
    error: Error | None = None

    def unwrap(self) -> Value:
        """Return the value.

        Raises:
            ReactorError: the function raised the application's own error.
            FunctionError: the function failed otherwise.
            ConnectionLost, AuthError, ProtocolError: there is no answer.
        """
        if self.value is not None:
            return _decode(self.value)
        if self.error is not None:
            raise self.error
        if self.data is not None:
            raise ReactorError(_decode(self.data))
        message = self.message or ""
        found = _REQUEST_ID.search(message)
        raise FunctionError(message, found.group(1) if found else None, self.log_lines)


def succeeded(value: Raw, log_lines: Sequence[str]) -> Outcome:
    """Return the outcome of a function that returned."""
    # `bytes` copies: a Raw would keep the whole frame it came in alive.
    return Outcome(value=bytes(value), log_lines=tuple(log_lines))


def failed(message: str, data: Raw | UnsetType, log_lines: Sequence[str]) -> Outcome:
    """Return the outcome of a function that failed; `data` is set for the application's own error."""
    return Outcome(message=message, data=None if data is UNSET else bytes(data), log_lines=tuple(log_lines))


def _decode(data: bytes) -> Value:
    try:
        return decode_json(data)
    except ValidationError as error:
        raise ProtocolError("InvalidServerMessage", f"the server sent something that is no value: {error}") from error
