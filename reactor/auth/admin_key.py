"""Admin keys: who may do everything to one deployment.

A key is `<instance>|<hex>`; the hex part carries when it was issued, whether it is read-only, and a MAC under a key
derived from the instance secret, so checking one needs no storage. It never holds a `:`, which separates the identity
an admin acts as. Keys do not expire; changing the instance secret ends them all. Used by the server and the CLI.
"""

import base64
import binascii
import hmac
import re
from typing import Any, Final

import msgspec

from reactor.errors import Forbidden, InvalidArgument, ProtocolError

VERSION: Final = 1
SECRET_BYTES: Final = 32
NONCE_BYTES: Final = 12
_ISSUED_BYTES: Final = 6
_MAC_BYTES: Final = 16
_BODY_BYTES: Final = 1 + _ISSUED_BYTES + 1 + NONCE_BYTES
_READ_ONLY: Final = 1

_PREFIX = re.compile(r"(?:prod|dev|preview):")
_SECRET = re.compile(r"[0-9a-fA-F]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class AdminKey(msgspec.Struct, frozen=True):
    """What a valid key says."""

    name: str
    issued_s: int
    read_only: bool


def check_instance(name: str, secret: str) -> None:
    """Check the two settings that keys are made from.

    Raises:
        InvalidArgument: `name` could not stand in a key, or `secret` is not 64 hex digits.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"Instance name {name!r} must be letters, digits, '_', '.' or '-', at most 128 of them.")
    if not _SECRET.fullmatch(secret):
        raise InvalidArgument(
            f"The instance secret must be 64 hex digits (32 bytes), not {len(secret)} characters. "
            "Make one with: openssl rand -hex 32"
        )


def issue(name: str, secret: str, issued_s: int, nonce: bytes, read_only: bool = False) -> str:
    """Return a new admin key for instance `name`.

    Args:
        issued_s: seconds since the Unix epoch, above 0.
        nonce: `NONCE_BYTES` unpredictable bytes.

    Raises:
        InvalidArgument: a parameter is malformed.
    """
    check_instance(name, secret)
    if not 0 < issued_s < 1 << (8 * _ISSUED_BYTES):
        raise InvalidArgument(f"issued_s={issued_s} is not a time in seconds since 1970.")
    if len(nonce) != NONCE_BYTES:
        raise InvalidArgument(f"An admin key needs {NONCE_BYTES} random bytes, not {len(nonce)}.")
    flags = _READ_ONLY if read_only else 0
    body = bytes([VERSION]) + issued_s.to_bytes(_ISSUED_BYTES, "big") + bytes([flags]) + nonce
    return f"{name}|{(body + _mac(name, secret, body)).hex()}"


def check(key: str, name: str, secret: str) -> AdminKey:
    """Return what `key` says if it was issued for instance `name` under `secret`.

    Takes the same time for every wrong key of one length.

    Raises:
        Forbidden: rule `BadDeployKey`; it was not, or is no key at all.
    """
    given, _, hex_part = _PREFIX.sub("", key, count=1).rpartition("|")
    try:
        raw = bytes.fromhex(hex_part)
    except ValueError:
        raw = b""
    body, mac = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
    genuine = hmac.compare_digest(_mac(name, secret, body), mac)
    if not (genuine and given == name and body[0] == VERSION):
        raise Forbidden(
            "BadDeployKey",
            f"The provided deploy key is invalid for deployment '{name}'. Double check that the environment this key "
            "was generated for matches the desired deployment.",
        )
    issued_s = int.from_bytes(body[1 : 1 + _ISSUED_BYTES], "big")
    return AdminKey(name=name, issued_s=issued_s, read_only=bool(body[1 + _ISSUED_BYTES] & _READ_ONLY))


def split_impersonation(text: str) -> tuple[str, dict[str, Any] | None]:
    """Split `<key>:<base64 JSON>` into the key and the attributes of the user to act as, if any.

    A `prod:`-like prefix holds a `:` of its own, so the text through `|` is never split.

    Raises:
        ProtocolError: rule `InvalidHeaderFailure`; the suffix is not base64 of a JSON object.
    """
    head, bar, tail = text.rpartition("|")
    secret, colon, suffix = tail.partition(":")
    if not colon:
        return text, None
    try:
        attributes = msgspec.json.decode(base64.b64decode(suffix, validate=True))
    except (binascii.Error, ValueError) as error:  # msgspec's errors are ValueErrors
        raise ProtocolError(
            "InvalidHeaderFailure", f"The identity after the admin key can't be read: {error}"
        ) from None
    if not isinstance(attributes, dict):
        raise ProtocolError("InvalidHeaderFailure", "The identity after the admin key must be a JSON object.")
    return head + bar + secret, attributes


def _mac(name: str, secret: str, body: bytes) -> bytes:
    derived = hmac.digest(bytes.fromhex(secret), b"reactor admin key", "sha256")
    return hmac.digest(derived, name.encode() + b"|" + body, "sha256")[:_MAC_BYTES]
