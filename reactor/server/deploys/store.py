"""Where the archives of deploys are kept, and unpacked to run.

Owns `<data>/deploys/`: `<sha256>.zip` for each archive, `unpacked/` for the folders that projects are loaded from.
Promises that an archive has its name only when all of it is on disk, that what is read is what was put, and that
nothing below `unpacked/` is trusted after a start. All methods block. Used by deploys.
"""

import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from reactor.errors import StorageError
from reactor.server.deploys.archive import unpack
from reactor.storage.folders import make_folder, sync_folder

FOLDER: Final = "deploys"
_SUFFIX: Final = ".zip"


class DeployStore:
    """The archives of one deployment; in memory, with its folders somewhere temporary, when there is no directory."""

    def __init__(self, data: Path | None, most_bytes: int) -> None:
        """`most_bytes` is how many the files of one project may have."""
        self._archives: Path | None = None if data is None else data / FOLDER
        self._memory: dict[str, bytes] = {}
        self._most_bytes = most_bytes
        self._unpacked: Path | None = None
        self._numbers = itertools.count(1)

    def open(self) -> None:
        """Remove what an earlier process has unpacked, or not finished to store.

        Raises:
            StorageError: the folder can't be used.
        """
        if self._archives is None:
            return
        try:
            shutil.rmtree(self._archives / "unpacked", ignore_errors=False)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _trouble(self._archives, error) from error
        for unfinished in self._archives.glob("*.unfinished"):
            with suppress(OSError):
                unfinished.unlink()

    def put(self, data: bytes) -> str:
        """Keep an archive, durably; return its digest.

        Raises:
            StorageError: it can't be kept.
        """
        digest = hashlib.sha256(data).hexdigest()
        if self._archives is None:
            self._memory[digest] = data
            return digest
        place = self._place(digest)
        try:
            make_folder(self._archives)
            with tempfile.NamedTemporaryFile(dir=self._archives, suffix=".unfinished", delete=False) as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(stream.name, place)
            sync_folder(self._archives)
        except OSError as error:
            raise _trouble(self._archives, error) from error
        return digest

    def get(self, digest: str) -> bytes:
        """Return an archive.

        Raises:
            StorageError: it is gone, damaged, or can't be read.
        """
        if self._archives is None:
            return self._memory[digest]
        try:
            data = self._place(digest).read_bytes()
        except OSError as error:
            raise _trouble(self._place(digest), error) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StorageError(f"{self._place(digest)} is damaged: deploy the project again.")
        return data

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove all other archives. One that can't be removed stays until the next time."""
        if self._archives is None:
            self._memory = {digest: data for digest, data in self._memory.items() if digest in digests}
            return
        for file in self._archives.glob(f"*{_SUFFIX}"):
            if file.stem not in digests:
                with suppress(OSError):
                    file.unlink()

    def unpack(self, data: bytes) -> tuple[Path, int]:
        """Unpack an archive into a new folder; return that, and how many files there are.

        Raises:
            DeployRefused: it is none, or too large.
            StorageError: it can't be written.
        """
        folder = self._new_folder()
        try:
            return folder, unpack(data, folder, self._most_bytes)
        except BaseException as error:
            self.discard(folder)
            if isinstance(error, OSError):
                raise _trouble(folder, error) from error
            raise

    def discard(self, folder: Path) -> None:
        """Remove an unpacked project."""
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything that was unpacked."""
        if self._unpacked is not None:
            shutil.rmtree(self._unpacked, ignore_errors=True)
            self._unpacked = None

    def _new_folder(self) -> Path:
        try:
            if self._unpacked is None:
                if self._archives is None:
                    self._unpacked = Path(tempfile.mkdtemp(prefix="reactor-deploys-")).resolve()
                else:
                    self._unpacked = self._archives / "unpacked"
                    make_folder(self._unpacked)
            folder = self._unpacked / str(next(self._numbers))
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise _trouble(self._unpacked or Path(tempfile.gettempdir()), error) from error
        return folder

    def _place(self, digest: str) -> Path:
        assert self._archives is not None
        return self._archives / (digest + _SUFFIX)


def _trouble(where: Path, error: OSError) -> StorageError:
    return StorageError(f"The archive of a deploy can't be read or written in {where}: {error.strerror or error}.")
