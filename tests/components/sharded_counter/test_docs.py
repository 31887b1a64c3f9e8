"""The example of docs/components/sharded-counter.md runs, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from tests.projects import opened_page


@pytest.mark.asyncio
async def test_the_counters_of_the_page(tmp_path: Path) -> None:
    async with opened_page("components/sharded-counter.md", tmp_path) as deployment:
        posts = [await deployment.mutation("posts:add", text="x" * length) for length in range(5)]
        await deployment.mutation("posts:remove", post=posts[4])
        statistics: Any = await deployment.query("posts:statistics")
        assert statistics["posts"] == 4
        assert statistics["characters"] == 6
        assert statistics["about"] % 8 == 0, "from 4 of 32 shards"
