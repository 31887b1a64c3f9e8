"""A session with everything around it replaced: what it sends is a list, and outcomes and results are given by hand."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from reactor.auth.admin_key import check, issue
from reactor.auth.identity import Identity, admin_identity
from reactor.errors import Error, Unauthenticated
from reactor.limits import Limits
from reactor.protocol.sync import decode_client_message, decode_ts
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.runtime.results import QueryResult
from reactor.server.sync.session import Session

NAME = "test-instance"
SECRET = "5a" * 32
SESSION_ID = "b1350d76-3c69-4e7e-8fa0-bc64ddce0796"
ADMIN_KEY = issue(NAME, SECRET, 1, b"n" * 12)
READ_ONLY_KEY = issue(NAME, SECRET, 1, b"n" * 12, read_only=True)


def check_admin(key: str, attributes: Mapping[str, Any] | None) -> Identity:
    return admin_identity(attributes, read_only=check(key, NAME, SECRET).read_only)


def refuse_token(text: str, done: Callable[[Identity | Error], None]) -> Callable[[], None]:
    """As where no provider is configured."""
    done(Unauthenticated("NoAuthProvider", "No auth provider found matching the given token"))
    return lambda: None


async def refuse_every_token(text: str) -> Identity:
    raise Unauthenticated("NoAuthProvider", "No auth provider found matching the given token")


class FakeClock:
    """Stands still until told otherwise. What is to be called at some time is called by the test."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000_000_000_000
        self.seconds = 100.0
        self.alarms: list[tuple[int, Callable[[], None]]] = []

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        alarm = (when_ns, callback)
        self.alarms.append(alarm)
        return lambda: self.alarms.remove(alarm)

    def now_ns(self) -> int:
        return self.ns

    def monotonic(self) -> float:
        return self.seconds


class FakeRng:
    def token_bytes(self, count: int) -> bytes:
        return b"\xab" * count


class FakeOutlet:
    """Keeps what was sent, decoded. `transitions` is set by the test, as if that many had not left yet."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed: tuple[int | None, str] | None = None
        self.transitions = 0
        self.woken = 0

    def put(self, frame: bytes) -> None:
        assert self.closed is None
        self.sent.append(json.loads(frame))

    def put_transition(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.put(frame)

    def close(self, code: int | None, reason: str = "") -> None:
        assert self.closed is None
        self.closed = (code, reason)

    def wake(self) -> None:
        self.woken += 1


class FakeHandle:
    def __init__(self, call: Call, journal: str | None) -> None:
        self.call = call
        self.journal = journal
        self.result: QueryResult | None = None
        self.is_over = False


class FakeLive:
    """Live queries whose results the test sets."""

    def __init__(self) -> None:
        self.handles: list[FakeHandle] = []
        self.asked = 0  # request_settle, since the last settle

    def subscribe(self, call: Call, observer: Any, journal: str | None) -> Any:
        handle = FakeHandle(call, journal)
        self.handles.append(handle)
        return handle

    def unsubscribe(self, handle: Any) -> None:
        assert not handle.is_over
        handle.is_over = True

    def request_settle(self, observer: Any) -> None:
        self.asked += 1

    def forget(self, observer: Any) -> None:
        for handle in self.handles:
            handle.is_over = True

    @property
    def open(self) -> list[FakeHandle]:
        return [handle for handle in self.handles if not handle.is_over]


class FakeMutations:
    def __init__(self) -> None:
        self.submitted: list[tuple[Call, Callable[[Outcome], None]]] = []
        self.actions: list[tuple[Call, Callable[[Outcome], None]]] = []
        self.action_outcome: Outcome | None = None  # of every action, at once
        self._ran: list[Callable[[], None]] = []

    def submit_action(self, call: Call, done: Callable[[Outcome], None]) -> None:
        if self.action_outcome is not None:
            done(self.action_outcome)
        else:
            self.actions.append((call, done))

    def submit_mutation(self, call: Call, done: Callable[[Outcome], None], ran: Callable[[], None]) -> None:
        self._ran.append(ran)
        position = len(self._ran) - 1

        def answer(outcome: Outcome) -> None:
            if isinstance(outcome, Refused):  # first: nothing may run after one that will be sent again
                done(outcome)
                self.run(position)
            else:
                self.run(position)
                done(outcome)

        self.submitted.append((call, answer))

    def run(self, position: int) -> None:
        """Let a submitted mutation end, without answering it yet."""
        self._ran[position]()
        self._ran[position] = lambda: None


class FakeTokens:
    """Tokens whose checks the test ends; those in `known` are answered at once."""

    def __init__(self) -> None:
        self.known: dict[str, Identity | Error] = {}
        self.checks: dict[str, Callable[[Identity | Error], None]] = {}

    def __call__(self, text: str, done: Callable[[Identity | Error], None]) -> Callable[[], None]:
        if text in self.known:
            done(self.known[text])
        else:
            self.checks[text] = done

        def cancel() -> None:
            self.checks.pop(text, None)

        return cancel

    def answer(self, text: str, answer: Identity | Error) -> None:
        self.checks.pop(text)(answer)


class Client:
    """One session and its surroundings, driven by wire messages."""

    def __init__(
        self, *, chunks: bool = False, durable_ts: int = 1000, expires_ns: int | None = None, **limits: Any
    ) -> None:
        self.outlet, self.live, self.mutations, self.clock = FakeOutlet(), FakeLive(), FakeMutations(), FakeClock()
        self.tokens = FakeTokens()
        self.durable_ts = durable_ts
        self.limits = Limits(**limits)
        self.session = Session(
            outlet=self.outlet,
            functions=self.mutations,
            live=self.live,
            check_admin=lambda key, attributes: msgspec.structs.replace(
                check_admin(key, attributes), expires_ns=expires_ns
            ),
            check_token=self.tokens,
            durable_ts=lambda: self.durable_ts,
            clock=self.clock,
            alarms=self.clock,
            rng=FakeRng(),
            limits=self.limits,
            chunks=chunks,
        )
        self.query_set = self.identity = 0

    def receive(self, message: dict[str, Any]) -> None:
        self.session.receive(decode_client_message(json.dumps(message)))

    def connect(self, **fields: Any) -> None:
        self.receive({"type": "Connect", "sessionId": SESSION_ID, "connectionCount": 0, **fields})

    def modify(self, *modifications: dict[str, Any]) -> None:
        base, self.query_set = self.query_set, self.query_set + 1
        self.receive(
            {
                "type": "ModifyQuerySet",
                "baseVersion": base,
                "newVersion": self.query_set,
                "modifications": list(modifications),
            }
        )

    def authenticate(self, token_type: str, value: str | None = None, **fields: Any) -> None:
        base, self.identity = self.identity, self.identity + 1
        message = {"type": "Authenticate", "baseVersion": base, "tokenType": token_type, **fields}
        self.receive(message if value is None else {**message, "value": value})

    def mutate(self, request: int, path: str = "messages:send", **args: Any) -> None:
        self.receive({"type": "Mutation", "requestId": request, "udfPath": path, "args": [args]})

    def answer(self, outcome: Outcome) -> None:
        """Give the mutation submitted last its outcome."""
        self.mutations.submitted[-1][1](outcome)

    def settle(self, ts: int) -> list[dict[str, Any]]:
        """End a round at `ts`; return what was sent in it."""
        before = len(self.outlet.sent)
        self.live.asked = 0
        self.session.settled(ts)
        return self.outlet.sent[before:]

    def transition(self, ts: int) -> dict[str, Any]:
        """End a round at `ts` that sends exactly one Transition, and return that."""
        (message,) = self.settle(ts)
        assert message["type"] == "Transition"
        assert decode_ts(message["endVersion"]["ts"]) == ts
        return message


def add(
    query_id: int, path: str = "messages:list", args: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    return {"type": "Add", "queryId": query_id, "udfPath": path, "args": [args or {}], **fields}


def remove(query_id: int) -> dict[str, Any]:
    return {"type": "Remove", "queryId": query_id}


def value(content: Any, version: int = 1, log_lines: tuple[str, ...] = (), journal: str | None = None) -> QueryResult:
    encoded = msgspec.json.encode(content)
    return QueryResult(value=encoded, error=None, log_lines=log_lines, version=version, journal=journal)


def failed(text: str, version: int = 1, data: bytes | None = None, request_id: str = "0" * 16) -> QueryResult:
    failure = Failure(message=f"[Request ID: {request_id}] Server Error\n{text}", detail=text, ts=1, data=data)
    return QueryResult(value=None, error=failure, log_lines=(), version=version)


def success(ts: int, content: Any = None) -> Success:
    return Success(value=msgspec.json.encode(content), ts=ts)
