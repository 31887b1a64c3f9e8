"""The engine as tests drive it: an open database under controlled time, and transactions of whole documents."""

import asyncio
import random
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from reactor.engine.catalog import BY_CREATION_TIME, DOCUMENT_BYTES, Index, Table
from reactor.engine.database import Database
from reactor.engine.query import Bound, compile_range
from reactor.engine.sortedkeys import KEY_BYTES
from reactor.engine.transaction import Transaction
from reactor.limits import Limits
from reactor.storage.interface import Persistence
from reactor.storage.memory import MemoryPersistence
from reactor.values.keys import ID_TAG
from reactor.values.stored import decode_object, encode_stored, normalise
from reactor.values.types import Undefined, Value, undefined

START_NS = 1_767_225_600 * 10**9

Document = dict[str, Value]
Fields = tuple[str, ...]

BY_KIND: Fields = ("kind", "_creationTime")


class HandClock:
    """Shows what it was set to; stands still otherwise."""

    def __init__(self, ns: int = START_NS) -> None:
        self.ns = ns

    def now_ns(self) -> int:
        return self.ns

    def monotonic(self) -> float:
        return time.monotonic()


class SeededRng:
    """Reproducible bytes."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class Tasks:
    """Background work, started for real; `join` raises what it raised."""

    def __init__(self) -> None:
        self.running: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        self.running.append(asyncio.get_running_loop().create_task(work, name=name))

    async def join(self) -> None:
        while self.running:
            await self.running.pop()


async def opened(
    persistence: Persistence | None = None,
    *,
    clock: HandClock | None = None,
    limits: Limits | None = None,
    tasks: Tasks | None = None,
    seed: int = 0,
    is_lazy: bool = False,
) -> Database:
    """Open a database; everything not given is new and empty. All tables are loaded unless `is_lazy`."""
    database = await Database.open(
        persistence if persistence is not None else MemoryPersistence(),
        clock=clock if clock is not None else HandClock(),
        rng=SeededRng(seed),
        limits=limits if limits is not None else Limits(),
        spawn=(tasks if tasks is not None else Tasks()).spawn,
    )
    if not is_lazy:
        for table in database.user_tables():
            await database.loading.load(table)
    return database


def with_index(database: Database, table_name: str, fields: Fields) -> Index:
    """Return the index of an empty table over stored `fields`, made if need be."""
    table = database.table(table_name)
    assert table is not None
    return table.indexes.get(fields) or database.catalog.add_index(table, fields)


class Work:
    """One transaction, pinned while it lasts, that reads and writes documents as the runtime would."""

    def __init__(self, database: Database, transaction: Transaction | None = None) -> None:
        self.database = database
        self.transaction = transaction if transaction is not None else database.begin_mutation()
        self._is_pinned = True
        database.retention.pin(self.begin_ts)

    @property
    def begin_ts(self) -> int:
        return self.transaction.begin_ts

    def get(self, table_name: str, document_id: str) -> Document | None:
        data = self.transaction.get(self._table(table_name), document_id)
        return None if data is None else decode_object(data)

    def insert(self, table_name: str, fields: Mapping[str, object]) -> str:
        table = self._table(table_name)
        document_id = self.database.ids.next(table.number)
        creation_time = self.database.creation_time(self.transaction)
        self.transaction.get(table, document_id)
        self._put(table, document_id, {**fields, "_id": document_id, "_creationTime": creation_time}, None)
        return document_id

    def patch(self, table_name: str, document_id: str, fields: Mapping[str, object]) -> None:
        """Change fields of an existing document; `undefined` removes one."""
        before = self.get(table_name, document_id)
        assert before is not None
        self._put(self._table(table_name), document_id, {**before, **fields}, before)

    def delete(self, table_name: str, document_id: str) -> None:
        """Remove an existing document."""
        before = self.get(table_name, document_id)
        assert before is not None
        self.transaction.put(
            self._table(table_name), document_id, None, None, before, self._standing(document_id, before)
        )

    def scan(
        self,
        table_name: str,
        fields: Fields = BY_CREATION_TIME,
        bounds: tuple[Bound, ...] = (),
        *,
        descending: bool = False,
        take: int | None = None,
        chunk: int = 128,
    ) -> list[Document]:
        """Return the documents of an index range; exactly what was consumed is recorded as read."""
        index = self._table(table_name).indexes[fields]
        keys = compile_range(f"{table_name}.test", fields, bounds)
        found: list[Document] = []
        for part in self.transaction.scan(index, keys.start, keys.end, descending, chunk):
            for key, data in part.rows:
                found.append(decode_object(data))
                if len(found) == take:
                    self.transaction.record_scan(index, keys, descending, key)
                    return found
        self.transaction.record_scan(index, keys, descending, None)
        return found

    def count(self, table_name: str, fields: Fields = BY_CREATION_TIME, bounds: tuple[Bound, ...] = ()) -> int:
        index = self._table(table_name).indexes[fields]
        return self.transaction.count(index, compile_range(f"{table_name}.test", fields, bounds))

    def commit(self, session: str | None = None, request: int | None = None, result: bytes | None = None) -> int:
        """Commit and give the snapshot back, whatever comes of it."""
        try:
            return self.database.committer.commit(
                self.transaction, source="tests:work", session=session, request=request, result=result
            )
        finally:
            self.drop()

    def drop(self) -> None:
        """Give the snapshot back."""
        if self._is_pinned:
            self._is_pinned = False
            self.database.retention.unpin(self.begin_ts)

    def _table(self, name: str) -> Table:
        table = self.database.table(name)
        assert table is not None
        return table

    def _put(self, table: Table, document_id: str, fields: Mapping[str, object], before: Document | None) -> None:
        document = normalise({name: value for name, value in fields.items() if value is not undefined}).value
        assert isinstance(document, dict)
        standing = self._standing(document_id, before)
        self.transaction.put(table, document_id, document, encode_stored(document), before, standing)

    def _standing(self, document_id: str, before: Document | None) -> bytes | None:
        return None if before is None else encode_stored(before)


def bound(operator: str, field: str, value: object) -> Bound:
    """A bound on a plain Python value."""
    return Bound(operator, field, value if isinstance(value, Undefined) else normalise(value).value)


def contents(database: Database) -> dict[str, dict[str, Document]]:
    """Every document of the latest applied state, by table and id."""
    return {
        name: {str(document["_id"]): document for document in map(decode_object, table.documents.values())}
        for name, table in database.catalog.by_name.items()
    }


def keys_of(index: Index) -> list[bytes]:
    """Every key of an index in the latest applied state."""
    return index.keys.chunk(b"", None, len(index.keys) + 1)


def rows(index: Index) -> list[tuple[bytes, bytes]]:
    """Every entry of an index in the latest applied state, with its document."""
    return [(key, index.table.documents[key[key.rindex(ID_TAG) :]]) for key in keys_of(index)]


def check_indexes(database: Database) -> None:
    """Every index holds exactly the documents of its table, each under its key, and their bytes are counted right."""
    for table in database.catalog.by_number.values():
        for index in table.indexes.values():
            assert keys_of(index) == sorted(index.encoder(decode_object(data)) for data in table.documents.values())
    assert database.catalog.bytes == counted_bytes(database)


def counted_bytes(database: Database) -> int:
    """What documents and indexes take in memory, counted anew."""
    return sum(
        sum(DOCUMENT_BYTES + len(data) for data in table.documents.values())
        + sum(KEY_BYTES + len(key) for index in table.order for key in keys_of(index))
        for table in database.catalog.by_number.values()
        if table.unloaded is None
    )


def kept_history(database: Database) -> int:
    """How many documents and index keys have a past in memory."""
    tables = database.catalog.by_number.values()
    return sum(len(table.history) + sum(len(index.moves) for index in table.order) for table in tables)


async def turns(count: int = 5) -> None:
    """Let the loop go round, so that what was called soon is called."""
    for _ in range(count):
        await asyncio.sleep(0)
