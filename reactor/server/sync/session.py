"""One client's sync session: the rules of the protocol, without sockets or waiting.

Owns the version triple, the query set, the queue of mutations and the identity of one WebSocket connection. Promises
that Transitions chain exactly, that every one holds all queries at one timestamp, not before the last answered
mutation, and that a result goes out only when it differs from the last one sent. Reaches the world through four ports:
`Outlet` (messages out), `Mutations`, `LiveQueries`, and the check of admin keys. Driven by `connection`, by outcomes of
mutations and by `settled`; none of these may be called from inside another thread.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Protocol

import msgspec

from reactor.errors import Error, Forbidden, InvalidArgument, LimitExceeded, OutcomeUnknown, ProtocolError, Unavailable
from reactor.limits import MAX_CLOSE_REASON_BYTES, MAX_SAFE_INTEGER, MAX_TRANSITION_CHUNK_BYTES, Limits
from reactor.ports import Clock, Rng
from reactor.protocol.sync import (
    Action,
    ActionResponse,
    Add,
    Authenticate,
    AuthError,
    ClientMessage,
    Connect,
    Event,
    FatalError,
    ModifyQuerySet,
    Mutation,
    MutationResponse,
    QueryFailed,
    QueryRemoved,
    QueryUpdated,
    ServerMessage,
    StateModification,
    StateVersion,
    Transition,
    decode_ts,
    encode_server_message,
    encode_text,
    encode_ts,
    split_transition,
)
from reactor.runtime.calls import ANONYMOUS, Call, Failure, Identity, Outcome, Success
from reactor.runtime.references import parse_path
from reactor.runtime.results import QueryResult
from reactor.runtime.rounds import LiveHandle, Observer
from reactor.server.permissions import NO_ACTIONS, NO_PERMISSION, NO_PROVIDER, refusal
from reactor.server.text import printable

logger = logging.getLogger("reactor.sync")

CheckAdmin = Callable[[str, Mapping[str, Any] | None], Identity]


class Outlet(Protocol):
    """Where messages go; see `outbox`."""

    transitions: int

    def put(self, frame: bytes) -> None: ...
    def put_transition(self, frames: list[bytes]) -> None: ...
    def close(self, code: int | None, reason: str = "") -> None: ...
    def wake(self) -> None: ...


class Mutations(Protocol):
    """Runs mutations: `ran` when one has run, `done` when it is durable; neither from inside `submit_mutation`."""

    def submit_mutation(self, call: Call, done: Callable[[Outcome], None], ran: Callable[[], None]) -> None: ...


class Live(Protocol):
    """Keeps live queries; calls `settled` on the observer, never from inside these methods."""

    def subscribe(self, call: Call, observer: Observer, journal: str | None) -> LiveHandle: ...
    def unsubscribe(self, handle: LiveHandle) -> None: ...
    def request_settle(self, observer: Observer) -> None: ...
    def forget(self, observer: Observer) -> None: ...


class Fixed:
    """Stands for the live query of one that is refused before it runs: its failure never changes."""

    def __init__(self, failure: Failure) -> None:
        self.result = QueryResult(value=None, error=failure, log_lines=(), journal=None, version=1)


class Query(msgspec.Struct):
    """One member of the query set."""

    id: int
    path: str
    args: bytes
    component: str
    journal: str | None
    handle: LiveHandle | Fixed
    sent: QueryResult | None = None  # what the client holds


class Session:
    """The protocol state of one connection."""

    def __init__(
        self,
        *,
        outlet: Outlet,
        mutations: Mutations,
        live: Live,
        check_admin: CheckAdmin,
        durable_ts: Callable[[], int],
        clock: Clock,
        rng: Rng,
        limits: Limits,
        chunks: bool = False,
    ) -> None:
        """
        Args:
            check_admin: gives the identity of an admin key, acting as the user with the given attributes; raises
                `Forbidden` for a bad key and `InvalidArgument` for bad attributes.
            chunks: whether the client takes Transitions in parts.
        """
        self._outlet = outlet
        self._mutations = mutations
        self._live = live
        self._check_admin = check_admin
        self._durable_ts = durable_ts
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._chunks = chunks

        self._session: str | None = None
        self._clock_skew: int | None = None
        self._identity = ANONYMOUS
        self._no_permission: str | None = None  # why nothing is allowed, after a bad admin key

        self._sent = StateVersion()
        self._received_query_set = 0
        self._received_identity = 0
        self._floor = 0  # no Transition may be older: timestamp of the last one sent and of the last answer
        self._owed = False  # something was received or answered that the next Transition must confirm
        self._held = False  # a Transition waits for the outlet to drain

        self._queries: dict[int, Query] = {}
        self._removed: set[int] = set()
        self._query_bytes = 0

        self._queue: deque[tuple[int, Call]] = deque()
        self._is_running = False  # one mutation at a time runs; the next need not wait until it is durable
        self._unanswered = 0  # mutations received, in whatever stage
        self.queued_bytes = 0

        self._finish: tuple[int, str] | None = None
        self.is_closed = False

    # From the connection.

    def receive(self, message: ClientMessage) -> None:
        """Take one message of the client. Never raises what a client could provoke."""
        if self.is_closed or self._finish is not None:
            return
        try:
            match message:
                case Mutation():
                    self._mutation(message)
                case ModifyQuerySet():
                    self._modify(message)
                case Authenticate():
                    self._authenticate(message)
                case Action():
                    self._action(message)
                case Connect():
                    self._connect(message)
                case Event():
                    pass  # client-side timings; nothing depends on them
        except Error as error:
            self.fail(error)

    def fail(self, error: Error) -> None:
        """End the connection in the way `error` asks for."""
        if self.is_closed:
            return
        if isinstance(error, ProtocolError | LimitExceeded | InvalidArgument):
            self._send(FatalError(error=str(error)))
            self._close(None, "")
        elif isinstance(error, Forbidden):
            self._send(FatalError(error=str(error)))
            self._close(1000, error.rule)
        elif error.retryable and not isinstance(error, OutcomeUnknown | Unavailable):
            # "Try again later": the client waits according to the reason.
            self._close(1013, getattr(error, "rule", error.code))
        else:
            self._close(1011, "InternalServerError")

    def drained(self) -> None:
        """The outlet has sent everything: a Transition that was held back may be made, from the newest state."""
        if self._held and not self.is_closed:
            self._held = False
            self._live.request_settle(self)

    def finish(self, code: int, reason: str) -> None:
        """Take nothing more; close once what was received is answered and shown."""
        self._finish = (code, reason)
        self._finish_if_quiet()

    def closed(self) -> None:
        """The socket is gone: let go of everything. Answers that come later are dropped."""
        if self.is_closed:
            return
        self.is_closed = True
        self._queue.clear()
        self.queued_bytes = 0
        self._queries.clear()
        self._live.forget(self)

    # Client messages.

    def _connect(self, message: Connect) -> None:
        self._session = message.session_id.lower()
        client_ts = message.client_ts
        if isinstance(client_ts, int | float) and abs(client_ts) <= MAX_SAFE_INTEGER:
            self._clock_skew = int(client_ts) - self._clock.now_ns() // 1_000_000
        observed = message.max_observed_timestamp
        if isinstance(observed, str) and decode_ts(observed) > self._durable_ts():
            # The client has seen a later state than this server has: never show it an older one.
            self._close(1011, "InternalServerError")

    def _modify(self, message: ModifyQuerySet) -> None:
        if message.base_version != self._received_query_set:
            raise ProtocolError(
                "BaseVersionMismatch",
                f"Base version {message.base_version} passed up doesn't match the current version "
                f"{self._received_query_set}",
            )
        for modification in message.modifications:
            if isinstance(modification, Add):
                if not self._add(modification):
                    return
            else:
                query = self._queries.pop(modification.query_id, None)
                if query is None:
                    self._close(1011, "InternalServerError")
                    return
                self._query_bytes -= len(query.args) + len(query.path)
                self._removed.add(query.id)
                self._unsubscribe(query.handle)
        self._received_query_set = message.new_version
        self._owe()

    def _add(self, message: Add) -> bool:
        limits = self._limits
        if message.query_id in self._queries:
            self._close(1011, "InternalServerError")
            return False
        if len(self._queries) >= limits.queries_per_connection:
            raise LimitExceeded(
                "TooManyQueries",
                f"This connection already has {len(self._queries)} live queries, the limit. "
                "Subscribe to fewer, or raise REACTOR_QUERIES_PER_CONNECTION on the server.",
            )
        args = bytes(message.args[0])  # a copy: the message would stay alive with a view of it
        # After a reconnect all live queries come in one message, so more than one message of them could never return.
        self._query_bytes += len(args) + len(message.udf_path)
        if self._query_bytes > limits.message_bytes:
            raise LimitExceeded(
                "TooManyQueries",
                f"The arguments of this connection's live queries take {self._query_bytes} bytes in total, above "
                f"REACTOR_MESSAGE_BYTES={limits.message_bytes}. Pass ids instead of large values.",
            )
        _check_path(message.udf_path)
        component = message.component_path or ""
        if component and self._identity.kind != "admin" and self._no_permission is None:
            self._close(1011, "InternalServerError")
            return False
        journal = message.journal if isinstance(message.journal, str) else None
        handle = self._subscribe(message.udf_path, args, component, journal)
        self._queries[message.query_id] = Query(
            id=message.query_id, path=message.udf_path, args=args, component=component, journal=journal, handle=handle
        )
        return True

    def _authenticate(self, message: Authenticate) -> None:
        if message.base_version != self._received_identity:
            self._close(1011, "InternalServerError")
            return
        identity, no_permission = ANONYMOUS, None
        if message.token_type == "User":
            self._refuse_token(NO_PROVIDER)
            return
        if message.token_type == "Admin":
            try:
                identity = self._check_admin(message.value or "", message.acts_as)
            except Forbidden as error:
                # Accepted, with no rights at all: the official CLI hangs on any other answer to a bad key, and prints
                # one clean line when its query fails with this sentence.
                no_permission = f"{NO_PERMISSION} {error}"
            except InvalidArgument as error:
                self._refuse_token(str(error))
                return
        self._identity, self._no_permission = identity, no_permission
        self._received_identity += 1
        for query in self._queries.values():
            before = query.handle
            if not isinstance(before, Fixed) and before.result is not None:
                query.journal = before.result.journal
            query.handle = self._subscribe(query.path, query.args, query.component, query.journal)
            self._unsubscribe(before)  # last, so that a shared result stays alive
        self._owe()

    def _refuse_token(self, text: str) -> None:
        self._send(AuthError(error=text, base_version=self._sent.identity, auth_update_attempted=True))
        self._close(None, "")

    def _mutation(self, message: Mutation) -> None:
        limits = self._limits
        if self._unanswered >= limits.mutations_per_connection:
            self._close(1013, "TooManyConcurrentMutations")
            return
        _check_path(message.udf_path)
        args = bytes(message.args[0])  # a copy: the message would stay alive with a view of it
        refused = self._refusal(message.udf_path, message.component_path or "", writes=True)
        if refused is not None:
            self._answer_failure(message.request_id, self._failure(refused, self._request_id(message.request_id)))
            return
        session = self._session
        call = Call(
            path=message.udf_path,
            args=args,
            identity=self._identity,
            request_id=self._request_id(message.request_id),
            session=session,
            request=None if session is None else message.request_id,
            internal=self._identity.kind == "admin",
        )
        self._queue.append((message.request_id, call))
        self._unanswered += 1
        self.queued_bytes += len(args)
        if not self._is_running:
            self._next_mutation()

    def _action(self, message: Action) -> None:
        _check_path(message.udf_path)
        refused = self._refusal(message.udf_path, message.component_path or "", writes=True) or NO_ACTIONS
        text = f"[Request ID: {self._request_id(message.request_id)}] Server Error\n{refused}"
        self._send(ActionResponse(request_id=message.request_id, success=False, result=encode_text(text)))
        self._owe()

    # Mutations.

    def _next_mutation(self) -> None:
        self._is_running = bool(self._queue) and not self.is_closed
        if self._is_running:
            request, call = self._queue.popleft()
            self._mutations.submit_mutation(call, partial(self._answered, request, len(call.args)), self._next_mutation)

    def _answered(self, request: int, args_bytes: int, outcome: Outcome) -> None:
        self._unanswered -= 1
        if self.is_closed:
            return
        self.queued_bytes -= args_bytes
        if isinstance(outcome, Success):
            self._send(
                MutationResponse(
                    request_id=request,
                    success=True,
                    result=msgspec.Raw(outcome.value),
                    ts=encode_ts(outcome.ts),
                    log_lines=outcome.log_lines,
                )
            )
            self._floor = max(self._floor, outcome.ts)
            self._owe()
        elif isinstance(outcome, Failure):
            self._answer_failure(request, outcome)
        else:
            self.fail(outcome.error)
            return
        self._outlet.wake()

    def _answer_failure(self, request: int, failure: Failure) -> None:
        self._send(
            MutationResponse(
                request_id=request,
                success=False,
                result=encode_text(failure.message),
                ts=None,
                log_lines=failure.log_lines,
                error_data=msgspec.UNSET if failure.data is None else msgspec.Raw(failure.data),
            )
        )
        self._floor = max(self._floor, failure.ts)
        self._owe()

    # Transitions.

    def _owe(self) -> None:
        """A Transition must follow, even an empty one; several debts may be paid by one."""
        if not self._owed and not self.is_closed:
            self._owed = True
            self._live.request_settle(self)

    def settled(self, ts: int) -> None:
        """Every result is that of `ts`: bring the client there in one Transition.

        Does nothing while the outlet holds enough of them (a slow reader skips states), or when `ts` is before the
        last answer; then it sees to it that it is called again.
        """
        if self.is_closed:
            return
        try:
            self._settle(ts)
        except Exception:
            # Must not reach the other observers of this round.
            logger.exception("A Transition could not be made; its connection is closed")
            self.fail(Error())

    def _settle(self, ts: int) -> None:
        if self._outlet.transitions >= self._limits.transitions_unsent:
            self._held = True
            return
        if ts < self._floor:
            self._live.request_settle(self)
            return
        changed: list[tuple[Query, QueryResult]] = []
        for query in self._queries.values():
            result = query.handle.result
            if result is None:
                self._live.request_settle(self)
                return
            if result is not query.sent:
                if query.sent is None or not _same(result, query.sent):
                    changed.append((query, result))
                else:
                    query.sent = result
        if not (changed or self._owed or ts > self._floor):
            return
        self._transition(ts, changed)
        self._finish_if_quiet()

    def _transition(self, ts: int, changed: list[tuple[Query, QueryResult]]) -> None:
        modifications: list[StateModification] = []
        for query, result in changed:
            query.sent = result
            query.journal = result.journal
            modifications.append(_modification(query.id, result))
        for query_id in self._removed:
            if query_id not in self._queries:
                modifications.append(QueryRemoved(query_id=query_id))
        self._removed.clear()
        if len(modifications) > 1:
            modifications.sort(key=_query_id)
        end = StateVersion(query_set=self._received_query_set, identity=self._received_identity, ts=encode_ts(ts))
        frame = encode(
            Transition(
                start_version=self._sent,
                end_version=end,
                modifications=modifications,
                client_clock_skew=self._clock_skew,
                server_ts=self._clock.now_ns(),
            )
        )
        self._sent, self._floor, self._owed = end, ts, False
        if self._chunks and len(frame) > MAX_TRANSITION_CHUNK_BYTES:
            self._outlet.put_transition(split_transition(frame))
        else:
            self._outlet.put_transition([frame])

    # Queries.

    def _subscribe(self, path: str, args: bytes, component: str, journal: str | None) -> LiveHandle | Fixed:
        refused = self._refusal(path, component, writes=False)
        request_id = self._rng.token_bytes(8).hex()
        if refused is not None:
            return Fixed(self._failure(refused, request_id))
        call = Call(
            path=path,
            args=args,
            identity=self._identity,
            request_id=request_id,
            internal=self._identity.kind == "admin",
        )
        return self._live.subscribe(call, self, journal)

    def _unsubscribe(self, handle: LiveHandle | Fixed) -> None:
        if not isinstance(handle, Fixed):
            self._live.unsubscribe(handle)

    def _refusal(self, path: str, component: str, *, writes: bool) -> str | None:
        """Return why this connection's identity may not call `path`, or None."""
        if self._no_permission is not None:
            return self._no_permission
        return refusal(path, component, self._identity, writes=writes)

    # Inside.

    def _failure(self, text: str, request_id: str) -> Failure:
        return Failure(message=f"[Request ID: {request_id}] Server Error\n{text}", detail=text, ts=0)

    def _request_id(self, request: int) -> str:
        if self._session is None:
            return self._rng.token_bytes(8).hex()
        return hashlib.sha256(f"{self._session}|{request}".encode()).hexdigest()[:16]

    def _send(self, message: ServerMessage) -> None:
        self._outlet.put(encode(message))

    def _close(self, code: int | None, reason: str) -> None:
        self._outlet.close(code, reason[:MAX_CLOSE_REASON_BYTES])
        self.closed()

    def _finish_if_quiet(self) -> None:
        if self._finish is not None and not (self.is_closed or self._unanswered or self._owed):
            self._close(*self._finish)


def encode(message: ServerMessage) -> bytes:
    """Return the frame of a message, whatever text user code has put into its errors and log lines."""
    try:
        return encode_server_message(message)
    except UnicodeEncodeError:
        return encode_server_message(printable(message))


def _same(one: QueryResult, other: QueryResult) -> bool:
    if one.value != other.value or one.log_lines != other.log_lines:
        return False
    if one.error is None or other.error is None:
        return one.error is other.error
    return (one.error.detail, one.error.data, one.error.log_lines) == (
        other.error.detail,
        other.error.data,
        other.error.log_lines,
    )


def _modification(query_id: int, result: QueryResult) -> StateModification:
    error = result.error
    if error is None:
        assert result.value is not None
        return QueryUpdated(
            query_id=query_id, value=msgspec.Raw(result.value), log_lines=result.log_lines, journal=result.journal
        )
    return QueryFailed(
        query_id=query_id,
        error_message=error.message,
        log_lines=error.log_lines,
        journal=result.journal,
        error_data=msgspec.UNSET if error.data is None else msgspec.Raw(error.data),
    )


def _query_id(modification: StateModification) -> int:
    return modification.query_id


def _invalid_message(detail: str) -> ProtocolError:
    return ProtocolError("WSMessageInvalidJson", f"Received Invalid JSON on websocket: {detail}")


@lru_cache(maxsize=4096)
def _known_path(path: str) -> None:
    parse_path(path)


def _check_path(path: str) -> None:
    """Refuse a name that can't be one of a function, as while decoding the message: it never reaches the runtime."""
    try:
        _known_path(path) if len(path) <= 256 else parse_path(path)
    except ProtocolError as error:
        raise _invalid_message(str(error)) from None
