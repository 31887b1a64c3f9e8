"""The example of docs/components/batch-worker.md runs, and does what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "components" / "batch-worker.md").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_example_of_the_page_counts_views(tmp_path: Path) -> None:
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")
    project = ProjectLoader(tmp_path).load()
    async with MemoryDeployment(project, tmp_path) as deployment:
        for page in ("home", "home", "about"):
            await deployment.mutation("views:seen", page=page)
        await deployment.finish_all_scheduled_functions()
        pages: Any = await deployment.run(lambda ctx: ctx.db.query("pages").collect())
        assert {page["page"]: page["views"] for page in pages} == {"home": 2, "about": 1}
        assert await deployment.component("batch_worker").query("loops:status", name="main") == {"kind": "idle"}
    project.release()
