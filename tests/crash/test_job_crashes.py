"""A process is killed at each named place of a scheduled mutation, a scheduled action and a cron's run."""

import sys
from pathlib import Path

import pytest

from tests.crash.job_rounds import PLACES
from tests.servers import ROOT, Program, running
from tests.sizes import size

ROUNDS = size(2, 30)


@pytest.mark.timeout(size(60, 1800))
@pytest.mark.parametrize("kind", sorted(PLACES))
def test_nothing_is_doubled_or_lost_beyond_the_contract(tmp_path: Path, kind: str) -> None:
    """Conformance 14: a mutation takes effect exactly once, an action runs at most once and its job says which."""
    command = [sys.executable, "-m", "tests.crash.job_rounds", kind, str(ROUNDS), "1", tmp_path]
    program = Program(command, ROOT, {"PYTHONPATH": str(ROOT)}, kill_after=size(55.0, 1700.0))
    with running(program):
        assert program.finish() == 0, program.transcript()
        assert program.out == [f"{place}: {ROUNDS}" for place in PLACES[kind]]
