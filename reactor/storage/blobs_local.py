"""Blobs in a folder: one file each.

Owns `<data>/storage/`: `files/ab/abcd…` for what is finished, `unfinished/` for what is not. Promises that a file
appears under its key only when all of it is on disk, by a sync of the file, a rename, and a sync of the folder. The
first two digits of a key name its folder, so that a million files make 256 folders of a size every file system likes.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from reactor.errors import StorageError
from reactor.storage import failpoints
from reactor.storage.folders import make_folder, sync_folder
from reactor.storage.interface import FoundBlob, Written, check_blob_key

FOLDER: Final = "storage"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class LocalBlobs:
    """A `BlobStore` in a data directory."""

    outlives_process = True

    def __init__(self, data: Path) -> None:
        """Keep blobs below `data`, of which somebody else holds the lease; nothing is made before the first one."""
        self._files = data / FOLDER / "files"
        self._unfinished = data / FOLDER / "unfinished"

    def open(self) -> None:
        """See `BlobStore.open`."""
        try:
            shutil.rmtree(self._unfinished)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _trouble("unfinished uploads can't be removed", self._unfinished, error) from error

    def write(self, key: str) -> "_FileWriter":
        """See `BlobStore.write`."""
        path = self._path(key)
        try:
            make_folder(self._unfinished)
            return _FileWriter(self._unfinished / key, path)
        except OSError as error:
            raise _trouble("a file can't be made", self._unfinished, error) from error

    def read(self, key: str) -> "_FileReader | None":
        """See `BlobStore.read`."""
        path = self._path(key)
        try:
            return _FileReader(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _trouble("a file can't be read", path, error) from error

    def delete(self, keys: Iterable[str]) -> None:
        """See `BlobStore.delete`."""
        for key in keys:
            path = self._path(key)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise _trouble("a file can't be deleted", path, error) from error

    def list(self) -> Iterator[list[FoundBlob]]:
        """See `BlobStore.list`."""
        try:
            folders = sorted(entry.path for entry in os.scandir(self._files) if entry.is_dir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise _trouble("the folder can't be read", self._files, error) from error
        for folder in folders:
            found = []
            try:
                for entry in os.scandir(folder):
                    with suppress(FileNotFoundError, ValueError):  # gone meanwhile, or none of ours
                        found.append(FoundBlob(check_blob_key(entry.name), entry.stat().st_mtime_ns))
            except OSError as error:
                raise _trouble("the folder can't be read", Path(folder), error) from error
            yield found

    def _path(self, key: str) -> Path:
        return self._files / check_blob_key(key)[:2] / key


class _FileWriter:
    def __init__(self, unfinished: Path, path: Path) -> None:
        self._unfinished = unfinished
        self._path = path
        self._hash = sha256()
        self._size = 0
        self._file = open(unfinished, "xb", buffering=0)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _trouble("a file can't be written", self._unfinished, error) from error
        self._hash.update(data)
        self._size += len(data)

    def finish(self) -> Written:
        if failpoints.armed is not None:
            failpoints.armed("upload: bytes written")
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            if failpoints.armed is not None:
                failpoints.armed("upload: before the rename")
            make_folder(self._path.parent)
            os.rename(self._unfinished, self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise _trouble("a file can't be written", self._path, error) from error
        if failpoints.armed is not None:
            failpoints.armed("upload: after the rename")
        return Written(self._size, self._hash.digest())

    def abort(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)


class _FileReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self, offset: int, count: int) -> bytes:
        parts: list[bytes] = []
        try:
            while count and (part := os.pread(self._descriptor, count, offset)):
                parts.append(part)
                offset += len(part)
                count -= len(part)
        except OSError as error:
            raise _trouble("a file can't be read", self._path, error) from error
        if count:
            raise StorageError(f"{self._path} is damaged: it ends after {offset} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _trouble(what: str, where: Path, error: OSError) -> StorageError:
    if error.errno in _NO_ROOM:
        return StorageError(f"The disk is full: free space on it ({what}: {where}). Nothing was stored.")
    return StorageError(f"{what[0].upper()}{what[1:]}: {where}: {error.strerror}")
