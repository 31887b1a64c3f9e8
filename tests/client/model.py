"""A model of a deployment, just enough to hold the client to the protocol.

`ModelServer` is the durable part: an append-only list of items and the record of answered mutations. `ModelConnection`
is one socket: frames in, frames out, no I/O. It checks everything a strict server checks about a client.
"""

import json
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from reactor.protocol.sync import (
    Action,
    ActionResponse,
    Add,
    Authenticate,
    AuthError,
    Connect,
    Event,
    ModifyQuerySet,
    Mutation,
    MutationResponse,
    QueryFailed,
    QueryRemoved,
    QueryUpdated,
    ServerMessage,
    StateVersion,
    Transition,
    decode_client_message,
    decode_ts,
    encode_server_message,
    encode_text,
    encode_ts,
)

APPEND, APPEND_REFUSED, LIST, LIST_REFUSED, RUN = "log:append", "log:refuse", "log:list", "log:forbidden", "log:run"
PAGES = "log:pages"  # the distinct numbers of the log, in order
PAGES_REFUSED = "log:refusedPages"  # as if every cursor were invalid, even none
END = "end"
REQUEST_ID = "0123456789abcdef"
FAILURE = f"[Request ID: {REQUEST_ID}] Server Error\nUncaught Error: no"


class ModelServer:
    """What survives connections."""

    def __init__(self, refused_tokens: set[str] | None = None) -> None:
        self.ts = 1_700_000_000_000_000_000
        self.items: list[Any] = []
        self.identities: list[str | None] = []  # beside each item, who appended it
        self.actions: list[Any] = []  # in the order they ran
        self.answers: dict[tuple[str, int], tuple[int, bytes]] = {}
        self.refused_tokens = refused_tokens or set()
        self.connects: list[Connect] = []
        self.cursors = 0  # the generation of cursors that are good
        self.rows_per_page = 1000  # beyond this, a page is cut short

    def append(self, item: Any, identity: str | None) -> bytes:
        self.ts += 1000
        self.items.append(item)
        self.identities.append(identity)
        return json.dumps(float(len(self.items))).encode()

    def numbers(self) -> list[float]:
        return sorted({float(item) for item in self.items})

    def page(self, options: dict[str, Any], journal: str | None) -> dict[str, Any] | None:
        """Return one page as `paginate` would, or None for a cursor from elsewhere."""
        cursor, end = options["cursor"], options.get("endCursor") or journal
        for given in (cursor, end):
            if given is not None and not given.startswith(f"{self.cursors}:"):
                return None
        low = -float("inf") if cursor is None else _position(cursor)
        high = float("inf") if end is None else _position(end)
        rows = [number for number in self.numbers() if low < number <= high]
        is_first = end is None
        if end is None:
            count = int(options["numItems"])
            rows, end = rows[:count], None if len(rows) >= count else self._cursor(END)
        split = self._cursor(rows[len(rows) // 2]) if len(rows) > 2 else None
        status = None
        if len(rows) > self.rows_per_page:
            rows, status = rows[: self.rows_per_page], "SplitRequired"
            end = None if is_first else end  # a page keeps its end, also when not all of it can be read
            split = self._cursor(rows[len(rows) // 2])
        last = end or self._cursor(rows[-1])
        return {
            "page": rows,
            "isDone": _position(last) == float("inf"),
            "continueCursor": last,
            "splitCursor": split,
            "pageStatus": status,
        }

    def _cursor(self, position: object) -> str:
        return f"{self.cursors}:{position}"


class ModelConnection:
    """One socket of the model server."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.closing = False
        self.received: list[Any] = []
        self._session: str | None = None
        self._identity: str | None = None
        self._received_version = (0, 0)
        self._version = StateVersion()
        self._queries: dict[int, Add] = {}
        self._removed: list[int] = []
        self._sent: dict[int, bytes] = {}
        self._requests: set[int] = set()
        self._is_ready = False

    def receive(self, frame: bytes | str) -> list[bytes]:
        """Take one frame of the client and return the answers."""
        message = decode_client_message(frame)
        self.received.append(message)
        match message:
            case Connect():
                assert len(self.received) == 1
                if isinstance(message.max_observed_timestamp, str):
                    assert decode_ts(message.max_observed_timestamp) <= self.server.ts
                self.server.connects.append(message)
                self._session = message.session_id
                return []
            case ModifyQuerySet():
                return self._modify(message)
            case Authenticate():
                return self._authenticate(message)
            case Mutation():
                return [self._mutate(message), self.transition()]
            case Action():
                return [self._act(message), self.transition()]
            case Event():
                return []

    def transition(self) -> bytes:
        """Return the Transition to the newest timestamp."""
        query_set, identity = self._received_version
        end = StateVersion(query_set, identity, encode_ts(self.server.ts))
        changes: list[Any] = [QueryRemoved(query_id) for query_id in self._removed]
        self._removed = []
        for query_id, query in sorted(self._queries.items()):
            result = self._run(query)
            content = encode_server_message(result)
            if self._sent.get(query_id) != content:
                self._sent[query_id] = content
                changes.append(result)
        message = Transition(self._version, end, changes)
        self._version = end
        return encode_server_message(message)

    def _modify(self, message: ModifyQuerySet) -> list[bytes]:
        assert message.base_version == self._received_version[0], "query set versions must chain"
        self._received_version = (message.new_version, self._received_version[1])
        for change in message.modifications:
            if isinstance(change, Add):
                assert change.query_id not in self._queries, "query ids are not reused"
                self._queries[change.query_id] = change
            else:
                del self._queries[change.query_id]
                self._sent.pop(change.query_id, None)
                self._removed.append(change.query_id)
        return [self.transition()]

    def _authenticate(self, message: Authenticate) -> list[bytes]:
        query_set, identity = self._received_version
        assert message.base_version == identity, "identity versions must chain"
        token = message.value if message.token_type != "None" else None
        if token in self.server.refused_tokens:
            self.closing = True
            error = AuthError("Could not parse JWT", base_version=self._version.identity, auth_update_attempted=True)
            return [encode_server_message(error)]
        assert token is None or isinstance(token, str)
        self._identity = token
        self._received_version = (query_set, identity + 1)
        return [self.transition()]

    def _run(self, query: Add) -> ServerMessage | QueryUpdated | QueryFailed:
        if query.udf_path in (PAGES, PAGES_REFUSED):
            journal = query.journal if isinstance(query.journal, str) else None
            options = json.loads(bytes(query.args[0]))["paginationOpts"]
            page = None if query.udf_path == PAGES_REFUSED else self.server.page(options, journal)
            if page is None:
                data = Raw(b'{"isConvexSystemError":true,"paginationError":"InvalidCursor"}')
                return QueryFailed(query.query_id, FAILURE, error_data=data)
            journal = page["continueCursor"]
            self._queries[query.query_id] = msgspec.structs.replace(query, journal=journal)
            return QueryUpdated(query.query_id, Raw(json.dumps(page).encode()), journal=journal)
        if query.udf_path == LIST:
            return QueryUpdated(query.query_id, Raw(json.dumps(self.server.items).encode()), journal="j")
        if query.udf_path == LIST_REFUSED:
            return QueryFailed(query.query_id, FAILURE, error_data=Raw(b'{"code":"NO"}'))
        return QueryFailed(query.query_id, FAILURE, ["[LOG] 'x'"])

    def _mutate(self, message: Mutation) -> bytes:
        assert message.request_id not in self._requests, "a request id is sent once on a connection"
        self._requests.add(message.request_id)
        assert self._session is not None
        if message.udf_path != APPEND:
            data = Raw(b"null") if message.udf_path == APPEND_REFUSED else UNSET
            failure = MutationResponse(message.request_id, False, encode_text(FAILURE), error_data=data)
            return encode_server_message(failure)
        key = (self._session, message.request_id)
        if key not in self.server.answers:
            result = self.server.append(json.loads(bytes(message.args[0]))["item"], self._identity)
            self.server.answers[key] = (self.server.ts, result)
        ts, result = self.server.answers[key]
        return encode_server_message(MutationResponse(message.request_id, True, Raw(result), encode_ts(ts)))

    def _act(self, message: Action) -> bytes:
        assert message.request_id not in self._requests, "a request id is sent once on a connection"
        self._requests.add(message.request_id)
        args = json.loads(bytes(message.args[0]))
        self.server.actions.append(args.get("item"))
        if message.udf_path != RUN:
            return encode_server_message(ActionResponse(message.request_id, False, encode_text(FAILURE)))
        return encode_server_message(ActionResponse(message.request_id, True, bytes_of(args.get("item"))))


def bytes_of(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def _position(cursor: str) -> float:
    text = cursor.partition(":")[2]
    return float("inf") if text == END else float(text)
