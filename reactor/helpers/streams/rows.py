"""What streams are made of: rows, read one by one.

Promises that nothing is read before it is asked for, so that a function depends on just the documents its stream has
met. Plain iterators, not generators: one that is left halfway needs no end.
"""

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, final

from reactor.helpers.streams.keys import Key, comparable_key, key_of
from reactor.helpers.streams.spans import Condition


@final
class Gone:
    """In the place of an item that a filter keeps back; its key counts all the same."""


GONE: Final = Gone()


class Row(NamedTuple):
    """One item of a stream, and where it stands."""

    key: Key
    item: Any


class Rows(Protocol):
    """Rows in the order of their keys."""

    async def next(self) -> Row | None:
        """Return the next row, or None at the end."""


async def known(value: Any) -> Any:
    """Return a value, waiting for it if that is needed."""
    return await value if inspect.isawaitable(value) else value


class IndexRows:
    """The documents of one index range after the other."""

    def __init__(
        self,
        db: Any,
        table: str,
        index: str | None,
        fields: Sequence[str],
        ranges: Sequence[Sequence[Condition]],
        order: str,
    ) -> None:
        self._db, self._table, self._index, self._fields, self._order = db, table, index, fields, order
        self._ranges = deque(ranges)
        self._documents: Any = None

    async def next(self) -> Row | None:
        """See `Rows`."""
        while True:
            if self._documents is None:
                if not self._ranges:
                    return None
                self._documents = aiter(self._query(self._ranges.popleft()))
            try:
                document = await anext(self._documents)
            except StopAsyncIteration:
                self._documents = None
                continue
            return Row(key_of(document, self._fields), document)

    def _query(self, conditions: Sequence[Condition]) -> Any:
        query = self._db.query(self._table)
        if conditions or self._index is not None:

            def build(q: Any) -> Any:
                for condition in conditions:
                    q = getattr(q, condition.operator)(condition.field, condition.value)
                return q

            query = query.with_index(self._index or "by_creation_time", build)
        return query.order(self._order)


class FilteredRows:
    """Rows of which a predicate keeps some."""

    def __init__(self, rows: Rows, predicate: Callable[[Any], Any]) -> None:
        self._rows, self._predicate = rows, predicate

    async def next(self) -> Row | None:
        """See `Rows`."""
        row = await self._rows.next()
        if row is None or row.item is GONE or await known(self._predicate(row.item)):
            return row
        return Row(row.key, GONE)


class MappedRows:
    """Rows with something else made of each item."""

    def __init__(self, rows: Rows, change: Callable[[Any], Any]) -> None:
        self._rows, self._change = rows, change

    async def next(self) -> Row | None:
        """See `Rows`."""
        row = await self._rows.next()
        if row is None or row.item is GONE:
            return row
        return Row(row.key, await known(self._change(row.item)))


class FlatRows:
    """The rows of a stream for each row of another one."""

    def __init__(self, rows: Rows, inner: Callable[[Row], Awaitable[Rows]], blank: Callable[[Key], Key | None]) -> None:
        """`blank` gives the key that stands for an outer row with nothing inside, or None where it has none."""
        self._outer, self._inner, self._blank = rows, inner, blank
        self._row: Row | None = None
        self._rows: Rows | None = None
        self._is_empty = True

    async def next(self) -> Row | None:
        """See `Rows`."""
        while True:
            if self._rows is None:
                self._row = await self._outer.next()
                if self._row is None:
                    return None
                self._is_empty = True
                if self._row.item is not GONE:
                    self._rows = await self._inner(self._row)
            assert self._row is not None
            row = await self._rows.next() if self._rows is not None else None
            if row is not None:
                self._is_empty = False
                return Row((*self._row.key, *row.key), row.item)
            self._rows = None
            key = self._blank(self._row.key) if self._is_empty else None
            if key is not None:
                return Row(key, GONE)


class DistinctRows:
    """The first row of each beginning of a key."""

    def __init__(self, begin: Callable[[Key | None], Rows], length: int) -> None:
        """`begin` gives the rows that follow all those whose keys begin so, or all."""
        self._begin, self._length = begin, length
        self._rows = begin(None)

    async def next(self) -> Row | None:
        """See `Rows`."""
        while (row := await self._rows.next()) is not None:
            if row.item is not GONE:
                head = row.key[: self._length]
                self._rows = self._begin(head)
                return Row(head, row.item)
        return None


class CutRows:
    """Rows with the first values of their keys left out."""

    def __init__(self, rows: Rows, length: int) -> None:
        self._rows, self._length = rows, length

    async def next(self) -> Row | None:
        """See `Rows`."""
        row = await self._rows.next()
        return None if row is None else Row(row.key[self._length :], row.item)


class MergedRows:
    """The rows of several streams, in one order. Of rows with one key, the first that is not gone stays."""

    def __init__(self, sources: Sequence[Rows], *, is_reverse: bool) -> None:
        self._sources = sources
        self._choose = max if is_reverse else min
        self._heads: list[tuple[Any, Row] | None] | None = None

    async def next(self) -> Row | None:
        """See `Rows`."""
        heads = self._heads
        if heads is None:
            heads = self._heads = [await self._head(source) for source in self._sources]
        waiting = [head for head in heads if head is not None]
        if not waiting:
            return None
        key = self._choose(head[0] for head in waiting)
        found: Row | None = None
        for at, head in enumerate(heads):
            if head is not None and head[0] == key:
                if found is None or found.item is GONE:
                    found = head[1]
                heads[at] = await self._head(self._sources[at])
        return found

    async def _head(self, source: Rows) -> tuple[Any, Row] | None:
        row = await source.next()
        return None if row is None else (comparable_key(row.key), row)
