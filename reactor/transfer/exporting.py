"""One export: everything at one timestamp, as a zip in Convex's layout.

Owns the layout on the way out (`archive` describes it). Promises one snapshot however long it takes and whatever is
written meanwhile, and bounded memory: rows leave in slices, files in parts. Used by the service.
"""

import mimetypes
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from reactor.engine.catalog import BY_CREATION_TIME, STORED_FILES, Table
from reactor.engine.database import Database
from reactor.engine.snapshot import count_at, scan_at
from reactor.limits import KIB
from reactor.runtime.files.documents import FileRow
from reactor.runtime.files.store import Files
from reactor.runtime.runqueue import RunQueue
from reactor.transfer.archive import COMPONENTS, DOCUMENTS, STORAGE, TABLES
from reactor.values.json import encode_json
from reactor.values.stored import decode_object

README: Final = """# Export of a reactor deployment

Everything in this archive is as of one moment. One folder for each table:

- `documents.jsonl` has one document per line, as JSON. What JSON can't say is an object of one field: `$integer` (64
  bits, little-endian, base64), `$bytes` (base64), `$float` (NaN, infinities and -0, 8 bytes, base64).
- `generated_schema.jsonl` says `"uniform"`: the values need no other description.

`_tables` gives the number of each table, which is part of its ids. `_storage` has the stored files, if they were asked
for, and `_components` the same for each mounted component. `reactor import` and `npx convex import` read it.
"""
_PART_BYTES: Final = 256 * KIB
_ROWS: Final = 64
POLITE: Final = 0.25  # of a slice, for each turn
_UNIFORM: Final = b'"uniform"\n'

Progress = Callable[[str], None]


class _Each(NamedTuple):
    """A table as it was when the export began."""

    component: str
    name: str
    number: int
    table: Table


class Export:
    """One export of an open database. `run` it once."""

    def __init__(
        self,
        database: Database,
        files: Files,
        queue: RunQueue,
        components: Sequence[str],
        progress: Progress,
        *,
        include_storage: bool,
    ) -> None:
        """`components` are the paths of the instances to export; the names in the archive begin below the first."""
        self._database = database
        self._files = files
        self._queue = queue
        self._components = components
        self._progress = progress
        self._include_storage = include_storage
        self.ts = database.durable_ts
        database.retention.pin(self.ts)
        wanted = set(components)
        self._tables = [
            _Each(table.component, table.local_name, table.number, table)
            for table in database.catalog.by_number.values()
            if table.component in wanted and (not table.is_system or table.local_name == STORED_FILES)
        ]

    async def run(self, path: Path) -> None:
        """Write the archive.

        Raises:
            SnapshotTooOld: so much was written meanwhile that the snapshot is gone (`REACTOR_HISTORY_BYTES`).
            StorageError: the data or the content of a file can't be read.
        """
        try:
            archive = await self._files.in_thread(zipfile.ZipFile, path, "w", zipfile.ZIP_DEFLATED)
            try:
                await self._write(archive)
            finally:
                await self._files.in_thread(archive.close)
        finally:
            self._database.retention.unpin(self.ts)

    async def _write(self, archive: zipfile.ZipFile) -> None:
        await self._put(archive, "README.md", README.encode())
        for each in self._tables:
            if each.table.unloaded is not None:
                await self._database.loading.load(each.table)
        root = self._components[0]
        for component in self._components:
            prefix = _prefix(component, root)
            tables = [each for each in self._tables if each.component == component]
            users = [each for each in tables if each.name != STORED_FILES]
            users.sort(key=lambda each: (len(each.table), each.name))
            lines = [msgspec.json.encode({"name": each.name, "id": each.number}) + b"\n" for each in users]
            await self._put(archive, f"{prefix}{TABLES}/{DOCUMENTS}", b"".join(lines))
            for each in users:
                self._progress(f"Exporting table {component + '/' if component else ''}{each.name}")
                await self._put_rows(archive, f"{prefix}{each.name}/{DOCUMENTS}", each.table, encode_json)
                await self._put(archive, f"{prefix}{each.name}/generated_schema.jsonl", _UNIFORM)
            if self._include_storage:
                for each in tables:
                    if each.name == STORED_FILES:
                        self._progress("Exporting files")
                        await self._put_files(archive, f"{prefix}{STORAGE}/", each.table)

    async def _put(self, archive: zipfile.ZipFile, name: str, data: bytes) -> None:
        await self._files.in_thread(archive.writestr, _info(name), data)

    async def _put_rows(
        self, archive: zipfile.ZipFile, name: str, table: Table, encode: Callable[[Any], bytes]
    ) -> None:
        """Write the documents of a table, one per line, in the order of their creation."""
        entry = await self._files.in_thread(partial(archive.open, _info(name), "w", force_zip64=True))
        part = bytearray()
        try:
            for chunk in self._chunks(table):
                await self._queue.run(_encoded(chunk, encode, part), POLITE)
                if len(part) >= _PART_BYTES:
                    await self._files.in_thread(entry.write, bytes(part))
                    part.clear()
            await self._files.in_thread(entry.write, bytes(part))
        finally:
            await self._files.in_thread(entry.close)

    def _chunks(self, table: Table) -> Iterator[list[bytes]]:
        """Yield the documents of a table as of the snapshot; others may go on between two chunks."""
        index = table.indexes[BY_CREATION_TIME]
        start = b""
        while True:
            self._database.retention.check(self.ts)
            if not count_at(index, start, None, self.ts):
                return
            chunk = scan_at(index, start, None, _ROWS, False, self.ts)
            yield [data for _, data in chunk.rows]
            if chunk.resume is None:
                return
            start = chunk.resume

    async def _put_files(self, archive: zipfile.ZipFile, prefix: str, table: Table) -> None:
        await self._put_rows(archive, f"{prefix}{DOCUMENTS}", table, _encode_file)
        for chunk in self._chunks(table):
            for data in chunk:
                row = FileRow.of(data)
                await self._files.in_thread(self._put_file, archive, prefix, row)

    def _put_file(self, archive: zipfile.ZipFile, prefix: str, row: FileRow) -> None:
        kind = None if row.content_type is None else mimetypes.guess_extension(row.content_type.partition(";")[0])
        with archive.open(_info(f"{prefix}{row.id}{kind or ''}"), "w", force_zip64=True) as entry:
            for part in self._files.parts_blocking(row):
                entry.write(part)


def _encoded(chunk: list[bytes], encode: Callable[[Any], bytes], part: bytearray) -> Iterator[None]:
    for data in chunk:
        part += encode(decode_object(data))
        part += b"\n"
        yield


def _encode_file(document: dict[str, Any]) -> bytes:
    document["internalId"] = document.pop("uuid")
    del document["blob"]
    return encode_json(dict(sorted(document.items())))


def _prefix(component: str, root: str) -> str:
    below = component.removeprefix(root).strip("/")
    return "".join(f"{COMPONENTS}/{name}/" for name in below.split("/") if name)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o100644 << 16
    return info
