"""Cursors: a position in the results of one query, as text that clients keep and send back.

Owns the text form. Promises that equal positions in equal queries have equal texts, since they come back as arguments
and cached results are found by them; that a text shows nothing of the keys in it, which may be those of documents the
client never got; and that one which this deployment did not make for this query is refused.

The text is a synthetic IV (a keyed hash of everything) and the position under a key stream drawn from it: the
construction SIV of Rogaway and Shrimpton, 2006, from hash functions.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b, sha256, shake_256
from hmac import compare_digest
from typing import Any, Final, Literal, NamedTuple

import msgspec

from reactor.engine.keyrange import AT, KeyRange
from reactor.errors import InvalidCursor

VERSION: Final = b"\x01"
TAG_BYTES: Final = 16

Purpose = Literal["cursor", "journal"]


class Position(NamedTuple):
    """Where a page ends: after the index key `key`, or, when that is None, at the end of the results."""

    key: bytes | None
    was_cut: bool = False  # by a read limit; only journals remember it


END: Final = Position(None)


class Cursors:
    """The cursors of one deployment."""

    __slots__ = ("_stream_key", "_tag_key")

    def __init__(self, secret: bytes) -> None:
        """Take the secret, of at most 64 bytes, that makes cursors of this deployment good here and nowhere else."""
        self._tag_key = blake2b(b"tag", key=secret, digest_size=32, person=b"reactor cursor").digest()
        self._stream_key = blake2b(b"stream", key=secret, digest_size=32, person=b"reactor cursor").digest()

    def write(self, position: Position, fingerprint: bytes, purpose: Purpose = "cursor") -> str:
        """Return the text of a position in the query with this fingerprint."""
        body = bytes([position.was_cut, position.key is None]) + (position.key or b"")
        tag = blake2b(
            VERSION + purpose.encode() + AT + fingerprint + body, key=self._tag_key, digest_size=TAG_BYTES
        ).digest()
        return urlsafe_b64encode(VERSION + tag + self._cipher(tag, body)).decode().rstrip("=")

    def read(self, text: str, fingerprint: bytes, purpose: Purpose = "cursor") -> Position:
        """Return the position that `write` made `text` of.

        Raises:
            InvalidCursor: it was made for another query, purpose or deployment, or not made at all.
        """
        try:
            data = urlsafe_b64decode(text + "=" * (-len(text) % 4))  # lax, but what is read must give `text` again
        except ValueError:
            raise InvalidCursor from None
        tag = data[1 : 1 + TAG_BYTES]
        body = self._cipher(tag, data[1 + TAG_BYTES :])
        if len(body) < 2:
            raise InvalidCursor
        position = Position(None if body[1] else body[2:], bool(body[0]))
        if not compare_digest(self.write(position, fingerprint, purpose), text):
            raise InvalidCursor
        return position

    def _cipher(self, tag: bytes, body: bytes) -> bytes:
        stream = shake_256(self._stream_key + tag).digest(len(body))
        return (int.from_bytes(body) ^ int.from_bytes(stream)).to_bytes(len(body))


def fingerprint(query: dict[str, Any], fields: Sequence[str]) -> bytes:
    """Return what tells queries apart: a hash of the JSON form of one and of the fields of its index."""
    return sha256(msgspec.json.encode([query, fields])).digest()


def between(keys: KeyRange, reverse: bool, after: Position | None, through: Position | None) -> KeyRange:
    """Return the part of `keys` behind `after` and up to, and with, `through`; None is no bound."""
    start, end = keys.start, keys.end
    if after is not None:
        if after.key is None:
            return KeyRange(b"", b"")
        if reverse:
            end = after.key
        else:
            start = after.key + AT
    if through is not None and through.key is not None:
        if reverse:
            start = max(start, through.key)
        else:
            end = through.key + AT if end is None else min(end, through.key + AT)
    if end is not None and end <= start:
        return KeyRange(b"", b"")
    return KeyRange(start, end, keys.prefix_length)
