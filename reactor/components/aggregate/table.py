"""Aggregates of the documents of a table."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from reactor import Change, MutationCtx, ReactorError, undefined
from reactor.components.aggregate.bounds import AnyBounds, Bound, Bounds
from reactor.components.aggregate.client import Aggregate, Order, SumValue, entry
from reactor.components.aggregate.operations import Entry, Operation, Place, is_same_place
from reactor.components.contexts import ReadCtx, WriteCtx

Document = Mapping[str, Any]
Some = TypeVar("Some", bound=Document)
Trigger = Callable[[MutationCtx, Change], Awaitable[None]]

_ITEMS: Final = "items"
_DOCUMENTS: Final = "documents"


class TableAggregate(Aggregate):
    """An aggregate of the documents of a table.

    Every change of the table must be told: by a trigger, or by the methods here beside each write. What is written past
    both, such as an import, is not counted; `repair` mends that.
    """

    def __init__(
        self,
        component: Any,
        *,
        sort_key: Callable[[Document], Any],
        sum_value: Callable[[Document], SumValue] | None = None,
        namespace: Callable[[Document], Any] | None = None,
    ) -> None:
        """Tell what of a document counts.

        Args:
            component: the mounted component.
            sort_key: the key of a document. Ids decide between equal ones.
            sum_value: what is summed: a number, or several by name.
            namespace: the namespace that a document belongs to.
        """
        super().__init__(component)
        self._sort_key = sort_key
        self._sum_value = sum_value
        self._namespace = namespace

    # Writes.

    async def insert(self, ctx: WriteCtx, document: Document, *, later: bool = False) -> None:
        """Count a document that was inserted.

        Raises:
            ReactorError: it is counted already, or a number is not finite.
        """
        await self._tell(ctx, [{"kind": "insert", "new": self._entry(document)}], later)

    async def delete(self, ctx: WriteCtx, document: Document, *, later: bool = False) -> None:
        """Stop counting a document, as it was before it was deleted.

        Raises:
            ReactorError: DELETE_MISSING_KEY, it is not counted.
        """
        await self._tell(ctx, [{"kind": "delete", "current": self._place(document)}], later)

    async def replace(self, ctx: WriteCtx, old: Document, new: Document, *, later: bool = False) -> None:
        """Count a document as it is now instead of as it was.

        Raises:
            ReactorError: DELETE_MISSING_KEY, it is not counted as it was.
        """
        operation: Operation = {"kind": "replace", "current": self._place(old), "new": self._entry(new)}
        await self._tell(ctx, [operation], later)

    async def insert_if_does_not_exist(self, ctx: WriteCtx, document: Document, *, later: bool = False) -> None:
        """Count a document; if it is counted, update what is summed.

        Raises:
            ReactorError: a number is not finite.
        """
        await self._tell(ctx, [{"kind": "replaceOrInsert", "new": self._entry(document)}], later)

    async def delete_if_exists(self, ctx: WriteCtx, document: Document, *, later: bool = False) -> None:
        """Stop counting a document, if it is counted."""
        await self._tell(ctx, [{"kind": "deleteIfExists", "current": self._place(document)}], later)

    async def replace_or_insert(self, ctx: WriteCtx, old: Document, new: Document, *, later: bool = False) -> None:
        """Count a document as it is now, whether or not it is counted as it was.

        Raises:
            ReactorError: a number is not finite.
        """
        operation: Operation = {"kind": "replaceOrInsert", "current": self._place(old), "new": self._entry(new)}
        await self._tell(ctx, [operation], later)

    async def insert_many(self, ctx: WriteCtx, documents: Sequence[Document], *, later: bool = False) -> None:
        """Count many documents, for much less than one by one.

        Raises:
            ReactorError: one is counted already, or a number is not finite.
        """
        await self._tell(ctx, [{"kind": "insert", "new": self._entry(document)} for document in documents], later)

    async def insert_many_if_do_not_exist(
        self, ctx: WriteCtx, documents: Sequence[Document], *, later: bool = False
    ) -> None:
        """Count many documents, some of which may be counted already.

        Raises:
            ReactorError: a number is not finite.
        """
        operations: list[Operation] = [
            {"kind": "replaceOrInsert", "new": self._entry(document)} for document in documents
        ]
        await self._tell(ctx, operations, later)

    async def delete_many(self, ctx: WriteCtx, documents: Sequence[Document], *, later: bool = False) -> None:
        """Stop counting many documents, for much less than one by one.

        Raises:
            ReactorError: DELETE_MISSING_KEY, one is not counted.
        """
        operations: list[Operation] = [{"kind": "delete", "current": self._place(document)} for document in documents]
        await self._tell(ctx, operations, later)

    def trigger(self, *, later: bool = False) -> Trigger:
        """Return a trigger for the table: `define_triggers({"scores": aggregate.trigger()})`.

        It fails, and with it the write, where a document that changes is not counted as it was.
        """

        async def count_change(ctx: MutationCtx, change: Change) -> None:
            if change.old is None:
                assert change.new is not None
                await self.insert(ctx, change.new, later=later)
            elif change.new is None:
                await self.delete(ctx, change.old, later=later)
            elif not self._counts_alike(change.old, change.new):
                await self.replace(ctx, change.old, change.new, later=later)

        return count_change

    def idempotent_trigger(self, *, later: bool = False) -> Trigger:
        """Return a trigger for a table of which not all is counted yet, or some of it twice told."""

        async def count_change(ctx: MutationCtx, change: Change) -> None:
            if change.new is None:
                assert change.old is not None
                await self.delete_if_exists(ctx, change.old, later=later)
            elif change.old is None:
                await self.insert_if_does_not_exist(ctx, change.new, later=later)
            else:
                await self.replace_or_insert(ctx, change.old, change.new, later=later)

        return count_change

    # Questions.

    async def index_of_doc(
        self,
        ctx: ReadCtx,
        document: Document,
        *,
        order: Order = "asc",
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> int:
        """Return how many documents of its namespace are before a document; with "desc", how many are behind it."""
        place = self._place(document)
        return await self.index_of(
            ctx,
            place["key"],
            id=place["id"],
            order=order,
            namespace=place["namespace"],
            bounds=bounds,
            stale=stale,
        )

    async def counted(self, ctx: ReadCtx, documents: Sequence[Some], *, stale: bool = False) -> list[Some]:
        """Return those of some documents that are counted as they are: not those that were never told."""
        ranges = []
        for document in documents:
            place = self._place(document)
            itself = Bound(place["key"], id=place["id"])
            ranges.append((place["namespace"], Bounds(lower=itself, upper=itself)))
        counts = await self.count_batch(ctx, ranges, stale=stale)
        return [document for document, count in zip(documents, counts, strict=True) if count]

    # Repair.

    async def repair(
        self, ctx: MutationCtx, table: str, *, cursor: str | None = None, page_size: int = 100
    ) -> str | None:
        """Bring a part of the aggregate in line with the table, whatever was written past it; return where to go on.

        First what is counted and should not be is taken out, then all documents are put in. Call it with the cursor it
        returned, each time in another mutation, until it returns None. Other writes may go on meanwhile, told by
        `idempotent_trigger` where documents are not counted yet. Filling an aggregate for a table that has documents is
        the same.

        Raises:
            ReactorError: the cursor is none of ours.
        """
        phase, last = (_ITEMS, None) if cursor is None else _read(cursor)
        if phase == _ITEMS:
            found = await ctx.run_query(self.component.ranges.paginate_all, {"limit": page_size, "cursor": last})
            stray: list[Operation] = [
                {"kind": "deleteIfExists", "current": item}
                for item in found["page"]
                if not await self._is_counted_right(ctx, table, item)
            ]
            await self._tell(ctx, stray, False)
            return json.dumps([_DOCUMENTS, None] if found["isDone"] else [_ITEMS, found["cursor"]])
        page = await ctx.db.query(table).paginate(num_items=page_size, cursor=last)
        await self.insert_many_if_do_not_exist(ctx, page["page"])
        return None if page["isDone"] else json.dumps([_DOCUMENTS, page["continueCursor"]])

    async def _is_counted_right(self, ctx: MutationCtx, table: str, item: Place) -> bool:
        document_id = ctx.db.normalize_id(table, item["id"])
        document = None if document_id is None else await ctx.db.get(document_id)
        return document is not None and is_same_place(item, self._place(document))

    # Inside.

    def _place(self, document: Document) -> Place:
        namespace = undefined if self._namespace is None else self._namespace(document)
        return {"key": self._sort_key(document), "id": document["_id"], "namespace": namespace}

    def _entry(self, document: Document) -> Entry:
        place = self._place(document)
        sum_value = 0 if self._sum_value is None else self._sum_value(document)
        return entry(place["key"], place["id"], sum_value, place["namespace"])

    def _counts_alike(self, old: Document, new: Document) -> bool:
        before, after = self._entry(old), self._entry(new)
        return is_same_place(before, after) and before["sums"] == after["sums"]


def _read(cursor: str) -> tuple[str, str | None]:
    try:
        phase, last = json.loads(cursor)
    except (ValueError, TypeError):
        phase = last = None
    if phase not in (_ITEMS, _DOCUMENTS):
        raise ReactorError(f"invalid cursor {cursor[:100]!r}: pass what the last call of repair returned")
    return phase, last
