"""What functions read and write while a test looks: how much each run has used of the limits of one execution.

Promises the engine's own figures, those that the limits are checked against, for everything that runs meanwhile, live
queries and scheduled functions included; a question that is answered with a kept result is no run. Used by
`testing/deployment`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from reactor.runtime.executor import Executor
from reactor.runtime.runs import Run


class Usage(msgspec.Struct, frozen=True):
    """What one run of a query, or one attempt at a mutation, has read and written, with what was called from it."""

    path: str
    documents_read: int
    bytes_read: int
    documents_written: int
    bytes_written: int


@contextmanager
def record_usage(executor: Executor) -> Iterator[list[Usage]]:
    """Give a list that grows by each run that ends in the block, the last one last."""
    runs: list[Usage] = []
    lines = executor.lines

    def note(run: Run) -> tuple[str, ...]:
        used = run.transaction
        runs.append(
            Usage(run.call.path, used.documents_read, used.bytes_read, used.documents_written, used.bytes_written)
        )
        return lines(run)

    # Each run asks for its log lines once, when it has ended. In a block within a block, both are told.
    executor.lines = note  # type: ignore[method-assign]
    try:
        yield runs
    finally:
        executor.lines = lines  # type: ignore[method-assign]
