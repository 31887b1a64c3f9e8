"""Waits that have no end say why, whoever it is that does not end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reactor.errors import LimitExceeded, Unavailable
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment
from tests.runtime.projects import write

FILES = {
    "schema.py": """
        from reactor import define_schema, define_table, v
        schema = define_schema({"notes": define_table({"text": v.string()})})
    """,
    "functions/notes.py": """
        import asyncio
        from reactor import internal, internal_action, internal_mutation, query

        @internal_action
        async def hang(ctx):
            await asyncio.Event().wait()

        @internal_mutation
        async def again(ctx):
            await ctx.scheduler.run_after(0, internal.notes.again)

        @internal_mutation
        async def fail(ctx):
            raise KeyError("lost")

        @query
        async def nothing(ctx):
            return None
    """,
    "functions/crons.py": """
        from reactor import cron_jobs, internal
        crons = cron_jobs()
        crons.daily("hang", internal.notes.hang, hour_utc=1, minute_utc=0)
        crons.daily("again", internal.notes.again, hour_utc=2, minute_utc=0)
        crons.daily("fail", internal.notes.fail, hour_utc=3, minute_utc=0)
    """,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = ProjectLoader(write(tmp_path_factory.mktemp("notes"), FILES)).load()
    yield project
    project.release()


@pytest.mark.asyncio
async def test_a_cron_that_does_not_end_is_named(project: Project) -> None:
    async with MemoryDeployment(project, Path()) as deployment:
        with pytest.raises(TimeoutError, match=r"advance: scheduled function did not complete .*: cron 'hang'"):
            await deployment.advance(hours=1, timeout=0.01)


@pytest.mark.asyncio
async def test_an_endless_chain_that_a_cron_begins_is_found(project: Project) -> None:
    async with MemoryDeployment(project, Path()) as deployment:
        await deployment.run_cron("again")
        with pytest.raises(LimitExceeded, match="too many iterations"):
            await deployment.finish_in_progress_scheduled_functions()


@pytest.mark.asyncio
async def test_what_a_cron_raises_is_raised_when_a_test_runs_it(project: Project) -> None:
    async with MemoryDeployment(project, Path()) as deployment:
        with pytest.raises(KeyError, match="lost"):
            await deployment.run_cron("fail")


@pytest.mark.asyncio
async def test_a_scheduled_query_is_failed_and_waited_for(project: Project) -> None:
    async with MemoryDeployment(project, Path()) as deployment:
        job = await deployment.run(lambda ctx: ctx.scheduler.run_after(0, "notes:nothing"))
        await deployment.finish_in_progress_scheduled_functions(timeout=None)
        done = await deployment.run(lambda ctx: ctx.db.system.get(job))
        assert done["state"]["kind"] == "failed"  # type: ignore[index, call-overload]


@pytest.mark.asyncio
async def test_a_deployment_that_is_not_open_has_no_time(project: Project) -> None:
    deployment = MemoryDeployment(project, Path())
    for verb in (
        deployment.advance,
        deployment.finish_in_progress_scheduled_functions,
        deployment.finish_all_scheduled_functions,
    ):
        with pytest.raises(Unavailable):
            await verb()
    with pytest.raises(Unavailable):
        await deployment.run_cron("hang")
