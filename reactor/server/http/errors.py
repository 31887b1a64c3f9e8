"""The HTTP form of errors that are no function results: a status and `{code, message}`."""

from typing import Final

from starlette.responses import Response

from reactor.errors import Error, OutcomeUnknown, StorageError, WriteConflict
from reactor.protocol.http import ErrorBody, encode_body

# Their texts name documents, functions, or places on the server's disk.
INTERNAL: Final = (WriteConflict, StorageError, OutcomeUnknown)
GENERIC: Final = "Your request couldn't be completed. Try again later."


class HttpError(Error):
    """A request that failed for a reason only HTTP knows."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.http_status, self.rule = status, code
        super().__init__(message)


def status_of(error: Error) -> int:
    """Return the HTTP status of `error`."""
    return error.http_status if isinstance(error, HttpError) else error.status


def error_body(error: Error, *, redact: bool = False) -> bytes:
    """Return the JSON body for `error`. What is wrong inside the server is logged, not told.

    `redact` also keeps back what only the developers should know.
    """
    rule = getattr(error, "rule", None)
    code = rule if isinstance(rule, str) else error.code
    is_hidden = status_of(error) == 500 or (redact and isinstance(error, INTERNAL))
    message = GENERIC if is_hidden else str(error)
    return encode_body(ErrorBody(code=code, message=message))


def error_response(error: Error, *, redact: bool = False) -> Response:
    """Return the answer for `error`; see `error_body`."""
    return Response(error_body(error, redact=redact), status_code=status_of(error), media_type="application/json")
