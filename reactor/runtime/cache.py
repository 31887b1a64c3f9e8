"""Live queries: what observers subscribe to, kept up to date for them.

Owns the observers, what they subscribe to, and when rounds begin. Promises that a result is exactly what a fresh run at
its timestamp gives; that all handles of one observer are at one timestamp when `settled` is called; that who asks is
settled at a timestamp not before the durable one of then; and that neither a commit that makes many queries stale nor a
query with many observers keeps anybody waiting for longer than a slice. Used by the sessions of the server (`design.md`
§4, 11 and 12).
"""

import asyncio
from collections.abc import Iterator
from contextvars import Context
from itertools import islice
from typing import Final

import msgspec

from reactor.engine.database import Database
from reactor.ports import Clock
from reactor.runtime.calls import Call
from reactor.runtime.executor import Executor
from reactor.runtime.results import Results, ResultStats, SharedQuery
from reactor.runtime.rounds import Hooks, LiveHandle, Observer, Place, Round
from reactor.runtime.runqueue import RunQueue

OVERLOAD_RETRY_SECONDS: Final = 0.5
PLACES_PER_ROUND: Final = 5_000  # the rest take the next one: it takes a while to write down more


class LiveQueries:
    """All live queries of the deployment."""

    def __init__(self, database: Database, executor: Executor, queue: RunQueue, clock: Clock, seed: int) -> None:
        self._database = database
        self._queue = queue
        self.results = Results(database, executor, clock, seed, on_stale=self._touch, on_split=self._split)
        self._places: dict[Observer, Place] = {}
        self._handles: dict[SharedQuery, dict[LiveHandle, None]] = {}
        self._newcomers: dict[Place, None] = {}  # who waits for a first result, first come first
        self._wanting: dict[Place, None] = {}  # who waits for another one
        self._touched: dict[SharedQuery, int] = {}  # stale queries whose observers have not been told to want a round
        self._spreading: Iterator[LiveHandle] = iter(())
        self._spread_ts = 0
        self._is_spreading = False
        self._is_kicked = False
        self._rounds: dict[Round, None] = {}
        self._hooks = Hooks(self._moved, self._left, self._overloaded, self._ended)

    def __len__(self) -> int:
        """How many distinct queries are subscribed to."""
        return len(self._handles)

    @property
    def stats(self) -> ResultStats:
        """Counters since start."""
        return self.results.stats

    @property
    def visited(self) -> int:
        """How many interval tree nodes commits have looked at so far."""
        return self.results.subscriptions.visited

    @property
    def is_settled(self) -> bool:
        """Whether nobody waits for anything."""
        return not (self._newcomers or self._wanting or self._touched or self._is_spreading or self._rounds)

    def subscribe(self, call: Call, observer: Observer, journal: str | None = None) -> LiveHandle:
        """Keep the result of `call` up to date for `observer`, and settle it as soon as there is one.

        `journal` is what a client kept from an earlier connection: where its page ended.
        """
        if journal is not None:
            call = msgspec.structs.replace(call, journal=journal)
        place = self._place(observer)
        query = self.results.find(call)
        handle = LiveHandle(call, place, query, self._database.durable_ts)
        self._attach(handle, query)
        place.handles[handle] = None
        place.is_new = True
        self._want_unless_shown(place, handle.since)
        return handle

    def unsubscribe(self, handle: LiveHandle) -> None:
        """End one subscription."""
        place = handle.place
        if handle not in place.handles:
            return
        del place.handles[handle]
        if handle.is_awaited and place.round is not None:
            place.round.arrive(handle)
        self._detach(handle)

    def forget(self, observer: Observer) -> None:
        """End everything of an observer that is gone."""
        place = self._places.pop(observer, None)
        if place is None:
            return
        place.is_gone = True
        if place.round is not None:
            place.round.leave(place)
        self._newcomers.pop(place, None)
        self._wanting.pop(place, None)
        handles, place.handles = place.handles, {}
        for handle in handles:
            self._detach(handle)

    def request_settle(self, observer: Observer) -> None:
        """Call `observer.settled` once, soon, at a timestamp not before the durable one of now."""
        self._want_unless_shown(self._place(observer), self._database.durable_ts)

    def _place(self, observer: Observer) -> Place:
        place = self._places.get(observer)
        if place is None:
            place = self._places[observer] = Place(observer)
        return place

    # Which handles a query has.

    def _attach(self, handle: LiveHandle, query: SharedQuery) -> None:
        self.results.hold(query)
        handle.query = query
        handles = self._handles.get(query)
        if handles is None:
            self._handles[query] = {handle: None}
        else:
            handles[handle] = None

    def _detach(self, handle: LiveHandle) -> None:
        query = handle.query
        handles = self._handles[query]
        del handles[handle]
        if not handles:
            del self._handles[query]
            self._touched.pop(query, None)
        self.results.release(query)

    def _moved(self, query: SharedQuery) -> bool:
        """Join the handles of `query` to the query that has the same key by now, if there is another."""
        home = self.results.home(query)
        if home is query:
            return False
        touched = self._touched.get(query)
        for handle in list(self._handles.get(query, ())):
            self._detach(handle)
            self._attach(handle, home)
        if touched is not None:
            self._touch(home, touched)
        return True

    def _split(self, query: SharedQuery) -> None:
        """Give each handle of `query` the one of its own identity."""
        for handle in list(self._handles.get(query, ())):
            own = self.results.find(msgspec.structs.replace(handle.call, journal=query.key.journal))
            if own.result is None and own.previous is None:
                own.previous = query.result
            self._detach(handle)
            self._attach(handle, own)
            if handle.place.round is None:  # else it looks for this one there
                self._want(handle.place)

    # From stale queries to observers.

    def _touch(self, query: SharedQuery, ts: int) -> None:
        """The commits up to `ts` made `query` stale. Its observers, of which there may be many, are told in slices."""
        if query in self._handles:
            self._touched[query] = ts
            if not self._is_spreading:
                self._is_spreading = True
                self._queue.background(self._spread)

    def _spread(self) -> None:
        is_due = self._queue.is_due
        while True:
            for handle in self._spreading:
                if handle.place.settled_ts < self._spread_ts:
                    self._want_unless_shown(handle.place, self._spread_ts)
                if is_due():
                    self._queue.background(self._spread)
                    return
            if not self._touched:
                break
            query = next(iter(self._touched))
            self._spread_ts = self._touched.pop(query)
            self._spreading = iter(list(self._handles[query]))
        self._is_spreading = False

    # From observers to rounds.

    def _want_unless_shown(self, place: Place, ts: int) -> None:
        """Have a place settled at `ts` or later, unless the round it is in does that."""
        if place.round is None or place.round.ts < ts:
            self._want(place)

    def _want(self, place: Place) -> None:
        if place.is_gone:
            return
        if place.round is not None:
            place.wants = True
            return
        if place.is_new:
            self._wanting.pop(place, None)
            self._newcomers[place] = None
        else:
            self._wanting[place] = None
        self._kick()

    def _kick(self) -> None:
        """See to it that rounds begin, in a step of their own."""
        if not self._is_kicked:
            self._is_kicked = True
            self._queue.request(self._begin)

    def _begin(self) -> None:
        self._is_kicked = False
        limit = self._database.limits.live_rounds
        urgent = sum([this.is_urgent for this in self._rounds])
        others = len(self._rounds) - urgent
        if self._newcomers and urgent < limit:
            self._begin_round(self._newcomers, is_urgent=True)
        if self._wanting and others < (limit + 1) // 2:
            self._begin_round(self._wanting, is_urgent=False)

    def _begin_round(self, waiting: dict[Place, None], *, is_urgent: bool) -> None:
        places = list(islice(waiting, PLACES_PER_ROUND))
        for place in places:
            del waiting[place]
        ts, limits = self._database.durable_ts, self._database.limits
        begun = Round(ts, places, self.results, self._queue, limits.live_runs, self._hooks, is_urgent=is_urgent)
        self._rounds[begun] = None
        self.stats.rounds += 1
        self._database.retention.pin(ts)
        begun.go_on()

    def _left(self, place: Place) -> None:
        if place.wants:
            place.wants = False
            self._want(place)

    def _overloaded(self, place: Place) -> None:
        asyncio.get_running_loop().call_later(OVERLOAD_RETRY_SECONDS, self._left, place, context=Context())

    def _ended(self, ended: Round) -> None:
        del self._rounds[ended]
        self._database.retention.unpin(ended.ts)
        if self._newcomers or self._wanting:
            self._kick()
