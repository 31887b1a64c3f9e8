"""What `ctx.db` does, without its two faces: documents by id and by index, on one transaction.

Owns the rules between application and engine: table names and ids, system fields, schema checks, system tables out of
reach, and which rows of the catalog an access depends on. Synchronous; scans are generators that yield where they may
be suspended. Used by the async and the blocking form of `ctx.db`.
"""

from collections.abc import Generator, Mapping
from typing import Any, Final

from reactor.engine.catalog import BY_CREATION_TIME, BY_ID, VISIBLE_SYSTEM_TABLES, Index, Table
from reactor.engine.cursor import fingerprint
from reactor.engine.database import Database
from reactor.engine.keyrange import KeyRange
from reactor.engine.query import compile_range
from reactor.engine.systemdocs import read_system
from reactor.engine.transaction import Transaction
from reactor.engine.unloaded import TableUnloaded
from reactor.errors import (
    DocumentInvalid,
    DocumentNotFound,
    InvalidArgument,
    InvalidPage,
    NotUnique,
    UnknownIndex,
    UnknownTable,
    ValidationError,
)
from reactor.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_NESTING, MAX_OBJECT_FIELDS
from reactor.runtime.components.scopes import Scope
from reactor.runtime.pages import NOT_IN_COMPONENTS, PageOptions, Pager
from reactor.runtime.scans import Document, Scan, Selection, SystemScan
from reactor.runtime.systemdocs import published
from reactor.schema.definition import TableDefinition
from reactor.values.document import check_document, check_document_size
from reactor.values.ids import decode_id, table_of
from reactor.values.names import check_identifier, suggestion
from reactor.values.stored import decode_object, encode_stored, normalise
from reactor.values.types import Undefined, Value, undefined

ONLY_USER_TABLES: Final = "User tables can only be accessed from db.query()."
ONLY_SYSTEM_TABLES: Final = "System tables can only be accessed from db.system.query()."


class Documents:
    """The documents of one transaction that one component instance may see, under its schema in one version."""

    # Of row rules, which `runtime/rules/ruled` knows of.
    looked_at_identity = False
    met_rules = False

    __slots__ = (
        "_database",
        "_journal",
        "_namespace",
        "_open_scans",
        "_schema",
        "_tables",
        "pager",
        "scope",
        "transaction",
    )

    def __init__(self, database: Database, transaction: Transaction, scope: Scope, journal: str | None = None) -> None:
        """Read and write through `transaction`; `journal` is where an earlier run of the query ended its page."""
        self._database = database
        self._journal = journal
        self.pager: Pager | None = None  # when there is a page
        self.transaction = transaction
        self.scope = scope
        self._schema = scope.schema
        self._namespace = scope.namespace
        self._open_scans: list[Scan] = []
        self._tables: dict[str, tuple[Table, TableDefinition | None]] = {}

    @property
    def database(self) -> Database:
        """The database that the transaction belongs to."""
        return self._database

    # What the surroundings of an execution draw on.

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes for a seed, of operating-system strength."""
        return self._database.rng.token_bytes(count)

    def environment(self) -> Mapping[str, str]:
        """Return what the code here sees of the environment, in this transaction; a look at a variable is recorded."""
        return self.scope.environment(self.transaction)

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
            if value is undefined:
                raise TypeError("Must provide arg 2 `value` to `insert`")
            raise InvalidArgument("Invalid argument `value` for `db.insert`: Value must be an Object")
        database, transaction = self._database, self.transaction
        document_id = database.ids.next(table.number)
        creation_time = database.creation_time(transaction)
        document, data = self._encode(table, definition, value, document_id, creation_time)
        transaction.expect_absent(table, document_id)
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
        if self._merge(table, definition, before, stored, fields):
            return
        merged = {**before, **fields}
        for name, field in fields.items():
            if field is undefined:
                del merged[name]
        self._replace(table, definition, before, stored, merged)

    def _merge(
        self,
        table: Table,
        definition: TableDefinition | None,
        before: Document,
        stored: bytes,
        fields: Mapping[str, object],
    ) -> bool:
        """Stage `fields` over a document that was checked when it was written, checking only what is new.

        Returns False, having done nothing, where that is not enough, or where something is wrong: whoever looks at the
        whole document says what.
        """
        if type(fields) is not dict or (definition is not None and definition.validator.needs_coercion):
            return False
        try:
            given = normalise(fields)
        except ValidationError:
            return False
        changes = given.value
        assert isinstance(changes, dict)
        document = before.copy()
        document.update(changes)
        for name in changes:
            if name[0] == "_":
                return False
        if len(changes) < len(fields):
            for name, field in fields.items():
                if field is undefined:
                    document.pop(name, None)
        if not changes.keys() <= before.keys():
            document = dict(sorted(document.items()))  # the stored form is sorted
        if given.nesting > MAX_DOCUMENT_NESTING or len(document) > MAX_OBJECT_FIELDS:
            return False
        if definition is not None and not definition.accepts_document(document, self._namespace):
            return False
        data = b"%b" % encode_stored(document)  # copied, as in `_encode`
        # No value is more than twice as large as its stored form, so this leaves no document over the limit.
        if 2 * len(data) > MAX_DOCUMENT_BYTES:
            return False
        if data != stored:
            self.transaction.put(table, before["_id"], document, data, before, stored)
        return True

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
        return self._id_of(table_name, text)

    def index_fields(self, table_name: str, index_name: str) -> tuple[str, ...]:
        """Return the fields that an index is ordered by, `_id` included.

        Raises:
            UnknownTable, UnknownIndex: the schema does not have it.
        """
        _, definition = self._table(table_name, create=False)
        return (*self._index_fields(table_name, definition, index_name), "_id")

    # System tables.

    def system_get(self, table_name: str | None, document_id: object) -> Document | None:
        """Return a fresh copy of a document of a system table, or None when there is none.

        Raises:
            InvalidArgument: the id is no id, or belongs to a table of the application, or to another one than named.
        """
        table, _ = self._locate("system.get", table_name, document_id)
        if table is None:
            return None
        if not table.is_system:
            raise InvalidArgument("User tables cannot be accessed with db.system.")
        if table.local_name not in VISIBLE_SYSTEM_TABLES:
            return None
        assert isinstance(document_id, str)
        document = read_system(self.transaction, table, document_id)
        return None if document is None else published(table)(document)

    def system_table(self, name: str) -> Table:
        """Return a system table that applications can see."""
        return self._system_table(name)[0]

    def system_normalize_id(self, table_name: str, text: object) -> str | None:
        """Return `text` if it is an id of that system table, whether or not the document exists; otherwise None."""
        if not table_name.startswith("_"):
            raise InvalidArgument("User tables can only be accessed from db.normalizeId().")
        return self._id_of(table_name, text) if table_name in VISIBLE_SYSTEM_TABLES else None

    # Documents by index.

    def few(self, selection: Selection, limit: int) -> list[Document] | None:
        """Return all documents that a query gives, at most `limit`, where one look at an index finds them.

        Returns None, having read none, where that is not so: then a scan does. It saves the scan where a lookup meets a
        document or two, as most queries do.

        Raises:
            UnknownTable, UnknownIndex, RangeError: the query does not fit the schema.
            LimitExceeded: the transaction read too much.
        """
        if selection.stages or selection.is_system or limit > self._database.limits.scan_check_entries:
            return None
        table, definition = self._table(selection.table, create=False)
        if table is None:
            return None
        transaction, is_reverse = self.transaction, selection.order == "desc"
        index, keys = self._range(selection, table, definition)
        chunk = transaction.chunk(index, keys.start, keys.end, is_reverse, limit)
        rows = chunk.rows[:limit]
        if len(rows) == limit:
            transaction.record_scan(index, keys, is_reverse, rows[-1][0])
        elif chunk.resume is None:
            transaction.record_scan(index, keys, is_reverse, None)
        else:
            return None
        found: list[Document] = []
        for _, data in rows:
            transaction.count_document(len(data))
            found.append(decode_object(data))
        if transaction.reads.recorded > transaction.reads_allowed:
            transaction.check_reads()
        if definition is not None and definition.has_view:
            return [definition.view_document(document) for document in found]
        return found

    def open_scan(self, selection: Selection) -> Scan:
        """Begin reading a range of an index in order.

        Raises:
            UnknownTable, UnknownIndex, RangeError: the query does not fit the schema.
        """
        scan = self._prepare(selection)
        if scan.index is not None:
            transaction = self.transaction
            if transaction.reads.recorded > transaction.reads_allowed:
                transaction.check_reads()
            self._open_scans.append(scan)
        return scan

    def read_page(self, selection: Selection, options: PageOptions) -> Generator[None, None, dict[str, Any]]:
        """Return one page of a query; yield where it may be suspended.

        Raises:
            UnknownTable, UnknownIndex, RangeError: the query does not fit the schema.
            InvalidPage, InvalidCursor, LimitExceeded: see `Pager.read`. Components have no pages.
        """
        if self.scope.path:
            raise InvalidPage("PaginationUnsupportedInComponents", NOT_IN_COMPONENTS)
        scan = self.open_scan(selection)
        fields = scan.index.fields if scan.index is not None else BY_CREATION_TIME
        return self.open_pager().read(scan, fingerprint(selection.to_json(), fields), options)

    def open_pager(self) -> Pager:
        """Return the pager of this execution."""
        if self.pager is None:
            self.pager = Pager(self._database.cursors, self._journal)
        return self.pager

    def count(self, selection: Selection) -> Generator[None, None, int]:
        """Return how many documents a query gives; yield where it may be suspended. The whole range counts as read.

        O(log n) where the query has neither filter nor predicate.
        """
        if selection.stages:
            return (yield from self.open_scan(selection).count())
        scan = self._prepare(selection)
        if scan.index is None:
            return 0
        return self.transaction.count(scan.index, scan.keys)

    def record_scans(self) -> None:
        """Bring the read set up to date with what open scans have consumed."""
        for scan in self._open_scans:
            scan.record()
        self._open_scans = [scan for scan in self._open_scans if not scan.is_done]

    def past_rules(self) -> "Documents":
        """Return the same documents without row rules. Here there are none."""
        return self

    def shown(self, table_name: str, data: bytes) -> Document:
        """Return a document, fresh, as Python code receives it. This transaction has met its table."""
        document, definition = decode_object(data), self._schema.tables.get(table_name)
        return definition.view_document(document) if definition is not None and definition.has_view else document

    def for_trigger(self) -> "Documents":
        """Return the same documents for a trigger, which reads and writes past row rules."""
        return Documents(self._database, self.transaction, self.scope)

    def not_unique(self, table_name: str, first: Document, second: Document) -> NotUnique:
        """Return the error of a `unique()` that found two documents."""
        return NotUnique(
            f"unique() query returned more than one result from table {table_name}:\n"
            f" [{first['_id']}, {second['_id']}, ...]"
        )

    # Inside.

    def _prepare(self, selection: Selection) -> Scan:
        table_name = selection.table
        table, definition = (
            self._system_table(table_name) if selection.is_system else self._table(table_name, create=False)
        )
        if table is None:
            if selection.index is not None:
                raise UnknownIndex(f"Index {table_name}.{selection.index} not found.")
            return Scan(self.transaction, None, KeyRange(b"", None, 0), selection.order, None, 1)
        index, keys = self._range(selection, table, definition)
        view = definition if definition is not None and definition.has_view else None
        chunk = self._database.limits.scan_check_entries
        if selection.is_system:
            return SystemScan(self.transaction, index, keys, selection.order, published(table), chunk, selection.stages)
        return Scan(self.transaction, index, keys, selection.order, view, chunk, selection.stages, selection.is_system)

    def _range(self, selection: Selection, table: Table, definition: TableDefinition | None) -> tuple[Index, KeyRange]:
        """Return the index that a query reads, and the range of it."""
        name = selection.index if selection.index is not None else "by_creation_time"
        fields = self._index_fields(table.local_name, definition, name)
        index = table.indexes.get(fields)
        if index is None:
            raise UnknownIndex(
                f"Index {selection.table}.{name} is currently backfilling and not available to query yet."
            )
        return index, compile_range(f"{selection.table}.{name}", fields, selection.bounds)

    def _index_fields(self, table_name: str, definition: TableDefinition | None, name: str) -> tuple[str, ...]:
        if name == "by_creation_time":
            return BY_CREATION_TIME
        if name == "by_id":
            return BY_ID
        if definition is not None:
            fields = definition.stored_fields(name)
            if fields is not None:
                return fields
        known = ["by_id", "by_creation_time", *([i.name for i in definition.indexes] if definition else [])]
        raise UnknownIndex(f"Index {table_name}.{name} not found. {suggestion(name, known)}")

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
            raise InvalidArgument(ONLY_SYSTEM_TABLES)
        definition = self._schema.tables.get(name)
        if definition is None and self._schema.tables and self._schema.strict_table_names:
            reads.add_point(database.deployment_index, database.deployment_key)
            raise UnknownTable(f"The schema has no table {name!r}. {suggestion(name, self._schema.tables)}")
        table = self._namespace.by_name.get(name)
        if table is None:
            if not create:
                self._depend_on_tables()
                return None, definition
            try:
                check_identifier(name)
            except ValidationError as error:
                raise InvalidArgument(f"Invalid table name: {error}") from None
            table = database.create_table(self._namespace.full_name(name), self.transaction)
        if table.unloaded is not None:
            self.transaction.needs = table  # should the handler swallow what is raised here
            raise TableUnloaded(name)
        if table.row_key is not None:
            reads.add_point(database.tables_index, table.row_key)
        if not self._schema.schema_validation:
            definition = definition.unchecked() if definition is not None else None
        self._tables[name] = (table, definition)
        return table, definition

    def _system_table(self, name: object) -> tuple[Table, None]:
        if not isinstance(name, str) or not name.startswith("_"):
            raise InvalidArgument(ONLY_USER_TABLES)
        if name not in VISIBLE_SYSTEM_TABLES:
            raise UnknownTable(f"There is no system table {name!r}. {suggestion(name, VISIBLE_SYSTEM_TABLES)}")
        return self._namespace.by_name[name], None

    def _id_of(self, table_name: str, text: object) -> str | None:
        if not isinstance(text, str):
            return None
        try:
            number, _ = decode_id(text)
        except InvalidArgument:
            return None
        table = self._namespace.by_number.get(number)
        if table is None:
            self._depend_on_tables()
        return text if table is not None and table.local_name == table_name else None

    def _depend_on_tables(self) -> None:
        """Record that a table was looked for in vain: one that comes to be, or becomes forbidden, is a change."""
        database, reads = self._database, self.transaction.reads
        reads.add_range(database.tables_index, KeyRange(b"", None, 0))
        reads.add_point(database.deployment_index, database.deployment_key)

    def _locate(
        self, call: str, table_name: str | None, document_id: object
    ) -> tuple[Table | None, TableDefinition | None]:
        """Return the table of this instance that an id belongs to, or None when it has none of that number."""
        if not isinstance(document_id, str):
            if document_id is undefined:
                raise TypeError(f"Must provide arg 1 `id` to `{call}`")
            raise InvalidArgument(
                f"Invalid argument `id` for `db.{call}`, expected string but got "
                f"'{_js_type(document_id)}': {document_id!r}"
            )
        try:
            number = table_of(document_id)
        except InvalidArgument as error:
            raise InvalidArgument(f"Invalid argument `id` for `db.{call}`: {error}") from None
        table = self._namespace.by_number.get(number)
        if table is None:
            self._depend_on_tables()
            return None, None
        if table_name is not None and table.local_name != table_name:
            raise InvalidArgument(
                f'Invalid argument `id` for `db.{call}`: expected to be an Id<"{table_name}">, '
                f'got Id<"{table.local_name}"> instead.'
            )
        if table.is_system:
            if call == "system.get":
                return table, None
            raise InvalidArgument("System tables can only be accessed with db.system.")
        return self._table(table.local_name, create=False)

    def _existing(
        self, call: str, verb: str, table_name: str | None, document_id: object
    ) -> tuple[Table, TableDefinition | None, Document, bytes]:
        table, definition = self._locate(call, table_name, document_id)
        if table is None:
            raise InvalidArgument(f'Invalid argument `id` for `db.{call}`: Table for ID "{document_id}" not found')
        assert isinstance(document_id, str)
        data = self.transaction.get(table, document_id)
        if data is None:
            raise not_found(verb, document_id)
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
        if definition is not None and not definition.accepts_document(document, self._namespace):
            try:
                definition.check_document(document, self._namespace)
            except ValidationError as error:
                raise DocumentInvalid(
                    f'Failed to insert or update a document in table "{table.local_name}" '
                    f"because it does not match the schema: {error}"
                ) from None
        try:
            check_document_size(normal.size)
        except ValidationError as error:
            raise DocumentInvalid(str(error)) from None
        # Copied, since it may stay for long: the encoder's bytes keep half as much again that it had reserved.
        return document, b"%b" % encode_stored(document)


def not_found(verb: str, document_id: object) -> DocumentNotFound:
    """Return the error of a write to a document that is not there, or that the caller may not know of."""
    return DocumentNotFound(f"{verb} on nonexistent document ID {document_id}")


def _check_system_fields(value: Mapping[str, object], document_id: str, creation_time: float) -> None:
    """A value may repeat the system fields of its document, but not change them."""
    if value.get("_id", document_id) != document_id:
        raise DocumentInvalid(f'Provided document ID "{value["_id"]}" doesn\'t match \'_id\' field "{document_id}"')
    if value.get("_creationTime", creation_time) != creation_time:
        raise DocumentInvalid(
            f"Provided creation time {value['_creationTime']} doesn't match '_creationTime' field {creation_time}"
        )


def _js_type(value: object) -> str:
    if value is None or isinstance(value, Undefined):
        return "undefined" if isinstance(value, Undefined) else "object"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "object"
