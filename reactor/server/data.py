"""Where the data of a deployment lies: a directory, or memory.

Owns the default and the order in which it is decided. Used by the composition root and by commands that need the data
but no server.
"""

import os
from pathlib import Path
from typing import Final

from reactor.limits import Limits
from reactor.runtime.project import read_options
from reactor.storage.blobs_local import LocalBlobs
from reactor.storage.blobs_memory import MemoryBlobs
from reactor.storage.interface import BlobStore, Persistence
from reactor.storage.memory import MemoryPersistence
from reactor.storage.sqlite import SqlitePersistence

MEMORY: Final = ":memory:"
DEFAULT_DATA: Final = ".reactor"


def data_directory(project: Path | None, data: str | os.PathLike[str] | None) -> Path | None:
    """Return where the data of a project is: as told, else as its pyproject.toml says, else `.reactor`. None is memory.

    Without a project it is as told, or `.reactor` here.

    Raises:
        PushError: nothing was told, and the pyproject.toml can't be used.
    """
    if data is None and project is None:
        data = DEFAULT_DATA
    if data is None:
        assert project is not None
        configured = read_options(project).data
        data = configured if configured == MEMORY else project / (configured or DEFAULT_DATA)
    return None if data == MEMORY else Path(data).resolve()


def log_in(directory: Path | None, limits: Limits) -> Persistence:
    """Return the storage of documents in a data directory, not open yet."""
    if directory is None:
        return MemoryPersistence()
    return SqlitePersistence(directory, wal_bytes=limits.wal_bytes, wal_limit_bytes=limits.wal_limit_bytes)


def blobs_in(directory: Path | None, limits: Limits) -> BlobStore:
    """Return the storage of files in a data directory, not open yet."""
    return MemoryBlobs(limits.data_bytes) if directory is None else LocalBlobs(directory)
