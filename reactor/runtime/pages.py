"""Pages: what `paginate` takes, how much one page reads, and what it gives.

Owns the options and the result of `reference/values-and-schema.md` §7, and the journal: where a page ended, so that
another run of the same page ends there too. Promises that pages chained by their cursors are a partition of the
results, also while documents come and go; and that a run with the journal of another one, at the same timestamp, gives
the same page and journal. Used by `runtime/documents`.
"""

from collections.abc import Generator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from reactor.engine.cursor import END, Cursors, Position, between
from reactor.errors import InvalidArgument, InvalidCursor, InvalidPage
from reactor.limits import MAX_BYTES_READ, MAX_DOCUMENTS_READ, MAX_PAGE_ITEMS, SPLIT_PAGE_ITEMS
from reactor.runtime.scans import Document, Scan
from reactor.values.types import undefined

MANY_PAGES: Final = (
    "This query or mutation function ran multiple paginated queries. "
    "Convex only supports a single paginated query in each function."
)
NOT_IN_COMPONENTS: Final = (
    "paginate() works in the functions of the application only, not in those of a component. "
    "Read a range of an index with take(), and continue behind the last document."
)


class PageOptions(NamedTuple):
    """What was asked for, checked."""

    num_items: int
    cursor: str | None
    end_cursor: str | None
    max_rows: int
    max_bytes: int


def page_options(options: object, num_items: object = None, cursor: object = None) -> PageOptions:
    """Return the options of one call: the dict a client sent, or `num_items` and `cursor`.

    Raises:
        TypeError: neither was given, or both.
        InvalidArgument: an option is of a wrong type.
        InvalidPage: an option is out of bounds.
    """
    if options is None or options is undefined:
        if num_items is None:
            raise TypeError("Must provide arg 1 `options` to `paginate`")
        options = {"numItems": num_items, "cursor": cursor}
    elif num_items is not None or cursor is not None:
        raise TypeError("paginate takes the options of a client or num_items= and cursor=, not both")
    if not isinstance(options, Mapping):
        raise InvalidArgument(f"paginate takes a dict of options, not {type(options).__name__}.")
    count = _whole(options.get("numItems", undefined))
    if count is None or count < 0:
        received = _as_javascript(options.get("numItems", undefined))
        raise InvalidArgument(f"`options.numItems` must be a positive number. Received `{received}`.")
    if count == 0:
        raise InvalidPage("NoDocumentsForPagination", "Must request at least 1 document while paginating")
    if count > MAX_PAGE_ITEMS:
        raise InvalidPage("PageSizeTooLarge", f"Requested too many items: {count}")
    return PageOptions(
        count,
        _cursor(options, "cursor"),
        _cursor(options, "endCursor"),
        _maximum(options, "maximumRowsRead", MAX_DOCUMENTS_READ),
        _maximum(options, "maximumBytesRead", MAX_BYTES_READ),
    )


class Pager:
    """The one page of an execution, and its journal."""

    __slots__ = ("_cursors", "_is_used", "journal")

    def __init__(self, cursors: Cursors, journal: str | None) -> None:
        """Begin with the journal of an earlier run, if there was one."""
        self._cursors = cursors
        self._is_used = False
        self.journal = journal  # to run with next time; a page that could not be read leaves it as it was

    def forget_foreign(self, fingerprint: bytes) -> None:
        """Do without a journal that is of another query: of another identity, whose rules leave other documents."""
        if self.journal is not None:
            try:
                self._cursors.read(self.journal, fingerprint, "journal")
            except InvalidCursor:
                self.journal = None

    def read(self, scan: Scan, fingerprint: bytes, options: PageOptions) -> Generator[None, None, dict[str, Any]]:
        """Return one page of `scan`, which was not begun, as clients know it; yield where it may be suspended.

        Raises:
            InvalidPage: the execution has read a page before.
            InvalidCursor: a cursor, or the journal, is not one of this query.
            LimitExceeded: not even one more document could be read.
        """
        if self._is_used:
            raise InvalidPage("MultiplePaginatedDatabaseQueries", MANY_PAGES)
        cursors = self._cursors
        after = None if options.cursor is None else cursors.read(options.cursor, fingerprint)
        through = None if options.end_cursor is None else cursors.read(options.end_cursor, fingerprint)
        was_cut = False
        if through is not None:
            options = options._replace(max_rows=MAX_DOCUMENTS_READ, max_bytes=MAX_BYTES_READ)
        elif self.journal is not None:
            try:
                through = cursors.read(self.journal, fingerprint, "journal")
            except InvalidCursor:
                self.journal = None  # the next run may do without
                raise
            was_cut = through.was_cut
        self._is_used = True
        try:
            scan.keys = between(scan.keys, scan.is_reverse, after, through)
            rows = _Rows(scan, options, is_bounded=through is not None)
            yield from rows.read()
        except BaseException:
            self._is_used = False
            raise
        if through is None:
            end = rows.end
            self.journal = cursors.write(Position(end.key, rows.was_cut), fingerprint, "journal")
        else:
            end = through
            self.journal = cursors.write(Position(end.key, was_cut), fingerprint, "journal")
        return {
            "page": rows.page,
            "isDone": end.key is None,
            "continueCursor": cursors.write(Position(end.key), fingerprint),
            "splitCursor": cursors.write(rows.middle, fingerprint) if rows.middle is not None else None,
            "pageStatus": "SplitRequired" if was_cut or rows.was_cut else rows.advice,
        }


class _Rows:
    """What one page has read so far."""

    __slots__ = ("_cut", "_is_bounded", "_keys", "_options", "_scan", "_size", "end", "page", "was_cut")

    def __init__(self, scan: Scan, options: PageOptions, *, is_bounded: bool) -> None:
        self._scan = scan
        self._options = options
        self._is_bounded = is_bounded  # by its end, and by no number of documents
        self._keys: list[bytes] = []  # of every row looked at that rules do not hide
        self._size = 0
        self._cut: Position | None = None  # where hidden documents have left no room for more
        self.page: list[Document] = []
        self.end = END
        self.was_cut = False

    def read(self) -> Generator[None, None, None]:
        """Read until the page is full, a limit is reached, or nothing is left."""
        scan, options, keys, page = self._scan, self._options, self._keys, self.page
        transaction, hidden = scan.transaction, scan.hidden
        last: bytes | None = None
        for row in scan.rows():
            if row is None:
                yield
                continue
            key, data = row
            if last is not None and not transaction.has_room(len(data)):
                # A page that may end here is short, and does not say that hidden documents have made it so.
                self.was_cut = self._is_bounded or not scan.hidden
                if self._is_bounded and scan.hidden:
                    self._cut = Position(last)
                break
            last = key
            document = scan.consume(key, data)
            if document is None and scan.hidden > hidden:
                # Nothing that a client could count or be told may depend on a document that rules hide.
                hidden = scan.hidden
                continue
            keys.append(key)
            self._size += len(data)
            if document is not None:
                page.append(document)
            if self._is_bounded:
                continue
            if len(page) == options.num_items:
                break
            if len(keys) >= options.max_rows or self._size >= options.max_bytes:
                self.was_cut = True
                break
        else:
            scan.finish()
            return
        assert last is not None
        self.end = Position(last)
        scan.stop()

    @property
    def middle(self) -> Position | None:
        """Where the page may be split in two: after the row in its middle."""
        return Position(self._keys[len(self._keys) // 2]) if len(self._keys) > 2 else self._cut

    @property
    def advice(self) -> str | None:
        """Whether a page that is whole should be split before it grows out of bounds."""
        options = self._options
        is_large = (
            len(self._keys) > min(options.max_rows, MAX_DOCUMENTS_READ) * 3 / 4
            or self._size > min(options.max_bytes, MAX_BYTES_READ) * 3 / 4
            or len(self.page) > SPLIT_PAGE_ITEMS
        )
        return "SplitRecommended" if is_large else None


def _maximum(options: Mapping[Any, Any], name: str, default: int) -> int:
    value = options.get(name)
    if value is None or value is undefined:
        return default
    maximum = _whole(value)
    if maximum is None:
        raise InvalidArgument(f"`options.{name}` must be a whole number. Received `{_as_javascript(value)}`.")
    if maximum <= 0:
        raise InvalidPage("InvalidPaginationLimit", "maximumRowsRead and maximumBytesRead must be greater than 0")
    return maximum


def _cursor(options: Mapping[Any, Any], name: str) -> str | None:
    cursor = options.get(name)
    if cursor is None or cursor is undefined:
        return None
    if not isinstance(cursor, str):
        raise InvalidArgument(f"`options.{name}` must be a string or null. Received `{_as_javascript(cursor)}`.")
    return cursor


def _whole(value: object) -> int | None:
    """Return a number without a fraction as an int, and None for everything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _as_javascript(value: object) -> str:
    """Return a value as official texts, which JavaScript makes, show it."""
    if value is None or isinstance(value, bool):
        return msgspec.json.encode(value).decode()
    whole = _whole(value)
    return str(value if whole is None else whole)
