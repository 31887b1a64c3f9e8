"""Rounds: observers brought to one timestamp, each as soon as all it subscribes to is known there.

Owns who takes part in a round, what they still wait for, and what was found for its timestamp. Promises that an
observer is told one consistent set of results, that each query is run once for all who wait for it, that commits
published meanwhile change nothing of it, and that no step of it takes longer than a slice. Used by the live queries
(`docs/design/04-rounds.md`).
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol, final

from reactor.errors import Overloaded
from reactor.runtime.calls import Call, Refused
from reactor.runtime.results import QueryResult, Results, SharedQuery
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.runs import QueryRun


class Observer(Protocol):
    """Who subscribes: one client connection, or one in-process subscription."""

    def settled(self, ts: int) -> None:
        """All results of this observer are those of timestamp `ts`; called with `ts` never decreasing."""


@final
class LiveHandle:
    """One subscription of one observer. `result` is what the observer was last settled with; None before."""

    __slots__ = ("call", "is_awaited", "place", "query", "result", "since")

    def __init__(self, call: Call, place: "Place", query: SharedQuery, since: int) -> None:
        self.call = call
        self.place = place
        self.query = query
        self.since = since  # what is shown first is not older than this
        self.result: QueryResult | None = None
        self.is_awaited = False  # the place waits for this in a round


@final
class Place:
    """One observer, as the live queries see it."""

    __slots__ = ("handles", "is_gone", "is_new", "missing", "observer", "round", "settled_ts", "wants")

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.handles: dict[LiveHandle, None] = {}
        self.settled_ts = 0
        self.round: Round | None = None
        self.missing = 0  # handles whose result at the round's timestamp is not known yet
        self.wants = False  # another round, after the one it is in
        self.is_new = False  # has subscribed to something it has seen nothing of
        self.is_gone = False


class Hooks(NamedTuple):
    """What a round tells the live queries."""

    moved: Callable[[SharedQuery], bool]  # before a run: have the handles been moved to another query?
    left: Callable[[Place], None]  # settled, or not to be settled in this round
    overloaded: Callable[[Place], None]  # try it again, but not at once
    ended: Callable[["Round"], None]


class Round:
    """One timestamp, and the observers on their way to it."""

    def __init__(
        self,
        ts: int,
        places: Iterable[Place],
        results: Results,
        queue: RunQueue,
        max_runs: int,
        hooks: Hooks,
        *,
        is_urgent: bool,
    ) -> None:
        """`is_urgent`: somebody is waiting for a first result in person; otherwise it comes after all requests."""
        self.ts = ts
        self.is_urgent = is_urgent
        self._entering = deque(places)
        self._results = results
        self._queue = queue
        self._max_runs = max_runs
        self._hooks = hooks
        self._found: dict[SharedQuery, QueryResult] = {}
        self._waiting: dict[SharedQuery, list[LiveHandle]] = {}
        self._due: deque[SharedQuery] = deque()
        self._again: deque[LiveHandle] = deque()  # those whose query was answered, or exchanged
        self._ready: deque[Place] = deque()
        self._inside = 0  # how many places
        self._running = 0
        self._is_queued = False
        self._is_over = False
        for place in self._entering:
            place.round = self
            place.wants = place.is_new = False
            self._inside += 1

    def go_on(self) -> None:
        """Queue the next step."""
        if self._is_queued or self._is_over:
            return
        self._is_queued = True
        if self.is_urgent:
            self._queue.request(self._step)
        else:
            self._queue.background(self._step)

    def arrive(self, handle: LiveHandle) -> None:
        """A handle is no longer waited for."""
        place = handle.place
        handle.is_awaited = False
        place.missing -= 1
        if not place.missing:
            self._ready.append(place)
            self.go_on()

    def leave(self, place: Place) -> None:
        """Take a place out of the round."""
        for handle in place.handles:
            handle.is_awaited = False
        place.missing = 0
        place.round = None
        self._inside -= 1
        self.go_on()

    def _step(self) -> None:
        is_due, has_more = self._queue.is_due, True
        try:
            while has_more := self._work():
                if is_due():
                    break
        finally:  # a mistake of one observer is none of the others' business
            self._is_queued = False
            if has_more:
                self.go_on()
        if not self._inside and not self._is_queued:
            self._is_over = True
            self._hooks.ended(self)

    def _work(self) -> bool:
        """Do one small thing; return False when there is none to be done now."""
        if self._ready:
            self._settle(self._ready.popleft())
        elif self._again:
            self._look_again(self._again.popleft())
        elif self._due and self._running < self._max_runs:
            self._run(self._due.popleft())
        elif self._entering:
            self._enter(self._entering.popleft())
        else:
            return False
        return True

    def _enter(self, place: Place) -> None:
        if place.round is not self:
            return
        for handle in place.handles:
            self._look(handle)
        if not place.missing:
            self._ready.append(place)

    def _look(self, handle: LiveHandle) -> None:
        """Find the result of a handle at this timestamp, or have it found."""
        query = handle.query
        if query in self._found:
            return
        waiting = self._waiting.get(query)
        if waiting is not None:
            waiting.append(handle)
        elif query.valid_at(self.ts):
            assert query.result is not None
            self._found[query] = query.result
            return
        else:
            self._waiting[query] = [handle]
            self._due.append(query)
        handle.is_awaited = True
        handle.place.missing += 1

    def _look_again(self, handle: LiveHandle) -> None:
        if not handle.is_awaited or handle.place.round is not self:
            return
        handle.is_awaited = False
        place = handle.place
        place.missing -= 1
        self._look(handle)
        if not place.missing:
            self._ready.append(place)

    def _run(self, query: SharedQuery) -> None:
        if not any(handle.is_awaited for handle in self._waiting[query]):
            del self._waiting[query]
        elif not query.users or query.valid_at(self.ts) or self._hooks.moved(query):
            self._again.extend(self._waiting.pop(query))
        else:
            self._running += 1
            self._results.run(query, self.ts, partial(self._answered, query))

    def _answered(self, query: SharedQuery, result: QueryResult | None, run: QueryRun) -> None:
        self._running -= 1
        handles = self._waiting.pop(query)
        if result is not None:
            self._found[query] = result
        elif isinstance(run.outcome, Refused):
            # Overloaded, or this timestamp is no longer readable: nobody who waits for it can be settled here.
            again = self._hooks.overloaded if isinstance(run.outcome.error, Overloaded) else self._hooks.left
            for handle in handles:
                if handle.is_awaited and handle.place.round is self:
                    self.leave(handle.place)
                    handle.place.wants = True
                    again(handle.place)
            handles = []
        self._again.extend(handles)
        self.go_on()

    def _settle(self, place: Place) -> None:
        if place.round is not self or place.missing:
            return
        found, ts = self._found, self.ts
        late = [handle for handle in place.handles if handle.query not in found]
        if late:  # come, or moved, since the place entered
            if any([handle.since > ts for handle in late]):
                self.leave(place)
                self._hooks.left(place)
                return
            for handle in late:
                self._look(handle)
            if not place.missing:
                self._ready.append(place)
            return
        for handle in place.handles:
            handle.result = found[handle.query]
        place.settled_ts = ts
        place.round = None
        self._inside -= 1
        self._hooks.left(place)
        place.observer.settled(ts)
