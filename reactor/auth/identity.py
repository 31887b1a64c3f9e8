"""Who is calling: the identity that functions see, and how attributes of a user become one.

Promises that equal claims give equal identities, whatever their order, and that no user's key equals an admin's. Used
by the authenticator, by the server for admins acting as a user, and by tests through `with_identity`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from reactor.errors import InvalidArgument

TEST_ISSUER: Final = "https://convex.test"

_TEXTS: Final = frozenset(
    "tokenIdentifier issuer subject name givenName familyName nickname preferredUsername profileUrl pictureUrl "
    "websiteUrl email gender birthday timezone language phoneNumber address updatedAt".split()
)
_FLAGS: Final = frozenset({"emailVerified", "phoneNumberVerified"})


class Identity(msgspec.Struct, frozen=True):
    """Who is calling.

    `claims` are the client-visible camelCase claims of a user, also of one that an admin acts as. `key` tells two
    identities apart in caches; it is empty for the anonymous one. From `expires_ns` (wall clock) on, calls are refused.
    """

    kind: Literal["none", "user", "admin"] = "none"
    claims: Mapping[str, Any] | None = None
    key: str = ""
    read_only: bool = False
    expires_ns: int | None = None

    @property
    def is_admin(self) -> bool:
        """Whether it comes of an admin key, also where it acts as a user."""
        return self.kind == "admin"

    def visible_claims(self) -> dict[str, Any] | None:
        """Return the claims for one function, which may change what it gets without changing who others see."""
        return None if self.claims is None else {name: _copy(value) for name, value in self.claims.items()}


ANONYMOUS: Final = Identity()


def user_identity(attributes: Mapping[str, Any]) -> Identity:
    """Return a user with these claims; what is missing of `subject`, `issuer` and `tokenIdentifier` is made up.

    Raises:
        InvalidArgument: a known claim has the wrong type, or a claim is no JSON.
    """
    claims = dict(attributes)
    claims.setdefault("subject", hashlib.sha256(_canonical(claims)).hexdigest()[:32])
    claims.setdefault("issuer", TEST_ISSUER)
    claims.setdefault("tokenIdentifier", f"{claims['issuer']}|{claims['subject']}")
    return _checked("user", claims, read_only=False)


def token_identity(attributes: dict[str, Any], expires_ns: int) -> Identity:
    """Return the user of a verified token. When it expires is no part of who the user is.

    Raises:
        InvalidArgument: a claim is nested too deeply.
    """
    return Identity(kind="user", claims=attributes, key=_key("user", attributes), expires_ns=expires_ns)


def admin_identity(acting_as: Mapping[str, Any] | None = None, *, read_only: bool = False) -> Identity:
    """Return the identity of an admin, with the claims of the user it acts as.

    Raises:
        InvalidArgument: the user is named by neither `tokenIdentifier` nor `issuer` and `subject`, or see
            `user_identity`.
    """
    if acting_as is None:
        return Identity(kind="admin", key="admin-read" if read_only else "admin", read_only=read_only)
    claims = dict(acting_as)
    if "tokenIdentifier" not in claims:
        if not ("issuer" in claims and "subject" in claims):
            raise InvalidArgument("An identity to act as needs tokenIdentifier, or both issuer and subject.")
        claims["tokenIdentifier"] = f"{claims['issuer']}|{claims['subject']}"
    return _checked("admin", claims, read_only=read_only)


def _checked(kind: str, claims: dict[str, Any], *, read_only: bool) -> Identity:
    for name, value in claims.items():
        expected = str if name in _TEXTS else bool if name in _FLAGS else object
        if not isinstance(value, expected):
            raise InvalidArgument(f"Claim {name!r} must be {expected.__name__}, not {type(value).__name__}.")
    key = _key(f"{kind}-read" if read_only else kind, claims)
    if kind == "admin":
        return Identity(kind="admin", claims=claims, key=key, read_only=read_only)
    return Identity(kind="user", claims=claims, key=key)


def _key(kind: str, claims: Mapping[str, Any]) -> str:
    return f"{kind}|{_canonical(claims).decode()}"


def _canonical(claims: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(claims, order="deterministic")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"Claims must be JSON: {error}") from None


def _copy(claim: Any) -> Any:
    if isinstance(claim, dict):
        return {name: _copy(value) for name, value in claim.items()}
    return [_copy(value) for value in claim] if isinstance(claim, list | tuple) else claim
