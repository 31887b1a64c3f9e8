"""The project in docs/components/action-cache.md loads, and does what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "components" / "action-cache.md").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(code, encoding="utf-8")
    project = ProjectLoader(tmp_path).load()
    async with MemoryDeployment(project, tmp_path) as deployment:
        kept = deployment.component("action_cache")

        async def count() -> Any:
            return await kept.query(lambda ctx: ctx.db.query("values").count())

        for _ in range(2):
            assert await deployment.action("embeddings:embed", text="a b") == [3, 1]
        assert await count() == 1
        await deployment.mutation("embeddings:forget", text="a b")
        assert await count() == 0
        for text in ("a", "b"):
            await deployment.action("embeddings:embed", text=text)
        assert await count() == 2
        await deployment.mutation("embeddings:forget_all")
        assert await count() == 0
    project.release()
