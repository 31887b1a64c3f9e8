"""A zip as it came: which tables and files are in it, in Convex's layout.

Owns the layout on the way in, and every suspicion: nothing is unpacked to disk under a name from the archive, and an
archive that lies about its names, sizes or contents is refused before anything is read of it, or when the lie shows.
Blocking: for threads. Used by imports.

    _tables/documents.jsonl       {"name", "id"} of each table, `id` its number
    T/documents.jsonl             the documents of table T
    T/generated_schema.jsonl      `"uniform"`, which says that values say what they are
    _storage/documents.jsonl      what is known of each file
    _storage/<id>.<ext>           its content
    _components/<name>/…          the same for a component instance, and below it
"""

import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from reactor.errors import TransferRefused, ValidationError
from reactor.limits import FIRST_USER_TABLE, MIB
from reactor.transfer.rows import batches
from reactor.values.ids import decode_id
from reactor.values.names import check_identifier

DOCUMENTS: Final = "documents.jsonl"
TABLES: Final = "_tables"
STORAGE: Final = "_storage"
COMPONENTS: Final = "_components"
MAX_ENTRIES: Final = 1_000_000
_BOMB_BYTES: Final = 64 * MIB  # of one entry; below it no ratio is too good
_BOMB_RATIO: Final = 500
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError, RuntimeError)


class Part(msgspec.Struct):
    """What an archive has for one component instance; the application's path is empty."""

    path: str
    numbers: dict[str, int] = msgspec.field(default_factory=dict)  # by table, as `_tables` says
    tables: dict[str, zipfile.ZipInfo] = msgspec.field(default_factory=dict)
    files: zipfile.ZipInfo | None = None  # the documents of `_storage`
    contents: dict[str, zipfile.ZipInfo] = msgspec.field(default_factory=dict)  # by id


class Archive:
    """An open zip. Close it."""

    def __init__(self, path: Path) -> None:
        """Open and check it.

        Raises:
            TransferRefused: it is no zip, or one that can't be trusted.
        """
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise _refuse(f"it can't be read: {error}") from None
        try:
            self.parts = self._parts(path.stat().st_size)
        except BaseException:
            self._zip.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def open(self, info: zipfile.ZipInfo) -> "Entry":
        """Begin to read an entry.

        Raises:
            TransferRefused: it can't be read.
        """
        try:
            return Entry(self._zip.open(info), info)
        except _BROKEN as error:
            raise _refuse(f"{info.filename!r} can't be read: {error}") from None

    def _parts(self, size: int) -> dict[str, Part]:
        infos = self._zip.infolist()
        if len(infos) > MAX_ENTRIES:
            raise _refuse(f"it has {len(infos)} entries, more than {MAX_ENTRIES}")
        _check_layout(infos, size)
        parts: dict[str, Part] = {"": Part("")}
        numbers: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            names = _names(info)
            path: list[str] = []
            while len(names) > 2 and names[0] == COMPONENTS:
                path.append(names[1])
                names = names[2:]
            if len(names) != 2 or info.is_dir():
                continue
            component = "/".join(path)
            part = parts.setdefault(component, Part(component))
            folder, name = names
            if folder == STORAGE and name != DOCUMENTS:
                file = name.partition(".")[0]
                if file in part.contents:
                    raise _refuse(f"the content of file {file!r} is in it twice")
                part.contents[file] = info
            elif name != DOCUMENTS:
                continue
            elif folder == STORAGE:
                part.files = info
            elif folder == TABLES:
                numbers[component] = info
            elif not folder.startswith("_"):
                part.tables[_table_name(folder)] = info
        for component, info in numbers.items():
            parts[component].numbers = self._numbers(info)
        return parts

    def _numbers(self, info: zipfile.ZipInfo) -> dict[str, int]:
        """Return the number of each table, as an entry of `_tables` says."""
        found: dict[str, int] = {}
        with self.open(info) as stream:
            for batch in batches(stream, "jsonLines"):
                for row in batch:
                    try:
                        fields: Any = row.read().value
                    except ValidationError as error:
                        raise _refuse(f"{info.filename} row {row.number}: {error}") from None
                    if type(fields) is not dict or not isinstance(fields.get("name"), str):
                        raise _refuse(f"{info.filename} row {row.number} is no object with `name` and `id`")
                    name, number = fields["name"], fields.get("id")
                    if name.startswith("_"):
                        continue
                    if not isinstance(number, float) or not number.is_integer() or not _is_user_number(number):
                        raise _refuse(f"{info.filename} row {row.number}: {number!r} is no number of a table")
                    if found.setdefault(_table_name(name), int(number)) != number:
                        raise _refuse(f"{info.filename} has table {name!r} twice")
        if len(set(found.values())) < len(found):
            raise _refuse(f"{info.filename} gives two tables the same number")
        return found


class Entry:
    """A stream over one entry, whose errors say what is wrong."""

    def __init__(self, stream: IO[bytes], info: zipfile.ZipInfo) -> None:
        self._stream = stream
        self._info = info

    def __enter__(self) -> IO[bytes]:
        return self  # type: ignore[return-value]  # as much of it as `rows` and the blob store use

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`.

        Raises:
            TransferRefused: they are damaged.
        """
        try:
            return self._stream.read(size)
        except _BROKEN as error:
            raise _refuse(f"{self._info.filename!r} is damaged: {error}") from None

    def readline(self, size: int = -1) -> bytes:
        """Return the next line, or its first `size` bytes.

        Raises:
            TransferRefused: it is damaged.
        """
        try:
            return self._stream.readline(size)
        except _BROKEN as error:
            raise _refuse(f"{self._info.filename!r} is damaged: {error}") from None


def number_of(document_id: object) -> int | None:
    """Return the number of the table in an id, or None: it is no id."""
    try:
        return decode_id(document_id)[0] if isinstance(document_id, str) else None
    except Exception:
        return None


def _is_user_number(number: float) -> bool:
    return FIRST_USER_TABLE <= number < 2**32


def _table_name(name: str) -> str:
    try:
        check_identifier(name)
    except ValidationError as error:
        raise TransferRefused("ImportInvalidName", f"{name!r} can't be the name of a table: {error}") from None
    return name


def _names(info: zipfile.ZipInfo) -> list[str]:
    """Return the path of an entry as names.

    Raises:
        TransferRefused: it leads out of the archive, or is not what it says.
    """
    name = info.orig_filename
    if "\0" in name or "\\" in name or name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise _refuse(f"{name!r} is no path inside an archive")
    names = name.rstrip("/").split("/")
    if any(each in ("", ".", "..") for each in names):
        raise _refuse(f"{name!r} leads out of the archive")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refuse(f"{name!r} is a link or a device, not a file")
    return names


def _check_layout(infos: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive whose directory can't be true: entries that overlap, doubled names, sizes of a bomb."""
    seen: set[str] = set()
    end, last = 0, ""
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.filename in seen:
            raise _refuse(f"{info.filename!r} is in it twice")
        seen.add(info.filename)
        if info.flag_bits & 1:
            raise _refuse(f"{info.filename!r} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refuse(f"{info.filename!r} is compressed in another way than Deflate")
        if info.header_offset < end:
            raise _refuse(f"{info.filename!r} and {last!r} overlap")
        end, last = info.header_offset + info.compress_size, info.filename
        if end > size:
            raise _refuse(f"{info.filename!r} ends behind the end of the file")
        if info.file_size > _BOMB_BYTES and info.file_size > _BOMB_RATIO * info.compress_size:
            raise _refuse(
                f"{info.filename!r} would grow from {info.compress_size} to {info.file_size} bytes, "
                f"more than {_BOMB_RATIO} times"
            )


def _refuse(reason: str) -> TransferRefused:
    return TransferRefused("InvalidImport", f"This zip can't be imported: {reason}.")
