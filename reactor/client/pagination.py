"""A paginated query as one live list: pages that follow each other without gap or overlap, and grow on demand.

Owns the pages of one list. Promises that a list is always made of pages of one step of the server; that a page which
grew too large is replaced by its two halves once both are there; that a page the server had to cut short is not shown
before; and that a list whose cursors have become invalid starts again from its first page. Used by both clients.
"""

import enum
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from reactor.client.live import LiveQueries
from reactor.client.optimistic import encode_args
from reactor.client.outcome import Outcome
from reactor.client.subscription import BlockingSubscription, Portal, Subscription
from reactor.errors import Error, FunctionError, InvalidArgument, ReactorError

_INVALID_CURSOR: Final = "InvalidCursor"
_SPLIT: Final = ("SplitRecommended", "SplitRequired")
_GROWN: Final = 2  # times the initial number of items


class PaginationStatus(enum.StrEnum):
    """How far a list is. The names are those of the official clients."""

    LOADING_FIRST_PAGE = "LoadingFirstPage"
    CAN_LOAD_MORE = "CanLoadMore"
    LOADING_MORE = "LoadingMore"
    EXHAUSTED = "Exhausted"


class PaginatedResult(msgspec.Struct, frozen=True):
    """All items of the pages loaded so far, and whether there may be more."""

    results: list[Any]
    status: PaginationStatus


class PaginatedSubscription(Subscription):
    """A live list: a `Subscription` whose results are `PaginatedResult`s, and which loads more when asked."""

    def __init__(self, pages: "Pages") -> None:
        super().__init__(pages.close)
        self._pages = pages

    @property
    def status(self) -> PaginationStatus:
        """How far the list is."""
        return self._pages.status

    @property
    def results(self) -> list[Any]:
        """The items loaded so far, read or not.

        Raises:
            ReactorError, FunctionError: the newest result is a failure.
        """
        value = self.value
        return value.results if isinstance(value, PaginatedResult) else []

    def load_more(self, count: int) -> bool:
        """Load `count` more items, if there are more and none are being loaded; return whether it was begun.

        Raises:
            InvalidArgument: `count` is not positive.
        """
        return not self.closed and self._pages.load_more(count)


class BlockingPaginatedSubscription(BlockingSubscription):
    """`PaginatedSubscription` for code without an event loop."""

    def __init__(self, subscription: PaginatedSubscription, portal: Portal) -> None:
        super().__init__(subscription, portal)
        self._list = subscription
        self._loop = portal

    @property
    def status(self) -> PaginationStatus:
        """How far the list is."""
        return self._list.status

    @property
    def results(self) -> list[Any]:
        """The items loaded so far, read or not.

        Raises:
            ReactorError, FunctionError: the newest result is a failure.
        """
        return self._list.results

    def load_more(self, count: int) -> bool:
        """Load `count` more items, if there are more and none are being loaded; return whether it was begun.

        Raises:
            InvalidArgument: `count` is not positive.
        """
        return self._loop.run(self._list.load_more, count)


class _Page:
    """One page: a live query from `cursor` to where it ended when it first ran, or to `end` where that was chosen."""

    def __init__(self, query_id: int, cursor: str | None) -> None:
        self.query_id = query_id
        self.cursor = cursor
        self.halves: tuple[_Page, _Page] | None = None  # on their way, to replace it


class _Content(msgspec.Struct, rename="camel"):
    """What a function that paginates returns."""

    page: list[Any]
    is_done: bool
    continue_cursor: str
    split_cursor: str | None = None
    page_status: str | None = None


class Pages:
    """The pages of one list, and the reader of all of them."""

    def __init__(
        self,
        live: LiveQueries,
        path: str,
        args: Mapping[str, Any],
        initial: int,
        ids: Iterator[int],
        wake: Callable[[], object],
    ) -> None:
        """Begin the list. `ids` tells lists of one client apart; `wake` is called when there is something to send.

        Raises:
            InvalidArgument: `initial` is not positive.
            ValidationError: the arguments are no Convex values.
        """
        self._live = live
        self._path = path
        self._args = dict(args)
        self._initial = _positive("initial_num_items", initial)
        self._ids = ids
        self._wake = wake
        self._pages: list[_Page] = []
        self._id = 0
        self.status = PaginationStatus.LOADING_FIRST_PAGE
        self._has_loaded = False
        self._shown: tuple[Any, ...] | None = None  # what the reader has, told apart by outcomes
        self.subscription = PaginatedSubscription(self)
        self._begin()

    def refresh(self) -> None:
        """See `Reader.refresh`."""
        while True:
            outcomes = self._outcomes()
            failure = next((error for error in map(_error, outcomes.values()) if error is not None), None)
            # A list that has loaded nothing has no cursors; to start it again would only fail again, for ever.
            if failure is not None and self._has_loaded and _is_invalid_cursor(failure):
                self._restart()
                return
            try:
                contents = {page: _content(self._path, outcome) for page, outcome in outcomes.items() if outcome}
            except Error as error:
                self.fail(failure or error)
                return
            if not self._split(contents):
                self._show(contents, outcomes)
                return

    def fail(self, error: Error) -> None:
        """See `Reader.fail`."""
        self._shown = None
        self.subscription.fail(error)

    def end(self, error: Error | None) -> None:
        """See `Reader.end`."""
        self.subscription.end(error)

    def load_more(self, count: int) -> bool:
        """See `PaginatedSubscription.load_more`."""
        _positive("load_more", count)
        if self.status is not PaginationStatus.CAN_LOAD_MORE:
            return False
        outcome = self._live.result(self._pages[-1].query_id)
        assert outcome is not None, "a list that can load more has loaded its last page"
        self._pages.append(self._open(count, _content(self._path, outcome).continue_cursor))
        self.refresh()
        return True

    def close(self) -> None:
        """The reader is gone."""
        self._close_pages()

    def _begin(self) -> None:
        # Each life of a list has an id of its own: a list opened later must not find the pages of an earlier one,
        # which have grown, or whose cursors are invalid.
        self._id = next(self._ids)
        self._pages = [self._open(self._initial, None)]

    def _restart(self) -> None:
        self._close_pages()
        self._shown = None
        self._has_loaded = False
        self.status = PaginationStatus.LOADING_FIRST_PAGE
        self.subscription.reset()
        self._begin()

    def _close_pages(self) -> None:
        for page in self._all_pages():
            self._live.close(page.query_id, self)
        self._pages = []
        self._wake()

    def _all_pages(self) -> list[_Page]:
        return [each for page in self._pages for each in (page, *(page.halves or ()))]

    def _outcomes(self) -> dict[_Page, Outcome | None]:
        return {page: self._live.result(page.query_id) for page in self._all_pages()}

    def _open(self, count: int, cursor: str | None, end: str | None = None) -> _Page:
        options: dict[str, Any] = {"numItems": count, "cursor": cursor, "id": self._id}
        if end is not None:
            options["endCursor"] = end
        args = encode_args({**self._args, "paginationOpts": options})
        page = _Page(self._live.open(self._path, args, self), cursor)
        self._wake()
        return page

    def _split(self, contents: Mapping[_Page, _Content]) -> bool:
        """Take halves that are complete, begin those that are due; return whether the list has other pages now."""
        before = list(self._pages)
        for page in before:
            if page.halves is not None and all(half in contents for half in page.halves):
                at = self._pages.index(page)
                self._pages[at : at + 1] = page.halves
                self._live.close(page.query_id, self)
                self._wake()
        begun = False
        for page in self._pages:
            content = contents.get(page)
            if content is None or page.halves is not None or not content.split_cursor:
                continue
            if content.page_status in _SPLIT or len(content.page) > _GROWN * self._initial:
                middle, end = content.split_cursor, content.continue_cursor
                page.halves = self._open(self._initial, page.cursor, middle), self._open(self._initial, middle, end)
                begun = True
        return begun or self._pages != before

    def _show(self, contents: Mapping[_Page, _Content], outcomes: Mapping[_Page, Outcome | None]) -> None:
        self._has_loaded |= bool(contents)
        complete: list[_Page] = []
        for page in self._pages:
            if page not in contents or contents[page].page_status == "SplitRequired":
                break
            complete.append(page)
        if len(complete) == len(self._pages):
            done = contents[complete[-1]].is_done
            self.status = PaginationStatus.EXHAUSTED if done else PaginationStatus.CAN_LOAD_MORE
        else:
            self.status = PaginationStatus.LOADING_MORE if complete else PaginationStatus.LOADING_FIRST_PAGE
        if self.status is PaginationStatus.LOADING_FIRST_PAGE:
            self._shown = None
            self.subscription.reset()
            return
        shown = (self.status, *(cast("Outcome", outcomes[page]).value for page in complete))
        if shown != self._shown:
            self._shown = shown
            items = list(itertools.chain.from_iterable(contents[page].page for page in complete))
            self.subscription.deliver(cast("Any", PaginatedResult(items, self.status)))


def _positive(name: str, count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidArgument(f"{name} takes a positive number of items, not {count!r}")
    return count


def _error(outcome: Outcome | None) -> Error | None:
    if outcome is None or outcome.value is not None:
        return None
    try:
        outcome.unwrap()
    except Error as error:
        return error
    return None


def _is_invalid_cursor(error: Error) -> bool:
    if isinstance(error, ReactorError):
        data = error.data
        return isinstance(data, dict) and data.get("paginationError") == _INVALID_CURSOR
    return isinstance(error, FunctionError) and _INVALID_CURSOR in str(error)


def _content(path: str, outcome: Outcome) -> _Content:
    value = outcome.unwrap()
    try:
        return msgspec.convert(value, _Content)
    except msgspec.ValidationError as error:
        raise InvalidArgument(
            f"{path} is no paginated query: it must return what ctx.db.query(...).paginate(...) gives ({error})"
        ) from None
