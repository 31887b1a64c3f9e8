"""Whether a token is true: the rules, as functions of a token, a provider, its keys and the time.

Promises that a token is accepted only by the provider it names, in a way of signing that this provider uses, with a
signature by one of its keys, for the right audience, at the right time; each failure has the code and text that
official clients and their users know. No I/O. Used by the authenticator.
"""

from collections.abc import Sequence
from typing import Any, Final

from reactor.auth.claims import custom_attributes, oidc_attributes
from reactor.auth.config import Provider, normal_issuer
from reactor.auth.keys import Key, KeySet
from reactor.auth.token import INVALID, Token
from reactor.errors import Unauthenticated
from reactor.limits import TOKEN_LEEWAY_SECONDS

NO_PROVIDER: Final = "No auth provider found matching the given token"
NOT_VERIFIED: Final = (
    "Could not verify OIDC token claim. Check that the token signature is valid and the token hasn't expired."
)
_SECOND_NS: Final = 1_000_000_000
_LAST_NS: Final = (1 << 63) - 1


def select_provider(token: Token, providers: Sequence[Provider]) -> Provider:
    """Return the first provider that a token claims to come from.

    Raises:
        Unauthenticated: `NoAuthProvider`; there is none.
    """
    issuer = normal_issuer(token.issuer)
    for provider in providers:
        if provider.issuer == issuer and (
            provider.application_id is None or provider.application_id in token.audiences
        ):
            return provider
    if not providers:
        raise Unauthenticated(
            "NoAuthProvider", NO_PROVIDER, " (no providers configured). Check functions/auth_config.py."
        )
    listed = ", ".join(map(str, providers))
    raise Unauthenticated(
        "NoAuthProvider",
        NO_PROVIDER,
        f": it has iss={token.issuer[:200]!r} and aud={list(token.audiences[:9])!r}, and the configured providers are "
        f"[{listed}]. Check functions/auth_config.py.",
    )


def check_header(token: Token, provider: Provider) -> None:
    """Check what can be told before there are keys.

    Raises:
        Unauthenticated: the token is signed in a way that the provider does not use, or names no key.
    """
    algorithm = token.algorithm
    if algorithm not in provider.algorithms:
        if provider.kind == "oidc":
            reason = f" It is signed with {algorithm!r}; OIDC tokens must use {' or '.join(provider.algorithms)}."
            raise Unauthenticated("Unauthenticated", NOT_VERIFIED, reason)
        raise Unauthenticated(
            INVALID,
            "Could not decode token. It is not signed with the algorithm of its provider",
            f": 'alg' is {algorithm!r}, not {provider.algorithms[0]!r}.",
        )
    if "crit" in token.header:  # extensions that must be understood: none is
        raise _refused(provider, "decode", "The token's header has 'crit', whose extensions are not supported.")
    if provider.kind == "customJwt" and token.key_id is None:
        raise Unauthenticated(INVALID, "Could not decode token. Its header has no 'kid', which names the key.")


def find_key(token: Token, provider: Provider, keys: KeySet) -> Key | None:
    """Return the key that a token should be signed with, or None if there is no such key."""
    algorithm = token.algorithm
    assert isinstance(algorithm, str), "check_header has seen to it"
    return keys.find(token.key_id, (algorithm,))


def missing_key(token: Token, provider: Provider) -> Unauthenticated:
    """Return the failure of a token whose key its issuer does not publish."""
    named = "no key is named and there is not exactly one" if token.key_id is None else f"'kid' is {token.key_id!r}"
    return _refused(provider, "decode", f"The issuer has no key for it: {named}, for {token.algorithm}.")


def verify(token: Token, provider: Provider, key: Key, now_ns: int) -> None:
    """Check everything about a token.

    Raises:
        Unauthenticated: it is not true.
    """
    check_header(token, provider)
    if key.algorithm != token.algorithm or not key.has_signed(token.signed, token.signature):
        raise _refused(provider, "validate", "The signature is not that of the issuer's key.")
    if normal_issuer(token.issuer) != provider.issuer:
        if provider.kind == "oidc":
            raise _refused(provider, "validate", "It was issued by somebody else.")
        raise Unauthenticated(INVALID, "Invalid issuer", f": {token.issuer} != {provider.issuer}")
    _check_audience(token, provider)
    subject = token.payload.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _refused(provider, "validate", "It has no subject ('sub').")
    expires_ns = expires(token, provider)
    if expires_ns is None:
        raise _refused(provider, "validate", "It does not say when it expires ('exp').")
    if now_ns >= expires_ns:
        raise _refused(provider, "validate", f"It expired {_seconds(now_ns - expires_ns)} s ago.")
    begins = token.payload.get("nbf")
    begins_ns = _nanoseconds(begins)
    if begins is not None and (begins_ns is None or now_ns < begins_ns - TOKEN_LEEWAY_SECONDS * _SECOND_NS):
        later = "" if begins_ns is None else f", in {_seconds(begins_ns - now_ns)} s"
        raise _refused(provider, "validate", f"It is not valid yet ('nbf'{later}).")


def expires(token: Token, provider: Provider) -> int | None:
    """Return from when on (wall clock, nanoseconds) a token is no longer good, or None when it does not say."""
    expires_ns = _nanoseconds(token.payload.get("exp"))
    if expires_ns is None or provider.kind == "oidc":
        return expires_ns
    return min(expires_ns + TOKEN_LEEWAY_SECONDS * _SECOND_NS, _LAST_NS)


def attributes_of(token: Token, provider: Provider) -> dict[str, Any]:
    """Return what functions see of the user of a verified token.

    Raises:
        Unauthenticated: a claim that has a type has another one.
    """
    return oidc_attributes(token.payload) if provider.kind == "oidc" else custom_attributes(token.payload)


def _check_audience(token: Token, provider: Provider) -> None:
    if provider.kind == "oidc":
        if token.audiences != (provider.application_id,):
            raise _refused(provider, "validate", f"Its audience must be {provider.application_id!r} and nobody else.")
    elif provider.application_id is not None and provider.application_id not in token.audiences:
        raise Unauthenticated(
            INVALID, "Invalid audience", f": {provider.application_id} not in {list(token.audiences)!r}"
        )


def _refused(provider: Provider, step: str, reason: str) -> Unauthenticated:
    if provider.kind == "oidc":
        return Unauthenticated("Unauthenticated", NOT_VERIFIED, f" {reason}")
    if step == "decode":
        return Unauthenticated(INVALID, "Could not decode token.", f" {reason}")
    return Unauthenticated(INVALID, "Could not validate token", f": {reason}")


def _nanoseconds(date: object) -> int | None:
    """Return a `NumericDate` of a claim in nanoseconds, or None when it is none."""
    if isinstance(date, bool) or not isinstance(date, int | float):
        return None
    seconds = max(min(date, _LAST_NS // _SECOND_NS), -(_LAST_NS // _SECOND_NS))
    return int(seconds * _SECOND_NS)


def _seconds(span_ns: int) -> int:
    return span_ns // _SECOND_NS
