"""Scans: ordered readings of an index range, as one `ctx.db.query` asks for them.

Owns what is done with each document on the way (accounting, filters, the view of Python code) and the record of what
was consumed. Used by `runtime/documents` and `runtime/pages`.
"""

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from reactor.engine.catalog import Index
from reactor.engine.filter import Expression, compile_filter
from reactor.engine.keyrange import KeyRange
from reactor.engine.query import Bound, query_json
from reactor.engine.snapshot import Row
from reactor.engine.transaction import Transaction
from reactor.errors import InvalidArgument
from reactor.schema.definition import TableDefinition
from reactor.values.stored import decode_object

Document = dict[str, Any]
Order = Literal["asc", "desc"]


class Stage(NamedTuple):
    """One `filter` or `where` of a query: what a document must satisfy to be among the results."""

    keeps: Callable[[Document], object]
    is_where: bool  # asks a Python function about the document as it is handed out
    json: object  # what tells this stage from another one

    @classmethod
    def filter(cls, condition: Expression) -> "Stage":
        """Return the stage of a filter expression."""
        return cls(compile_filter(condition), False, {"filter": condition.to_json()})

    @classmethod
    def where(cls, predicate: Callable[[Document], object]) -> "Stage":
        """Return the stage of a Python predicate. All predicates look alike from outside: code has no stable hash."""
        return cls(predicate, True, {"where": None})


class Selection(msgspec.Struct, frozen=True):
    """What a query asks for, as the links of its chain have said it."""

    table: str
    index: str | None
    bounds: Sequence[Bound]
    order: Order
    stages: Sequence[Stage]
    is_system: bool  # made with `db.system`

    def to_json(self) -> dict[str, Any]:
        """Return what tells this query from another one, for the fingerprint of its cursors."""
        return query_json(self.table, self.index, self.bounds, self.order, [stage.json for stage in self.stages])


class Scan:
    """One ordered reading of an index range, consumed document by document.

    The read set gets exactly what was consumed: up to and with the last document looked at, or the whole range when
    the end was reached, so that an insert behind the last one is no conflict.
    """

    hidden = 0  # how many documents row rules have kept back; `runtime/rules/ruled` counts them

    __slots__ = (
        "_chunk",
        "_is_free",
        "_last_key",
        "_recorded_key",
        "_stages",
        "_view",
        "index",
        "is_done",
        "is_reverse",
        "keys",
        "transaction",
    )

    def __init__(
        self,
        transaction: Transaction,
        index: Index | None,
        keys: KeyRange,
        order: Order,
        view: TableDefinition | None,
        chunk: int,
        stages: Sequence[Stage] = (),
        is_free: bool = False,
    ) -> None:
        """Begin at an end of `keys`; nothing is read yet.

        Args:
            index: None for a table that does not exist, which has no documents.
            view: what Python code receives differs from what is stored.
            chunk: how many entries are copied before the scan may be suspended.
            is_free: documents do not count toward the limits: system tables.
        """
        self.transaction = transaction
        self.index = index
        self.keys = keys
        self.is_reverse = order == "desc"
        self._view = view
        self._chunk = chunk
        self._stages = stages
        self._is_free = is_free
        self._last_key: bytes | None = None
        self._recorded_key: bytes | None = None
        self.is_done = index is None

    def documents(self) -> Generator[Document | None, None, None]:
        """Yield documents in order, one by one; yield None between chunks, where the scan may be suspended."""
        if self.index is None:
            return
        for chunk in self.transaction.scan(self.index, self.keys.start, self.keys.end, self.is_reverse, self._chunk):
            for key, data in chunk.rows:
                document = self.consume(key, data)
                if document is not None:
                    yield document
            if chunk.resume is not None:
                yield None
        self.finish()

    def collect(self, limit: int | None) -> Generator[None, None, list[Document]]:
        """Return the documents in order, at most `limit`; yield between chunks, where the scan may be suspended."""
        found: list[Document] = []
        if self.index is None or limit == 0:
            self.is_done = True
            return found
        chunk_size = self._chunk if limit is None or self._stages else min(self._chunk, limit)
        for chunk in self.transaction.scan(self.index, self.keys.start, self.keys.end, self.is_reverse, chunk_size):
            for key, data in chunk.rows:
                document = self.consume(key, data)
                if document is None:
                    continue
                found.append(document)
                if len(found) == limit:
                    self.stop()
                    return found
            if chunk.resume is not None:
                yield
        self.finish()
        return found

    def count(self) -> Generator[None, None, int]:
        """Return how many documents pass; yield between chunks, where the scan may be suspended."""
        count = 0
        for document in self.documents():
            if document is None:
                yield
            else:
                count += 1
        return count

    def rows(self) -> Generator[Row | None, None, None]:
        """Yield entries in order, for `consume`; yield None between chunks. `stop` or `finish` ends the scan."""
        if self.index is None:
            return
        for chunk in self.transaction.scan(self.index, self.keys.start, self.keys.end, self.is_reverse, self._chunk):
            yield from chunk.rows
            if chunk.resume is not None:
                yield None

    def consume(self, key: bytes, data: bytes) -> Document | None:
        """Look at one entry: return a fresh document, or None when a stage keeps it back. It counts either way.

        Raises:
            LimitExceeded: the transaction read too much.
        """
        self._last_key = key
        if not self._is_free:
            self.transaction.count_document(len(data))
        document = decode_object(data)
        if self._stages:
            return self._tested(document, data)
        return document if self._view is None else self._view.view_document(document)

    def stop(self) -> None:
        """End before the end of the range: what follows the last entry consumed was not read.

        Raises:
            LimitExceeded: the transaction read too many ranges.
        """
        transaction, last_key = self.transaction, self._last_key
        if self.index is not None and last_key is not None:
            transaction.record_scan(self.index, self.keys, self.is_reverse, last_key)
        self.is_done = True
        if transaction.reads.recorded > transaction.reads_allowed:
            transaction.check_reads()

    def finish(self) -> None:
        """End at the end of the range, all of which was read.

        Raises:
            LimitExceeded: the transaction read too many ranges.
        """
        self.is_done = True
        if self.index is None:
            return
        transaction = self.transaction
        transaction.record_scan(self.index, self.keys, self.is_reverse, None)
        if transaction.reads.recorded > transaction.reads_allowed:
            transaction.check_reads()

    def record(self) -> None:
        """Record what was consumed so far."""
        if self.is_done or self.index is None or self._last_key is None or self._last_key == self._recorded_key:
            return
        self._recorded_key = self._last_key
        self.transaction.record_scan(self.index, self.keys, self.is_reverse, self._last_key)

    def _tested(self, stored: Document, data: bytes) -> Document | None:
        shown: Document | None = None
        for keeps, is_where, _ in self._stages:
            if not is_where:
                if not keeps(stored):
                    return None
                continue
            if shown is None:
                # Of its own: what a predicate does to it must not reach the filters behind.
                shown = self._fresh(data)
            kept = keeps(shown)
            if isinstance(kept, Coroutine):
                kept.close()
                raise InvalidArgument("where takes a plain function, not an async one.")
            if not kept:
                return None
        return self._shown(stored) if shown is None else shown

    def _fresh(self, data: bytes) -> Document:
        return self._shown(decode_object(data))

    def _shown(self, document: Document) -> Document:
        return document if self._view is None else self._view.view_document(document)


class SystemScan(Scan):
    """A scan of a system table whose documents hold more than applications see: filters don't see that either."""

    __slots__ = ("_publish",)

    def __init__(
        self,
        transaction: Transaction,
        index: Index,
        keys: KeyRange,
        order: Order,
        publish: Callable[[Document], Document],
        chunk: int,
        stages: Sequence[Stage] = (),
    ) -> None:
        """`publish` makes what applications see of a stored document."""
        super().__init__(transaction, index, keys, order, None, chunk, stages, is_free=True)
        self._publish = publish

    def consume(self, key: bytes, data: bytes) -> Document | None:
        """Look at one entry; see `Scan.consume`."""
        self._last_key = key
        document = self._fresh(data)
        return self._tested(document, data) if self._stages else document

    def _fresh(self, data: bytes) -> Document:
        return self._publish(decode_object(data))
