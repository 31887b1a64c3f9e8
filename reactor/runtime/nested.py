"""Nested calls: `ctx.run_query` and `ctx.run_mutation`, one function inside the transaction of another.

Owns the rules of a sub-transaction: what the inner function may see, what is undone when it fails, and what stays.
Promises that a failed mutation leaves none of its writes behind and all of its reads and log lines, that its `ctx`
dies with it, and that arguments and results cross as values, so that neither side holds an object of the other. Used
by runs.
"""

from collections.abc import Generator, Mapping
from typing import Any, Protocol

from reactor.auth.identity import ANONYMOUS
from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.errors import InvalidFunctionCall
from reactor.runtime.arguments import normalise_arguments
from reactor.runtime.calls import Call
from reactor.runtime.components.targets import find_target
from reactor.runtime.context import make_context
from reactor.runtime.decorators import KINDS
from reactor.runtime.documents import Documents
from reactor.runtime.executions import Execution
from reactor.runtime.invocation import check_depth, read_arguments, read_result, wrong_kind
from reactor.runtime.logs import NestedLog
from reactor.runtime.nestedexecutions import NestedExecution, identity_in
from reactor.runtime.rules.access import Access
from reactor.runtime.rules.ruled import RuledDocuments
from reactor.runtime.stale import stale_transaction
from reactor.runtime.versions import Version


class Outer(Protocol):
    """The run that a nested call is a part of."""

    call: Call
    version: Version | None

    @property
    def database(self) -> Database:
        """The database the transaction belongs to."""

    def look(self) -> None:
        """Note that the identity of the caller was looked at."""


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
    given = normalise_arguments(target, args, named)
    surroundings = parent.ambient.child(target.function.kind)
    surroundings.log = NestedLog(parent.ambient.log, target.label)
    identity = identity_in(parent)
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
        result = yield from child.run(lambda: handler(ctx, **read_arguments(target, given, tables)), is_async)
        value = read_result(target, result, tables)
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
