"""A batch as bytes: how the records of one append look at rest.

Owns the body format shared by every backend, and what makes a batch acceptable. Records are encoded on the caller's
side, in one call, so that a backend's writer only ever moves one blob. Used by the backends.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from reactor.storage.checksum import Damaged
from reactor.storage.interface import DocumentWrite, Record

LOG_PAGE_BYTES: Final = 4 << 20  # bodies of which the log is freed in one step, unless a single one is larger


class Change(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Of a record, what a fold needs; the rest is skipped, not decoded."""

    ts: int
    kind: msgspec.Raw
    writes: tuple[DocumentWrite, ...] = ()


class Request(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Of a record, what it says about the request that it answered."""

    ts: int
    kind: msgspec.Raw
    writes: msgspec.Raw = msgspec.Raw()
    session: str | None = None
    request: int | None = None
    result: bytes | None = None


T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_decode_records = msgspec.msgpack.Decoder(list[Record]).decode
_decode_changes = msgspec.msgpack.Decoder(list[Change]).decode
_decode_requests = msgspec.msgpack.Decoder(list[Request]).decode


def check_batch(batch: Sequence[Record], after: int) -> None:
    """Check that `batch` may stand behind a log that ends at `after`.

    Raises:
        ValueError: it is empty, or its timestamps do not increase strictly from `after`.
    """
    if not batch:
        raise ValueError("an append needs at least one record")
    last = after
    for record in batch:
        if record.ts <= last:
            raise ValueError(f"timestamps must increase: {record.ts} comes after {last}")
        last = record.ts


def encode_batch(batch: Sequence[Record]) -> bytes | None:
    """Return the body of a checked `batch`, or None when something in it has no encoded form."""
    try:
        return _encode(batch)
    except (TypeError, ValueError, OverflowError):  # lone surrogates, integers beyond 64 bits
        return None


def decode_batch(body: bytes) -> list[Record]:
    """Return the records of a body.

    Raises:
        Damaged: the bytes are no batch.
    """
    return _decoded(_decode_records, body)


def decode_changes(body: bytes) -> list[Change]:
    """Return what the records of a body wrote.

    Raises:
        Damaged: the bytes are no batch.
    """
    return _decoded(_decode_changes, body)


def decode_requests(body: bytes) -> list[Request]:
    """Return which requests the records of a body answered.

    Raises:
        Damaged: the bytes are no batch.
    """
    return _decoded(_decode_requests, body)


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except (msgspec.MsgspecError, TypeError) as error:  # not even bytes, if the damage is in the header of the row
        raise Damaged(f"a batch can't be decoded ({error})") from error
