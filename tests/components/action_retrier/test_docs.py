"""The example of docs/components/action-retrier.md runs, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from tests.projects import opened_page


@pytest.mark.asyncio
async def test_the_example_of_the_page_pays(tmp_path: Path) -> None:
    async with opened_page("components/action-retrier.md", tmp_path) as deployment:
        for amount in (1, -1):
            await deployment.mutation("payments:pay", amount=amount)
        await deployment.advance(minutes=1)
        payments: Any = await deployment.run(lambda ctx: ctx.db.query("payments").collect())
        assert [payment["state"] for payment in payments] == ["success", "failed"]
