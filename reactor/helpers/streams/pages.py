"""Pages: a stream, or an index, a part at a time.

Owns what a cursor of a stream is (the key of the last row, as text: it shows the values it is made of) and where a page
ends. Promises that pages that follow each other give every item once, and that no cursor leads out of the stream it is
given to. Used by `stream`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypedDict

from reactor.helpers.streams.keys import END, Key, key_of, read_cursor, write_cursor
from reactor.helpers.streams.rows import GONE, IndexRows, Rows
from reactor.helpers.streams.spans import Edge, Span, ranges


class Page(TypedDict):
    """One page of a stream, as clients know pages."""

    page: list[Any]
    isDone: bool
    continueCursor: str
    splitCursor: str | None
    pageStatus: str | None


class Pageable(Protocol):
    """What has rows in the order of keys over `fields`."""

    fields: tuple[str, ...]
    is_reverse: bool

    def rows(self, span: Span) -> Rows:
        """Return the rows of a part."""


async def read_page(
    source: Pageable, options: Mapping[str, Any] | None, *, num_items: int | None, cursor: str | None
) -> Page:
    """Return one page of a stream; see `Stream.paginate`."""
    if options is None:
        options = {"numItems": num_items, "cursor": cursor}
    elif num_items is not None or cursor is not None:
        raise ValueError("paginate takes the options of a client or num_items= and cursor=, not both")
    length, end_cursor = len(source.fields), options.get("endCursor")
    most = None if end_cursor is not None else _positive(options, "numItems")
    most_rows = _positive(options, "maximumRowsRead", required=False)
    start = _edge(options.get("cursor"), length, is_inclusive=False)
    if isinstance(start, str):
        return Page(page=[], isDone=True, continueCursor=END, splitCursor=None, pageStatus=None)
    end = _edge(end_cursor, length, is_inclusive=True)
    last = end if isinstance(end, Edge) else None
    rows = source.rows(Span(last, start) if source.is_reverse else Span(start, last))
    keys: list[Key] = []
    page: list[Any] = []
    while most is None or len(page) < most:
        if most_rows is not None and len(keys) >= most_rows:
            return _page(page, keys, write_cursor(keys[-1]), was_cut=True)
        row = await rows.next()
        if row is None:
            return _page(page, keys, end_cursor or END)
        keys.append(row.key)
        if row.item is not GONE:
            page.append(row.item)
    return _page(page, keys, write_cursor(keys[-1]))


def _page(page: list[Any], keys: list[Key], cursor: str, *, was_cut: bool = False) -> Page:
    middle = write_cursor(keys[(len(keys) - 1) // 2]) if was_cut and len(keys) > 1 else None
    return Page(
        page=page,
        isDone=cursor == END,
        continueCursor=cursor,
        splitCursor=middle,
        pageStatus="SplitRequired" if middle is not None else None,
    )


def _edge(cursor: Any, length: int, *, is_inclusive: bool) -> Edge | str | None:
    """Return where a cursor stands, `END` for the end, None for no cursor."""
    if cursor is None:
        return None
    if not isinstance(cursor, str):
        raise ValueError(f"a cursor is a string or None, not {type(cursor).__name__}")
    key = read_cursor(cursor, length)
    return END if key is None else Edge(key, is_inclusive)


def _positive(options: Mapping[str, Any], name: str, *, required: bool = True) -> int | None:
    value = options.get(name)
    if value is None and not required:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value % 1 != 0:
        raise ValueError(f"{name} is a whole number above 0, not {value!r}")
    return int(value)


class IndexPage(NamedTuple):
    """A part of an index: documents, whether the number of rows has ended it, and the key of each document."""

    page: list[dict[str, Any]]
    has_more: bool
    index_keys: list[Key]


async def get_page(
    db: Any,
    table: str,
    *,
    index: str = "by_creation_time",
    start_key: Sequence[Any] | None = None,
    start_inclusive: bool = False,
    end_key: Sequence[Any] | None = None,
    end_inclusive: bool = True,
    target_max_rows: int = 100,
    absolute_max_rows: int | None = None,
    order: Literal["asc", "desc"] = "asc",
) -> IndexPage:
    """Return a part of an index by the keys that it lies between, in the order in which it is read.

    With `end_key` it reaches there, however much it is; without, it has `target_max_rows` documents. A key lists values
    of the index's fields, or of the first of them; the `index_keys` of a page are the keys to go on with.

    Raises:
        ValueError: a number is not above 0, or a key is longer than that of the index.
    """
    fields = tuple(db.index_fields(table, index))
    sizes = {"target_max_rows": target_max_rows, "absolute_max_rows": absolute_max_rows}
    target, most = _positive(sizes, "target_max_rows"), _positive(sizes, "absolute_max_rows", required=False)
    if end_key is None:
        most = target if most is None or target is None else min(most, target)
    start, end = _at(fields, start_key, start_inclusive), _at(fields, end_key, end_inclusive)
    is_reverse = order == "desc"
    parts = ranges(fields, Span(end, start) if is_reverse else Span(start, end), is_reverse=is_reverse)
    rows = IndexRows(db, table, None if index == "by_creation_time" else index, fields, parts, order)
    page: list[dict[str, Any]] = []
    while most is None or len(page) < most:
        row = await rows.next()
        if row is None:
            return IndexPage(page, False, [key_of(document, fields) for document in page])
        page.append(row.item)
    return IndexPage(page, True, [key_of(document, fields) for document in page])


def _at(fields: Sequence[str], key: Sequence[Any] | None, is_inclusive: bool) -> Edge | None:
    if key is not None and not 0 < len(key) <= len(fields):
        raise ValueError(f"a key here has one to {len(fields)} values, of {', '.join(fields)}; this has {len(key)}")
    return None if key is None else Edge(tuple(key), is_inclusive)
