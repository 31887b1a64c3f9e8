"""Loading: a table's documents come into memory when somebody first touches them.

Owns who waits for which table. Promises one load per table however many ask, in slices beside everything else; that a
table appears whole or not at all; and that a load which failed is tried again by the next one who asks. Nothing commits
to a table before it is loaded, so what is read is its state at every timestamp that can be asked for. Used by the
executor, the live queries and the push.
"""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Final, NamedTuple

from reactor.engine.catalog import DOCUMENT_BYTES, Catalog, Table, id_key
from reactor.engine.sortedkeys import KEY_BYTES, SortedKeys
from reactor.errors import DataBytesExceeded, Error, StorageError, Unavailable, ValidationError
from reactor.limits import Limits
from reactor.ports import Clock, Spawn
from reactor.storage.interface import Persistence
from reactor.values.stored import decode_object
from reactor.values.types import Value

SLICE_DOCUMENTS: Final = 64  # decoded before the load looks at the clock


class Waiter(NamedTuple):
    """Somebody who waits for a table; exactly one of the two is called."""

    loaded: Callable[[], None]
    failed: Callable[[Error], None]


class Loading:
    """The loads of one open database."""

    def __init__(self, persistence: Persistence, catalog: Catalog, limits: Limits, spawn: Spawn, clock: Clock) -> None:
        self._persistence = persistence
        self._catalog = catalog
        self._limits = limits
        self._spawn = spawn
        self._monotonic = clock.monotonic
        self._waiters: dict[int, list[Waiter]] = {}
        self._is_closing = False
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self.loads = 0  # begun since the database was opened

    def when_loaded(self, table: Table, loaded: Callable[[], None], failed: Callable[[Error], None]) -> None:
        """Call `loaded` when the documents of `table` are in memory, or `failed` when they can't be had.

        Never calls either from inside this method.
        """
        if table.unloaded is None:
            _soon(loaded)
            return
        waiters = self._waiters.get(table.tablet)
        if waiters is not None:
            waiters.append(Waiter(loaded, failed))
            return
        self._waiters[table.tablet] = [Waiter(loaded, failed)]
        self._at_rest.clear()
        self.loads += 1
        self._spawn(self._run(table), name=f"load {table.name}")

    async def load(self, table: Table) -> None:
        """Return when the documents of `table` are in memory.

        Raises:
            StorageError: they can't be read.
            DataBytesExceeded: they don't fit into the budget.
            Unavailable: the database is closing.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.when_loaded(
            table,
            lambda: None if done.done() else done.set_result(None),
            lambda error: None if done.done() else done.set_exception(error),
        )
        await done

    async def settled(self, table: Table) -> None:
        """Return when `table` is not being loaded: it is in memory, or nobody has asked for it, or its load failed."""
        while table.tablet in self._waiters:
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def settle(_: Error | None = None, settled: asyncio.Future[None] = settled) -> None:
                if not settled.done():
                    settled.set_result(None)

            self._waiters[table.tablet].append(Waiter(settle, settle))
            await settled

    async def close(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._is_closing = True
        await self._at_rest.wait()

    async def _run(self, table: Table) -> None:
        failure: Error = Unavailable("The load was stopped.")
        try:
            await self._load(table)
        except Unavailable as closing:
            failure = closing
        except (StorageError, DataBytesExceeded) as error:
            failure = type(error)(f'Table "{table.name}" can\'t be loaded. {error}')
        finally:
            waiters = self._waiters.pop(table.tablet)
            if not self._waiters:
                self._at_rest.set()
            for waiter in waiters:
                if table.unloaded is None:
                    _soon(waiter.loaded)
                else:
                    _soon(lambda waiter=waiter: waiter.failed(failure))  # type: ignore[misc]

    async def _load(self, table: Table) -> None:
        unloaded = table.unloaded
        assert unloaded is not None
        writes = unloaded.writes
        building = Building(table)
        due = self._monotonic()
        async for chunk in self._persistence.load(table.tablet):
            for start in range(0, len(chunk), SLICE_DOCUMENTS):
                for stored in chunk[start : start + SLICE_DOCUMENTS]:
                    if stored.id not in writes:
                        building.place(stored.id, stored.value)
                due = await self._slice(building, due)
        for document_id, data in writes.items():
            if data is not None:
                building.place(document_id, data)
            due = await self._slice(building, due)
        for _ in building.sort():
            due = await self._slice(building, due)
        building.install(self._catalog)

    async def _slice(self, building: "Building", due: float) -> float:
        """Let others go on when the slice is used up; return when the next one ends."""
        if self._is_closing:
            raise Unavailable("The deployment is closed.")
        self._catalog.check_room(building.bytes)
        if self._monotonic() < due:
            return due
        await asyncio.sleep(0)
        return self._monotonic() + self._limits.slice_ms / 1000


class Building:
    """A table on its way into memory; nobody sees it before `install`."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.bytes = 0  # so far
        self.documents: dict[bytes, bytes] = {}
        # An index may be dropped while the table loads, but none comes: who adds one waits for `settled`.
        self._indexes = table.order[1:]
        self._keys: list[list[bytes]] = [[] for _ in self._indexes]
        self._sorted: list[SortedKeys] = []

    def place(self, document_id: str, data: bytes) -> None:
        """Add a document, once, to the table and every index.

        Raises:
            StorageError: it is damaged.
        """
        try:
            document = decode_object(data)
        except ValidationError as error:
            raise StorageError(f'document "{document_id}" is damaged: {error}') from error
        self.add(id_key(document_id), data, document)

    def add(self, key: bytes, data: bytes, document: dict[str, Value]) -> None:
        """`place`, for who has the document that `data` is the stored form of, and its `id_key`."""
        self.documents[key] = data
        size = DOCUMENT_BYTES + len(data) + KEY_BYTES + len(key)
        for index, keys in zip(self._indexes, self._keys, strict=True):
            key = index.encoder(document)
            keys.append(key)
            size += KEY_BYTES + len(key)
        self.bytes += size

    def sort(self) -> Generator[None, None, None]:
        """Bring the keys into order, in steps."""
        for keys in (self.documents, *self._keys):  # the table and the index by id share their keys
            self._sorted.append((yield from SortedKeys.built(keys)))

    def install(self, catalog: Catalog) -> None:
        """Let the table be in memory."""
        table = self.table
        for index, keys in zip((table.by_id, *self._indexes), self._sorted, strict=True):
            index.keys = keys
        table.documents = self.documents
        table.unloaded = None
        catalog.bytes += self.bytes - sum(index.keys.bytes for index in self._indexes if index not in table.order)


def _soon(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback, context=Context())
