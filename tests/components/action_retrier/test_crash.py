"""A process dies in the middle of an attempt: the next one misses it, and tries again."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from reactor.runtime.project import Project
from tests.components.action_retrier.dying import DiskDeployment
from tests.servers import ROOT, Program, running


@pytest.mark.asyncio
async def test_a_run_survives_the_process_that_it_takes_with_it(tmp_path: Path, folder: Path, project: Project) -> None:
    command = [sys.executable, "-m", "tests.components.action_retrier.dying", folder, tmp_path / "data"]
    program = Program(command, ROOT, {"PYTHONPATH": str(ROOT)})
    with running(program):
        assert program.finish() == -signal.SIGKILL, program.transcript()

    async with DiskDeployment(project, folder, tmp_path / "data") as deployment:

        async def told() -> list[Any]:
            ends: Any = await deployment.run(lambda ctx: ctx.db.query("ends").collect())
            return [end["result"] for end in ends]

        await deployment.advance(seconds=4)
        assert await told() == []
        await deployment.advance(seconds=12)
        assert await told() == [{"type": "success", "returnValue": "a"}]
        attempts: Any = await deployment.run(lambda ctx: ctx.db.query("attempts").collect())
        assert len(attempts) == 2
