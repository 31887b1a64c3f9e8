"""Rows of a file, in the formats of an import: lines of JSON, an array of JSON, or CSV.

Owns how a file is cut into rows and what a cell of CSV means. Promises bounded memory, whatever the file holds, and
that what is no row is refused with its number. Blocking: for threads. Used by imports.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, Final, Literal, NamedTuple, TypeAlias, cast

from reactor.errors import TransferRefused
from reactor.limits import MIB
from reactor.values.json import read_json
from reactor.values.stored import Normalised, normalise

Format: TypeAlias = Literal["jsonLines", "jsonArray", "csv"]

MAX_LINE_BYTES: Final = 8 * MIB  # a document of 1 MiB, with every character escaped
MAX_ARRAY_BYTES: Final = 16 * MIB
_BATCH_ROWS: Final = 500
_BATCH_BYTES: Final = 256 * 1024
_TEXT_COLUMNS: Final = frozenset({"_id"})  # of CSV: never numbers, whatever they look like


class Row(NamedTuple):
    """One row: its number in the file, from 1, and its JSON, or what CSV says of it."""

    number: int
    content: bytes | dict[str, Any]

    def read(self) -> Normalised:
        """Return the value.

        Raises:
            ValidationError: it is none.
        """
        return read_json(self.content) if isinstance(self.content, bytes) else normalise(self.content)


def batches(stream: IO[bytes], format: Format) -> Iterator[list[Row]]:
    """Yield the rows of a file, some at a time.

    Raises:
        TransferRefused: the file can't be cut into rows.
    """
    rows = {"jsonLines": _lines, "jsonArray": _array, "csv": _csv}[format](stream)
    while True:
        batch: list[Row] = []
        size = 0
        for row in islice(rows, _BATCH_ROWS):
            batch.append(row)
            size += len(row.content)
            if size >= _BATCH_BYTES:
                break
        if not batch:
            return
        yield batch


def refused(number: int, reason: object) -> TransferRefused:
    """Return the error of a row."""
    return TransferRefused("ImportFailed", f"Hit an error while importing:\nrow {number}: {reason}")


def _lines(stream: IO[bytes]) -> Iterator[Row]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise refused(number, f"the line is longer than {MAX_LINE_BYTES} bytes")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        line = line.strip()
        if line:
            yield Row(number, line)


def _array(stream: IO[bytes]) -> Iterator[Row]:
    data = stream.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise TransferRefused(
            "ImportFailed", f"A JSON array of more than {MAX_ARRAY_BYTES} bytes can't be imported: use JSON lines."
        )
    try:
        items = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise TransferRefused("ImportFailed", f"The file is no JSON: {error}") from None
    if not isinstance(items, list):
        raise TransferRefused("ImportFailed", "The file is no JSON array of objects.")
    for number, item in enumerate(items, 1):
        yield Row(number, json.dumps(item).encode())


def _csv(stream: IO[bytes]) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(cast("IO[bytes]", _Lines(stream)), "utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    number = 0
    try:
        header = next(reader, [])
        if len(set(header)) < len(header) or "" in header:
            raise TransferRefused("ImportFailed", "The first line of CSV must name each field, and none twice.")
        for cells in reader:
            if not cells:
                continue
            number += 1
            if len(cells) != len(header):
                raise refused(number, f"it has {len(cells)} cells, but the header {len(header)}")
            yield Row(number, {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)})
    except (csv.Error, UnicodeDecodeError) as error:
        raise refused(number + 1, error) from None


def _cell(name: str, cell: str) -> str | float:
    if name in _TEXT_COLUMNS or "_" in cell or cell != cell.strip():
        return cell
    try:
        return float(cell)
    except ValueError:
        return cell


class _Lines(io.BufferedIOBase):
    """A stream that gives no more than a line's worth at a time, so that a quote left open can't fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read1(self, size: int | None = -1, /) -> bytes:
        return self._stream.read(_BATCH_BYTES if size is None or size < 0 else min(size, _BATCH_BYTES))

    read = read1
