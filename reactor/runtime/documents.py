"""What `ctx.db` does, without its two faces: documents by id and by index, on one transaction.

Owns the rules between application and engine: table names and ids, system fields, schema checks, system tables out of
reach, and which rows of the catalog an access depends on. Synchronous; scans are generators that yield where they may
be suspended. Used by the async and the blocking form of `ctx.db`.
"""

import difflib
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

from reactor.engine.catalog import BY_CREATION_TIME, BY_ID, Index, Table
from reactor.engine.database import Database
from reactor.engine.keyrange import KeyRange
from reactor.engine.query import Bound, compile_range
from reactor.engine.transaction import Transaction
from reactor.engine.unloaded import TableUnloaded
from reactor.errors import (
    DocumentInvalid,
    DocumentNotFound,
    InvalidArgument,
    NotUnique,
    UnknownIndex,
    UnknownTable,
    ValidationError,
)
from reactor.limits import FIRST_USER_TABLE
from reactor.schema.definition import Schema, TableDefinition
from reactor.values.document import check_document, check_document_size
from reactor.values.ids import decode_id, table_of
from reactor.values.names import check_identifier
from reactor.values.stored import decode_object, encode_stored, normalise
from reactor.values.types import Undefined, Value, undefined

Document = dict[str, Any]
Order = Literal["asc", "desc"]


class Documents:
    """The documents of one transaction, under the schema of one project version."""

    __slots__ = ("_database", "_open_scans", "_schema", "_tables", "transaction")

    def __init__(self, database: Database, transaction: Transaction, schema: Schema) -> None:
        self._database = database
        self.transaction = transaction
        self._schema = schema
        self._open_scans: list[Scan] = []
        self._tables: dict[str, tuple[Table, TableDefinition | None]] = {}

    # Documents by id.

    def get(self, table_name: str | None, document_id: object) -> Document | None:
        """Return a fresh copy of a document, or None when there is none.

        Raises:
            InvalidArgument: the id is no id, or belongs to another table than named.
        """
        table, definition = self._locate("get", table_name, document_id)
        if table is None:
            return None
        assert isinstance(document_id, str)
        data = self.transaction.get(table, document_id)
        if data is None:
            return None
        document = decode_object(data)
        if definition is not None and definition.has_view:
            return definition.view_document(document)
        return document

    def insert(self, table_name: str, value: object) -> str:
        """Stage a new document; return its id.

        Raises:
            DocumentInvalid: the value is no document, or not one the schema allows.
            UnknownTable: the schema has no such table.
        """
        table, definition = self._table(table_name, create=True)
        if type(value) is not dict and not isinstance(value, Mapping):
            raise InvalidArgument("Invalid argument `value` for `db.insert`: Value must be an Object")
        database, transaction = self._database, self.transaction
        document_id = database.ids.next(table.number)
        creation_time = database.creation_time(transaction)
        document, data = self._encode(table, definition, value, document_id, creation_time)
        # An insert has read that nothing stands there, so a parallel creation would conflict.
        transaction.get(table, document_id)
        transaction.put(table, document_id, document, data, None, None)
        return document_id

    def patch(self, table_name: str | None, document_id: object, fields: object) -> None:
        """Stage a shallow merge: listed top-level fields are replaced whole, `undefined` removes one.

        Raises:
            DocumentNotFound: there is no such document.
            DocumentInvalid: the schema does not allow the merged document.
        """
        if type(fields) is not dict and not isinstance(fields, Mapping):
            raise InvalidArgument("Invalid argument `value` for `db.patch`: Value must be an Object")
        table, definition, before, stored = self._existing("patch", "Update", table_name, document_id)
        merged = {**before, **fields}
        for name, field in fields.items():
            if field is undefined:
                del merged[name]
        self._replace(table, definition, before, stored, merged)

    def replace(self, table_name: str | None, document_id: object, value: object) -> None:
        """Stage a whole new body; id and creation time stay.

        Raises:
            DocumentNotFound: there is no such document.
            DocumentInvalid: the schema does not allow the new document.
        """
        if type(value) is not dict and not isinstance(value, Mapping):
            raise InvalidArgument("Invalid argument `value` for `db.replace`: Value must be an Object")
        table, definition, before, stored = self._existing("replace", "Replace", table_name, document_id)
        self._replace(table, definition, before, stored, value)

    def delete(self, table_name: str | None, document_id: object) -> None:
        """Stage the removal of a document.

        Raises:
            DocumentNotFound: there is no such document.
        """
        table, _, before, stored = self._existing("delete", "Delete", table_name, document_id)
        self.transaction.put(table, before["_id"], None, None, before, stored)

    def normalize_id(self, table_name: str, text: object) -> str | None:
        """Return `text` if it is an id of that table, whether or not the document exists; otherwise None."""
        if table_name.startswith("_"):
            raise InvalidArgument("System tables can only be accessed from db.system.normalizeId().")
        if not isinstance(text, str):
            return None
        try:
            number, _ = decode_id(text)
        except InvalidArgument:
            return None
        table = self._database.catalog.by_number.get(number)
        if table is None:
            self._depend_on_tables()
        return text if table is not None and table.name == table_name else None

    # Documents by index.

    def open_scan(self, table_name: str, index_name: str | None, bounds: Sequence[Bound], order: Order) -> "Scan":
        """Begin reading a range of an index in order.

        Raises:
            UnknownTable, UnknownIndex, RangeError: the query does not fit the schema.
        """
        scan = self._prepare(table_name, index_name, bounds, order)
        if scan.index is not None:
            self.transaction.count_range()
            self._open_scans.append(scan)
        return scan

    def count(self, table_name: str, index_name: str | None, bounds: Sequence[Bound]) -> int:
        """Return how many documents a range of an index holds, in O(log n); the whole range counts as read."""
        scan = self._prepare(table_name, index_name, bounds, "asc")
        if scan.index is None:
            return 0
        return self.transaction.count(scan.index, scan.keys)

    def record_scans(self) -> None:
        """Bring the read set up to date with what open scans have consumed."""
        for scan in self._open_scans:
            scan.record()
        self._open_scans = [scan for scan in self._open_scans if not scan.is_done]

    def not_unique(self, table_name: str, first: Document, second: Document) -> NotUnique:
        """Return the error of a `unique()` that found two documents."""
        return NotUnique(
            f"unique() query returned more than one result from table {table_name}:\n"
            f" [{first['_id']}, {second['_id']}, ...]"
        )

    # Inside.

    def _prepare(self, table_name: str, index_name: str | None, bounds: Sequence[Bound], order: Order) -> "Scan":
        table, definition = self._table(table_name, create=False)
        name = index_name if index_name is not None else "by_creation_time"
        if table is None:
            if index_name is not None:
                raise UnknownIndex(f"Index {table_name}.{index_name} not found.")
            return Scan(self.transaction, None, KeyRange(b"", None, 0), order, None, 1)
        fields = self._index_fields(table, definition, name)
        index = table.indexes.get(fields)
        if index is None:
            raise UnknownIndex(f"Index {table_name}.{name} is currently backfilling and not available to query yet.")
        keys = compile_range(f"{table_name}.{name}", fields, bounds)
        view = definition if definition is not None and definition.has_view else None
        return Scan(self.transaction, index, keys, order, view, self._database.limits.scan_check_entries)

    def _index_fields(self, table: Table, definition: TableDefinition | None, name: str) -> tuple[str, ...]:
        if name == "by_creation_time":
            return BY_CREATION_TIME
        if name == "by_id":
            return BY_ID
        if definition is not None:
            fields = definition.stored_fields(name)
            if fields is not None:
                return fields
        known = ["by_id", "by_creation_time", *([i.name for i in definition.indexes] if definition else [])]
        raise UnknownIndex(f"Index {table.name}.{name} not found.{_nearest(name, known)}")

    def _table(self, name: str, create: bool) -> tuple[Any, TableDefinition | None]:
        """Return the table and its definition, recording that this transaction depends on both."""
        found = self._tables.get(name)
        if found is not None:
            return found
        if not isinstance(name, str):
            raise InvalidArgument(f"A table name is a string, not {type(name).__name__}.")
        database, reads = self._database, self.transaction.reads
        if name.startswith("_"):
            if create:
                raise InvalidArgument("System tables (prefixed with `_`) are read-only.")
            raise InvalidArgument("System tables can only be accessed from db.system.query().")
        definition = self._schema.tables.get(name)
        if definition is None and self._schema.tables and self._schema.strict_table_names:
            reads.add_point(database.deployment_index, database.deployment_key)
            raise UnknownTable(f"The schema has no table {name!r}.{_nearest(name, list(self._schema.tables))}")
        table = database.table(name)
        if table is None:
            if not create:
                self._depend_on_tables()
                return None, definition
            try:
                check_identifier(name)
            except ValidationError as error:
                raise InvalidArgument(f"Invalid table name: {error}") from None
            table = database.create_table(name)
        if table.unloaded is not None:
            self.transaction.needs = table  # should the handler swallow what is raised here
            raise TableUnloaded(name)
        if table.row_key is not None:
            reads.add_point(database.tables_index, table.row_key)
        if not self._schema.schema_validation:
            definition = definition.unchecked() if definition is not None else None
        self._tables[name] = (table, definition)
        return table, definition

    def _depend_on_tables(self) -> None:
        """Record that a table was looked for in vain: one that comes to be, or becomes forbidden, is a change."""
        database, reads = self._database, self.transaction.reads
        reads.add_range(database.tables_index, KeyRange(b"", None, 0))
        reads.add_point(database.deployment_index, database.deployment_key)

    def _locate(
        self, call: str, table_name: str | None, document_id: object
    ) -> tuple[Table | None, TableDefinition | None]:
        """Return the table an id belongs to, or None when no table has its number."""
        if not isinstance(document_id, str):
            raise InvalidArgument(
                f"Invalid argument `id` for `db.{call}`, expected string but got "
                f"'{_js_type(document_id)}': {document_id!r}"
            )
        try:
            number = table_of(document_id)
        except InvalidArgument as error:
            raise InvalidArgument(f"Invalid argument `id` for `db.{call}`: {error}") from None
        table = self._database.catalog.by_number.get(number)
        if table is None:
            self._depend_on_tables()
            return None, None
        if table_name is not None and table.name != table_name:
            raise InvalidArgument(
                f'Invalid argument `id` for `db.{call}`: expected to be an Id<"{table_name}">, '
                f'got Id<"{table.name}"> instead.'
            )
        if number < FIRST_USER_TABLE:
            raise InvalidArgument("System tables can only be accessed with db.system.")
        return self._table(table.name, create=False)

    def _existing(
        self, call: str, verb: str, table_name: str | None, document_id: object
    ) -> tuple[Table, TableDefinition | None, Document, bytes]:
        table, definition = self._locate(call, table_name, document_id)
        if table is None:
            raise InvalidArgument(f'Invalid argument `id` for `db.{call}`: Table for ID "{document_id}" not found')
        assert isinstance(document_id, str)
        data = self.transaction.get(table, document_id)
        if data is None:
            raise DocumentNotFound(f"{verb} on nonexistent document ID {document_id}")
        return table, definition, decode_object(data), data

    def _replace(
        self,
        table: Table,
        definition: TableDefinition | None,
        before: Document,
        stored: bytes,
        value: Mapping[str, object],
    ) -> None:
        document, data = self._encode(table, definition, value, before["_id"], before["_creationTime"])
        if data == stored:
            return  # an identical document is not a write
        self.transaction.put(table, before["_id"], document, data, before, stored)

    def _encode(
        self,
        table: Table,
        definition: TableDefinition | None,
        value: Mapping[str, object],
        document_id: str,
        creation_time: float,
    ) -> tuple[dict[str, Value], bytes]:
        """Return a document with its system fields, checked, and its stored form."""
        if definition is not None and definition.validator.needs_coercion:
            value = definition.validator.coerce(value)  # type: ignore[assignment]
        try:
            normal = normalise({**value, "_id": document_id, "_creationTime": creation_time})
        except ValidationError as error:
            raise DocumentInvalid(str(error)) from None
        document = normal.value
        assert isinstance(document, dict)
        try:
            check_document(document, normal.nesting)
        except ValidationError as error:
            raise DocumentInvalid(str(error)) from None
        _check_system_fields(value, document_id, creation_time)
        if definition is not None and not definition.accepts_document(document, self._database.catalog):
            try:
                definition.check_document(document, self._database.catalog)
            except ValidationError as error:
                raise DocumentInvalid(
                    f'Failed to insert or update a document in table "{table.name}" '
                    f"because it does not match the schema: {error}"
                ) from None
        try:
            check_document_size(normal.size)
        except ValidationError as error:
            raise DocumentInvalid(str(error)) from None
        # Copied, since it may stay for long: the encoder's bytes keep half as much again that it had reserved.
        return document, b"%b" % encode_stored(document)


class Scan:
    """One ordered reading of an index range, consumed document by document.

    The read set gets exactly what was consumed: up to and with the last document handed out, or the whole range when
    the end was reached, so that an insert behind the last one is no conflict.
    """

    __slots__ = ("_chunk", "_last_key", "_order", "_recorded_key", "_transaction", "_view", "index", "is_done", "keys")

    def __init__(
        self,
        transaction: Transaction,
        index: Index | None,
        keys: KeyRange,
        order: Order,
        view: TableDefinition | None,
        chunk: int,
    ) -> None:
        self._transaction = transaction
        self.index = index
        self.keys = keys
        self._order = order
        self._view = view
        self._chunk = chunk
        self._last_key: bytes | None = None
        self._recorded_key: bytes | None = None
        self.is_done = index is None

    def documents(self) -> Generator[Document | None, None, None]:
        """Yield documents in order, one by one; yield None between chunks, where the scan may be suspended."""
        if self.index is None:
            return
        for chunk in self._transaction.scan(self.index, self.keys, self._order == "desc", self._chunk):
            for key, data in chunk.rows:
                self._last_key = key
                yield self._document(data)
            if chunk.resume is not None:
                yield None
        self._record_all()

    def collect(self, limit: int | None) -> Generator[None, None, list[Document]]:
        """Return the documents in order, at most `limit`; yield between chunks, where the scan may be suspended."""
        found: list[Document] = []
        if self.index is None or limit == 0:
            self.is_done = True
            return found
        chunk_size = self._chunk if limit is None else min(self._chunk, limit)
        for chunk in self._transaction.scan(self.index, self.keys, self._order == "desc", chunk_size):
            for key, data in chunk.rows:
                self._last_key = key
                found.append(self._document(data))
                if len(found) == limit:
                    self.record()
                    self.is_done = True
                    return found
            if chunk.resume is not None:
                yield
        self._record_all()
        return found

    def record(self) -> None:
        """Record what was consumed so far."""
        if self.is_done or self.index is None or self._last_key is None or self._last_key == self._recorded_key:
            return
        self._recorded_key = self._last_key
        self._transaction.record_scan(self.index, self.keys, self._order == "desc", self._last_key)

    def _record_all(self) -> None:
        assert self.index is not None
        self._transaction.record_scan(self.index, self.keys, self._order == "desc", None)
        self.is_done = True

    def _document(self, data: bytes) -> Document:
        self._transaction.count_document(len(data))
        document = decode_object(data)
        return document if self._view is None else self._view.view_document(document)


def _check_system_fields(value: Mapping[str, object], document_id: str, creation_time: float) -> None:
    """A value may repeat the system fields of its document, but not change them."""
    if value.get("_id", document_id) != document_id:
        raise DocumentInvalid(f'Provided document ID "{value["_id"]}" doesn\'t match \'_id\' field "{document_id}"')
    if value.get("_creationTime", creation_time) != creation_time:
        raise DocumentInvalid(
            f"Provided creation time {value['_creationTime']} doesn't match '_creationTime' field {creation_time}"
        )


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" It has: {', '.join(sorted(known)) or 'none'}."


def _js_type(value: object) -> str:
    if value is None or isinstance(value, Undefined):
        return "undefined" if isinstance(value, Undefined) else "object"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "object"
