"""The one file a project is uploaded as: a zip archive.

Owns its form. Promises that the same files give the same bytes, and that nothing of an archive is written outside of
the folder it is unpacked to, whatever it says: no absolute or climbing names, no links, no more bytes or files than
allowed. Used by `reactor deploy`, which packs, and by the server, which unpacks.
"""

import io
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from reactor.errors import DeployRefused
from reactor.limits import MAX_DEPLOY_FILES

_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the oldest there is: when a file was edited is no part of the project
_MODE: Final = stat.S_IFREG | 0o644
_CHUNK: Final = 1 << 16


def pack(files: Mapping[str, Path]) -> bytes:
    """Return an archive of files, by the names they get. Blocking.

    Raises:
        OSError: one can't be read.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, file in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = _MODE << 16
            entry.create_system = 3  # the same on every system
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()


def unpack(data: bytes, folder: Path, most_bytes: int) -> int:
    """Write the files of an archive below `folder`, which is empty; return how many there are. Blocking.

    Raises:
        DeployRefused: `InvalidArchive` or `DeployTooLarge`. Something may have been written below `folder`.
        OSError: a file can't be written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_DEPLOY_FILES:
                raise DeployRefused(
                    "DeployTooLarge", f"The project has {len(entries)} files; at most {MAX_DEPLOY_FILES} are possible."
                )
            names = [_checked(entry) for entry in entries]
            if len(set(names)) < len(names):
                raise _invalid("two of its entries have the same name")
            left = most_bytes
            for entry, name in zip(entries, names, strict=True):
                place = folder.joinpath(*name.parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                left = _write(archive, entry, place, left, most_bytes)
            return len(entries)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _invalid("one of its entries is a file and a folder") from error
    except (DeployRefused, OSError):
        raise
    except Exception as error:  # the library has no one error for what it can't read
        raise _invalid(str(error) or type(error).__name__) from error


def _checked(entry: zipfile.ZipInfo) -> PurePosixPath:
    name = entry.filename
    shown = repr(name[:100])
    if name.endswith("/") or stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise _invalid(f"{shown} is no plain file")
    if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _invalid(f"{shown} is encrypted, or packed in an unusual way")
    # What a name means must not depend on the system, so nothing that one of them gives a meaning to.
    if any(sign in name for sign in "\\:\0") or name.startswith("/") or not name.isprintable():
        raise _invalid(f"{shown} can't be the name of a file")
    parts = name.split("/")
    if any(part == "" or part.startswith(".") or len(part.encode()) > 255 for part in parts) or len(parts) > 64:
        raise _invalid(f"{shown} can't be the name of a file")
    return PurePosixPath(*parts)


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path, left: int, most_bytes: int) -> int:
    """Write one file, trusting nothing that the archive says of its size; return how many bytes others may have."""
    with archive.open(entry) as source, place.open("xb") as target:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise too_large(most_bytes)
            target.write(chunk)
    return left


def too_large(most_bytes: int) -> DeployRefused:
    """Return the error for a project with more bytes than may be deployed."""
    return DeployRefused(
        "DeployTooLarge",
        f"The project's files have more than REACTOR_DEPLOY_BYTES={most_bytes} bytes. Keep data out of the project, or "
        "raise the limit on the server.",
    )


def _invalid(problem: str) -> DeployRefused:
    return DeployRefused("InvalidArchive", f"The upload is not an archive of a project: {problem}.")
