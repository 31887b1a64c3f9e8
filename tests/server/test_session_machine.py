"""Any interleaving of client messages, commits, durability, rounds and slow reads keeps the client's view right.

The session and the outbox are the real ones; the world behind them is a log of values by timestamp, of which a round
reads one state. The client checks every frame as it arrives: versions chain, timestamps never decrease, all values of a
Transition are those of its timestamp, nothing is older than an answer, and no request is answered twice.
"""

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reactor.errors import WriteConflict
from reactor.limits import Limits
from reactor.protocol.sync import decode_client_message, decode_ts
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.server.sync.outbox import Outbox
from reactor.server.sync.session import Session
from tests.server.fakes import (
    ADMIN_KEY,
    SESSION_ID,
    FakeClock,
    FakeHandle,
    FakeLive,
    FakeRng,
    add,
    check_admin,
    refuse_token,
    remove,
)
from tests.server.fakes import value as result_of
from tests.sizes import size

COUNTERS = 3
UNSENT = 2


class World:
    """Counters by timestamp. Mutations see what is applied; rounds read what is durable."""

    def __init__(self) -> None:
        self.applied = self.durable = 1000
        self.history: dict[int, list[tuple[int, int]]] = {number: [(0, 0)] for number in range(COUNTERS)}
        self.tail: list[tuple[int, Callable[[], None]]] = []  # not durable yet, in order

    def at(self, number: int, ts: int) -> int:
        return next(value for at, value in reversed(self.history[number]) if at <= ts)

    def increment(self, number: int) -> int:
        self.applied += 1
        self.history[number].append((self.applied, self.at(number, self.applied) + 1))
        return self.applied

    def when_durable(self, ts: int, act: Callable[[], None]) -> None:
        self.tail.append((ts, act))

    def make_durable(self, count: int) -> None:
        for ts, act in self.tail[:count]:
            self.durable = max(self.durable, ts)
            act()
        del self.tail[:count]


class Wire:
    """An ASGI `send` that is full while nobody reads."""

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.closed: tuple[int | None, str] | None = None
        self.errors: list[Exception] = []
        self._take = take

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.room.wait()
        if message["type"] == "websocket.close":
            self.closed = (message["code"], message["reason"])
        else:
            try:
                self._take(json.loads(message["text"]))
            except Exception as error:  # the outbox would take it for a lost client
                self.errors.append(error)


class SessionMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.world, self.live = World(), FakeLive()
        self.wire = Wire(self.take)
        self.outbox = Outbox(self.wire.send, lambda: 0.0)
        self.submitted: list[tuple[Call, Callable[[Outcome], None], Callable[[], None]]] = []
        self.acting: list[tuple[int, Callable[[Outcome], None]]] = []  # by request
        self.acted: dict[int, int] = {}  # request of an action -> the timestamp its success is of
        self.session = Session(
            outlet=self.outbox,
            functions=self,
            live=self.live,
            check_admin=check_admin,
            check_token=refuse_token,
            durable_ts=lambda: self.world.durable,
            clock=FakeClock(),
            alarms=FakeClock(),
            rng=FakeRng(),
            limits=Limits(transitions_unsent=UNSENT),
        )
        self.outbox.drained = self.session.drained
        self.round: tuple[int, list[FakeHandle]] | None = None
        # The client.
        self.query_set, self.identity = 0, 0
        self.queries: dict[int, int] = {}  # what it asked for last: query id -> counter
        self.asked: dict[int, dict[int, int]] = {0: {}}  # the same, by query set version
        self.version = {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}
        self.shown: dict[int, int] = {}
        self.requests: dict[int, str | None] = {}  # request -> its answer
        self.covered = 0  # timestamp of the newest answer
        self.owed = False  # an answer without a Transition after it
        self.own: dict[int, int] = {}  # counter -> the value this client's answered mutations made
        self.targets: dict[int, int] = {}  # request -> counter
        self.receive({"type": "Connect", "sessionId": SESSION_ID, "connectionCount": 0})

    # The port the session submits mutations to.

    def submit_mutation(self, call: Call, done: Callable[[Outcome], None], ran: Callable[[], None]) -> None:
        self.submitted.append((call, done, ran))

    def submit_action(self, call: Call, done: Callable[[Outcome], None]) -> None:
        self.acting.append((len(self.requests) - 1, done))

    # The client.

    def receive(self, message: dict[str, Any]) -> None:
        self.within(lambda: self.session.receive(decode_client_message(json.dumps(message))))

    @rule(query=st.integers(0, 5), counter=st.integers(0, COUNTERS - 1))
    def subscribe(self, query: int, counter: int) -> None:
        changes = [add(query, args={"n": counter})]
        if query in self.queries:
            changes.insert(0, remove(query))
        self.queries[query] = counter
        self.modify(changes)

    @rule(query=st.integers(0, 5))
    def unsubscribe(self, query: int) -> None:
        self.modify([] if self.queries.pop(query, None) is None else [remove(query)])

    def modify(self, changes: list[dict[str, Any]]) -> None:
        base, self.query_set = self.query_set, self.query_set + 1
        self.asked[self.query_set] = dict(self.queries)
        message = {"type": "ModifyQuerySet", "baseVersion": base, "newVersion": base + 1, "modifications": changes}
        self.receive(message)

    @rule(admin=st.booleans())
    def authenticate(self, admin: bool) -> None:
        token = {"tokenType": "Admin", "value": ADMIN_KEY} if admin else {"tokenType": "None"}
        self.receive({"type": "Authenticate", "baseVersion": self.identity, **token})
        self.identity += 1

    @rule(counter=st.integers(0, COUNTERS - 1))
    def mutate(self, counter: int) -> None:
        request = len(self.requests)
        self.requests[request] = None
        self.targets[request] = counter
        self.receive({"type": "Mutation", "requestId": request, "udfPath": "m:f", "args": [{"n": counter}]})

    @rule()
    def act(self) -> None:
        request = len(self.requests)
        self.requests[request] = None
        self.receive({"type": "Action", "requestId": request, "udfPath": "a:b", "args": [{}]})

    def take(self, message: dict[str, Any]) -> None:
        if message["type"] in ("MutationResponse", "ActionResponse"):
            request = message["requestId"]
            assert self.requests[request] is None, "answered twice"
            self.requests[request] = message["type"]
            self.owed = True
            if message["type"] == "ActionResponse":
                self.covered = max(self.covered, self.acted.get(request, 0))
            if message["type"] == "MutationResponse" and message["success"]:
                ts = decode_ts(message["ts"])
                self.covered = max(self.covered, ts)
                counter = self.targets[request]
                self.own[counter] = max(self.own.get(counter, 0), self.world.at(counter, ts))
            return
        assert message["type"] == "Transition"
        self.owed = False
        start, end = message["startVersion"], message["endVersion"]
        assert start == self.version
        assert all(start[part] <= end[part] for part in ("querySet", "identity"))
        ts = decode_ts(end["ts"])
        assert decode_ts(start["ts"]) <= ts
        assert self.covered <= ts, "older than an answer"
        self.version = end
        ids = [modification["queryId"] for modification in message["modifications"]]
        assert ids == sorted(set(ids))
        for modification in message["modifications"]:
            if modification["type"] == "QueryUpdated":
                self.shown[modification["queryId"]] = modification["value"]
            else:
                self.shown.pop(modification["queryId"], None)  # one that never had a result is removed too
        wanted = self.asked[end["querySet"]]
        assert self.shown == {query: self.world.at(counter, ts) for query, counter in wanted.items()}
        for query, counter in wanted.items():
            assert self.shown[query] >= self.own.get(counter, 0), "without its own write"

    # The world.

    @rule(number=st.integers(0, COUNTERS - 1))
    def somebody_commits(self, number: int) -> None:
        self.world.when_durable(self.world.increment(number), lambda: None)

    @precondition(lambda self: self.submitted)
    @rule(fails=st.booleans())
    def run_next(self, fails: bool) -> None:
        call, done, ran = self.submitted.pop(0)
        number = json.loads(bytes(call.args))["n"]
        outcome: Outcome
        if fails:
            ts = self.world.applied
            outcome = Failure(message="no", detail="no", ts=ts)
        else:
            ts = self.world.increment(number)
            outcome = Success(value=b"null", ts=ts)
        self.within(ran)
        self.world.when_durable(ts, lambda: done(outcome))

    @precondition(lambda self: self.acting)
    @rule(position=st.integers(0, 9), fails=st.booleans())
    def an_action_ends(self, position: int, fails: bool) -> None:
        (request, done), ts = self.acting.pop(position % len(self.acting)), self.world.durable
        if not fails:
            self.acted[request] = ts
        outcome = Failure(message="no", detail="no", ts=ts) if fails else Success(value=b"null", ts=ts)
        self.within(lambda: done(outcome))

    @precondition(lambda self: self.world.tail)
    @rule(count=st.integers(1, 4))
    def sync_the_disk(self, count: int) -> None:
        self.within(lambda: self.world.make_durable(count))

    @precondition(lambda self: self.round is None)
    @rule()
    def begin_round(self) -> None:
        self.round = self.world.durable, list(self.live.open)

    @precondition(lambda self: self.round is not None)
    @rule()
    def end_round(self) -> None:
        assert self.round is not None
        (ts, handles), self.round = self.round, None
        for handle in handles:
            content = self.world.at(json.loads(bytes(handle.call.args))["n"], ts)
            if handle.result is None or handle.result.value != b"%d" % content:
                handle.result = result_of(content)
                self.live.asked += 1
        # As the live queries do: only who asked, or watches what has changed; and not who has subscribed meanwhile.
        if self.live.asked and all(handle in handles for handle in self.live.open):
            self.live.asked = 0
            self.within(lambda: self.session.settled(ts))

    @precondition(lambda self: self.round is None)
    @rule(number=st.integers(0, COUNTERS - 1), rounds=st.integers(1, 6))
    def many_rounds(self, number: int, rounds: int) -> None:
        for _ in range(rounds):
            self.somebody_commits(number)
            self.sync_the_disk(len(self.world.tail))
            self.begin_round()
            self.end_round()

    @rule()
    def stop_reading(self) -> None:
        self.wire.room.clear()

    @rule()
    def read(self) -> None:
        self.within(self.wire.room.set)

    @invariant()
    def lag_is_bounded(self) -> None:
        if hasattr(self, "outbox"):
            assert self.outbox.transitions <= UNSENT
            assert self.wire.closed is None

    def within(self, act: Callable[[], object]) -> None:
        async def step() -> None:
            act()
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(step())
        if self.wire.errors:
            raise self.wire.errors[0]

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.read()
            for fails in (False, True):
                self.mutate(0)
                while self.submitted:
                    self.run_next(fails)
                while self.acting:
                    self.an_action_ends(0, fails)
                self.within(lambda: self.world.make_durable(len(self.world.tail)))
                for _ in range(4):
                    if self.round is None:
                        self.begin_round()
                    self.end_round()
                assert None not in self.requests.values(), "never answered"
                assert not self.owed, "an answer that nothing confirms"
            assert (self.version["querySet"], self.version["identity"]) == (self.query_set, self.identity)
            self.mutate(0)  # one that the system refuses: no answer, and the end
            _, done, _ = self.submitted.pop()
            self.within(lambda: done(Refused(WriteConflict("lost"))))
            assert self.wire.closed == (1013, "OptimisticConcurrencyControlFailure")
            assert self.requests[len(self.requests) - 1] is None
            assert self.live.open == []
        finally:
            self.loop.close()


TestSession = SessionMachine.TestCase
TestSession.settings = settings(
    max_examples=size(60, 2000), stateful_step_count=size(40, 100), deadline=None, derandomize=size(True, False)
)
