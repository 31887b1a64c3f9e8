"""The query set of one connection: what the client watches, and what it holds of it.

Owns the live queries a client has added, their arguments, journals and the results last sent. Promises that a query is
reported only when it differs from what the client holds, that every Remove is reported once, and that arguments of all
queries together stay within one message, since after a reconnect they come in one. Used by the session, which decides
when to look.
"""

from functools import lru_cache
from typing import Final

import msgspec

from reactor.errors import Error, LimitExceeded, ProtocolError
from reactor.limits import Limits
from reactor.ports import Rng
from reactor.protocol.sync import (
    Add,
    ModifyQuerySet,
    QueryFailed,
    QueryRemoved,
    QueryUpdated,
    Remove,
    StateModification,
)
from reactor.runtime.calls import Call, Failure
from reactor.runtime.references import parse_path
from reactor.runtime.results import QueryResult
from reactor.runtime.rounds import LiveHandle, Observer
from reactor.server.permissions import NO_PERMISSION, Rights
from reactor.server.sync.ports import Live

MAX_REMEMBERED_PATH = 256  # characters; longer names are checked each time
CLI_FUNCTIONS: Final = "_system/cli/"


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


Change = tuple[Query, QueryResult]


class QuerySet:
    """The live queries of one connection."""

    def __init__(self, live: Live, rng: Rng, limits: Limits) -> None:
        self.version = 0  # the last one received
        self._live = live
        self._rng = rng
        self._limits = limits
        self._queries: dict[int, Query] = {}
        self.removed: set[int] = set()  # ids the client has not been told of yet
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._queries)

    # From the client.

    def modify(self, message: ModifyQuerySet, rights: Rights, observer: Observer) -> None:
        """Take the changes of one message; `observer` is told of results.

        Raises:
            ProtocolError: it does not build on the last version, or names something that can't be a function.
            LimitExceeded: there are too many queries, or their arguments are too large.
            Error: an id is used or unknown, or a component is named without an admin key.
        """
        if message.base_version != self.version:
            raise ProtocolError(
                "BaseVersionMismatch",
                f"Base version {message.base_version} passed up doesn't match the current version {self.version}",
            )
        for modification in message.modifications:
            if isinstance(modification, Add):
                self._add(modification, rights, observer)
            else:
                self._remove(modification)
        self.version = message.new_version

    def resubscribe(self, rights: Rights, observer: Observer) -> None:
        """Ask for every query again, on behalf of somebody else."""
        for query in self._queries.values():
            before = query.handle
            if not isinstance(before, Fixed) and before.result is not None:
                query.journal = before.result.journal
            query.handle = self._subscribe(query.path, query.args, query.component, query.journal, rights, observer)
            self._unsubscribe(before)  # last, so that a shared result stays alive

    def clear(self) -> None:
        """Forget everything: the client is gone."""
        self._queries.clear()
        self.removed.clear()
        self._bytes = 0

    # To the client.

    def changes(self) -> list[Change] | None:
        """Return the queries whose result is not what the client holds, or None while one has no result yet."""
        changes: list[Change] = []
        for query in self._queries.values():
            result = query.handle.result
            if result is None:
                return None
            if result is not query.sent:
                if query.sent is None or not _same(result, query.sent):
                    changes.append((query, result))
                else:
                    query.sent = result
        return changes

    def report(self, changes: list[Change]) -> list[StateModification]:
        """Return these changes and all removals as the client is told of them, which from then on holds them."""
        modifications: list[StateModification] = []
        for query, result in changes:
            query.sent = result
            modifications.append(_modification(query, result))
        for query_id in self.removed:
            if query_id not in self._queries:
                modifications.append(QueryRemoved(query_id=query_id))
        self.removed.clear()
        if len(modifications) > 1:
            modifications.sort(key=_query_id)
        return modifications

    # Inside.

    def _add(self, message: Add, rights: Rights, observer: Observer) -> None:
        limits = self._limits
        if message.query_id in self._queries:
            raise Error(f"Query id {message.query_id} is in use on this connection.")
        if len(self._queries) >= limits.queries_per_connection:
            raise LimitExceeded(
                "TooManyQueries",
                f"This connection already has {len(self._queries)} live queries, the limit. "
                "Subscribe to fewer, or raise REACTOR_QUERIES_PER_CONNECTION on the server.",
            )
        args = bytes(message.args[0])  # a copy: the message would stay alive with a view of it
        # After a reconnect all live queries come in one message, so more than one message of them could never return.
        self._bytes += len(args) + len(message.udf_path)
        if self._bytes > limits.message_bytes:
            raise LimitExceeded(
                "TooManyQueries",
                f"The arguments of this connection's live queries take {self._bytes} bytes in total, above "
                f"REACTOR_MESSAGE_BYTES={limits.message_bytes}. Pass ids instead of large values.",
            )
        check_path(message.udf_path)
        component = message.component_path or ""
        if component:
            rights.check_component(component)
        journal = message.journal if isinstance(message.journal, str) else None
        self._queries[message.query_id] = Query(
            id=message.query_id,
            path=message.udf_path,
            args=args,
            component=component,
            journal=journal,
            handle=self._subscribe(message.udf_path, args, component, journal, rights, observer),
        )

    def _remove(self, message: Remove) -> None:
        query = self._queries.pop(message.query_id, None)
        if query is None:
            raise Error(f"There is no query with id {message.query_id} on this connection.")
        self._bytes -= len(query.args) + len(query.path)
        self.removed.add(query.id)
        self._unsubscribe(query.handle)

    def _subscribe(
        self, path: str, args: bytes, component: str, journal: str | None, rights: Rights, observer: Observer
    ) -> LiveHandle | Fixed:
        refused = rights.refusal(path, component, writes=False)
        request_id = self._rng.token_bytes(8).hex()
        if refused is not None:
            return Fixed(refused_failure(refused, request_id))
        call = Call(
            path=path,
            args=args,
            identity=rights.identity,
            request_id=request_id,
            internal=rights.identity.kind == "admin",
            journal=journal,
            component=component,
        )
        return self._live.subscribe(call, observer, journal)

    def _unsubscribe(self, handle: LiveHandle | Fixed) -> None:
        if not isinstance(handle, Fixed):
            self._live.unsubscribe(handle)


def refused_failure(text: str, request_id: str) -> Failure:
    """Return the failure of a call that is refused before it runs."""
    return Failure(message=f"[Request ID: {request_id}] Server Error\n{text}", detail=text, ts=0)


def check_path(path: str) -> None:
    """Refuse a name that can't be one of a function, as while decoding the message: it never reaches the runtime.

    Raises:
        ProtocolError: rule `WSMessageInvalidJson`.
    """
    try:
        _known_path(path) if len(path) <= MAX_REMEMBERED_PATH else parse_path(path)
    except ProtocolError as error:
        raise ProtocolError("WSMessageInvalidJson", f"Received Invalid JSON on websocket: {error}") from None


@lru_cache(maxsize=4096)
def _known_path(path: str) -> None:
    parse_path(path)


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


def _modification(query: Query, result: QueryResult) -> StateModification:
    error, query_id = result.error, query.id
    if error is None:
        assert result.value is not None
        return QueryUpdated(
            query_id=query_id, value=msgspec.Raw(result.value), log_lines=result.log_lines, journal=result.journal
        )
    return QueryFailed(
        query_id=query_id,
        error_message=_readable(error) if query.path.startswith(CLI_FUNCTIONS) else error.message,
        log_lines=error.log_lines,
        journal=result.journal,
        error_data=msgspec.UNSET if error.data is None else msgspec.Raw(error.data),
    )


def _readable(error: Failure) -> str:
    """Return a failure as the official command line can show it: any text without this sentence makes it crash."""
    if NO_PERMISSION.rstrip(".") in error.message:
        return error.message
    head, _, told = error.message.partition("\n")
    return f"{head}\n{NO_PERMISSION.rstrip('.')}: {told or head}"


def _query_id(modification: StateModification) -> int:
    return modification.query_id
