"""What a client shows while its mutations are under way: the server's results, with optimistic updates on top.

Owns the results of all live queries of one client and the updates that are not finished. Promises that updates are
applied in the order of their mutations, again whenever the server's results change; that a finished mutation's update
is gone in the same step in which its effects arrive, or its failure does; and that an update can change nothing but
what its store offers, since it only gets copies. Pure; used by `client/live`.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from reactor.client.address import canonical_path, path_of
from reactor.client.outcome import Outcome
from reactor.errors import Error, InvalidArgument
from reactor.values.json import decode_json, encode_json
from reactor.values.stored import normalise
from reactor.values.types import undefined

QueryKey = tuple[str, bytes]  # canonical path, canonical arguments
OptimisticUpdate = Callable[["LocalStore", dict[str, Any]], object]
_Layer = dict[QueryKey, Outcome | None]  # None: shown as still loading

NO_ARGS: Final = b"{}"
_log: Final = logging.getLogger("reactor.client")


class LocalQuery(NamedTuple):
    """A query in the store: its arguments, and its value or `undefined`."""

    args: dict[str, Any]
    value: Any


class LocalStore:
    """The query results of a client, as an optimistic update reads and changes them."""

    def __init__(self, truth: Mapping[QueryKey, Outcome], layer: _Layer) -> None:
        self._truth = truth
        self._layer = layer

    def get_query(self, function: Any, args: Mapping[str, Any] | None = None, /) -> Any:
        """Return a copy of a live query's value, or `undefined` when it has none: not subscribed, loading, failed.

        Raises:
            InvalidArgument: `function` names no function.
            ValidationError: the arguments are no Convex values.
        """
        key = (canonical_path(path_of(function)), encode_args(args))
        return _value(self._layer[key] if key in self._layer else self._truth.get(key))

    def get_all_queries(self, function: Any, /) -> list[LocalQuery]:
        """Return arguments and value of every query of this function that has a result, such as all pages of a list.

        Raises:
            InvalidArgument: `function` names no function.
        """
        path = canonical_path(path_of(function))
        found = {key: outcome for key, outcome in {**self._truth, **self._layer}.items() if key[0] == path}
        return [LocalQuery(_object(args), _value(outcome)) for (_, args), outcome in found.items()]

    def set_query(self, function: Any, args: Mapping[str, Any] | None, value: Any, /) -> None:
        """Show `value` as the query's result, or with `undefined` show it as still loading.

        Raises:
            InvalidArgument: `function` names no function.
            ValidationError: the arguments or the value are no Convex values.
        """
        key = (canonical_path(path_of(function)), encode_args(args))
        self._layer[key] = None if value is undefined else Outcome(value=_encode(value))


class _Pending(NamedTuple):
    update: OptimisticUpdate
    args: bytes


class OptimisticResults:
    """The results of live queries as their readers see them."""

    def __init__(self) -> None:
        self._truth: dict[QueryKey, Outcome] = {}
        self._layer: _Layer = {}
        self._pending: dict[int, _Pending] = {}  # by request id, in the order of the mutations

    def result(self, key: QueryKey) -> Outcome | None:
        """Return what readers of a query see; None while there is nothing to see."""
        return self._layer[key] if key in self._layer else self._truth.get(key)

    def mutate(self, update: OptimisticUpdate, args: bytes, send: Callable[[], int]) -> tuple[int, list[QueryKey]]:
        """Apply `update` now and until the mutation that `send` asks for is finished.

        Returns the request id that `send` returned, and the queries that look different now.

        Raises:
            Exception: whatever `update` raised; nothing was sent and nothing changed.
        """
        layer = dict(self._layer)
        pending = _Pending(update, args)
        self._run(pending, layer)
        request_id = send()
        self._pending[request_id] = pending
        return request_id, self._show(layer, {})

    def ingest(self, changed: Mapping[QueryKey, Outcome], finished: Iterable[int]) -> list[QueryKey]:
        """Take one step of the server: new results, and mutations that are finished with it.

        Returns the queries that look different now.
        """
        for request_id in finished:
            self._pending.pop(request_id, None)
        layer: _Layer = {}
        before = {key: self.result(key) for key in changed}
        self._truth.update(changed)
        for pending in self._pending.values():
            attempt = dict(layer)
            try:
                self._run(pending, attempt)
            except Exception:
                # The mutation is under way all the same; only its preview has to do without this update.
                _log.exception("an optimistic update failed on new results and was left out")
            else:
                layer = attempt
        return self._show(layer, before)

    def forget(self, key: QueryKey) -> None:
        """Nobody reads this query any more. What updates have made of it goes too: the next reader starts anew."""
        self._truth.pop(key, None)
        self._layer.pop(key, None)

    def clear(self) -> None:
        """Forget every result and every update."""
        self._truth.clear()
        self._layer = {}
        self._pending.clear()

    def _run(self, pending: _Pending, layer: _Layer) -> None:
        result = pending.update(LocalStore(self._truth, layer), _object(pending.args))
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise InvalidArgument("An optimistic update is a plain function: it runs in one step, and again at need.")

    def _show(self, layer: _Layer, before: Mapping[QueryKey, Outcome | None]) -> list[QueryKey]:
        seen = {key: self.result(key) for key in (*self._layer, *layer)} | dict(before)
        self._layer = layer
        return [key for key, outcome in seen.items() if self.result(key) != outcome]


def encode_args(args: Mapping[str, Any] | None) -> bytes:
    """Return arguments as wire JSON, equal ones as equal bytes.

    Raises:
        ValidationError: they are no Convex values.
    """
    return _encode(dict(args)) if args else NO_ARGS


def _encode(value: Any) -> bytes:
    normal = normalise(value)
    return encode_json(normal.value, normal.plain)


def _object(args: bytes) -> dict[str, Any]:
    decoded = decode_json(args)
    assert isinstance(decoded, dict)
    return decoded


def _value(outcome: Outcome | None) -> Any:
    if outcome is None:
        return undefined
    try:
        return outcome.unwrap()
    except Error:
        return undefined  # updates have to handle a query that is not there anyway
