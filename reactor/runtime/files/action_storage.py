"""`ctx.storage` of actions: content of stored files, in and out.

Owns what can be stored (bytes, a file on disk, an iterator) and what `get` gives. Promises that content goes through in
parts, whatever its size, and that a file which was stored to the end is there for everybody, whether or not the action
goes on. Used by `action_context`.
"""

import os
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from reactor.errors import InvalidArgument
from reactor.runtime.actions.ports import ActionCall, AsyncPort
from reactor.runtime.files.documents import FileRow, Incoming, is_content_type
from reactor.runtime.files.storage import add_file, find_file
from reactor.runtime.files.store import PART_BYTES, Files
from reactor.storage.interface import Written

Bytes = bytes | bytearray | memoryview

_SHA256: Final = re.compile(r"[A-Za-z0-9+/]{43}=")


class _File:
    """What is known of a stored file without reading it."""

    __slots__ = ("_files", "_row")

    def __init__(self, files: Files, row: FileRow) -> None:
        self._files = files
        self._row = row

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self._row.size

    @property
    def sha256(self) -> str:
        """The SHA-256 of its content, in base64."""
        return self._row.sha256

    @property
    def content_type(self) -> str | None:
        """The type it was stored with."""
        return self._row.content_type


class StoredFile(_File):
    """A stored file, to be read. One that is deleted meanwhile can still be read for a while."""

    __slots__ = ()

    async def read(self) -> bytes:
        """Return all of it."""
        return b"".join([part async for part in self.stream()])

    def stream(self) -> AsyncIterator[bytes]:
        """Iterate over it in parts: `async for part in file.stream()`."""
        return self._files.parts(self._row)


class BlockingStoredFile(_File):
    """A stored file, to be read by a plain `def` action."""

    __slots__ = ()

    def read(self) -> bytes:
        """Return all of it."""
        return b"".join(self.stream())

    def stream(self) -> Iterator[bytes]:
        """Iterate over it in parts: `for part in file.stream()`."""
        return self._files.parts_blocking(self._row)


class ActionStorage:
    """`ctx.storage` of an `async def` action."""

    __slots__ = ("_port",)

    def __init__(self, port: AsyncPort) -> None:
        self._port = port

    def get_url(self, storage_id: str, /) -> ActionCall[str | None]:
        """Return the URL of a file, or None when there is no such file (any more).

        Raises:
            InvalidStorageId: `storage_id` is no id of `_storage`.
        """
        call: ActionCall[str | None]
        call = self._port.query(lambda ctx: ctx.storage.get_url(storage_id), "storage.get_url()")
        return call

    def generate_upload_url(self) -> ActionCall[str]:
        """Return a URL that a file can be posted to for an hour; the answer is `{"storageId": …}`."""
        call: ActionCall[str]
        call = self._port.mutate(lambda ctx: ctx.storage.generate_upload_url(), "storage.generate_upload_url()")
        return call

    def delete(self, storage_id: str, /) -> ActionCall[None]:
        """Delete a file, in a transaction of its own.

        Raises:
            InvalidStorageId: `storage_id` is no id of `_storage`.
            StoredFileNotFound: there is no such file.
        """
        call: ActionCall[None] = self._port.mutate(lambda ctx: ctx.storage.delete(storage_id), "storage.delete()")
        return call

    def store(
        self,
        data: Bytes | os.PathLike[str] | AsyncIterable[bytes],
        content_type: str | None = None,
        *,
        sha256: str | None = None,
    ) -> ActionCall[str]:
        """Store bytes, the file at a path, or what an async iterator gives; return the id.

        Args:
            data: the content.
            content_type: such as `image/png`.
            sha256: what the content must have, in base64 like `StoredFile.sha256`; nothing is stored otherwise.

        Raises:
            InvalidArgument: `data` is none of these, `content_type` is not like `image/png`, or `sha256` is not the
                content's.
            LimitExceeded: it is larger than `REACTOR_FILE_BYTES`.
            StorageError: the disk can't take it.
        """
        port = self._port

        async def insert(incoming: Incoming) -> str:
            return str(await port.mutate(partial(add_file, incoming=incoming), "storage.store()"))

        async def store() -> str:
            files = port.files
            return await files.store(_parts(files, data), _checked(content_type), insert, _check_of(sha256))

        return port.do("storage.store()", store)

    def get(self, storage_id: str, /) -> ActionCall[StoredFile | None]:
        """Return a file, or None when there is no such file (any more).

        Raises:
            InvalidStorageId: `storage_id` is no id of `_storage`.
        """
        port = self._port

        async def get() -> StoredFile | None:
            found = await port.query(partial(find_file, storage_id=storage_id), "storage.get()")
            return None if found is None else StoredFile(port.files, FileRow.from_document(found))

        return port.do("storage.get()", get)


class BlockingActionStorage(ActionStorage):
    """`ctx.storage` of a plain `def` action."""

    __slots__ = ()

    def store(  # type: ignore[override]
        self,
        data: Bytes | os.PathLike[str] | Iterable[bytes],
        content_type: str | None = None,
        *,
        sha256: str | None = None,
    ) -> str:
        """Store bytes, the file at a path, or what an iterator gives; return the id. See `ActionStorage.store`."""
        port = self._port
        port.check_alive()

        def insert(incoming: Incoming) -> str:
            return str(port.mutate(partial(add_file, incoming=incoming), "storage.store()"))

        return port.files.store_blocking(_parts_blocking(data), _checked(content_type), insert, _check_of(sha256))

    def get(self, storage_id: str, /) -> BlockingStoredFile | None:  # type: ignore[override]
        """Return a file, or None when there is no such file (any more). See `ActionStorage.get`."""
        port = self._port
        found = port.query(partial(find_file, storage_id=storage_id), "storage.get()")
        return None if found is None else BlockingStoredFile(port.files, FileRow.from_document(found))


async def _parts(files: Files, data: object) -> AsyncIterator[bytes]:
    if isinstance(data, os.PathLike):
        file = await files.in_thread(_open, data)
        try:
            while part := await files.in_thread(file.read, PART_BYTES):
                yield part
        finally:
            file.close()
    elif isinstance(data, AsyncIterable):
        async for part in data:
            yield _bytes(part)
    elif isinstance(data, Bytes):
        yield bytes(data)
    else:
        raise _not_content(data, "an async iterator of bytes")


def _parts_blocking(data: object) -> Iterator[bytes]:
    if isinstance(data, os.PathLike):
        with _open(data) as file:
            while part := file.read(PART_BYTES):
                yield part
    elif isinstance(data, Bytes):
        yield bytes(data)
    elif isinstance(data, Iterable) and not isinstance(data, str):
        for part in data:
            yield _bytes(part)
    else:
        raise _not_content(data, "an iterator of bytes")


def _open(path: os.PathLike[str]) -> BinaryIO:
    return Path(path).open("rb")


def _bytes(part: object) -> bytes:
    if not isinstance(part, Bytes):
        raise InvalidArgument(f"storage.store() takes parts that are bytes, not {type(part).__name__}.")
    return bytes(part)


def _not_content(data: object, iterator: str) -> InvalidArgument:
    return InvalidArgument(
        f"storage.store() takes bytes, a pathlib.Path or {iterator}, not {type(data).__name__}. "
        "Text must be encoded; a path given as text must be made a Path."
    )


def _check_of(sha256: str | None) -> Callable[[Written], None]:
    """Return what raises for content with another SHA-256."""
    if sha256 is None:
        return lambda written: None
    if not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
        raise InvalidArgument(f"sha256= is the base64 of 32 bytes, not {sha256!r:.100}.")
    expected = b64decode(sha256)

    def check(written: Written) -> None:
        if written.sha256 != expected:
            actual = b64encode(written.sha256).decode()
            raise InvalidArgument(f"Sha256 mismatch. Expected: {sha256} Actual: {actual}")

    return check


def _checked(content_type: str | None) -> str | None:
    if content_type is not None and not is_content_type(content_type):
        raise InvalidArgument(f"{content_type!r} is not a content type such as image/png.")
    return content_type
