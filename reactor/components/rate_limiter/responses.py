"""Limits over HTTP: what an HTTP action answers to those who come too often."""

import json
import math
from collections.abc import Mapping
from typing import Final

from reactor import Error, ReactorError, Response
from reactor.components.rate_limiter.readings import Reading
from reactor.components.rate_limiter.status import is_rate_limit_error

BUSY_RETRY_SECONDS: Final = 1


def response_for(error: BaseException, reading: Reading | None = None, now: float = 0) -> Response | None:
    """Return the response that tells of an error: 429 that a limit is reached, 503 that too many came at once.

    None for any other error: raise that again. With the `reading` of the limit `now`, the response has its headers.
    """
    if isinstance(error, ReactorError) and is_rate_limit_error(error):
        seconds = max(1, math.ceil(error.data["retryAfter"] / 1000))
        more = {} if reading is None else headers_of(reading, now)
        return _response(429, error.data, {"Retry-After": str(seconds), **more})
    if isinstance(error, Error) and error.retryable:
        # Such as losing to other callers on every attempt. Nothing was decided, so nobody is let through.
        return _response(503, {"kind": error.code}, {"Retry-After": str(BUSY_RETRY_SECONDS)})
    return None


def headers_of(reading: Reading, now: float) -> dict[str, str]:
    """Return `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`: seconds until nothing is missing."""
    most = reading.config.most
    left, whole = reading.check(now), reading.check(now, most)
    reset = 0 if whole.retry_at is None else math.ceil((whole.retry_at - now) / 1000)
    return {
        "RateLimit-Limit": str(math.floor(most)),
        "RateLimit-Remaining": str(max(0, math.floor(left.value))),
        "RateLimit-Reset": str(reset),
    }


def _response(status: int, body: Mapping[str, object], headers: Mapping[str, str]) -> Response:
    return Response(json.dumps(body), status, dict(headers), "application/json")
