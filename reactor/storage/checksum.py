"""Checksums of what is at rest: a flipped bit that still decodes must not pass for data.

Owns what goes into the checksum of a log row and of a document, and the error for one that does not fit. CRC-32 finds
every damage of up to 32 bits in a row, and other damage but for one time in four billion. Used by the backends that
keep files.
"""

from typing import Final
from zlib import crc32

_MASK: Final = (1 << 32) - 1


class Damaged(Exception):
    """What was read is not what was written; the text says what. The backend adds where, and what to do."""


def batch_checksum(last_ts: int, prev_ts: int, first_ts: int, records: int, epoch: int, body: bytes) -> int:
    """Return the checksum of a log row."""
    return crc32(body, crc32(b"%d %d %d %d %d" % (last_ts, prev_ts, first_ts, records, epoch)))


def document_checksum(table: int, id: str, ts: int, value: bytes) -> int:
    """Return the checksum of a folded document."""
    return crc32(value, crc32(id.encode(), (table ^ ts ^ ts >> 32) & _MASK))
