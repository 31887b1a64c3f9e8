"""Sealed texts: bytes that this deployment hands out and takes back, which nobody else can read, make or change.

Owns the construction and the derivation of its keys from a secret: a synthetic IV (a keyed hash of everything) and the
content under a key stream drawn from it, the construction SIV of Rogaway and Shrimpton, 2006, from hash functions.
Promises that equal contents have equal texts, and that a text sealed for one purpose, context or secret opens under no
other. Used by cursors and by the tokens of upload URLs.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b, shake_256
from hmac import compare_digest
from typing import Final

VERSION: Final = b"\x01"
TAG_BYTES: Final = 16


class Sealer:
    """Seals contents of one purpose under one secret."""

    __slots__ = ("_stream_key", "_tag_key")

    def __init__(self, secret: bytes, purpose: bytes) -> None:
        """Take a secret of at most 64 bytes, and the purpose, at most 16 bytes, that tells its keys from all others."""
        self._tag_key = blake2b(b"tag", key=secret, digest_size=32, person=purpose).digest()
        self._stream_key = blake2b(b"stream", key=secret, digest_size=32, person=purpose).digest()

    def seal(self, content: bytes, context: bytes = b"") -> str:
        """Return the text of `content`, which opens with the same context only."""
        tag = blake2b(VERSION + context + content, key=self._tag_key, digest_size=TAG_BYTES).digest()
        return urlsafe_b64encode(VERSION + tag + self._cipher(tag, content)).decode().rstrip("=")

    def unseal(self, text: str, context: bytes = b"") -> bytes | None:
        """Return the content that `seal` made `text` of, or None: it was made otherwise, or not at all."""
        try:
            data = urlsafe_b64decode(text + "=" * (-len(text) % 4))  # lax, but what is read must give `text` again
        except ValueError:
            return None
        content = self._cipher(data[1 : 1 + TAG_BYTES], data[1 + TAG_BYTES :])
        return content if compare_digest(self.seal(content, context), text) else None

    def _cipher(self, tag: bytes, content: bytes) -> bytes:
        stream = shake_256(self._stream_key + tag).digest(len(content))
        return (int.from_bytes(content) ^ int.from_bytes(stream)).to_bytes(len(content))
