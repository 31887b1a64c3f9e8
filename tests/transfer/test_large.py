"""A large import takes the memory of its rows and little more, says how far it is, and lets others go first."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reactor.limits import MIB
from reactor.runtime.runqueue import RunQueue
from reactor.transfer.requests import ImportRequest
from reactor.transfer.service import PROGRESS_SECONDS
from tests.sizes import size
from tests.transfer.sites import site, write_project

pytestmark = pytest.mark.asyncio
ROWS = size(8_000, 1_000_000)
ROW_BYTES = size(1_800, 200)
ABOVE = size(6 * MIB, 300 * MIB)  # the rows are 14 MB, so at the reduced size a copy of them would show


async def _upload() -> AsyncIterator[bytes]:
    for start in range(0, ROWS, 500):
        rows = [b'{"text":"%07d%s"}\n' % (n, b"x" * ROW_BYTES) for n in range(start, min(ROWS, start + 500))]
        yield b"".join(rows)


@pytest.mark.timeout(size(100, 3600))
async def test_memory_and_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reactor.transfer.service.PROGRESS_SECONDS", min(PROGRESS_SECONDS, 0.05))
    folder = write_project(tmp_path / "app")
    async with site(folder, tmp_path / "data") as target:
        transfers = target.deployment.backend().transfers
        gc.collect()
        tracemalloc.start()
        try:
            importing = asyncio.create_task(transfers.import_now(_upload(), ImportRequest("jsonLines", table="notes")))
            messages = set()
            while not importing.done():
                await asyncio.wait([importing], timeout=0.25)
                for row in await target.query("_system/cli/queryImport:list", {}):
                    messages.add(row["state"].get("progress_message"))
                # What others do is answered meanwhile.
                await target.deployment.mutation("all:add", table="users", document={"name": "x"})
            assert await importing == ROWS
            gc.collect()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(target.catalog.by_name["notes"]) == ROWS
        assert after > ROWS * ROW_BYTES
        assert peak - after < ABOVE
        assert len(messages) > 2, messages


async def test_a_part_of_a_slice() -> None:
    """A turn of such work ends after a part of a slice, though the slice is not used up."""
    now = 0.0
    queue = RunQueue(4.0, lambda: now)
    begun: list[float] = []

    def work() -> None:
        nonlocal now
        for _ in range(12):
            now += 0.0005
            yield  # type: ignore[misc]

    turns = 0
    background = queue.background

    def counted(step: object) -> None:
        nonlocal turns
        turns += 1
        begun.append(now)
        background(step)  # type: ignore[arg-type]

    queue.background = counted  # type: ignore[method-assign,assignment]
    await queue.run(work(), 0.25)  # type: ignore[arg-type]
    assert turns >= 6
    turns = 0
    await queue.run(work())  # type: ignore[arg-type]
    assert turns == 2
