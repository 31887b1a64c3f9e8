"""Tablets: documents in storage that belong to no table yet, or to none any more.

Storage keeps the documents of a table under a tablet, at first its number. To replace a table as a whole, the new
documents go into the log under a tablet that no table has (`Unseen`), so that nobody sees them; then one commit of
`_tables` says which tablet the table has. What no row of `_tables` names is garbage by that alone, whether it was
replaced or never came to be seen, also after a crash. Owns its removal. Used by imports (`design/24-import.md`).
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from reactor.engine.catalog import Table, document_bytes, document_id
from reactor.engine.loading import Building
from reactor.errors import Error
from reactor.ports import Spawn
from reactor.storage.interface import DocumentWrite
from reactor.values.types import Value

if TYPE_CHECKING:
    from reactor.engine.database import Database

log = logging.getLogger(__name__)

RECORD_BYTES: Final = 32 * 1024  # of documents in one record of the log, so that others' commits don't wait long
RECORD_DOCUMENTS: Final = 128
FLIGHT_BYTES: Final = 128 * 1024  # that go to the disk before the next are made


class Unseen:
    """The next documents of a table, in the log and in memory, which nobody can find."""

    def __init__(self, database: "Database", name: str, fields: Iterable[tuple[str, ...]]) -> None:
        """`fields` are those of the indexes that the table has."""
        self.content = database.catalog.new_content(name, database.commit_clock.next(), fields)
        self._database = database
        self._building = Building(self.content)
        self._writes: list[DocumentWrite] = []
        self._bytes = 0  # in `_writes`
        self._in_flight = 0  # bytes since `settle`
        self._ts = 0
        self._is_counted = False  # in the bytes of the catalog

    def __len__(self) -> int:
        return len(self._building.documents)

    def __contains__(self, key: bytes) -> bool:
        """Whether the document with this `id_key` is there."""
        return key in self._building.documents

    @property
    def documents(self) -> dict[bytes, bytes]:
        """What is there: the stored forms, by `id_key`."""
        return self._building.documents

    @property
    def is_due(self) -> bool:
        """Whether `settle` should be waited for before more comes."""
        return self._in_flight >= FLIGHT_BYTES

    def add(self, key: bytes, document: dict[str, Value], data: bytes) -> None:
        """Take a document, which is not there yet.

        Raises:
            DataBytesExceeded: there is no room in memory.
        """
        self._building.add(key, data, document)
        self._writes.append(DocumentWrite(self.content.tablet, document_id(key), data))
        self._bytes += len(data)
        if self._bytes >= RECORD_BYTES or len(self._writes) >= RECORD_DOCUMENTS:
            self._append()
            self._database.catalog.check_room(self._building.bytes)

    async def settle(self) -> None:
        """Wait until what was added is durable.

        Raises:
            StorageError, OutcomeUnknown: it can't be written; nothing of this can be used.
        """
        if self._writes:
            self._append()
        if self._ts:
            await self._database.durable(self._ts)
        self._in_flight = 0

    async def finish(self) -> Table:
        """Bring the documents into order and return them as what `replace_content` takes.

        Raises:
            StorageError, OutcomeUnknown: see `settle`.
        """
        await self.settle()
        for _ in self._building.sort():
            await asyncio.sleep(0)
        self._building.install(self._database.catalog)
        self._is_counted = True
        return self.content

    def abandon(self) -> None:
        """Remove all of it, in the background: it shall not be used."""
        self.content.documents = self._building.documents
        self._database.tablets.discard(self.content, is_counted=self._is_counted)

    def _append(self) -> None:
        self._ts = self._database.append_unseen(self._writes)
        self._in_flight += self._bytes
        self._writes, self._bytes = [], 0


class Tablets:
    """What removes documents that no table has. Belongs to one open database."""

    def __init__(self, database: "Database", spawn: Spawn) -> None:
        self._database = database
        self._spawn = spawn
        self._is_closing = False
        self._closing = asyncio.Event()
        self.leaving: set[int] = set()  # tablets that are being removed
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    def sweep(self, strays: dict[int, dict[str, bytes | None]]) -> None:
        """Remove, in the background, what was found when the database was opened (`recovery`)."""
        for tablet, writes in strays.items():
            ids = {name for name, data in writes.items() if data is not None}
            self._begin(tablet, self._remove_stored(tablet, ids))

    def discard(self, content: Table, *, is_counted: bool) -> None:
        """Remove documents that nobody can find, in the background."""
        self._begin(content.tablet, self._remove_held(content, is_counted))

    def discard_replaced(self, content: Table, table: Table, replaced_at: int) -> None:
        """Remove what `table` held before a timestamp, in the background, when no snapshot needs it any more."""
        self._begin(content.tablet, self._remove_replaced(content, table, replaced_at))

    async def settled(self) -> None:
        """Wait until nothing is left to remove."""
        await self._at_rest.wait()

    async def close(self) -> None:
        """Stop; the next opening goes on."""
        self._is_closing = True
        self._closing.set()
        await self._at_rest.wait()

    def _begin(self, tablet: int, removal: Coroutine[Any, Any, None]) -> None:
        self.leaving.add(tablet)
        self._at_rest.clear()
        self._spawn(self._run(tablet, removal), name=f"remove tablet {tablet}")

    async def _run(self, tablet: int, removal: Coroutine[Any, Any, None]) -> None:
        try:
            await removal
        except Error as error:
            if not self._is_closing:
                log.warning("documents that were replaced or never imported are left until the next start: %s", error)
        finally:
            self.leaving.discard(tablet)
            if not self.leaving:
                self._at_rest.set()

    async def _remove_stored(self, tablet: int, ids: set[str]) -> None:
        found: list[str] = []
        async for chunk in self._database.persistence.load(tablet):
            found += [stored.id for stored in chunk]
            ids.difference_update(found[-len(chunk) :])
        found += sorted(ids)
        for start in range(0, len(found), RECORD_DOCUMENTS):
            if self._is_closing:
                return
            await self._bury(tablet, found[start : start + RECORD_DOCUMENTS])

    async def _remove_replaced(self, content: Table, table: Table, replaced_at: int) -> None:
        passed = asyncio.ensure_future(self._database.retention.no_reader_before(replaced_at))
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait((passed, closing), return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if not passed.done():
            passed.cancel()
            return
        for fields, old in content.indexes.items():
            index = table.indexes.get(fields)
            while index is not None and index.before is not None:
                if index.before is old:
                    index.before = None
                index = index.before
        await self._remove_held(content, is_counted=True)

    async def _remove_held(self, content: Table, is_counted: bool) -> None:
        """Remove documents that are in memory, from there too, a few at a time: to free a million takes a while."""
        catalog = self._database.catalog
        if is_counted:
            catalog.bytes -= sum(index.keys.bytes for index in content.order)
        content.indexes.clear()
        content.order = ()
        documents = content.documents
        while documents and not self._is_closing:
            some: list[str] = []
            while documents and len(some) < RECORD_DOCUMENTS:
                key, data = documents.popitem()
                if is_counted:
                    catalog.bytes -= document_bytes(data)
                some.append(document_id(key))
            await self._bury(content.tablet, some)

    async def _bury(self, tablet: int, ids: list[str]) -> None:
        database = self._database
        await database.durable(database.append_unseen([DocumentWrite(tablet, name, None) for name in ids]))
