"""The project in docs/components/migrations.md loads, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from reactor.testing.deployment import MemoryDeployment
from tests.projects import opened_page

SCHEMA = """
from reactor import define_schema, define_table, v

text = v.optional(v.string())
schema = define_schema(
    {"users": define_table({"name": text, "first": text, "last": text, "plan": text}).index("by_plan", ["plan"])}
)
"""


async def users(deployment: MemoryDeployment) -> Any:
    found: Any = await deployment.query(lambda ctx: ctx.db.query("users").collect())
    return [{name: value for name, value in user.items() if name[0] != "_"} for user in found]


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    async with opened_page("components/migrations.md", tmp_path, {"schema.py": SCHEMA}) as deployment:
        await deployment.run(lambda ctx: ctx.db.insert("users", {"name": "Ann Lee", "plan": "trial"}))
        dry: Any = await deployment.mutation("migrations:v1_to_v2", {"dryRun": True})
        assert dry["kind"] == "DRY RUN"
        assert await users(deployment) == [{"name": "Ann Lee", "plan": "trial"}]
        await deployment.mutation("admin:upgrade")
        await deployment.finish_all_scheduled_functions()
        assert await users(deployment) == [{"first": "Ann", "last": "Lee", "plan": "free"}]
        progress: Any = await deployment.query("admin:progress")
        assert [one["state"] for one in progress] == ["success", "success"]
        again: Any = await deployment.mutation("migrations:run")
        assert again["state"] == "success"
        assert await deployment.action("admin:upgrade_now") == progress[0]
