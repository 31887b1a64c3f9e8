"""The process is killed at each named place; afterwards there is what was acknowledged, or one batch more."""

import subprocess
import sys
from pathlib import Path

import pytest

from reactor.storage import failpoints
from reactor.storage.sqlite import SqlitePersistence
from tests.servers import ROOT
from tests.sizes import size
from tests.storage.records import documents


def die_at(data_dir: Path, name: str, visit: int) -> list[str]:
    """Let a process die at a place; return what it said before."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.crash.append_failing", data_dir, name, str(visit)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
    )
    lines = ran.stdout.splitlines()
    assert lines[-1] == f"died {name}", ran.stderr
    return lines


@pytest.mark.asyncio
@pytest.mark.parametrize("visit", size([2], [1, 2, 3, 5]))
@pytest.mark.parametrize("name", failpoints.NAMES)
async def test_dying_at_a_named_place(tmp_path: Path, name: str, visit: int) -> None:
    lines = die_at(tmp_path, name, visit)
    acknowledged = max((int(line.split()[1]) for line in lines if line.startswith("done")), default=0)

    persistence = SqlitePersistence(tmp_path)
    state = await persistence.open()
    try:
        in_log = [record.ts for record in await persistence.read(state.floor, 10_000)]
        assert state.end in (acknowledged, acknowledged + 1)
        assert (state.end == acknowledged + 1) <= name.startswith(("append", "checkpoint"))
        assert state.floor <= state.folded <= state.end
        assert in_log == list(range(state.floor + 1, state.end + 1))
        for document in await documents(persistence, 10_001):
            assert document.value.startswith(b"%dx" % document.ts) or document.id == "big"
            assert document.ts <= state.folded or name == "fold: between"
        await persistence.fold(10_000)
        await persistence.trim(state.end)
        assert (await persistence.reopen()).end == state.end
    finally:
        await persistence.close()


def test_nothing_is_armed_by_itself() -> None:
    assert failpoints.armed is None
