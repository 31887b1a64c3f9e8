"""`ctx.stale`: queries that a mutation reads without depending on what they saw.

Owns the transaction of such a query, a second one at the timestamp at which the mutation began. Promises that nothing
it reads is a reason for the mutation to run again, that it sees none of the mutation's own writes, that its documents
count towards the mutation's limits, and that it sees the same however often the mutation is run at one timestamp. Used
by mutations and nested calls.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from reactor.engine.transaction import Transaction
from reactor.runtime.executions import Execution, NestedCall, run_to_end
from reactor.runtime.querycalls import QueryCalls


class Stale(QueryCalls):
    """The state in which a mutation began.

    `run_query` does not see what the mutation has written, and the mutation commits also when what the query read has
    changed meanwhile. So only a hint may come of it, such as where to look: what must hold is read again, with
    `ctx.db` or `ctx.run_query`.
    """

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def _run_nested(self, kind: str, function: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        call = partial(self._execution.owner.call_stale, self._execution, function, args, named)
        return NestedCall(self._execution, "ctx.stale.run_query()", call, depth=3)


class BlockingStale(Stale):
    """`ctx.stale` of a plain `def` function."""

    __slots__ = ()

    def _run_nested(self, kind: str, function: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        execution = self._execution
        execution.check_alive()
        return run_to_end(execution.owner.call_stale(execution, function, args, named))


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
