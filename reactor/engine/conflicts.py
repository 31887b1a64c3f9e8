"""Conflict reports: which read of a lost mutation met which write, in words.

Owns the official text of a conflict, and how key ranges are shown to people. Promises to cost nothing until there is a
conflict, and little until somebody reads the report. Used by the committer, which keeps the recent ones.
"""

import struct
from typing import Final

import msgspec

from reactor.engine.catalog import Index
from reactor.engine.keyrange import AT, IndexId, KeyRange, point
from reactor.engine.readset import ReadSet
from reactor.engine.writelog import LogEntry
from reactor.errors import ValidationError, WriteConflict
from reactor.limits import FIRST_USER_TABLE
from reactor.values.display import display
from reactor.values.keys import AFTER, field_ends
from reactor.values.types import Value, undefined

SYSTEM_TEXT: Final = (
    "Data read or written in this mutation changed while it was being run. Consider reducing the amount of data read "
    "by using indexed queries with selective index range expressions (https://docs.convex.dev/database/indexes/)."
)
MAX_SHOWN: Final = 60  # characters of one field's value


class Conflict(msgspec.Struct, frozen=True):
    """One read of a transaction, and the commit that changed what it had read.

    `table` is None for a table of the system. `writer` and `reader` are function paths, empty where no function was at
    work. `document` is the id of what was written.
    """

    table: str | None
    document: str
    index: Index
    keys: KeyRange
    writer: str
    reader: str
    begin_ts: int
    commit_ts: int

    @property
    def read(self) -> str:
        """What was read, as index fields and values."""
        return show_range(self.index, self.keys)

    def _text(self, *, shows_document: bool) -> str:
        if self.table is None:
            return SYSTEM_TEXT
        who = "Another call to this mutation" if self.writer == self.reader else f'A call to "{self.writer}"'
        which = f'the document with ID "{self.document}"' if shows_document else "a document"
        changed = f"{who} changed {which}. " if self.writer else ""
        return (
            f'Documents read from or written to the "{self.table}" table changed while this mutation was being run '
            f"and on every subsequent retry. {changed}See https://docs.convex.dev/error#1"
        )

    def __str__(self) -> str:
        """The detailed report, for the developer."""
        return (
            f"{self.reader or 'a transaction'} at {self.begin_ts} read {self.table or 'a system table'} [{self.read}], "
            f"where {self.writer or 'the system'} wrote document {self.document} at {self.commit_ts}"
        )

    def error(self, *, shows_document: bool = True) -> WriteConflict:
        """Return what the lost attempt ends with; without the id of the document for who may not know of it."""
        return WriteConflict(self._text(shows_document=shows_document), self)


def find_conflict(reads: ReadSet, entry: LogEntry, reader: str, begin_ts: int) -> Conflict:
    """Return the report of a read set that `entry` is known to have touched."""
    change, index, key = next(
        (change, index, key)
        for change in entry.changes
        for index in change.table.order
        for key in change.keys(index)
        if reads.touches(index.id, key)
    )
    table = change.table
    return Conflict(
        table=table.name if table.number >= FIRST_USER_TABLE else None,
        document=change.key[1:-1].decode("ascii"),
        index=index,
        keys=_read_range(reads, index.id, key),
        writer=entry.source,
        reader=reader,
        begin_ts=begin_ts,
        commit_ts=entry.commit_ts,
    )


def _read_range(reads: ReadSet, index: IndexId, key: bytes) -> KeyRange:
    if key in reads.points.get(index, ()):
        return point(key)
    return next(this for this in reads.ranges[index].ranges() if this.contains(key))


def show_range(index: Index, keys: KeyRange) -> str:
    """Return a range of an index as people write it: `channel = "c1", _creationTime from 5.0`."""
    fields = (*index.fields, "_id")
    low, after_low = _bound(keys.start)
    high, after_high = _bound(keys.end) if keys.end is not None else ((), False)
    shared = 0
    while shared < min(len(low), len(high)) and low[shared] == high[shared]:
        shared += 1
    parts = [f"{field} = {value}" for field, value in zip(fields, low[:shared], strict=False)]
    rest = fields[shared:]
    if len(low) > shared:
        parts.append(f"{_named(rest, low[shared:])} {'above' if after_low else 'from'} {_listed(low[shared:])}")
    if len(high) > shared:
        parts.append(f"{_named(rest, high[shared:])} {'up to' if after_high else 'below'} {_listed(high[shared:])}")
    return ", ".join(parts) or "every document"


def _named(fields: tuple[str, ...], values: tuple[str, ...]) -> str:
    names = fields[: len(values)]
    return names[0] if len(names) == 1 else f"({', '.join(names)})"


def _listed(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _bound(bound: bytes) -> tuple[tuple[str, ...], bool]:
    """Return the values of a bound, and whether it stands behind all keys that begin with them."""
    for suffix in (b"", AFTER, AT):
        key = bound.removesuffix(suffix)
        if suffix and key == bound:
            continue
        try:
            ends = field_ends(key)
        except ValidationError:
            continue
        starts = (0, *ends)
        return tuple(_shown(key[start:end]) for start, end in zip(starts, ends, strict=False)), bool(suffix)
    return (f"<{bound[:16].hex()}>",), False


def _shown(field: bytes) -> str:
    text = _display(field)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _display(field: bytes) -> str:
    """Return one encoded field value as text; the reverse of `values/keys`, as far as reports need it."""
    tag, rest = field[0], field[1:]
    if tag in _CONSTANTS:
        return display(_CONSTANTS[tag])
    if tag <= 0x0C:
        return f"{int.from_bytes(rest, 'big', signed=tag < 0x08)}n"
    if tag == 0x0D:
        bits = int.from_bytes(rest, "big")
        bits ^= 2**63 if bits >> 63 else 2**64 - 1
        return display(struct.unpack(">d", bits.to_bytes(8, "big"))[0])
    if tag == 0x10:
        return display(rest[:-1].replace(b"\x00\xff", b"\x00").decode())
    if tag == 0x11:
        return "0x" + rest[:-1].replace(b"\x00\xff", b"\x00").hex()
    return "[…]" if tag == 0x12 else "{…}"


_CONSTANTS: Final[dict[int, Value]] = {0x01: undefined, 0x03: None, 0x0E: False, 0x0F: True}  # type: ignore[dict-item]
