"""The lock file: one process at a time may open a data directory.

Owns `reactor.lock`. The lock is the kernel's (`flock`), so it goes with the process that holds it, however that ends;
the text inside only tells others who it is. Used by the backends that keep files.
"""

import fcntl
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from reactor.errors import StorageError

LOCK_NAME: Final = "reactor.lock"


class Holder(msgspec.Struct):
    """Who holds a lease, as written in the lock file."""

    pid: int
    command: str
    has_data: bool = False  # a database was made here, so a missing file is a lost one


class LockFile:
    """The lease on one directory. The file stays when the lease is released: removing it would race with others."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self._descriptor: int | None = None
        self.had_data = False

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lease."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Create the directory if need be and take the lease.

        Raises:
            StorageError: another holder has it, or the directory can't be written.
        """
        if self._descriptor is not None:
            raise StorageError(f"{self.path.parent} is open already: close it first")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"{self.path.parent} can't be used as a data directory: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            previous = self.holder()
            self.had_data = previous is not None and previous.has_data
            self._write(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise StorageError(
                f"{self.path.parent} is in use by {self._holder_text()}: "
                "stop it first, or choose another data directory"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise StorageError(f"{self.path} can't be locked: {error.strerror}") from error
        self._descriptor = descriptor

    def mark_data(self) -> None:
        """Note for every later holder that this directory holds a database. Kept as well as the disk allows."""
        if self._descriptor is not None and not self.had_data:
            self.had_data = True
            with suppress(OSError):
                self._write(self._descriptor)

    def _write(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(Holder(os.getpid(), " ".join(sys.argv), self.had_data)), 0)

    def release(self) -> None:
        """Give the lease back, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def holder(self) -> Holder | None:
        """Return who took the lease last, or None when the file does not say."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Holder)
        except (OSError, msgspec.MsgspecError):
            return None

    def _holder_text(self) -> str:
        holder = self.holder()
        if holder is None:
            return "another process"
        if holder.pid == os.getpid():
            return f"this process (pid {holder.pid})"
        return f"process {holder.pid} ({holder.command})"
