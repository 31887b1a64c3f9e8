"""What runs read and write, as the limits count it, is told to a test that asks."""

from pathlib import Path

import pytest

from reactor.errors import ReactorError, Unavailable
from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment

NOTES = """
from reactor import ReactorError, internal, mutation, query

@mutation
async def add(ctx, count: int):
    for number in range(count):
        await ctx.db.insert("notes", {"number": number})

@query
async def first(ctx, count: int) -> int:
    return len(await ctx.db.query("notes").take(count))

@mutation
async def copy_first_and_fail(ctx, count: int):
    for note in await ctx.db.query("notes").take(count):
        await ctx.db.insert("notes", {"number": note["number"]})
    raise ReactorError("no")
"""


def deployment_of(folder: Path) -> MemoryDeployment:
    (folder / "functions").mkdir()
    (folder / "functions" / "notes.py").write_text(NOTES, encoding="utf-8")
    return MemoryDeployment(ProjectLoader(folder).load(), folder)


@pytest.mark.asyncio
async def test_every_run_is_listed_with_what_the_limits_count(tmp_path: Path) -> None:
    async with deployment_of(tmp_path) as deployment:
        with deployment.record_usage() as runs:
            await deployment.mutation("notes:add", count=7)
            await deployment.query("notes:first", count=5)
            with pytest.raises(ReactorError):
                await deployment.mutation("notes:copy_first_and_fail", count=3)
        await deployment.query("notes:first", count=6)

    used = [(run.path, run.documents_read, run.documents_written) for run in runs]
    assert used == [("notes:add", 0, 7), ("notes:first", 5, 0), ("notes:copy_first_and_fail", 3, 3)]
    assert runs[0].bytes_written > 0
    assert runs[1].bytes_read > 0


@pytest.mark.asyncio
async def test_an_answer_that_was_kept_is_no_run_and_a_live_rerun_is_one(tmp_path: Path) -> None:
    async with (
        deployment_of(tmp_path) as deployment,
        deployment.subscribe("notes:first", count=9) as live,
    ):
        await live.settled()
        with deployment.record_usage() as runs:
            await deployment.query("notes:first", count=9)
            assert runs == []
            await deployment.mutation("notes:add", count=2)
            await live.settled()
            assert [run.documents_read for run in runs] == [0, 2]


def test_plain_tests_can_ask_too(tmp_path: Path) -> None:
    deployment = deployment_of(tmp_path)
    with pytest.raises(Unavailable), deployment.record_usage():
        pass
    with deployment.blocking() as blocking, blocking.record_usage() as runs:
        blocking.mutation("notes:add", {"count": 2})
        assert [run.documents_written for run in runs] == [2]
