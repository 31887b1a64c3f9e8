"""A fingerprint of a client: a few headers that a browser sends with every request.

It tells browsers apart, not people: everybody with the same browser and language has the same one, and who wants
another one sends another header. So it is a hint, and never a proof.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from reactor import v

LENGTH: Final = 16  # characters of the hash that are kept
HEADERS: Final = {  # the fields of a fingerprint, in their order, and the headers that they come from
    "userAgent": "user-agent",
    "acceptLanguage": "accept-language",
    "acceptEncoding": "accept-encoding",
    "accept": "accept",
    "dnt": "dnt",
}
HEADER_FIELDS: Final = v.object({field: v.optional(v.string()) for field in HEADERS})


def fields_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a fingerprint that a request's headers have; `headers` must ignore case."""
    return {field: headers[name] for field, name in HEADERS.items() if name in headers}


def fingerprint_of(fields: Mapping[str, str]) -> str:
    """Return the fingerprint of a client that sends these headers; a missing one counts as empty.

    The first 16 characters of the SHA-256 of their compact JSON, as JavaScript's `JSON.stringify` writes it.
    """
    text = json.dumps({field: fields.get(field, "") for field in HEADERS}, separators=(",", ":"), ensure_ascii=False)
    # A half of a surrogate pair has no UTF-8; JavaScript writes it as an escape, too.
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:LENGTH]
