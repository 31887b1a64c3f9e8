"""Nested calls: `ctx.run_query` and `ctx.run_mutation`, one function inside the transaction of another.

Owns the rules of a sub-transaction: what the inner function may see, what is undone when it fails, and what stays.
Promises that a failed mutation leaves none of its writes behind and all of its reads and log lines, that its `ctx`
dies with it, and that arguments and results cross as values, so that neither side holds an object of the other. Used
by runs.
"""

from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Protocol

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.errors import InvalidFunctionCall
from reactor.runtime.arguments import encode_arguments
from reactor.runtime.calls import Call
from reactor.runtime.components.targets import find_target
from reactor.runtime.context import make_context
from reactor.runtime.decorators import KINDS
from reactor.runtime.determinism import Ambient, ambient
from reactor.runtime.documents import Documents
from reactor.runtime.executions import Execution
from reactor.runtime.invocation import check_depth, encode_result, read_arguments, wrong_kind
from reactor.runtime.logs import NestedLog
from reactor.runtime.rules.access import Access
from reactor.runtime.rules.ruled import RuledDocuments
from reactor.runtime.stale import stale_transaction
from reactor.runtime.subtasks import supervise
from reactor.runtime.versions import Version
from reactor.values.json import decode_json


class Outer(Protocol):
    """The run that a nested call is a part of."""

    call: Call
    version: Version | None

    @property
    def database(self) -> Database:
        """The database the transaction belongs to."""

    def look(self) -> None:
        """Note that the identity of the caller was looked at."""


class NestedExecution(Execution):
    """A function inside another one's transaction. The outermost execution suspends for all of them.

    `identity` is what its `ctx.auth` shows, and that of what it calls: none behind the border of a component.
    """

    __slots__ = ("depth", "identity", "parent")

    def __init__(self, parent: Execution, documents: Documents, surroundings: Ambient, identity: Identity) -> None:
        super().__init__(parent.queue, documents, surroundings, parent.owner)
        self.parent = parent
        self.identity = identity
        self.depth = parent.depth + 1

    def run(self, call: Callable[[], Any], is_async: bool) -> Generator[Any, Any, Any]:
        """Run `call()` to its end, suspended wherever the function is; return its result."""
        self.can_pause = is_async and self.parent.can_pause
        result, failure = None, None
        try:
            result = self.context.run(self._begin, call)
            if is_async:
                result = yield from self._drive_to_end(result)
        except BaseException as error:
            failure = error
        failure = self.settle(failure)
        try:
            if failure is not None:
                raise failure
            return result
        finally:
            failure = None  # `supervise` says why

    def _begin(self, call: Callable[[], Any]) -> Any:
        ambient.set(self.ambient)
        return call()

    def _drive_to_end(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        # Code of the function runs in its own context, also when a task of the outer one drives it.
        run: Callable[..., Any] = self.context.run
        try:
            yielded = run(coroutine.send, None)
        except StopIteration as stop:
            return stop.value
        rest = supervise(
            lambda value: run(coroutine.send, value),
            lambda error: run(coroutine.throw, error),
            yielded,
            is_driven=True,
        )
        yielded = None  # `supervise` says why
        return (yield from rest)

    def pause(self) -> Generator[Any, None, None]:
        """Give up the rest of the slice, unless a plain `def` function waits for this one."""
        if not self.can_pause:
            return
        self.documents.record_scans()
        yield from self.parent.pause()
        self.check_alive()


def call_nested(
    outer: Outer,
    parent: Execution,
    kind: str,
    function: object,
    args: tuple[object, ...],
    named: Mapping[str, object],
    transaction: Transaction | None = None,
) -> Generator[Any, Any, Any]:
    """Run `function`, called through the `ctx` of `parent`; return what it returned.

    It shares the transaction of `parent`, unless it gets one of its own, to read only.

    Raises:
        LimitExceeded: too many calls are nested in each other.
        FunctionNotFound, InvalidFunctionCall: there is no such function, or it is of a kind that can't be called here.
        ArgumentsInvalid, ReturnsInvalid: what goes in or comes out is not what it declares.
    """
    version, around = outer.version, parent.documents
    assert version is not None
    if transaction is None:
        transaction = around.transaction
    check_depth(parent.depth)
    scope = around.scope
    target = find_target(version, transaction, scope, function)
    if target.kind not in ("query", parent.ambient.kind):
        raise InvalidFunctionCall(
            f"Cannot call {KINDS[target.kind]} function from {KINDS[parent.ambient.kind]} function"
        )
    if target.kind != kind:
        raise wrong_kind(target, kind)
    data = encode_arguments(target, args, named)
    surroundings = parent.ambient.child(target.function.kind)
    surroundings.log = NestedLog(parent.ambient.log, target.label)
    identity = parent.identity if isinstance(parent, NestedExecution) else outer.call.identity
    if target.component != scope.path:
        scope = version.scopes[target.component]
        if identity.kind != "admin":
            identity = ANONYMOUS
    tables = scope.namespace
    rules = version.project.rules
    documents: Documents
    if rules is None or scope.path:
        documents = Documents(outer.database, transaction, scope)
    elif isinstance(around, RuledDocuments):
        documents = around.inside(target.label, transaction)
    else:  # back from a component
        access = Access(rules, outer.database, transaction, scope, parent.queue, identity)
        documents = RuledDocuments(access, target.label)
        outer.look()
    surroundings.source = documents
    child = NestedExecution(parent, documents, surroundings, identity)
    handler, is_async = target.function.handler, target.function.is_async
    ctx = make_context(child, target.kind, is_async, identity, outer.look)
    savepoint = transaction.savepoint() if target.kind == "mutation" else None
    try:
        result = yield from child.run(lambda: handler(ctx, **read_arguments(target, data, tables)), is_async)
        value = decode_json(encode_result(target, result, tables))
    except BaseException:
        if savepoint is not None:
            transaction.roll_back(savepoint)
        raise
    if savepoint is not None:
        transaction.release(savepoint)
    return target.binder.receive(value)


def call_stale(
    outer: Outer, parent: Execution, function: object, args: tuple[object, ...], named: Mapping[str, object]
) -> Generator[Any, Any, Any]:
    """Run a query on what was there when the transaction began; return what it returned.

    Raises:
        LimitExceeded, FunctionNotFound, InvalidFunctionCall, ArgumentsInvalid, ReturnsInvalid: see `call_nested`.
    """
    with stale_transaction(parent.documents.transaction) as stale:
        return (yield from call_nested(outer, parent, "query", function, args, named, stale))
