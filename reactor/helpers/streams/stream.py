"""Streams: queries that can be filtered, mapped, joined and merged, and still be read page by page.

Owns `stream` and `merged`. Promises that every stream is ordered by the keys of its rows, so that any of them can be
read from any key on. Used by applications and components; pages are in `pages`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

from reactor import undefined
from reactor.helpers.streams.keys import Key
from reactor.helpers.streams.pages import Page, read_page
from reactor.helpers.streams.rows import (
    GONE,
    CutRows,
    DistinctRows,
    FilteredRows,
    FlatRows,
    IndexRows,
    MappedRows,
    MergedRows,
    Row,
    Rows,
    known,
)
from reactor.helpers.streams.spans import Build, Conditions, Edge, Span, ranges, span_of

Order = Literal["asc", "desc"]
ALL = Span()


class Stream(ABC):
    """Items in the order of their keys. Reading one begins anew each time.

    `fields` is what its keys are made of, and `is_reverse` whether they descend. The first of them that can have one
    value only have those of `fixed`.
    """

    fields: tuple[str, ...]
    is_reverse: bool
    fixed: Key = ()

    @abstractmethod
    def rows(self, span: Span) -> Rows:
        """Return the rows of a part of the stream."""

    # Other streams.

    def filter_with(self, predicate: Callable[[Any], Any]) -> "Stream":
        """Keep the items for which a function, plain or async, returns something true."""
        return _Filtered(self, predicate)

    def map(self, change: Callable[[Any], Any]) -> "Stream":
        """Make something else of each item, with a function, plain or async. The order stays that of the documents."""
        return _Mapped(self, change)

    def flat_map(self, inner: Callable[[Any], Any], fields: Sequence[str]) -> "Stream":
        """Put the items of a stream in the place of each item: a join.

        Args:
            inner: a function, plain or async, that gives the stream for an item. All are in the order of this one.
            fields: what they are ordered by, such as `["channel"]` for those of an index over it. `_creationTime` and
                `_id` follow by themselves.
        """
        return _Flat(self, inner, fields)

    def distinct(self, fields: Sequence[str]) -> "Stream":
        """Keep the first item of each combination of values that `fields` have, skipping over the others unread.

        The result is ordered by these fields and no others.

        Raises:
            ValueError: the stream is not ordered by these fields first.
        """
        return _Distinct(self, fields)

    # Results.

    async def collect(self) -> list[Any]:
        """Return all items."""
        return [item async for item in self]

    async def take(self, count: int) -> list[Any]:
        """Return the first `count` items."""
        items: list[Any] = []
        rows = self.rows(ALL)
        while len(items) < count and (row := await rows.next()) is not None:
            if row.item is not GONE:
                items.append(row.item)
        return items

    async def first(self) -> Any:
        """Return the first item, or None."""
        return next(iter(await self.take(1)), None)

    async def unique(self) -> Any:
        """Return the only item, or None.

        Raises:
            ValueError: there are several.
        """
        items = await self.take(2)
        if len(items) > 1:
            raise ValueError("unique() of a stream met more than one item")
        return items[0] if items else None

    async def paginate(
        self, options: Mapping[str, Any] | None = None, *, num_items: int | None = None, cursor: str | None = None
    ) -> Page:
        """Return one page as clients know it, full as long as there are enough items, however many a filter drops.

        Any number of pages can be read in one function, also in components. A live page keeps its end only when it is
        told: pass its `continueCursor` as `endCursor` once it was read.

        Args:
            options: what a client sent: `numItems cursor endCursor maximumRowsRead`.
            num_items: or this, with `cursor`.

        Raises:
            ReactorError: a cursor is not one of this stream (`InvalidCursor`, after which clients begin again).
            ValueError: the options are not what they must be.
        """
        return await read_page(self, options, num_items=num_items, cursor=cursor)

    def __aiter__(self) -> "_Items":
        return _Items(self.rows(ALL))


class _Items:
    """The items of a stream, one by one."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while (row := await self._rows.next()) is not None:
            if row.item is not GONE:
                return row.item
        raise StopAsyncIteration


class TableStream(Stream):
    """The documents of a table, in the order of an index."""

    def __init__(self, db: Any, table: str, index: str | None, made: Conditions, order: Order) -> None:
        self._db, self._table, self._index = db, table, index
        self._made, self._order = made, order
        self.is_reverse = order == "desc"
        self.fields = tuple(db.index_fields(table, index or "by_creation_time"))
        self.fixed, self._span = span_of(index or "by_creation_time", self.fields, made.made)

    def with_index(self, index: str, range: Build | None = None, /, **equals: Any) -> "TableStream":
        """Read through `index`, restricted as by `with_index` of a query.

        Raises:
            ValueError: the range does not fit the index, or the stream has an index.
        """
        if self._index is not None:
            raise ValueError("a stream can have only one with_index")
        made = Conditions()
        if range is not None:
            range(made)
        for field, value in equals.items():
            made.eq(field, value)
        return TableStream(self._db, self._table, index, made, self._order)

    def order(self, order: Order, /) -> "TableStream":
        """Read `"asc"` (the default) or `"desc"`.

        Raises:
            ValueError: neither.
        """
        if order not in ("asc", "desc"):
            raise ValueError(f'order is "asc" or "desc", not {order!r}')
        return TableStream(self._db, self._table, self._index, self._made, order)

    def rows(self, span: Span) -> Rows:
        """See `Stream.rows`."""
        parts = ranges(self.fields, self._span.within(span), is_reverse=self.is_reverse)
        return IndexRows(self._db, self._table, self._index, self.fields, parts, self._order)


class _Changed(Stream):
    """A stream with the keys of another one."""

    def __init__(self, source: Stream) -> None:
        self._source = source
        self.fields, self.is_reverse, self.fixed = source.fields, source.is_reverse, source.fixed


class _Filtered(_Changed):
    def __init__(self, source: Stream, predicate: Callable[[Any], Any]) -> None:
        super().__init__(source)
        self._predicate = predicate

    def rows(self, span: Span) -> Rows:
        return FilteredRows(self._source.rows(span), self._predicate)


class _Mapped(_Changed):
    def __init__(self, source: Stream, change: Callable[[Any], Any]) -> None:
        super().__init__(source)
        self._change = change

    def rows(self, span: Span) -> Rows:
        return MappedRows(self._source.rows(span), self._change)


class _Distinct(_Changed):
    def __init__(self, source: Stream, fields: Sequence[str]) -> None:
        super().__init__(source)
        self._length = 0
        left = set(fields)
        while left:
            at = self._length
            if at == len(self.fields) or not (self.fields[at] in left or at < len(self.fixed)):
                raise ValueError(
                    f"distinct({list(fields)}) needs a stream that is ordered by these first, not by "
                    f"{', '.join(self.fields[len(self.fixed) :])}"
                )
            left.discard(self.fields[at])
            self._length += 1

        # A row stands for all that begin as it does: a page that ends with it goes on behind them.
        self.fields, self.fixed = self.fields[: self._length], self.fixed[: self._length]

    def rows(self, span: Span) -> Rows:
        return DistinctRows(partial(self._behind, span), self._length)

    def _behind(self, span: Span, head: Key | None) -> Rows:
        if head is not None:
            edge = Edge(head, False)
            span = span.within(Span(None, edge) if self.is_reverse else Span(edge, None))
        return self._source.rows(span)


class _Flat(Stream):
    def __init__(self, source: Stream, inner: Callable[[Any], Any], fields: Sequence[str]) -> None:
        own = (*fields, *(name for name in ("_creationTime", "_id") if name not in fields))
        self._source, self._inner = source, inner
        self._own = own
        self.fields = (*source.fields, *own)
        self.is_reverse = source.is_reverse
        self.fixed = source.fixed

    def rows(self, span: Span) -> Rows:
        head = span.head(len(self._source.fields))
        return FlatRows(self._source.rows(head), partial(self._rows_in, span), partial(self._blank, span))

    def _blank(self, span: Span, key: Key) -> Key | None:
        blank = (*key, *(undefined for _ in self._own))  # which no row has: `_id` is never missing
        return blank if span.has(blank) else None

    async def _rows_in(self, span: Span, row: Row) -> Rows:
        stream = await known(self._inner(row.item))
        if not isinstance(stream, Stream):
            raise TypeError(f"the function given to flat_map returns a stream, not {type(stream).__name__}")
        if stream.fields != self._own or stream.is_reverse != self.is_reverse:
            order = "descending" if self.is_reverse else "ascending"
            raise ValueError(
                f"flat_map was told of streams ordered by {', '.join(self._own)}, {order}, and got one ordered by "
                f"{', '.join(stream.fields)}, {'descending' if stream.is_reverse else 'ascending'}"
            )
        return stream.rows(span.tail(row.key))


class _Ordered(Stream):
    """A stream as one ordered by its last fields, when those before them are fixed."""

    def __init__(self, source: Stream, fields: Sequence[str]) -> None:
        self._source = source
        for start in range(len(source.fixed) + 1):
            if source.fields[start : start + len(fields)] == tuple(fields):
                break
        else:
            raise ValueError(
                f"a stream to be merged by {', '.join(fields)} is ordered by {', '.join(source.fields)}, of which "
                f"equality fixes {', '.join(source.fields[: len(source.fixed)]) or 'none'}"
            )
        self.fields = source.fields[start:]
        self.is_reverse = source.is_reverse
        self.fixed = source.fixed[start:]
        self._head = source.fixed[:start]

    def rows(self, span: Span) -> Rows:
        if not self._head:
            return self._source.rows(span)
        return CutRows(self._source.rows(span.below(self._head)), len(self._head))


class _Merged(Stream):
    def __init__(self, streams: Sequence[Stream], order_by: Sequence[str]) -> None:
        if not streams:
            raise ValueError("merged() needs a stream")
        self._sources = [_Ordered(source, order_by) for source in streams]
        first = self._sources[0]
        for source in self._sources:
            if (source.fields, source.is_reverse) != (first.fields, first.is_reverse):
                raise ValueError(
                    "streams to be merged have one order, and these are ordered by "
                    + " and by ".join(
                        f"{', '.join(one.fields)} ({'desc' if one.is_reverse else 'asc'})" for one in (first, source)
                    )
                )
        self.fields, self.is_reverse = first.fields, first.is_reverse

    def rows(self, span: Span) -> Rows:
        return MergedRows([source.rows(span) for source in self._sources], is_reverse=self.is_reverse)


class StreamSource:
    """Where streams begin."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def query(self, table: str, /) -> TableStream:
        """Return the documents of a table in the order in which they were made."""
        return TableStream(self._db, table, None, Conditions(), "asc")


def stream(db: Any, /) -> StreamSource:
    """Begin a stream: `stream(ctx.db).query("messages").with_index("by_channel", channel=c).order("desc")`.

    `db` is that of an `async def` function.
    """
    return StreamSource(db)


def merged(streams: Sequence[Stream], order_by: Sequence[str]) -> Stream:
    """Return the items of several streams in one order, each key once.

    Each is ordered by `order_by`, after fields that equality has fixed: messages from one user to another and back,
    merged by `["_creationTime"]`.

    Raises:
        ValueError: one is ordered otherwise, or there is none.
    """
    return _Merged(streams, order_by)
