"""Cursors: a position in the results of one query, as text that clients keep and send back.

Owns the text form. Promises that equal positions in equal queries have equal texts, since they come back as arguments
and cached results are found by them; that a text shows nothing of the keys in it, which may be those of documents the
client never got; and that one which this deployment did not make for this query is refused. How: `sealing`.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import msgspec

from reactor.engine.keyrange import AT, KeyRange
from reactor.engine.sealing import Sealer
from reactor.errors import InvalidCursor

Purpose = Literal["cursor", "journal"]


class Position(NamedTuple):
    """Where a page ends: after the index key `key`, or, when that is None, at the end of the results."""

    key: bytes | None
    was_cut: bool = False  # by a read limit; only journals remember it


END: Final = Position(None)


class Cursors:
    """The cursors of one deployment."""

    __slots__ = ("_sealer",)

    def __init__(self, secret: bytes) -> None:
        """Take the secret, of at most 64 bytes, that makes cursors of this deployment good here and nowhere else."""
        self._sealer = Sealer(secret, b"reactor cursor")

    def write(self, position: Position, fingerprint: bytes, purpose: Purpose = "cursor") -> str:
        """Return the text of a position in the query with this fingerprint."""
        content = bytes([position.was_cut, position.key is None]) + (position.key or b"")
        return self._sealer.seal(content, _context(fingerprint, purpose))

    def read(self, text: str, fingerprint: bytes, purpose: Purpose = "cursor") -> Position:
        """Return the position that `write` made `text` of.

        Raises:
            InvalidCursor: it was made for another query, purpose or deployment, or not made at all.
        """
        content = self._sealer.unseal(text, _context(fingerprint, purpose))
        if content is None:
            raise InvalidCursor
        return Position(None if content[1] else content[2:], bool(content[0]))


def _context(fingerprint: bytes, purpose: Purpose) -> bytes:
    return purpose.encode() + AT + fingerprint


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
