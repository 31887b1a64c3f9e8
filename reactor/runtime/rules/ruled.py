"""Documents under row rules: `ctx.db` of a project that has some.

Owns which rule is asked when, and what a caller sees of a document that is hidden: nothing. Promises that `get`,
every way to read a query, and what a write says are the same as if hidden documents were not there; that neither a
filter nor a predicate meets one; and that a read rule made of equalities reads through an index what it allows, and
no more. Projects without rules never come here. Used by runs (`docs/design/19-row-rules.md`).
"""

import logging
from collections.abc import Generator, Sequence
from typing import Any, Final

from reactor.engine.catalog import BY_CREATION_TIME, Index, Table
from reactor.engine.cursor import fingerprint
from reactor.engine.keyrange import KeyRange
from reactor.engine.query import compile_range
from reactor.engine.transaction import Transaction
from reactor.errors import AccessDenied
from reactor.runtime.documents import Documents, not_found
from reactor.runtime.pages import PageOptions, Pager
from reactor.runtime.rules.access import Access
from reactor.runtime.rules.conjunctions import best_reading
from reactor.runtime.rules.declared import TableRules
from reactor.runtime.scans import Document, Order, Scan, Selection, Stage
from reactor.schema.definition import TableDefinition
from reactor.values.stored import decode_object

log = logging.getLogger("reactor.functions.rules")

NOTHING: Final = KeyRange(b"", b"")


class Guard:
    """The rules of one table, for one caller in one transaction."""

    __slots__ = ("_access", "_definition", "_rules", "table")

    def __init__(self, access: Access, rules: TableRules, table: Table, definition: TableDefinition) -> None:
        self._access = access
        self._rules = rules
        self._definition = definition
        self.table = table

    def shows(self, data: bytes) -> bool:
        """Whether the caller may see a document."""
        rule = self._rules.read
        return rule is not None and self._access.allows(rule, self._rules.name, "read", self._view(decode_object(data)))

    def demand(self, operation: str, *documents: Document) -> None:
        """Check that the caller may write; the rule gets copies.

        Raises:
            AccessDenied: it may not.
        """
        rule = getattr(self._rules, operation)
        name = self._rules.name
        if rule is None:
            raise AccessDenied(name, operation, f"the table has rules, but none for {operation}")
        if not self._access.allows(rule, name, operation, *documents):
            raise AccessDenied(name, operation, "the rule for it does not hold for this caller and document")

    def _view(self, document: Document) -> Document:
        return self._definition.view_document(document) if self._definition.has_view else document

    def view(self, data: bytes) -> Document:
        """Return a document, fresh, as Python code receives it."""
        return self._view(decode_object(data))

    def narrowed(self, scan: Scan, selection: Selection, chunk: int) -> Scan:
        """Return the scan of what the caller may see of `scan`, in the same order."""
        index, rule = scan.index, self._rules.read
        assert index is not None
        if rule is not None and not rule.is_conjunction:
            return self._scan(scan, selection, index, scan.keys, chunk, is_checked=False)
        demanded = None if rule is None else self._access.demands(rule, self._rules.name)
        reading = (
            None
            if demanded is None
            else best_reading(index.fields, selection.bounds, demanded.equalities, self._indexes())
        )
        if demanded is None or reading is None:
            return self._scan(scan, selection, index, NOTHING, chunk, is_checked=True)
        is_checked = not demanded.rest and reading.guaranteed >= demanded.equalities.keys()
        keys = compile_range(self._rules.name, reading.fields, reading.bounds)
        return self._scan(scan, selection, self.table.indexes[reading.fields], keys, chunk, is_checked=is_checked)

    def _indexes(self) -> list[tuple[str, ...]]:
        """Return the fields of every index that is whole: those this version of the schema names, but for `by_id`."""
        names = [index.name for index in self._definition.indexes]
        fields = [self._definition.stored_fields(name) for name in names]
        return [BY_CREATION_TIME, *[these for these in fields if these is not None and these in self.table.indexes]]

    def _scan(
        self, scan: Scan, selection: Selection, index: Index, keys: KeyRange, chunk: int, *, is_checked: bool
    ) -> Scan:
        view = self._definition if self._definition.has_view else None
        transaction, order, stages = scan.transaction, selection.order, selection.stages
        if is_checked:
            return Scan(transaction, index, keys, order, view, chunk, stages)
        return RuledScan(transaction, index, keys, order, view, chunk, stages, self)


class RuledScan(Scan):
    """A scan that asks a rule about each document, before any filter meets it."""

    __slots__ = ("_guard", "hidden")

    def __init__(
        self,
        transaction: Transaction,
        index: Index,
        keys: KeyRange,
        order: Order,
        view: TableDefinition | None,
        chunk: int,
        stages: Sequence[Stage],
        guard: Guard,
    ) -> None:
        super().__init__(transaction, index, keys, order, view, chunk, stages)
        self._guard = guard
        self.hidden = 0

    def collect(self, limit: int | None) -> Generator[None, None, list[Document]]:
        """Return the visible documents in order, at most `limit`; yield between chunks."""
        found: list[Document] = []
        if limit == 0:
            self.is_done = True
            return found
        for document in self.documents():
            if document is None:
                yield
                continue
            found.append(document)
            if len(found) == limit:
                self.stop()
                break
        return found

    def consume(self, key: bytes, data: bytes) -> Document | None:
        """Look at one entry: return a fresh document, or None when it is hidden or a stage keeps it back.

        Raises:
            LimitExceeded: the transaction read too much.
        """
        self._last_key = key
        if self._guard.shows(data):
            return super().consume(key, data)
        self.transaction.count_document(len(data))
        self.hidden += 1
        return None


class RuledDocuments(Documents):
    """The documents of one transaction, as far as the rules allow the caller to read and write them."""

    __slots__ = ("_access", "_function", "_guards", "_past")

    def __init__(self, access: Access, function: str | None = None, journal: str | None = None) -> None:
        """`function` is the path of the nested one that reads and writes through this; None: the outermost one."""
        super().__init__(access.database, access.transaction, access.scope, journal)
        self._access = access
        self._function = function
        self._guards: dict[str, Guard | None] = {}
        self._past: UnruledDocuments | None = None

    def inside(self, function: str, transaction: Transaction) -> "RuledDocuments":
        """Return the documents of a function that is called by the same caller, perhaps in another transaction."""
        access = self._access
        return RuledDocuments(access if transaction is self.transaction else access.at(transaction), function)

    @property
    def looked_at_identity(self) -> bool:  # type: ignore[override]
        """Whether a rule looked at the identity of the caller."""
        return self._access.caller.has_looked

    def get(self, table_name: str | None, document_id: object) -> Document | None:
        """See `Documents.get`; None also for a document that is hidden."""
        table, definition = self._locate("get", table_name, document_id)
        if table is None:
            return None
        guard = self._guard(table, definition)
        assert isinstance(document_id, str)
        data = self.transaction.get(table, document_id)
        if data is None or (guard is not None and not guard.shows(data)):
            return None
        document = decode_object(data)
        return definition.view_document(document) if definition is not None and definition.has_view else document

    def delete(self, table_name: str | None, document_id: object) -> None:
        """See `Documents.delete`.

        Raises:
            AccessDenied: the rules do not allow it.
        """
        table, definition, before, stored = self._existing("delete", "Delete", table_name, document_id)
        guard = self._guard(table, definition)
        if guard is not None:
            guard.demand("delete", guard.view(stored))
        self.transaction.put(table, before["_id"], None, None, before, stored)

    def few(self, selection: Selection, limit: int) -> list[Document] | None:
        """See `Documents.few`. How many rows hold so many visible documents is not known."""
        if not selection.is_system:
            table, definition = self._table(selection.table, create=False)
            if table is not None and self._guard(table, definition) is not None:
                return None
        return super().few(selection, limit)

    def read_page(self, selection: Selection, options: PageOptions) -> Generator[None, None, dict[str, Any]]:
        """See `Documents.read_page`. A cursor is good for those who read the same part of an index."""
        scan = self.open_scan(selection)
        fields = scan.index.fields if scan.index is not None else BY_CREATION_TIME
        guard = self._guards.get(selection.table)
        if guard is None:
            return self.open_pager().read(scan, fingerprint(selection.to_json(), fields), options)
        own = fingerprint(selection.to_json(), (*fields, scan.keys.start.hex()))
        pager = self.open_pager()
        pager.forget_foreign(own)
        return pager.read(scan, own, options)

    def count(self, selection: Selection) -> Generator[None, None, int]:
        """See `Documents.count`. O(log n) also where all of what an index range holds may be seen."""
        scan = self._prepare(selection)
        if scan.index is None:
            return 0
        if not selection.stages and not isinstance(scan, RuledScan):
            return self.transaction.count(scan.index, scan.keys)
        self._open_scans.append(scan)
        return (yield from scan.count())

    def record_scans(self) -> None:
        """See `Documents.record_scans`; also for what rules have read, and what was read past them."""
        super().record_scans()
        if self._past is not None:
            self._past.record_scans()
        if self._access.documents is not None:
            self._access.documents.record_scans()

    def past_rules(self) -> Documents:
        """Return the same documents without row rules."""
        if self._past is None:
            self._past = UnruledDocuments(self._access, self._function or self.transaction.reader, self.open_pager())
        return self._past

    def for_trigger(self) -> Documents:
        """See `Documents.for_trigger`."""
        self._access.is_met = True  # by a trigger that may read what the caller must not know of
        return super().for_trigger()

    @property
    def met_rules(self) -> bool:  # type: ignore[override]
        """Whether a table with rules was touched."""
        return self._access.is_met

    # Inside.

    def _guard(self, table: Table, definition: TableDefinition | None) -> Guard | None:
        """Return what guards a table, or None when it has no rules."""
        name = table.name
        try:
            return self._guards[name]
        except KeyError:
            rules = self._access.rules.tables.get(name)
            # Only tables that the schema declares have rules.
            guard = None
            if rules is not None and definition is not None:
                guard = Guard(self._access, rules, table, definition)
                self._access.is_met = True
            self._guards[name] = guard
            return guard

    def _prepare(self, selection: Selection) -> Scan:
        scan = super()._prepare(selection)
        if scan.index is None or selection.is_system:
            return scan
        guard = self._guard(*self._tables[selection.table])
        return scan if guard is None else guard.narrowed(scan, selection, self._database.limits.scan_check_entries)

    def _existing(
        self, call: str, verb: str, table_name: str | None, document_id: object
    ) -> tuple[Table, TableDefinition | None, Document, bytes]:
        table, definition, before, stored = super()._existing(call, verb, table_name, document_id)
        guard = self._guard(table, definition)
        if guard is not None and not guard.shows(stored):
            raise not_found(verb, document_id)
        return table, definition, before, stored

    def _merge(
        self, table: Table, definition: TableDefinition | None, before: Document, stored: bytes, fields: Any
    ) -> bool:
        if self._guard(table, definition) is not None:
            return False  # the rule gets the whole document
        return super()._merge(table, definition, before, stored, fields)

    def _replace(
        self, table: Table, definition: TableDefinition | None, before: Document, stored: bytes, value: Any
    ) -> None:
        guard = self._guard(table, definition)
        if guard is None:
            super()._replace(table, definition, before, stored, value)
            return
        document, data = super()._encode(table, definition, value, before["_id"], before["_creationTime"])
        if data == stored:
            return  # an identical document is not a write
        guard.demand("update", guard.view(stored), guard.view(data))
        self.transaction.put(table, before["_id"], document, data, before, stored)

    def _encode(
        self, table: Table, definition: TableDefinition | None, value: Any, document_id: str, creation_time: float
    ) -> tuple[Document, bytes]:
        """Return a new document, which may be inserted, and its stored form."""
        document, data = super()._encode(table, definition, value, document_id, creation_time)
        guard = self._guard(table, definition)
        if guard is not None:
            guard.demand("insert", guard.view(data))
        return document, data


class UnruledDocuments(Documents):
    """The same documents past the rules: `ctx.db.unsafe`."""

    __slots__ = ("_access", "_function", "_logged")

    def __init__(self, access: Access, function: str, pager: Pager) -> None:
        """`pager` is that of the execution, which reads one page, with rules or without."""
        super().__init__(access.database, access.transaction, access.scope)
        self.pager = pager
        self._access = access
        self._function = function
        self._logged: set[str] = set()

    def for_trigger(self) -> Documents:
        """See `RuledDocuments.for_trigger`."""
        self._access.is_met = True
        return super().for_trigger()

    def _table(self, name: str, create: bool) -> tuple[Any, TableDefinition | None]:
        found = super()._table(name, create)
        access = self._access
        if name in access.rules.tables and name not in self._logged:
            self._logged.add(name)
            access.is_met = True
            if access.is_heard:
                log.info("%s goes past the row rules of table %r", self._function, name)
        return found
