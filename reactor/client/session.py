"""The client's side of the sync protocol, as a state machine without I/O.

Owns the query set, the versions, unfinished requests and what is sent again after a reconnect. Promises that a
mutation is sent under one request id until it is answered, that its success is reported only when the queries of this
session show it, and that an action is never sent twice. The shells feed it frames and the ends of connections, send
what `take_frames` gives and act on the events.
"""

from collections import deque
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from reactor.client.outcome import Outcome, failed, succeeded
from reactor.client.tokens import AdminKey, Token
from reactor.errors import ConnectionLost, ProtocolError
from reactor.errors import Error as ReactorBaseError
from reactor.protocol.sync import (
    ZERO_TS,
    Action,
    ActionResponse,
    Add,
    Authenticate,
    AuthError,
    ClientMessage,
    Connect,
    FatalError,
    ModifyQuerySet,
    Mutation,
    MutationResponse,
    QueryFailed,
    QueryUpdated,
    Remove,
    StateVersion,
    Transition,
    TransitionChunk,
    decode_server_message,
    decode_ts,
    encode_client_message,
    encode_ts,
)

NO_ARGS: Final = b"{}"
MAX_UNANSWERED: Final = 500  # requests on one connection; servers close it beyond 1000
_ACTION_LOST: Final = "Connection lost while action was in flight"


class Answered(msgspec.Struct, frozen=True):
    """A request is finished."""

    request_id: int
    outcome: Outcome


class QueryChanged(msgspec.Struct, frozen=True):
    """A live query has a new result."""

    query_id: int
    outcome: Outcome


class TokenAccepted(msgspec.Struct, frozen=True):
    """The server confirmed the identity sent last."""


class TokenRefused(msgspec.Struct, frozen=True):
    """The server refused the identity sent last, and closes. Nothing is sent until the next `set_token`."""

    message: str


class Ended(msgspec.Struct, frozen=True):
    """The server ended the session for good."""

    error: ReactorBaseError


SessionEvent = Answered | QueryChanged | TokenAccepted | TokenRefused | Ended


class _Query(msgspec.Struct):
    path: str
    args: bytes
    shared: bool
    holders: int = 1
    sent: bool = False  # on this connection
    journal: str | UnsetType | None = UNSET
    outcome: Outcome | None = None


class _Request(msgspec.Struct):
    frame: bytes
    is_mutation: bool
    sent: bool = False  # ever


class Session:
    """One client's session with a deployment, over any number of connections. Not thread-safe."""

    def __init__(self, session_id: str) -> None:
        self.session_id: Final = session_id
        self._connection_count = 0
        self._close_reason: str | None = "InitialConnect"
        self._observed = 0  # newest timestamp seen, over all connections

        self._queries: dict[int, _Query] = {}
        self._shared: dict[tuple[str, bytes], int] = {}
        self._next_query = 0
        self._requests: dict[int, _Request] = {}  # unfinished, in order of their ids
        self._next_request = 0
        self._unfinished = [0, 0]  # how many actions, how many mutations
        self._answered: dict[int, tuple[int, Outcome]] = {}  # successes whose Transition is awaited, by request
        self._token: Token | None = None
        self._held = False  # a token is being fetched: nothing may overtake it

        # Of the current connection.
        self._open = False
        self._outbox: list[bytes] = []
        self._version = StateVersion()
        self._ts = 0
        self._query_set_sent = 0
        self._identity_sent = 0
        self._identified = False  # under a token
        self._new_queries: dict[int, None] = {}
        self._removed_queries: list[int] = []
        self._new_requests: deque[int] = deque()  # may hold ids that are finished meanwhile
        self._resent: set[int] = set()  # unfinished ones among them
        self._unanswered: set[int] = set()  # sent here
        self._chunks: list[str] = []
        self._chunks_id = ""

    # What the user wants.

    def subscribe(self, path: str, args: bytes = NO_ARGS, *, shared: bool = True) -> int:
        """Add a live query and return its id. Shared ones with equal path and arguments are one query."""
        key = (path, args)
        if shared and key in self._shared:
            query_id = self._shared[key]
            self._queries[query_id].holders += 1
            return query_id
        query_id = self._next_query
        self._next_query += 1
        self._queries[query_id] = _Query(path, args, shared)
        if shared:
            self._shared[key] = query_id
        self._new_queries[query_id] = None
        return query_id

    def unsubscribe(self, query_id: int) -> None:
        """Give up one hold on a live query; the last one removes it."""
        query = self._queries[query_id]
        query.holders -= 1
        if query.holders:
            return
        del self._queries[query_id]
        if query.shared:
            del self._shared[query.path, query.args]
        if query.sent:
            self._removed_queries.append(query_id)
        else:
            del self._new_queries[query_id]

    def result(self, query_id: int) -> Outcome | None:
        """Return the newest result of a live query, if it has one."""
        return self._queries[query_id].outcome

    def mutate(self, path: str, args: bytes = NO_ARGS) -> int:
        """Add a mutation and return its request id."""
        message = Mutation(request_id=self._next_request, udf_path=path, args=(Raw(args),))
        return self._add_request(message, is_mutation=True)

    def act(self, path: str, args: bytes = NO_ARGS) -> int:
        """Add an action and return its request id."""
        message = Action(request_id=self._next_request, udf_path=path, args=(Raw(args),))
        return self._add_request(message, is_mutation=False)

    def _add_request(self, message: Mutation | Action, *, is_mutation: bool) -> int:
        request_id = self._next_request
        self._next_request += 1
        self._unfinished[is_mutation] += 1
        self._requests[request_id] = _Request(encode_client_message(message), is_mutation)
        self._new_requests.append(request_id)
        return request_id

    def abandon(self, request_id: int) -> bool:
        """Forget a request that was never sent; return whether it will now never run.

        One that was sent stays: whether the server ran it is unknown, and leaving a mutation out of a resend could
        reorder those after it.
        """
        request = self._requests.get(request_id)
        if request is None or request.sent:
            return False
        self._forget(request_id)
        return True

    def drop_requests(self) -> list[int]:
        """Forget every unfinished request and return their ids."""
        dropped = list(self._requests)
        self._requests.clear()
        self._unfinished = [0, 0]
        self._answered.clear()
        self._new_requests.clear()
        self._resent.clear()
        self._unanswered.clear()
        return dropped

    def set_token(self, token: Token | None) -> None:
        """Choose the identity of everything that follows, and release what `hold` kept back."""
        if self._open and not self._held:
            self._flush()  # what came before goes under the old identity
        self._token, self._held = token, False
        if self._open and (token is not None or self._identified):
            self._authenticate()

    def hold(self) -> None:
        """Keep back everything that follows until the next `set_token`."""
        if self._open and not self._held:
            self._flush()
        self._held = True

    # What happens to the connection.

    @property
    def unfinished_mutations(self) -> int:
        """How many mutations were asked for and are not finished."""
        return self._unfinished[True]

    @property
    def unfinished_actions(self) -> int:
        """How many actions were asked for and are not finished."""
        return self._unfinished[False]

    @property
    def connection_count(self) -> int:
        """How many connections were opened so far."""
        return self._connection_count

    @property
    def max_observed_timestamp(self) -> int:
        """The newest commit that this session has seen an effect of, in nanoseconds; 0 before the first."""
        return self._observed

    @property
    def is_caught_up(self) -> bool:
        """Whether the server has confirmed everything that this connection had to say again."""
        return (
            self._open
            and not self._held
            and not self._resent
            and self._version.query_set == self._query_set_sent > 0
            and self._version.identity == self._identity_sent
        )

    @property
    def has_waiting_requests(self) -> bool:
        """Whether there are requests to send, now or when earlier ones are answered."""
        return bool(self._new_requests)

    def opened(self, now_ms: int) -> None:
        """A connection is open: introduce the session, and say again what is not finished."""
        assert not self._open, "the last connection must be closed first"
        self._open = True
        self._send(
            Connect(
                session_id=self.session_id,
                connection_count=self._connection_count,
                last_close_reason=self._close_reason,
                max_observed_timestamp=encode_ts(self._observed) if self._observed else UNSET,
                client_ts=now_ms,
            )
        )
        self._connection_count += 1
        self._new_queries = dict.fromkeys(self._queries)
        # One that was answered is durable: it only waits for the first Transition here.
        self._new_requests = deque(key for key in self._requests if key not in self._answered)
        self._resent = {key for key in self._new_requests if self._requests[key].sent}
        if not self._held and self._token is not None:
            self._authenticate()

    def closed(self, reason: str | None) -> list[SessionEvent]:
        """The connection, or an attempt at one, ended. Actions that were sent are lost."""
        self._close_reason = reason
        self._open = False
        self._outbox = []
        self._version, self._ts = StateVersion(), 0
        self._query_set_sent = self._identity_sent = 0
        self._identified = False
        self._removed_queries = []
        self._resent = set()
        self._unanswered = set()
        self._chunks, self._chunks_id = [], ""
        for query_id, query in self._queries.items():
            query.sent = False
            self._new_queries[query_id] = None
        lost = [key for key, request in self._requests.items() if request.sent and not request.is_mutation]
        return [self._finish(request_id, Outcome(error=ConnectionLost(_ACTION_LOST))) for request_id in lost]

    def take_frames(self) -> list[bytes]:
        """Return the frames to send now, in order. What is taken counts as sent."""
        if self._open and not self._held:
            self._flush()
        frames, self._outbox = self._outbox, []
        return frames

    def receive(self, data: str | bytes) -> list[SessionEvent]:
        """Handle one frame of the server.

        Raises:
            ProtocolError: it breaks the protocol; the connection must be closed.
        """
        message = decode_server_message(data)
        if type(message) is TransitionChunk:
            complete = self._assemble(message)
            if complete is None:
                return []
            message = decode_server_message(complete)
        match message:
            case Transition():
                return self._transition(message)
            case MutationResponse() | ActionResponse():
                return self._response(message)
            case AuthError():
                return self._auth_error(message)
            case FatalError(error=text):
                return [Ended(ProtocolError("FatalError", f"the server ended the session: {text}"))]
            case _:
                return []

    # Outgoing.

    def _send(self, message: ClientMessage) -> None:
        self._outbox.append(encode_client_message(message))

    def _authenticate(self) -> None:
        base, token = self._identity_sent, self._token
        if token is None:
            self._send(Authenticate(base_version=base, token_type="None"))
        elif isinstance(token, AdminKey):
            acting_as = UNSET if token.acting_as is None else token.acting_as
            self._send(Authenticate(base_version=base, token_type="Admin", value=token.key, impersonating=acting_as))
        else:
            self._send(Authenticate(base_version=base, token_type="User", value=token))
        self._identified = token is not None
        self._identity_sent += 1

    def _flush(self) -> None:
        # The first one goes out even when empty: its Transition says where the server stands, and so finishes
        # mutations that were answered on an earlier connection.
        if self._new_queries or self._removed_queries or not self._query_set_sent:
            modifications: list[Add | Remove] = [Remove(query_id) for query_id in self._removed_queries]
            modifications += map(self._add, self._new_queries)
            base = self._query_set_sent
            self._query_set_sent = base + 1
            self._send(ModifyQuerySet(base_version=base, new_version=base + 1, modifications=modifications))
            self._new_queries.clear()
            self._removed_queries.clear()
        while self._new_requests and len(self._unanswered) < MAX_UNANSWERED:
            request_id = self._new_requests.popleft()
            request = self._requests.get(request_id)
            if request is not None:
                request.sent = True
                self._unanswered.add(request_id)
                self._outbox.append(request.frame)

    def _add(self, query_id: int) -> Add:
        query = self._queries[query_id]
        query.sent = True
        return Add(query_id=query_id, udf_path=query.path, args=(Raw(query.args),), journal=query.journal)

    # Incoming.

    def _assemble(self, chunk: TransitionChunk) -> str | None:
        """Return the whole text with its last chunk."""
        if chunk.part_number == 0:
            self._chunks, self._chunks_id = [], chunk.transition_id
        if chunk.transition_id != self._chunks_id or chunk.part_number != len(self._chunks):
            raise ProtocolError("InvalidServerMessage", "the chunks of a Transition arrived out of order")
        self._chunks.append(chunk.chunk)
        if len(self._chunks) < chunk.total_parts:
            return None
        text = "".join(self._chunks)
        self._chunks, self._chunks_id = [], ""
        return text

    def _transition(self, message: Transition) -> list[SessionEvent]:
        start, end = message.start_version, message.end_version
        if start != self._version:
            raise ProtocolError("StartVersionMismatch", f"a Transition starts at {start}, but this is {self._version}")
        ts = decode_ts(end.ts)
        events: list[SessionEvent] = []
        for change in message.modifications:
            match change:
                case QueryUpdated():
                    self._update(change, succeeded(change.value, change.log_lines), events)
                case QueryFailed():
                    self._update(change, failed(change.error_message, change.error_data, change.log_lines), events)
        self._version, self._ts = end, ts
        self._observed = max(self._observed, ts)
        if end.identity > start.identity and end.identity == self._identity_sent:
            events.append(TokenAccepted())
        # After the queries: whoever awaits a mutation finds its effects in them.
        return events + self._finish_answered()

    def _update(self, change: QueryUpdated | QueryFailed, outcome: Outcome, events: list[SessionEvent]) -> None:
        query = self._queries.get(change.query_id)
        if query is not None:  # else it crossed with our Remove
            query.journal, query.outcome = change.journal, outcome
            events.append(QueryChanged(change.query_id, outcome))

    def _response(self, message: MutationResponse | ActionResponse) -> list[SessionEvent]:
        request = self._requests.get(message.request_id)
        if request is None or message.request_id in self._answered:
            return []  # the second answer to one that was sent twice, or given up
        if not message.success:
            return [
                self._finish(message.request_id, failed(_text(message.result), message.error_data, message.log_lines))
            ]
        outcome = succeeded(message.result, message.log_lines)
        if isinstance(message, ActionResponse):
            return [self._finish(message.request_id, outcome)]
        self._unanswered.discard(message.request_id)
        ts = decode_ts(message.ts or ZERO_TS)
        self._observed = max(self._observed, ts)
        self._answered[message.request_id] = ts, outcome
        return self._finish_answered()  # at once, when its effects were shown before its answer came

    def _finish_answered(self) -> list[SessionEvent]:
        if not self._version.query_set:
            return []  # a Transition that only confirms an identity: the queries still show an earlier connection
        shown = [(request_id, outcome) for request_id, (ts, outcome) in self._answered.items() if ts <= self._ts]
        return [self._finish(request_id, outcome) for request_id, outcome in shown]

    def _finish(self, request_id: int, outcome: Outcome) -> Answered:
        self._forget(request_id)
        self._answered.pop(request_id, None)
        self._resent.discard(request_id)
        self._unanswered.discard(request_id)
        return Answered(request_id, outcome)

    def _forget(self, request_id: int) -> None:
        request = self._requests.pop(request_id)
        self._unfinished[request.is_mutation] -= 1

    def _auth_error(self, message: AuthError) -> list[SessionEvent]:
        if self._held:
            return []  # its successor is already being fetched
        if message.base_version is not None and message.base_version + 1 < self._identity_sent:
            return []  # about an identity that was replaced since
        if message.auth_update_attempted is False and self._version.identity < self._identity_sent:
            return []  # the old token expired while the new one was under way
        self._held = True  # whatever follows waits for the next token, on the next connection
        return [TokenRefused(message.error)]


def _text(result: Raw) -> str:
    try:
        return msgspec.json.decode(result, type=str)
    except msgspec.MsgspecError:
        return bytes(result).decode(errors="replace")
