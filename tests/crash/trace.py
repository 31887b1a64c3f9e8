"""The trace that `shim.c` writes, and the law checked on it: no reply leaves before the sync it rests on.

The commits are found where they are durable, in the write-ahead log: its frames are followed up to each commit frame,
and the rows of the table `log` are read from the b-tree leaves in them.
"""

import base64
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
LEAF_TABLE_PAGE = 0x0D
LOG_COLUMNS = 7  # integers, but for the body
BODY = 5

# Every timestamp that leaves, also those of a Transition in the same packet, must be durable.
_TIMESTAMP = re.compile(rb'"ts"\s*:\s*"([A-Za-z0-9+/]{11}=)"')


class Event(NamedTuple):
    """One record of the trace."""

    kind: str  # "W" write to a write-ahead log, "S" sync of it, "R" reply
    sequence: int
    offset: int  # W: where; S: the sequence up to which it covers writes
    payload: bytes  # W: what; R: the bytes sent


class Batch(NamedTuple):
    """A row of the log, and when the commit that holds it was complete in the write-ahead log."""

    first_ts: int
    last_ts: int
    written: int  # sequence of the last write of the commit


def read_trace(path: Path) -> list[Event]:
    """Return the events of a trace, oldest first; a record torn by the kill ends it."""
    data, position, events = path.read_bytes(), 0, []
    while position + 13 <= len(data):
        kind, sequence, length = struct.unpack_from("<cQI", data, position)
        payload = data[position + 13 : position + 13 + length]
        if len(payload) < length:
            break
        position += 13 + length
        if kind == b"R":
            events.append(Event("R", sequence, 0, payload))
        else:
            events.append(Event(kind.decode(), sequence, int.from_bytes(payload[:8], "little"), payload[8:]))
    return events


def batches_written(events: Iterable[Event]) -> list[Batch]:
    """Return the log rows that reached the write-ahead log, in order of their timestamps."""
    found: dict[int, Batch] = {}
    image = bytearray()
    pages: dict[int, bytes] = {}  # by offset: the frames since the last commit
    for event in events:
        if event.kind != "W":
            continue
        end = event.offset + len(event.payload)
        if len(image) < end:
            image.extend(bytes(end - len(image)))
        image[event.offset : end] = event.payload
        if event.offset == 0:  # the log starts over
            pages.clear()
            continue
        page_size = int.from_bytes(image[8:12], "big")
        place = (event.offset - WAL_HEADER_BYTES) % (FRAME_HEADER_BYTES + page_size)
        if place != FRAME_HEADER_BYTES or len(event.payload) != page_size:
            continue
        pages[event.offset] = event.payload
        (size_after_commit,) = struct.unpack_from(">I", image, event.offset - FRAME_HEADER_BYTES + 4)
        if size_after_commit:
            for offset, page in pages.items():
                page_number = int.from_bytes(image[offset - FRAME_HEADER_BYTES :][:4], "big")
                for first_ts, last_ts in _log_rows(page, 100 if page_number == 1 else 0):
                    found.setdefault(last_ts, Batch(first_ts, last_ts, event.sequence))
            pages.clear()
    return sorted(found.values())


def assert_replies_follow_syncs(events: Sequence[Event]) -> int:
    """Check that whatever timestamp left in a reply, the whole log up to it had been synced; return how many replies.

    Raises:
        AssertionError: a reply left too early, or names a timestamp that no batch reaches.
    """
    batches = batches_written(events)
    syncs = [event for event in events if event.kind == "S"]
    covers = list(accumulate((sync.offset for sync in syncs), max))
    durable = []  # per batch: the sequence at which it and all before it were synced
    latest = 0.0
    for batch in batches:
        position = bisect_right(covers, batch.written - 1)
        latest = max(latest, syncs[position].sequence if position < len(syncs) else float("inf"))
        durable.append(latest)
    firsts = [batch.first_ts for batch in batches]
    replies = 0
    for event in events:
        if event.kind != "R":
            continue
        for text in _TIMESTAMP.findall(event.payload):
            ts = int.from_bytes(base64.b64decode(text), "little")
            needed = bisect_right(firsts, ts)
            assert not ts or (batches and ts <= batches[-1].last_ts), f"a reply names {ts}, which no batch reaches"
            assert not needed or durable[needed - 1] < event.sequence, f"a reply named {ts} before it was synced"
        replies += 1
    return replies


def _log_rows(page: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield (first_ts, last_ts) of the rows of `log` on a b-tree leaf; nothing for any other page."""
    if page[start] != LEAF_TABLE_PAGE:
        return
    (cells,) = struct.unpack_from(">H", page, start + 3)
    for cell in range(cells):
        (position,) = struct.unpack_from(">H", page, start + 8 + 2 * cell)
        _, position = _varint(page, position)
        last_ts, position = _varint(page, position)
        header, body = _varint(page, position)
        kinds, end = [], position + header
        while body < end:
            kind, body = _varint(page, body)
            kinds.append(kind)
        if len(kinds) != LOG_COLUMNS or kinds[0] != 0 or kinds[BODY] < 12 or max(kinds[1:BODY]) > 9:
            continue
        _, end = _integer(page, end, kinds[1])
        first_ts, _ = _integer(page, end, kinds[2])
        yield first_ts, last_ts


def _varint(page: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        byte = page[position + count]
        if count == 8:
            return value << 8 | byte, position + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + count + 1
    raise AssertionError("unreachable: the ninth byte returns")


def _integer(page: bytes, position: int, kind: int) -> tuple[int, int]:
    if kind in (8, 9):
        return kind - 8, position
    length = (0, 1, 2, 3, 4, 6, 8)[kind]
    return int.from_bytes(page[position : position + length], "big", signed=True), position + length
