"""A batch as bytes: how the records of one append look at rest.

Owns the body format shared by every backend, and what makes a batch acceptable. Records are encoded on the caller's
side, in one call, so that a backend's writer only ever moves one blob. Used by the backends.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from reactor.errors import StorageError
from reactor.storage.interface import Record

LOG_PAGE_BYTES: Final = 4 << 20  # bodies fetched, decoded or deleted in one step, unless a single one is larger

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


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
        StorageError: the bytes are no batch, so the log is damaged.
    """
    try:
        return _decode(body)
    except msgspec.MsgspecError as error:
        raise StorageError(f"the log is damaged: a batch can't be decoded ({error}); restore a backup") from error
