"""The public keys of one issuer, by which signatures are checked.

Promises that a key checks only signatures of the algorithm it was made for: a token says how it claims to be signed,
but never decides it. Secret (symmetric) keys are left out, so that a public key can't be taken for a secret that both
sides know. Used by the cache of keys and the verification.
"""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from reactor.limits import MAX_AUTH_KEYS, MAX_RSA_BITS, MIN_RSA_BITS

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

_KINDS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


@cache
def _algorithm(name: str) -> "Algorithm":
    # Loading the cryptography takes longer than starting a server that never sees a token.
    import jwt

    return jwt.get_algorithm_by_name(name)


class Key(msgspec.Struct, frozen=True):
    """One public key, for signatures of one algorithm."""

    id: str | None
    algorithm: str
    public: Any

    def has_signed(self, signed: bytes, signature: bytes) -> bool:
        """Return whether `signature` is this key's for these bytes."""
        return _algorithm(self.algorithm).verify(signed, self.public, signature)


class KeySet:
    """The keys of one issuer at one moment."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys

    def find(self, key_id: str | None, algorithms: tuple[str, ...]) -> Key | None:
        """Return the key of this id that signs in one of these ways; without an id, the only one that does so."""
        fitting = [key for key in self.keys if key.algorithm in algorithms]
        if key_id is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.id == key_id), None)


def read_keys(text: bytes) -> KeySet:
    """Return the keys of a JWKS document that can be used here; others are left out, as the standard asks.

    Raises:
        ValueError: it is no JWKS document.
    """
    try:
        document = msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JSON object with a list of `keys`")
    return KeySet(tuple(_usable(listed[:MAX_AUTH_KEYS])))


def _usable(listed: list[Any]) -> Iterator[Key]:
    for entry in listed:
        if not isinstance(entry, dict):
            continue
        kind = entry.get("kty")
        algorithm = _KINDS.get(kind) if isinstance(kind, str) else None
        operations = entry.get("key_ops")
        if (
            algorithm is None
            or entry.get("alg", algorithm) not in (algorithm, "Ed25519" if algorithm == "EdDSA" else algorithm)
            or entry.get("use", "sig") != "sig"
            or (isinstance(operations, list) and "verify" not in operations)
        ):
            continue
        # Only what belongs to the public half: a document that also shows the private one is not made worse here.
        public_fields = {name: entry[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in entry}
        try:
            public = _algorithm(algorithm).from_jwk(public_fields)
        except Exception:
            continue  # each kind of damage has an exception of its own
        if _is_strong(public):
            key_id = entry.get("kid")
            yield Key(id=key_id if isinstance(key_id, str) else None, algorithm=algorithm, public=public)


def _is_strong(public: object) -> bool:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(public, RSAPublicKey):
        return MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS
    if isinstance(public, EllipticCurvePublicKey):
        return public.curve.name == "secp256r1"  # the one of ES256
    return isinstance(public, Ed25519PublicKey | Ed448PublicKey)
