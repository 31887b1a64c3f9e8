"""The example of docs/components/workpool.md runs, and does what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "components" / "workpool.md").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_example_of_the_page_sends_mails(tmp_path: Path) -> None:
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")
    project = ProjectLoader(tmp_path).load()
    async with MemoryDeployment(project, tmp_path) as deployment:
        await deployment.mutation("mails:send", to="ann@example.com")
        await deployment.mutation("mails:send", to="ann", urgent=True)
        await deployment.finish_in_progress_scheduled_functions()
        mails: Any = await deployment.run(lambda ctx: ctx.db.query("mails").collect())
        assert [mail["state"] for mail in mails] == ["success", "failed"]
    project.release()
