"""How a connection ends, by what went wrong: the one place for close codes.

A bad request is answered with `FatalError` and a close without a code; official JS clients then stop for good, so
nothing that may pass by itself belongs there. 1013 asks the client to wait according to the reason, and 1011 is for
what is wrong inside the server or not known. Used by the session.
"""

from typing import NamedTuple

from reactor.errors import Error, Forbidden, InvalidArgument, LimitExceeded, OutcomeUnknown, ProtocolError, Unavailable


class Ending(NamedTuple):
    """Whether a FatalError goes first, and the close frame; code None sends none."""

    is_fatal: bool
    code: int | None
    reason: str


def ending_of(error: Error) -> Ending:
    """Return how `error` ends the connection it happened on."""
    if isinstance(error, ProtocolError | LimitExceeded | InvalidArgument):
        return Ending(True, None, "")
    if isinstance(error, Forbidden):
        return Ending(True, 1000, error.rule)
    if error.retryable and not isinstance(error, OutcomeUnknown | Unavailable):
        return Ending(False, 1013, getattr(error, "rule", error.code))
    return Ending(False, 1011, "InternalServerError")
