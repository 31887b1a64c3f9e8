"""Claims of a verified token to the attributes that functions see.

Owns the names on both sides. Promises that what tells one user from another (`subject`, `issuer`, `tokenIdentifier`)
comes from `sub` and `iss` alone, whatever else a token claims, and that what changes with each token of one user is
left out, so that a refreshed token is the same identity. Used by the authenticator.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from reactor.errors import Unauthenticated

_TEXTS: Final = {
    "name": "name",
    "given_name": "givenName",
    "family_name": "familyName",
    "nickname": "nickname",
    "preferred_username": "preferredUsername",
    "profile": "profileUrl",
    "picture": "pictureUrl",
    "website": "websiteUrl",
    "email": "email",
    "gender": "gender",
    "birthdate": "birthday",
    "zoneinfo": "timezone",
    "locale": "language",
    "phone_number": "phoneNumber",
}
_FLAGS: Final = {"email_verified": "emailVerified", "phone_number_verified": "phoneNumberVerified"}
_IDENTIFYING: Final = frozenset({"tokenIdentifier", "subject", "issuer"})
_ATTRIBUTES: Final = _IDENTIFYING | {*_TEXTS.values(), *_FLAGS.values(), "address", "updatedAt"}

# Of the token, not of the user: they name who issued it for whom, or differ in each token of one user.
_OF_TOKEN: Final = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "fva"})
_OF_LOGIN: Final = frozenset({"nonce", "auth_time", "at_hash", "c_hash"})
_TYPED: Final = frozenset({*_TEXTS, *_FLAGS, "address", "updated_at"})


def oidc_attributes(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a user by the claims of an OpenID Connect token.

    Raises:
        Unauthenticated: a claim that has a type has another one.
    """
    attributes = _identifying(payload)
    for claim, name in _TEXTS.items():
        if payload.get(claim) is not None:
            attributes[name] = _text(claim, payload[claim])
    for claim, name in _FLAGS.items():
        if payload.get(claim) is not None:
            attributes[name] = _flag(claim, payload[claim])
    address = payload.get("address")
    if isinstance(address, dict) and address.get("formatted") is not None:
        attributes["address"] = _text("address.formatted", address["formatted"])
    if payload.get("updated_at") is not None:
        attributes["updatedAt"] = _time("updated_at", payload["updated_at"])
    for claim, value in payload.items():
        if not (claim in _TYPED or claim in _OF_TOKEN or claim in _OF_LOGIN or claim in _ATTRIBUTES):
            attributes[claim] = value
    return attributes


def custom_attributes(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a user by the claims of a plain JWT: all of them as they are, objects flattened.

    `{"properties": {"id": 7}}` becomes `{"properties.id": 7}`; a claim that is spelled so itself wins.
    """
    flattened = _flattened(payload)
    flattened |= {claim: value for claim, value in payload.items() if not isinstance(value, dict)}
    attributes = {claim: value for claim, value in flattened.items() if claim not in _OF_TOKEN}
    return attributes | _identifying(payload)


def _identifying(payload: Mapping[str, Any]) -> dict[str, Any]:
    issuer, subject = payload["iss"], payload["sub"]
    return {"tokenIdentifier": f"{issuer}|{subject}", "subject": subject, "issuer": issuer}


def _flattened(payload: Mapping[str, Any]) -> dict[str, Any]:
    flattened: dict[str, Any] = {}
    waiting: list[tuple[str, Mapping[str, Any]]] = [("", payload)]
    while waiting:
        prefix, claims = waiting.pop()
        for claim, value in claims.items():
            if isinstance(value, dict) and value:
                waiting.append((f"{prefix}{claim}.", value))
            else:
                flattened[prefix + claim] = value
    return flattened


def _text(claim: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong_type(claim, "a string", value)


def _flag(claim: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):  # as some providers write it
        return bool(value == "true")
    raise _wrong_type(claim, "a boolean", value)


def _time(claim: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            pass
    raise _wrong_type(claim, "a time in seconds", value)


def _wrong_type(claim: str, expected: str, value: Any) -> Unauthenticated:
    return Unauthenticated(
        "InvalidAuthHeader",
        f"Could not read the claims of the token: '{claim}' must be {expected}",
        f", not {type(value).__name__}.",
    )
