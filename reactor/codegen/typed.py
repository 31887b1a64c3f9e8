"""Queries of which type checkers know the documents: what `ctx.db.query` gives in the types of `_generated`.

They exist for type checkers only; at run time each is a `Query`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypedDict, TypeVar

from reactor.runtime.executions import Operation
from reactor.runtime.queries import Query, RangeBuilder

D = TypeVar("D")  # a document
I = TypeVar("I")  # noqa: E741  # the names of the table's indexes


class Page(TypedDict, Generic[D]):
    """One page of a query, as clients know it."""

    page: list[D]
    isDone: bool
    continueCursor: str
    splitCursor: str | None
    pageStatus: str | None


class TypedQuery(Query, Generic[D, I]):
    """A query on one table."""

    if TYPE_CHECKING:  # the same methods, of which more is known

        def with_index(self, index: I, range: RangeBuilder | None = None, /, **equals: object) -> Self: ...  # type: ignore[override]
        def where(self, predicate: Callable[[D], object], /) -> Self: ...  # type: ignore[override]
        def collect(self) -> Operation[list[D]]: ...  # type: ignore[override]
        def take(self, count: int) -> Operation[list[D]]: ...  # type: ignore[override]
        def first(self) -> Operation[D | None]: ...  # type: ignore[override]
        def unique(self) -> Operation[D | None]: ...  # type: ignore[override]
        def paginate(  # type: ignore[override]
            self, options: Mapping[str, Any] | None = None, *, num_items: int | None = None, cursor: str | None = None
        ) -> Operation[Page[D]]: ...
        def __aiter__(self) -> AsyncIterator[D]: ...  # type: ignore[override]
