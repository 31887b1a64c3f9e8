"""Stored files: content in a blob store, and one document of `_storage` for each (`file_documents`).

Owns the way in (bytes first, then a short transaction that inserts the document), the URLs, and the threads in which
content is read and written. Promises that no document names content that is not durable, that content whose document
may not have been committed is reported to the collector, and that no disk is waited for on an event loop. Used by
`ctx.storage`, by the endpoints for uploads and downloads, and by the collector.
"""

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import quote

from reactor.auth.upload_token import UploadTokens
from reactor.engine.catalog import BY_BLOB, BY_UUID, STORED_FILES, Table
from reactor.engine.database import Database
from reactor.engine.systemdocs import find_system
from reactor.errors import LimitExceeded, StorageError
from reactor.limits import KIB, Limits
from reactor.ports import Clock, Rng
from reactor.runtime.environment.origins import Origins
from reactor.runtime.files.documents import FileRow, Incoming
from reactor.storage import failpoints
from reactor.storage.interface import BLOB_KEY_BYTES, BlobReader, BlobStore, BlobWriter, Written
from reactor.values.keys import encode_key, prefix_bounds

T = TypeVar("T")

PART_BYTES: Final = 256 * KIB  # of content in memory for each file that comes or goes


class Files:
    """The stored files of one host."""

    def __init__(
        self, database: Database, blobs: BlobStore, origins: Origins, clock: Clock, rng: Rng, limits: Limits
    ) -> None:
        self.blobs = blobs
        self.tokens = UploadTokens("", rng.token_bytes(32))  # good until closing, unless the owner has a secret
        self.arriving: set[str] = set()  # keys of content whose document is still to come; from any thread
        self.on_doubtful: list[Callable[[str], None]] = []  # told of each key that may have no document; any thread
        self._database = database
        self._origins = origins
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.file_threads, thread_name_prefix="reactor-files")

    def close(self) -> None:
        """End the threads; what they still do is done."""
        self._threads.shutdown()

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Run what may wait for a disk, to its end even when this is cancelled: nothing else may touch it meanwhile."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            running.exception()  # looked at, so that nobody reports it as lost
            raise

    # The way in.

    async def store(
        self,
        parts: AsyncIterable[bytes],
        content_type: str | None,
        insert: Callable[[Incoming], Awaitable[str]],
        check: Callable[[Written], None] = lambda written: None,
    ) -> str:
        """Store what `parts` gives and return the id that `insert` gave its document.

        Args:
            insert: commits the document; see `files.add_file`.
            check: raises when the content is not what it should be; nothing is stored then.

        Raises:
            LimitExceeded: it is larger than files may be.
            StorageError: it can't be kept.
        """
        arrival = _Arrival(self, content_type)
        try:
            waiting = bytearray()
            async for part in parts:
                arrival.expect(len(part))
                waiting += part
                if len(waiting) >= PART_BYTES:
                    await self.in_thread(arrival.write, bytes(waiting))
                    waiting.clear()
            incoming = await self.in_thread(arrival.finish, bytes(waiting))
            check(incoming.written)
        except BaseException:
            await self.in_thread(arrival.abort)
            raise
        try:
            stored_id = await insert(incoming)
        except BaseException:
            arrival.doubt()
            raise
        arrival.settle()
        if failpoints.armed is not None:
            failpoints.armed("upload: after the row")
        return stored_id

    def store_blocking(
        self,
        parts: Iterable[bytes],
        content_type: str | None,
        insert: Callable[[Incoming], str],
        check: Callable[[Written], None] = lambda written: None,
    ) -> str:
        """`store`, for code that may wait for a disk."""
        arrival = _Arrival(self, content_type)
        try:
            for part in parts:
                arrival.expect(len(part))
                arrival.write(part)
            incoming = arrival.finish(b"")
            check(incoming.written)
        except BaseException:
            arrival.abort()
            raise
        try:
            stored_id = insert(incoming)
        except BaseException:
            arrival.doubt()
            raise
        arrival.settle()
        return stored_id

    def new_key(self) -> str:
        """Return a key that no blob ever had."""
        return self._rng.token_bytes(BLOB_KEY_BYTES).hex()

    def new_uuid(self) -> str:
        """Return a UUID that nobody can guess: who knows it may read the file."""
        return str(uuid.UUID(bytes=self._rng.token_bytes(16), version=4))

    @property
    def file_bytes(self) -> int:
        """The size of the largest file that is stored; 0 is none."""
        return self._limits.file_bytes

    # The way out.

    async def load(self, component: str) -> Table | None:
        """Return the files of a component instance, in memory, or None: there is no such instance.

        Raises:
            StorageError, DataBytesExceeded, Unavailable: they can't be brought into memory.
        """
        table = self._database.catalog.namespace(component).by_name.get(STORED_FILES)
        if table is not None and table.unloaded is not None:
            await self._database.loading.load(table)
        return table

    def find(self, table: Table, uuid: str) -> FileRow | None:
        """Return the file with this UUID, as of the durable timestamp."""
        document = find_system(self._database.begin_query(), table, BY_UUID, uuid)
        return None if document is None else FileRow.from_document(document)

    def exists(self, key: str) -> bool:
        """Whether any document names the blob `key`, or may still come to be seen to do so."""
        for table in self.tables():
            at = encode_key([key])
            if table.indexes[BY_BLOB].keys.count(*prefix_bounds(at)):
                return True
            # What was deleted by a commit that is not durable may come back.
            if find_system(self._database.begin_query(), table, BY_BLOB, key) is not None:
                return True
        return key in self.arriving

    def tables(self) -> list[Table]:
        """Return the table of files of each component instance."""
        return [table for table in self._database.catalog.by_name.values() if table.local_name == STORED_FILES]

    async def open(self, row: FileRow) -> BlobReader:
        """Begin to read the content of a file; close what this returns, in a thread.

        Raises:
            StorageError: it can't be read, or is lost.
        """
        return await self.in_thread(self.open_blocking, row)

    def open_blocking(self, row: FileRow) -> BlobReader:
        """`open`, for code that may wait for a disk."""
        reader = self.blobs.read(row.key)
        if reader is None:
            raise StorageError(
                f"The content of file {row.id} is missing: was the storage folder restored with its data?"
            )
        return reader

    async def parts(self, row: FileRow, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Iterate over the bytes `[start, end)` of a file.

        Raises:
            StorageError: they can't be read.
        """
        reader = await self.open(row)
        try:
            for offset, count in _split(start, row.size if end is None else end):
                yield await self.in_thread(reader.read, offset, count)
        finally:
            await self.in_thread(reader.close)

    def parts_blocking(self, row: FileRow) -> Iterator[bytes]:
        """`parts`, for code that may wait for a disk."""
        reader = self.open_blocking(row)
        try:
            for offset, count in _split(0, row.size):
                yield reader.read(offset, count)
        finally:
            reader.close()

    # URLs.

    def upload_url(self, component: str, now_ns: int) -> str:
        """Return a URL that takes uploads into a component instance for an hour from `now_ns` on."""
        return f"{self._origins.cloud}/api/storage/upload?token={self.tokens.issue(now_ns, component)}"

    def component_of(self, token: str) -> str:
        """Return the component instance that the token of an upload URL allows uploads into.

        Raises:
            InvalidUploadToken: none, or not any more.
        """
        return self.tokens.check(token, self._clock.now_ns())

    def url(self, component: str, uuid: str) -> str:
        """Return the URL at which a file can be read, until it is deleted, by everybody who has it."""
        suffix = f"?component={quote(component, safe='')}" if component else ""
        return f"{self._origins.cloud}/api/storage/{uuid}{suffix}"


class _Arrival:
    """One file on its way in. `write`, `finish` and `abort` may wait for a disk."""

    def __init__(self, files: Files, content_type: str | None) -> None:
        self._files = files
        self._content_type = content_type
        self._key = files.new_key()
        self._size = 0
        self._writer: BlobWriter | None = None
        files.arriving.add(self._key)

    def expect(self, count: int) -> None:
        """Count bytes before they are written."""
        self._size += count
        limit = self._files.file_bytes
        if limit and self._size > limit:
            raise LimitExceeded(
                "FileTooLarge", f"The file is larger than REACTOR_FILE_BYTES={limit}. Nothing was stored."
            )

    def write(self, data: bytes) -> None:
        if self._writer is None:
            self._writer = self._files.blobs.write(self._key)
        self._writer.write(data)

    def finish(self, last: bytes) -> Incoming:
        self.write(last)
        assert self._writer is not None
        return Incoming(self._files.new_uuid(), self._key, self._writer.finish(), self._content_type)

    def abort(self) -> None:
        """Leave nothing behind."""
        try:
            if self._writer is not None:
                self._writer.abort()
                self._files.blobs.delete([self._key])
        except StorageError:
            self.doubt()
        else:
            self.settle()

    def doubt(self) -> None:
        """There may be a document, or there may be none: let the collector find out."""
        self.settle()
        for hear in self._files.on_doubtful:
            hear(self._key)

    def settle(self) -> None:
        """It is known whether there is a document."""
        self._files.arriving.discard(self._key)


def _split(start: int, end: int) -> Iterator[tuple[int, int]]:
    for offset in range(start, end, PART_BYTES):
        yield offset, min(PART_BYTES, end - offset)
