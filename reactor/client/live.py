"""The live queries of one client and who reads them.

Owns the readers. Promises that all readers of one step of the server (or of one optimistic update) are told after the
whole step was taken, so that no reader of two queries sees half of it, and that a reader is told only when what it sees
is different. Used by the client; the rules of optimistic updates are in `client/optimistic`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from reactor.client.address import canonical_path
from reactor.client.optimistic import OptimisticResults, OptimisticUpdate, QueryKey
from reactor.client.outcome import Outcome
from reactor.client.session import Session
from reactor.client.subscription import Subscription
from reactor.errors import Error


class Reader(Protocol):
    """Somebody who reads one or more live queries."""

    def refresh(self) -> None:
        """What it reads looks different now."""

    def fail(self, error: Error) -> None:
        """There will be no results for a while, for this reason."""

    def end(self, error: Error | None) -> None:
        """There will be no more results; `error` is why, unless it is the reader's own wish."""


class LiveQueries:
    """Which queries are live, and what their readers see. Not thread-safe."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._results = OptimisticResults()
        self._keys: dict[int, QueryKey] = {}
        self._ids: dict[QueryKey, int] = {}
        self._readers: dict[int, dict[Reader, None]] = {}

    def open(self, path: str, args: bytes, reader: Reader) -> int:
        """Make a query live for `reader` and return its id. It may have a result already; the reader is not told."""
        key = (canonical_path(path), args)
        query_id = self._session.subscribe(*key)
        self._keys[query_id], self._ids[key] = key, query_id
        self._readers.setdefault(query_id, {})[reader] = None
        return query_id

    def close(self, query_id: int, reader: Reader) -> None:
        """End what `open` began."""
        self._session.unsubscribe(query_id)
        readers = self._readers[query_id]
        del readers[reader]
        if not readers:
            del self._readers[query_id]
            key = self._keys.pop(query_id)
            del self._ids[key]
            self._results.forget(key)

    def result(self, query_id: int) -> Outcome | None:
        """Return what readers of a query see; None while it is loading."""
        return self._results.result(self._keys[query_id])

    def mutate(self, path: str, args: bytes, update: OptimisticUpdate) -> int:
        """Ask for a mutation, show its update until it is finished, and return its request id.

        Raises:
            Exception: whatever `update` raised; nothing was sent.
        """
        request_id, changed = self._results.mutate(update, args, lambda: self._session.mutate(path, args))
        self._tell(changed)
        return request_id

    def step(self, changed: Mapping[int, Outcome], finished: Iterable[int]) -> None:
        """Take one step of the server: new results by query, and the requests that are finished with it."""
        outcomes = {self._keys[query_id]: outcome for query_id, outcome in changed.items() if query_id in self._keys}
        self._tell(self._results.ingest(outcomes, finished))

    def fail(self, error: Error) -> None:
        """Every reader gets `error` as a result; the next results of the server follow it, also equal ones."""
        self._results.clear()
        for reader in self._all():
            reader.fail(error)

    def end(self, error: Error | None) -> None:
        """No reader will get anything any more."""
        for reader in self._all():
            reader.end(error)

    def _all(self) -> dict[Reader, None]:
        return {reader: None for readers in self._readers.values() for reader in readers}

    def _tell(self, changed: Iterable[QueryKey]) -> None:
        ids = [self._ids[key] for key in changed if key in self._ids]
        for reader in {reader: None for query_id in ids for reader in self._readers[query_id]}:
            reader.refresh()


class SingleReader:
    """Keeps one subscription filled from one live query."""

    def __init__(self, live: LiveQueries, path: str, args: bytes, wake: Callable[[], object]) -> None:
        """Begin reading; `wake` is called when there is something to send."""
        self.subscription = Subscription(self._closed)
        self._live = live
        self._wake = wake
        self._query_id = live.open(path, args, self)
        self.refresh()
        wake()

    def refresh(self) -> None:
        """See `Reader.refresh`."""
        deliver(self.subscription, self._live.result(self._query_id))

    def fail(self, error: Error) -> None:
        """See `Reader.fail`."""
        self.subscription.fail(error)

    def end(self, error: Error | None) -> None:
        """See `Reader.end`."""
        self.subscription.end(error)

    def _closed(self) -> None:
        self._live.close(self._query_id, self)
        self._wake()


def deliver(subscription: Subscription, outcome: Outcome | None) -> None:
    """Put an outcome into a mailbox."""
    if outcome is None:
        subscription.reset()
        return
    try:
        value = outcome.unwrap()
    except Error as error:
        subscription.fail(error)
    else:
        subscription.deliver(value)
