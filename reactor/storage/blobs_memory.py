"""Blobs that live as long as their object: for tests, and for deployments that keep nothing.

Owns nothing but memory, yet promises all of `interface.BlobStore`.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from inspect import unwrap

from reactor.errors import StorageError
from reactor.storage.interface import FoundBlob, Written, check_blob_key

_time_ns = unwrap(time.time_ns)  # functions of the project see a dispatcher


class MemoryBlobs:
    """A `BlobStore` in memory."""

    outlives_process = False

    def __init__(self, room: int | None = None) -> None:
        """`room` is how many bytes all blobs together may take, unfinished ones too; None is no bound."""
        self.blobs: dict[str, tuple[bytes, int]] = {}  # content, and when it was put
        self._room = room
        self._bytes = 0
        self._counting = threading.Lock()

    def fork(self) -> "MemoryBlobs":
        """Return a store that begins with the same blobs, of which neither sees what the other does later."""
        copy = MemoryBlobs(self._room)
        copy.blobs = dict(self.blobs)
        copy._bytes = sum(len(content) for content, _ in copy.blobs.values())
        return copy

    def take(self, count: int) -> None:
        """Count bytes that come, or, below 0, that go.

        Raises:
            StorageError: there is no room for them.
        """
        with self._counting:
            if self._room is not None and count > 0 and self._bytes + count > self._room:
                raise StorageError(
                    f"Files in memory would take more than {self._room} bytes: keep them in a data directory, or raise "
                    "REACTOR_DATA_BYTES. Nothing was stored."
                )
            self._bytes += count

    def open(self) -> None:
        """See `BlobStore.open`."""

    def write(self, key: str) -> "_MemoryWriter":
        """See `BlobStore.write`."""
        return _MemoryWriter(self, check_blob_key(key))

    def read(self, key: str) -> "_MemoryReader | None":
        """See `BlobStore.read`."""
        found = self.blobs.get(check_blob_key(key))
        return None if found is None else _MemoryReader(key, found[0])

    def delete(self, keys: Iterable[str]) -> None:
        """See `BlobStore.delete`."""
        for key in keys:
            gone = self.blobs.pop(check_blob_key(key), None)
            if gone is not None:
                self.take(-len(gone[0]))

    def list(self) -> Iterator[list[FoundBlob]]:
        """See `BlobStore.list`."""
        yield [FoundBlob(key, put_ns) for key, (_, put_ns) in list(self.blobs.items())]


class _MemoryWriter:
    def __init__(self, store: MemoryBlobs, key: str) -> None:
        self._store = store
        self._key = key
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._store.take(len(data))
        self._parts.append(bytes(data))

    def finish(self) -> Written:
        content = b"".join(self._parts)
        self._parts.clear()
        self._store.blobs[self._key] = content, _time_ns()
        return Written(len(content), sha256(content).digest())

    def abort(self) -> None:
        parts, self._parts = self._parts, []
        self._store.take(-sum(map(len, parts)))


class _MemoryReader:
    def __init__(self, key: str, content: bytes) -> None:
        self._key = key
        self._content = content

    def read(self, offset: int, count: int) -> bytes:
        data = self._content[offset : offset + count]
        if len(data) < count:
            raise StorageError(f"blob {self._key} ends after {len(self._content)} bytes")
        return data

    def close(self) -> None:
        """Nothing is held."""
