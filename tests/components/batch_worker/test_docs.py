"""The example of docs/components/batch-worker.md runs, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from tests.projects import opened_page


@pytest.mark.asyncio
async def test_the_example_of_the_page_counts_views(tmp_path: Path) -> None:
    async with opened_page("components/batch-worker.md", tmp_path) as deployment:
        for page in ("home", "home", "about"):
            await deployment.mutation("views:seen", page=page)
        await deployment.finish_all_scheduled_functions()
        pages: Any = await deployment.run(lambda ctx: ctx.db.query("pages").collect())
        assert {page["page"]: page["views"] for page in pages} == {"home": 2, "about": 1}
        assert await deployment.component("batch_worker").query("loops:status", name="main") == {"kind": "idle"}
