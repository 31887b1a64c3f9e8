"""What a JWT says, before anybody has checked that it is true.

Promises that a token has one reading only: a text that differs in any byte is another token or none, since base64 must
be canonical and what is compared later is what was decoded here. Raises nothing but `Unauthenticated`. Used by the
authenticator.
"""

import base64
import binascii
import re
from typing import Any, Final

import msgspec

from reactor.errors import Unauthenticated
from reactor.limits import MAX_TOKEN_BYTES

INVALID: Final = "InvalidAuthHeader"
NOT_A_JWT: Final = (
    "Could not parse JWT payload. Check that the token is a valid JWT format with three base64-encoded parts "
    "separated by dots."
)
MISSING_ISSUER: Final = "Missing issuer claim ('iss') in JWT payload."

_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)", re.ASCII)


class Token(msgspec.Struct, frozen=True):
    """A JWT that was read but not verified. `signed` is what its signature is about."""

    header: dict[str, Any]
    payload: dict[str, Any]
    signed: bytes
    signature: bytes
    issuer: str
    audiences: tuple[str, ...]

    @property
    def algorithm(self) -> object:
        """How it claims to be signed."""
        return self.header.get("alg")

    @property
    def key_id(self) -> str | None:
        """Which key it names."""
        key_id = self.header.get("kid")
        return key_id if isinstance(key_id, str) else None


def read_token(text: str) -> Token:
    """Return what `text` says.

    Raises:
        Unauthenticated: it is too long, no JWT, or names no issuer.
    """
    if len(text) > MAX_TOKEN_BYTES:
        raise Unauthenticated(
            INVALID,
            f"Could not parse JWT payload. The token is larger than {MAX_TOKEN_BYTES} bytes",
            f": it has {len(text)}. Put fewer claims into it.",
        )
    match = _FORM.fullmatch(text)
    if match is None:
        raise Unauthenticated(INVALID, NOT_A_JWT)
    header, payload, signature = (_decoded(part) for part in match.groups())
    header_fields, claims = _object(header), _object(payload)
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise Unauthenticated(INVALID, MISSING_ISSUER, " The issuer says by it whose token this is.")
    return Token(
        header=header_fields,
        payload=claims,
        signed=text.rpartition(".")[0].encode(),
        signature=signature,
        issuer=issuer,
        audiences=_audiences(claims.get("aud")),
    )


def _decoded(part: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise Unauthenticated(INVALID, NOT_A_JWT) from None
    # Bits that decoding ignores could be anything: the same token would have several texts.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise Unauthenticated(INVALID, NOT_A_JWT)
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise Unauthenticated(INVALID, NOT_A_JWT) from None
    if not isinstance(found, dict):
        raise Unauthenticated(INVALID, NOT_A_JWT)
    return found


def _audiences(aud: object) -> tuple[str, ...]:
    if isinstance(aud, str):
        return (aud,)
    if isinstance(aud, list):
        return tuple([item for item in aud if isinstance(item, str)])
    return ()
