"""The example of docs/components/workpool.md runs, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from tests.projects import opened_page


@pytest.mark.asyncio
async def test_the_example_of_the_page_sends_mails(tmp_path: Path) -> None:
    async with opened_page("components/workpool.md", tmp_path) as deployment:
        await deployment.mutation("mails:send", to="ann@example.com")
        await deployment.mutation("mails:send", to="ann", urgent=True)
        await deployment.finish_in_progress_scheduled_functions()
        mails: Any = await deployment.run(lambda ctx: ctx.db.query("mails").collect())
        assert [mail["state"] for mail in mails] == ["success", "failed"]
