"""Queries: the chain that begins with `ctx.db.query(table)`, in its async and its blocking form.

Owns the grammar of the chain: what may follow what, how often, and that each link is used once. Nothing is read before
a result is asked for. Used by `readers`.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final, Self, overload

from reactor.engine.filter import Expression, FilterBuilder, expression
from reactor.engine.query import Bound
from reactor.errors import InvalidArgument
from reactor.limits import MAX_QUERY_OPERATORS
from reactor.runtime.documents import Documents
from reactor.runtime.executions import Execution, Operation, Step, result_of, run_to_end
from reactor.runtime.pages import page_options
from reactor.runtime.scans import Document, Order, Scan, Selection, Stage
from reactor.values.stored import normalise
from reactor.values.types import Undefined, Value, undefined

RangeBuilder = Callable[["IndexRange"], "IndexRange"]
Page = dict[str, Any]

CLOSED: Final = "This query is closed and can't emit any more values."
CHAINED: Final = "This query has been chained with another operator and can't be reused."
CHAINED_TWICE: Final = "A query can only be chained once and can't be chained after iteration begins."
RETURNED: Final = (
    "Return value is a Query. Results must be retrieved with `.collect()`, `.take(n), `.unique()`, or `.first()`."
)
BUILDER_USED: Final = (
    "IndexRangeBuilder has already been used! Chain your method calls like `q => q.eq(...).eq(...)`. "
    "See https://docs.convex.dev/using/indexes"
)

_FILTER_BUILDER: Final = FilterBuilder()
_new = object.__new__


class IndexRange:
    """Builds the range of `with_index`: equalities on a prefix of the fields, then bounds on the next one.

    Each call returns the range with one more condition, and ends the one it was made on.
    """

    __slots__ = ("_bounds",)

    _bounds: list[Bound] | None

    def eq(self, field: str, value: object, /) -> Self:
        """Keep documents whose field equals `value`; `undefined` matches a missing field."""
        return self._with("eq", field, value)

    def gt(self, field: str, value: object, /) -> Self:
        """Keep documents whose field is above `value` in the total order of values."""
        return self._with("gt", field, value)

    def gte(self, field: str, value: object, /) -> Self:
        """Keep documents whose field is `value` or above."""
        return self._with("gte", field, value)

    def lt(self, field: str, value: object, /) -> Self:
        """Keep documents whose field is below `value`; a missing field and null are below everything else."""
        return self._with("lt", field, value)

    def lte(self, field: str, value: object, /) -> Self:
        """Keep documents whose field is `value` or below."""
        return self._with("lte", field, value)

    def _with(self, operator: str, field: str, value: object) -> Self:
        bounds = self._bounds
        if bounds is None:
            raise InvalidArgument(BUILDER_USED)
        self._bounds = None
        if not (type(value) is str and value.isascii()):  # which is its own normal form
            value = _normal(value)
        bounds.append(Bound(operator, field, value))
        longer = _new(type(self))
        longer._bounds = bounds
        return longer


def _normal(value: object) -> Value | Undefined:
    return undefined if value is undefined else normalise(value).value


def built_range(build: RangeBuilder) -> list[Bound]:
    """Return the calls that a range function makes.

    Raises:
        InvalidArgument: it returns something else than the range.
    """
    begun = _new(IndexRange)
    begun._bounds = []
    built = build(begun)
    bounds = built._bounds if isinstance(built, IndexRange) else None
    if bounds is None:
        raise InvalidArgument("The range function of with_index must return the range: lambda q: q.eq(...).gt(...)")
    return bounds


class QueryChain:
    """The part of a query that both forms share: where it reads, in which order, and what it keeps."""

    __slots__ = ("_bounds", "_execution", "_index", "_is_system", "_order", "_spent", "_stages", "_table")

    def __init__(self, execution: Execution, table: str, is_system: bool = False) -> None:
        self._execution = execution
        self._table = table
        self._is_system = is_system
        self._index: str | None = None
        self._bounds: list[Bound] = []
        self._order: Order | None = None
        self._stages: tuple[Stage, ...] = ()
        self._spent: str | None = None  # why it gives no results any more

    def with_index(self, index: str, range: RangeBuilder | None = None, /, **equals: object) -> Self:
        """Read through `index`, restricted by `range` (`lambda q: q.eq("channel", c)`) or by equalities as keywords.

        Raises:
            InvalidArgument: both were given, the query already has an index, or it was used before.
        """
        if self._index is not None:
            raise InvalidArgument("A query can have only one with_index.")
        if range is not None:
            if equals:
                raise InvalidArgument("with_index takes a range function or keyword equalities, not both.")
            bounds = built_range(range)
        else:
            bounds = [
                Bound("eq", field, value if type(value) is str and value.isascii() else _normal(value))
                for field, value in equals.items()
            ]
        chained = self._chained()
        chained._index = index
        chained._bounds = bounds
        return chained

    def order(self, order: Order, /) -> Self:
        """Read `"asc"` (the default) or `"desc"`.

        Raises:
            InvalidArgument: neither, the order was given before, or the query was used before.
        """
        if order not in ("asc", "desc"):
            raise InvalidArgument(f'order is "asc" or "desc", not {order!r}')
        if self._order is not None:
            raise InvalidArgument("Queries may only specify order at most once")
        chained = self._chained()
        chained._order = order
        return chained

    def filter(self, condition: Callable[[FilterBuilder], Expression | bool], /) -> Self:
        """Keep documents for which an expression is true: `lambda q: q.field("likes") > 10`.

        Every document read counts toward the limits, also one that is not kept.

        Raises:
            InvalidArgument: there are too many filters, or the query was used before.
        """
        return self._keeping(Stage.filter(expression(condition(_FILTER_BUILDER))))

    def where(self, predicate: Callable[[Document], object], /) -> Self:
        """Keep documents for which a Python function is true: `lambda doc: doc["name"].startswith("a")`.

        It gets the document that is handed out afterwards. Every document read counts toward the limits, also one that
        is not kept.

        Raises:
            InvalidArgument: it is no function, there are too many filters, or the query was used before.
        """
        if not callable(predicate):
            raise InvalidArgument(f"where takes a function of the document, not {type(predicate).__name__}.")
        return self._keeping(Stage.where(predicate))

    def _keeping(self, stage: Stage) -> Self:
        if len(self._stages) >= MAX_QUERY_OPERATORS:
            raise InvalidArgument(f"Can't construct query with more than {MAX_QUERY_OPERATORS} operators")
        chained = self._chained()
        chained._stages = (*self._stages, stage)
        return chained

    def _chained(self) -> Self:
        """Return the next link, which takes the place of this one."""
        if self._spent is not None:
            raise InvalidArgument(CHAINED_TWICE)
        self._spent = CHAINED
        chained = _new(type(self))
        chained._execution = self._execution
        chained._table = self._table
        chained._is_system = self._is_system
        chained._index = self._index
        chained._bounds = self._bounds
        chained._order = self._order
        chained._stages = self._stages
        chained._spent = None
        return chained

    def _begin(self) -> Documents:
        """Spend the query; its results come from what is returned."""
        execution = self._execution
        if not execution.is_alive:
            execution.check_alive()
        if self._spent is not None:
            raise InvalidArgument(self._spent)
        self._spent = CLOSED
        return execution.documents

    def _open(self) -> Scan:
        return self._begin().open_scan(self._selection())

    def _selection(self) -> Selection:
        order = self._order or "asc"
        return Selection(self._table, self._index, self._bounds, order, self._stages, self._is_system)

    def _collect(self) -> Step[list[Document]]:
        return self._open().collect(None)

    def _first(self) -> Step[Document | None] | Document | None:
        documents, selection = self._begin(), self._selection()
        found = documents.few(selection, 1)
        if found is None:
            return self._first_of(documents.open_scan(selection))
        return found[0] if found else None

    def _first_of(self, scan: Scan) -> Step[Document | None]:
        found = yield from scan.collect(1)
        return found[0] if found else None

    def _unique(self) -> Step[Document | None] | Document | None:
        documents, selection = self._begin(), self._selection()
        found = documents.few(selection, 2)
        return self._only_of(documents.open_scan(selection)) if found is None else self._only(found)

    def _only_of(self, scan: Scan) -> Step[Document | None]:
        found = yield from scan.collect(2)
        return self._only(found)

    def _only(self, found: list[Document]) -> Document | None:
        if len(found) > 1:
            raise self._execution.documents.not_unique(self._table, found[0], found[1])
        return found[0] if found else None

    def _count(self) -> Step[int]:
        return self._begin().count(self._selection())

    def _take(self, count: object) -> Step[list[Document]]:
        if count is undefined:
            raise TypeError("Must provide arg 1 `n` to `take`")
        if isinstance(count, float) and count.is_integer():
            count = int(count)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InvalidArgument("Arg 1 `n` to `take` must be a non-negative integer")
        return self._open().collect(count)

    def _paginate(self, options: object, num_items: object, cursor: object) -> Step[Page]:
        checked = page_options(options, num_items, cursor)
        return self._begin().read_page(self._selection(), checked)


class Query(QueryChain):
    """A query in an `async def` function. Nothing is read before one of its results is awaited."""

    __slots__ = ()

    def collect(self) -> Operation[list[Document]]:
        """Return all documents."""
        return Operation(self._execution, "query.collect()", self._collect)

    def take(self, count: int) -> Operation[list[Document]]:
        """Return the first `count` documents."""
        return Operation(self._execution, "query.take()", lambda: self._take(count))

    def first(self) -> Operation[Document | None]:
        """Return the first document, or None."""
        return Operation(self._execution, "query.first()", self._first)

    def unique(self) -> Operation[Document | None]:
        """Return the only document, or None.

        Raises:
            NotUnique: there are several.
        """
        return Operation(self._execution, "query.unique()", self._unique)

    def count(self) -> Operation[int]:
        """Return how many documents there are; the whole range counts as read.

        O(log n), and reads no document; after `filter` or `where` it looks at every document of the range.
        """
        return Operation(self._execution, "query.count()", self._count)

    @overload
    def paginate(self, options: Mapping[str, Any]) -> Operation[Page]: ...
    @overload
    def paginate(self, *, num_items: int, cursor: str | None = None) -> Operation[Page]: ...
    def paginate(
        self, options: Mapping[str, Any] | None = None, *, num_items: int | None = None, cursor: str | None = None
    ) -> Operation[Page]:
        """Return one page as clients know it: `page isDone continueCursor splitCursor pageStatus`.

        `options` is what a client sent (`pagination_opts_validator`). One page can be read in each function.

        Raises:
            InvalidPage: the options can't be served, or this is the function's second page.
            InvalidCursor: a cursor is of another query, or garbled.
        """
        return Operation(self._execution, "query.paginate()", lambda: self._paginate(options, num_items, cursor))

    def __aiter__(self) -> "_AsyncDocuments":
        return _AsyncDocuments(self._execution, self._open())


class _AsyncDocuments:
    """Documents one by one, pausing between chunks when the slice is used up."""

    __slots__ = ("_execution", "_rows")

    def __init__(self, execution: Execution, scan: Scan) -> None:
        self._execution = execution
        self._rows = scan.documents()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        execution = self._execution
        execution.check_alive()
        if execution.ambient.tasks:
            return await Operation(execution, "query iteration", self._next)
        for document in self._rows:
            if document is not None:
                return document
            if execution.queue.is_due():
                await _Pause(execution)
        raise StopAsyncIteration

    def _next(self) -> Step[Document]:
        for document in self._rows:
            if document is not None:
                return document
            yield
        raise StopAsyncIteration


class _Pause:
    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __await__(self) -> Generator[Any, None, None]:
        return self._execution.pause()


class BlockingQuery(QueryChain):
    """A query in a plain `def` function."""

    __slots__ = ()

    def collect(self) -> list[Document]:
        """Return all documents."""
        return run_to_end(self._collect())

    def take(self, count: int) -> list[Document]:
        """Return the first `count` documents."""
        return run_to_end(self._take(count))

    def first(self) -> Document | None:
        """Return the first document, or None."""
        return result_of(self._first())

    def unique(self) -> Document | None:
        """Return the only document, or None.

        Raises:
            NotUnique: there are several.
        """
        return result_of(self._unique())

    def count(self) -> int:
        """Return how many documents there are; the whole range counts as read.

        O(log n), and reads no document; after `filter` or `where` it looks at every document of the range.
        """
        return run_to_end(self._count())

    @overload
    def paginate(self, options: Mapping[str, Any]) -> Page: ...
    @overload
    def paginate(self, *, num_items: int, cursor: str | None = None) -> Page: ...
    def paginate(
        self, options: Mapping[str, Any] | None = None, *, num_items: int | None = None, cursor: str | None = None
    ) -> Page:
        """Return one page as clients know it: `page isDone continueCursor splitCursor pageStatus`.

        `options` is what a client sent (`pagination_opts_validator`). One page can be read in each function.

        Raises:
            InvalidPage: the options can't be served, or this is the function's second page.
            InvalidCursor: a cursor is of another query, or garbled.
        """
        return run_to_end(self._paginate(options, num_items, cursor))

    def __iter__(self) -> Iterator[Document]:
        for document in self._open().documents():
            self._execution.check_alive()
            if document is not None:
                yield document
