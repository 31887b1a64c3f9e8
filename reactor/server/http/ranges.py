"""What the headers of a download and of an upload ask for, without I/O.

Promises that any header gives an answer or an `HttpError` of status 400 or 416. Used by the file endpoints.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple

from reactor.limits import MAX_CONTENT_TYPE_LENGTH
from reactor.runtime.files.documents import is_content_type
from reactor.server.http.errors import HttpError

_RANGE: Final = re.compile(r"(\d{0,20})-(\d{0,20})")
_SHA256: Final = re.compile(r"sha-256=(.*)", re.IGNORECASE)


class Span(NamedTuple):
    """The bytes `[start, end)` of a file."""

    start: int
    end: int


def asked_span(header: str, size: int) -> Span | None:
    """Return the one range that a `Range` header asks for of a file of `size` bytes; None is all of an empty one.

    Raises:
        HttpError: 400 `BadHeader`, no range of bytes; 416, several of them, or none that the file has.
    """
    unit, equals, ranges = header.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        raise _bad(f"Range {header[:100]!r} is no range of bytes, such as bytes=0-99.")
    if size == 0:
        return None
    asked = _RANGE.fullmatch(ranges.strip())
    if asked is None or asked[0] == "-":
        raise _unsatisfiable(header, size)
    first, last = asked[1], asked[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= end:
        raise _unsatisfiable(header, size)
    return Span(start, end)


def expected_sha256(headers: Mapping[str, str]) -> bytes | None:
    """Return the hash that a `Digest` header promises, if it has one of SHA-256.

    Raises:
        HttpError: 400 `BadHeader`.
    """
    header = headers.get("digest")
    if header is None:
        return None
    for part in header.split(","):
        found = _SHA256.fullmatch(part.strip())
        if found is not None:
            try:
                digest = b64decode(found[1], validate=True)
            except (binascii.Error, ValueError):
                digest = b""
            if len(digest) == 32:
                return digest
    raise _bad(f"Digest {header[:100]!r} is not sha-256=<base64 of 32 bytes>.")


def content_type(headers: Mapping[str, str]) -> str | None:
    """Return the type that an upload names, or None. Browsers send an empty one for a file of unknown type.

    Raises:
        HttpError: 400 `BadHeader`.
    """
    header = headers.get("content-type")
    if not header:
        return None
    if not is_content_type(header):
        raise _bad(
            f"Content-Type {header[:100]!r} is not a type such as image/png, of at most {MAX_CONTENT_TYPE_LENGTH} "
            "characters."
        )
    return header


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return how many bytes an upload says it has, or None.

    Raises:
        HttpError: 400 `BadHeader`.
    """
    header = headers.get("content-length")
    if header is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", header):
        raise _bad(f"Content-Length {header[:100]!r} is not a number of bytes.")
    return int(header)


def names_tag(header: str, tag: str) -> bool:
    """Whether an `If-None-Match` or `If-Range` header names the entity tag `tag`."""
    tags = [part.strip().removeprefix("W/") for part in header.split(",")]
    return tag in tags or header.strip() == "*"


def mismatch(expected: bytes, actual: bytes) -> HttpError:
    """Return the error for content that is not what its `Digest` header promised."""
    return HttpError(
        400,
        "Sha256Mismatch",
        f"Sha256 mismatch. Expected: {b64encode(expected).decode()} Actual: {b64encode(actual).decode()}",
    )


def _bad(text: str) -> HttpError:
    return HttpError(400, "BadHeader", text)


def _unsatisfiable(header: str, size: int) -> HttpError:
    return HttpError(
        416, "RangeNotSatisfiable", f"Range {header[:100]!r} is not one range of the file, which has {size} bytes."
    )
