"""Crons of components: each instance has its own, and an application's may call what it has mounted."""

from pathlib import Path
from typing import Any

import pytest

from reactor.auth.identity import Identity
from reactor.engine.catalog import CRON_JOB_LOGS, CRON_JOBS
from reactor.errors import PushError
from reactor.limits import Limits
from reactor.testing.clock import VirtualClock
from tests.runtime.hosts import HEAD, Bench, open_bench, project_files, value_of

EXACT = Limits(cron_splay_seconds=0)
BOTH = """
from reactor.runtime.components.definitions import define_app
import keeper
app = define_app()
app.use(keeper)
app.use(keeper, name="other")
"""
ONE = BOTH.replace("app.use(keeper)\n", "")
INSIDE = """
from reactor.runtime.jobs.crons import cron_jobs
from reactor.runtime.references import internal
crons = cron_jobs()
crons.interval("clean", internal.marks.clean, seconds=60)
crons.interval("act", "marks:act", seconds=120)
"""
OUTSIDE = """
from reactor.runtime.jobs.crons import cron_jobs
from reactor.runtime.references import components
crons = cron_jobs()
crons.interval("clean", {function}, {{"name": "from outside"}}, seconds=60)
"""


def files(outside: str | None = None, inside: str = INSIDE, mounted: str = BOTH) -> dict[str, str]:
    """Return a project that mounts the component `keeper`, and has a cron of `outside`."""
    made = {
        **project_files(main="\n@query\nasync def nothing(ctx): ...\n"),
        "functions/app.py": mounted,
        "keeper/__init__.py": """
from reactor.runtime.components.definitions import define_component
component = define_component(__name__)
""",
        "keeper/schema.py": HEAD + '\nschema = define_schema({"marks": define_table({"name": v.string()})})\n',
        "keeper/functions/crons.py": inside,
        "keeper/functions/marks.py": HEAD
        + """
@mutation
async def add(ctx, name: str):
    await ctx.db.insert("marks", {"name": name})

@internal_mutation
async def clean(ctx):
    await ctx.db.insert("marks", {"name": "cleaned"})

@action
async def act(ctx):
    await ctx.run_mutation("marks:add", name="acted")

@query
async def names(ctx):
    return sorted([mark["name"] async for mark in ctx.db.query("marks")])
""",
    }
    if outside is not None:
        made["functions/crons.py"] = OUTSIDE.format(function=outside)
    return made


async def names(bench: Bench, component: str) -> Any:
    admin = Identity(kind="admin", claims=None, key="admin")
    return value_of(await bench.submit("query", "marks:names", identity=admin, component=component))


def crons(bench: Bench) -> list[str]:
    return sorted(str(cron["name"]) for cron in bench.host.database.system_documents(CRON_JOBS))


@pytest.mark.asyncio
async def test_each_instance_has_crons_of_its_own(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_bench(tmp_path, files("components.other.marks.add"), clock=clock, limits=EXACT) as bench:
        settled = bench.host.crons.settled
        assert crons(bench) == ["clean", "keeper/act", "keeper/clean", "other/act", "other/clean"]
        await settled()
        assert await names(bench, "keeper") == ["acted", "cleaned"]
        assert await names(bench, "other") == ["acted", "cleaned", "from outside"]
        clock.advance(seconds=60)
        await settled()
        assert await names(bench, "keeper") == ["acted", "cleaned", "cleaned"]

        await bench.push(files("components.other.marks.add", mounted=ONE))
        assert crons(bench) == ["clean", "other/act", "other/clean"]
        logged = {entry["name"] for entry in bench.host.database.system_documents(CRON_JOB_LOGS)}
        assert logged == {"clean", "other/act", "other/clean"}, "what is not mounted leaves nothing"
        clock.advance(seconds=60)
        await settled()
        await bench.push(files("components.other.marks.add"))
        assert await names(bench, "keeper") == ["acted", "cleaned", "cleaned"]
        await settled()
        assert await names(bench, "keeper") == ["acted", "acted", "cleaned", "cleaned", "cleaned"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("made", "text"),
    [
        (
            files("components.keeper.marks.clean"),
            "functions/crons.py:5: cron 'clean': marks:clean is an internal function of component 'keeper'",
        ),
        (
            files("components.nobody.marks.add"),
            "functions/crons.py:5: cron 'clean': components.nobody.marks.add: there is no component 'nobody'. "
            "Mounted are: keeper, other.",
        ),
        (
            files(inside=INSIDE.replace("marks.clean", "marks.nothing")),
            "keeper/functions/crons.py:5: cron 'clean': there is no function 'marks:nothing'",
        ),
        (
            files(inside=INSIDE.replace("marks:act", "marks:names")),
            "keeper/functions/crons.py:6: cron 'act': marks:names is a query; a cron runs a mutation or an action",
        ),
    ],
)
async def test_what_a_cron_can_not_run(tmp_path: Path, made: dict[str, str], text: str) -> None:
    async with open_bench(tmp_path) as bench:
        with pytest.raises(PushError) as failure:
            bench.load(made)
        assert text in str(failure.value)
