"""What is imported: rows for tables, and files, wherever they come from.

Used by imports; made of a zip, or of one file for one table.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

import msgspec

from reactor.errors import TransferRefused, ValidationError
from reactor.transfer.archive import Archive, number_of
from reactor.transfer.rows import Format, Row, batches

Mode: TypeAlias = Literal["requireEmpty", "append", "replace", "replaceAll"]
Open: TypeAlias = Callable[[], AbstractContextManager[IO[bytes]]]

_COUNT_BYTES: Final = 256 * 1024
MODES: Final[tuple[Mode, ...]] = ("requireEmpty", "append", "replace", "replaceAll")
FORMATS: Final = ("csv", "jsonLines", "jsonArray", "zip")


class TableRows(msgspec.Struct):
    """The rows for one table, read once or more."""

    component: str
    table: str
    format: Format
    open: Open
    number: int | None = None  # as the archive says, or the ids of the rows
    count: int = 0

    def batches(self) -> Iterator[list[Row]]:
        """Yield the rows. Blocking.

        Raises:
            TransferRefused: the file is broken.
        """
        with self.open() as stream:
            yield from batches(stream, self.format)

    def inspect(self) -> None:
        """Count the rows, and take the number of the table from the first id, unless it is known. Blocking.

        Raises:
            TransferRefused: the file is broken.
        """
        self.count = 0
        if self.number is None:
            first = next(self.batches(), None)
            self.number = None if first is None else _number(first[0])
        if self.format == "jsonLines":
            # A look at a part at a time: to cut a million lines would keep the engine's thread from the interpreter.
            with self.open() as stream:
                last = b"\n"
                while part := stream.read(_COUNT_BYTES):
                    self.count += part.count(b"\n")
                    last = part[-1:]
                self.count += last != b"\n"
            return
        for batch in self.batches():
            self.count += len(batch)


class FileRows(msgspec.Struct):
    """The files for one component instance: a document of `_storage` for each, and the contents by id."""

    component: str
    documents: TableRows
    contents: dict[str, Open]


class Bundle:
    """All that one import brings. Close it."""

    def __init__(self, tables: list[TableRows], files: list[FileRows], archive: Archive | None = None) -> None:
        self.tables = tables
        self.files = files
        self._archive = archive

    def close(self) -> None:
        """Close what it reads from."""
        if self._archive is not None:
            self._archive.close()


def open_bundle(path: Path, format: str, table: str | None, component: str) -> Bundle:
    """Return what a file brings, inspected. Blocking.

    Raises:
        TransferRefused: it is broken, or can't be trusted.
    """
    if format == "zip":
        return _from_archive(Archive(path), component)
    assert table is not None
    rows = TableRows(component, table, format, lambda: open(path, "rb"))  # type: ignore[arg-type]
    rows.inspect()
    return Bundle([rows], [])


def _from_archive(archive: Archive, root: str) -> Bundle:
    """Return what an archive brings for the component instance `root` and those below it."""
    tables: list[TableRows] = []
    files: list[FileRows] = []

    def opening(info: Any) -> Open:
        return lambda: archive.open(info)

    try:
        for part in archive.parts.values():
            component = "/".join(filter(None, (root, part.path)))
            for name, info in part.tables.items():
                tables.append(TableRows(component, name, "jsonLines", opening(info), part.numbers.get(name)))
            for name, number in part.numbers.items():
                if name not in part.tables:  # without documents: an empty table
                    tables.append(TableRows(component, name, "jsonLines", lambda: io.BytesIO(), number))
            if part.files is not None:
                rows = TableRows(component, "_storage", "jsonLines", opening(part.files))
                contents = {name: opening(info) for name, info in part.contents.items()}
                files.append(FileRows(component, rows, contents))
            elif part.contents:
                raise TransferRefused(
                    "InvalidImport", "This zip can't be imported: it has files, but no _storage/documents.jsonl."
                )
        for source in (*tables, *(each.documents for each in files)):
            source.inspect()
    except BaseException:
        archive.close()
        raise
    return Bundle(tables, files, archive)


def _number(row: Row) -> int | None:
    try:
        fields = row.read().value
    except ValidationError:
        return None  # refused later, with its number
    return number_of(fields.get("_id")) if isinstance(fields, dict) else None
