"""The example of docs/components/action-retrier.md runs, and does what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "components" / "action-retrier.md").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_example_of_the_page_pays(tmp_path: Path) -> None:
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")
    project = ProjectLoader(tmp_path).load()
    async with MemoryDeployment(project, tmp_path) as deployment:
        for amount in (1, -1):
            await deployment.mutation("payments:pay", amount=amount)
        await deployment.advance(minutes=1)
        payments: Any = await deployment.run(lambda ctx: ctx.db.query("payments").collect())
        assert [payment["state"] for payment in payments] == ["success", "failed"]
    project.release()
