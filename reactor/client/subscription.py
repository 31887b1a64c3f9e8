"""One live query as its reader sees it: a mailbox that holds the newest result.

Promises that a reader never waits while there is something it has not seen, that a slow reader gets the newest result
and skips older ones, and that a failing query raises from `next()` without ending the subscription. Knows nothing of
where results come from; fed by the clients and by an embedded deployment, on the thread of the reader's event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from reactor.errors import Error, Unavailable
from reactor.values.types import Value

T = TypeVar("T")


class Subscription:
    """A live query: `async with` it, `async for` over it, or ask for the `next()` result.

    Not thread-safe: the feeder and every reader share one event loop.
    """

    def __init__(self, on_close: Callable[[], object] | None = None) -> None:
        self._on_close = on_close
        self._value: Value = None
        self._error: BaseException | None = None  # the newest result is this failure
        self._unread = False
        self._closed = False
        self._end: BaseException | None = None  # why no further result will come
        self._changed: asyncio.Future[None] | None = None

    # For readers.

    @property
    def value(self) -> Any:
        """The newest value, read or not; None before the first one.

        Raises:
            ReactorError, FunctionError: the newest result is a failure.
        """
        if self._error is not None:
            raise self._error.with_traceback(None)  # raised again and again, it must not collect frames
        return self._value

    @property
    def closed(self) -> bool:
        """Whether no further result will come."""
        return self._closed

    async def next(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - a reader's deadline, not a scope
        """Return the newest value this reader has not seen, waiting up to `timeout` seconds for one.

        Raises:
            ReactorError: the function raised the application's own error; the subscription lives on.
            FunctionError: the function failed otherwise; the subscription lives on.
            TimeoutError: nothing new arrived in time.
            Unavailable: the subscription, or what feeds it, was closed.
        """
        if not await self._ready(timeout):
            raise self._end or Unavailable("the subscription is closed")
        return self._take()

    def close(self) -> None:
        """Stop the live query; a waiting `next()` raises `Unavailable`. Closing twice is harmless."""
        self._unread = False
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if not await self._ready(None):
            raise self._end or StopAsyncIteration
        return self._take()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _ready(self, timeout: float | None) -> bool:  # noqa: ASYNC109 - a reader's deadline, not a scope
        """Wait until there is something unread; False when there will be nothing."""
        if not self._unread:
            async with asyncio.timeout(timeout):
                while not self._unread:
                    if self._closed:
                        return False
                    if self._changed is None:
                        self._changed = asyncio.get_running_loop().create_future()
                    # Shielded: readers share the future, and one that gives up must not take it from the others.
                    await asyncio.shield(self._changed)
        return True

    def _take(self) -> Any:
        # Runs in the step that found something unread: a reader that is cancelled while it waits has consumed nothing.
        self._unread = False
        return self.value

    # For the feeder.

    def deliver(self, value: Value) -> None:
        """Put a new value into the mailbox, over one that was not read."""
        self._put(value, None)

    def fail(self, error: BaseException) -> None:
        """Put a failure into the mailbox, over a result that was not read; later results may follow."""
        self._put(None, error)

    def reset(self) -> None:
        """Nothing is known any more, not even what was not read: like before the first result."""
        self._value, self._error, self._unread = None, None, False

    def end(self, error: Error | None = None) -> None:
        """Nothing further will come: after what is still unread, `next()` raises `error`, and loops end."""
        if not self._closed:
            self._closed, self._end = True, error
            self._wake()
            if self._on_close is not None:
                self._on_close()

    def _put(self, value: Value, error: BaseException | None) -> None:
        if not self._closed:
            self._value, self._error, self._unread = value, error, True
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)


class Portal(Protocol):
    """Runs work on an event loop in another thread, and waits for it."""

    def call(self, function: Callable[..., Awaitable[T]], *args: Any, timeout: float | None = None) -> T:
        """Return the result of `await function(*args)` there."""

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Return the result of the plain call `function(*args)` there."""


class BlockingSubscription:
    """A live query for code without an event loop: `with` it, `for` over it, or ask for the `next()` result.

    Usable from any thread.
    """

    def __init__(self, subscription: Subscription, portal: Portal) -> None:
        self._subscription = subscription
        self._portal = portal

    @property
    def value(self) -> Any:
        """The newest value, read or not; None before the first one.

        Raises:
            ReactorError, FunctionError: the newest result is a failure.
        """
        return self._subscription.value

    @property
    def closed(self) -> bool:
        """Whether no further result will come."""
        return self._subscription.closed

    def next(self, timeout: float | None = None) -> Any:
        """Return the newest value not seen yet, waiting up to `timeout` seconds for one.

        Raises:
            ReactorError: the function raised the application's own error; the subscription lives on.
            FunctionError: the function failed otherwise; the subscription lives on.
            TimeoutError: nothing new arrived in time.
            Unavailable: the subscription, or what feeds it, was closed.
        """
        # The deadline is kept inside: cut off from outside, a result could be taken and then lost.
        return self._portal.call(self._subscription.next, timeout)

    def close(self) -> None:
        """Stop the live query. Closing twice is harmless."""
        if not self._subscription.closed:
            self._portal.run(self._subscription.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self._portal.call(self._subscription.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
