"""`ctx.stale`: queries that a mutation reads without depending on what they saw.

Owns the transaction of such a query, a second one at the timestamp at which the mutation began. Promises that nothing
it reads is a reason for the mutation to run again, that it sees none of the mutation's own writes, that its documents
count towards the mutation's limits, and that it sees the same however often the mutation is run at one timestamp. Used
by mutations and nested calls.
"""

from collections.abc import Coroutine, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

from reactor.engine.transaction import Transaction
from reactor.protocol.references import QueryReference
from reactor.runtime.decorators import Function
from reactor.runtime.executions import Execution, NestedCall, Operation, run_to_end
from reactor.runtime.references import PathOrReference

D = ParamSpec("D")
P = ParamSpec("P")
T = TypeVar("T")


class Stale:
    """The state in which a mutation began."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    @overload
    def run_query(
        self, function: Function[P, Coroutine[Any, Any, T]], /, *args: P.args, **named: P.kwargs
    ) -> Operation[T]: ...

    @overload
    def run_query(self, function: Function[P, T], /, *args: P.args, **named: P.kwargs) -> Operation[T]: ...

    @overload
    def run_query(
        self, function: Function[..., Coroutine[Any, Any, T]], args: Mapping[str, Any], /
    ) -> Operation[T]: ...

    @overload
    def run_query(self, function: Function[..., T], args: Mapping[str, Any], /) -> Operation[T]: ...

    @overload
    def run_query(self, function: QueryReference[D, P, T], /, *args: P.args, **named: P.kwargs) -> Operation[T]: ...

    @overload
    def run_query(self, function: QueryReference[D, P, T], /, *args: D.args, **named: D.kwargs) -> Operation[T]: ...

    @overload
    def run_query(self, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any) -> Any: ...

    def run_query(self, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run a query on what was there when this mutation began, without depending on it.

        It does not see what this mutation has written, and the mutation commits also when what the query read has
        changed meanwhile. So only a hint may come of it, such as where to look: what must hold is read again, with
        `ctx.db` or `ctx.run_query`.

        Takes what `ctx.run_query` takes, and raises what that raises.
        """
        call = partial(_call, self._execution, function, args, named)
        return NestedCall(self._execution, "ctx.stale.run_query()", call)


class BlockingStale(Stale):
    """`ctx.stale` of a plain `def` function."""

    __slots__ = ()

    def run_query(self, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run a query on what was there when this mutation began; see `Stale.run_query`."""
        self._execution.check_alive()
        return run_to_end(_call(self._execution, function, args, named))


def _call(
    execution: Execution, function: object, args: tuple[object, ...], named: Mapping[str, object]
) -> Generator[Any, Any, Any]:
    return execution.owner.call_stale(execution, function, args, named)


@contextmanager
def stale_transaction(outer: Transaction) -> Generator[Transaction, None, None]:
    """Give a transaction that reads what `outer` saw when it began; what it has read counts for `outer`, too."""
    stale = Transaction(outer.catalog, outer.begin_ts)
    stale.reader = outer.reader
    stale.documents_read, stale.bytes_read = outer.documents_read, outer.bytes_read
    try:
        yield stale
    finally:
        # Nothing else has used `outer` meanwhile: a nested call has its function to itself.
        outer.documents_read, outer.bytes_read = stale.documents_read, stale.bytes_read
        if stale.needs is not None:
            outer.needs = stale.needs
