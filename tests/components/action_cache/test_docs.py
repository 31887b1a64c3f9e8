"""The project in docs/components/action-cache.md loads, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from tests.projects import opened_page


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    async with opened_page("components/action-cache.md", tmp_path) as deployment:
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
