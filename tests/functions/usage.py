"""What runs of functions read, by the platform's own count: that which its limits are held against."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from reactor.runtime.runs import Run, Runner


class Usage(NamedTuple):
    """One run of a query or mutation, with all that it called."""

    path: str
    documents_read: int


@contextmanager
def usage() -> Iterator[list[Usage]]:
    """Give a list that gets each run which ends, also those that live queries begin by themselves."""
    runs: list[Usage] = []
    lines = Runner.lines

    def noting(self: Runner, run: Run) -> tuple[str, ...]:
        runs.append(Usage(run.call.path, run.transaction.documents_read))
        return lines(self, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "lines", noting)
        yield runs
