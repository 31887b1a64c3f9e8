"""The project in docs/components/crons.md loads, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from tests.projects import opened_page

SCHEMA = """
from reactor import define_schema, define_table, v

reminders = define_table({"user": v.string(), "at": v.number()})
schema = define_schema({"reminders": reminders, "fetches": define_table({"source": v.string()})})
"""


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    async with opened_page("components/crons.md", tmp_path, {"schema.py": SCHEMA}) as deployment:
        start = deployment.clock.now_ms
        for hour in (8, 9):
            await deployment.mutation("reminders:remind_daily", user="ann", hour=hour, tz="America/New_York")
        polling: Any = await deployment.mutation("reminders:poll", source="news", minutes=360)
        await deployment.advance(hours=20)
        await deployment.mutation("reminders:stop", cron_id=polling)
        await deployment.advance(hours=20)
        reminders: Any = await deployment.query(lambda ctx: ctx.db.query("reminders").collect())
        assert [(one["user"], (one["at"] - start) / 3_600_000) for one in reminders] == [("ann", 14), ("ann", 38)]
        assert await deployment.query(lambda ctx: ctx.db.query("fetches").count()) == 3
        known: Any = await deployment.query("reminders:everything")
        assert [one["name"] for one in known] == ["reminder of ann"]
