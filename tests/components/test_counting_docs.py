"""The examples of docs/components/aggregate.md and sharded-counter.md run, and do what the pages say."""

import re
from pathlib import Path
from typing import Any

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.servers import ROOT


def deployment_of(page: str, folder: Path) -> MemoryDeployment:
    text = (ROOT / "docs" / "components" / page).read_text(encoding="utf-8")
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", text, re.DOTALL):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")
    return MemoryDeployment(ProjectLoader(folder).load(), folder)


@pytest.mark.asyncio
async def test_the_leaderboard_of_the_page(tmp_path: Path) -> None:
    async with deployment_of("aggregate.md", tmp_path) as deployment:
        ranks = [
            await deployment.mutation("scores:add", game="go", player=f"p{points}", points=points, seconds=1.5)
            for points in (10, 30, 20, 40)
        ]
        assert ranks == [0, 0, 1, 0]
        await deployment.mutation("scores:add", game="chess", player="ann", points=99, seconds=3)

        assert await deployment.query("scores:summary", game="go", at_least=20) == {
            "scores": 3,
            "seconds": 4.5,
            "mean": 30,
            "median": 30,
        }
        empty = {"scores": 0, "seconds": 0, "mean": None, "median": None}
        assert await deployment.query("scores:summary", game="none", at_least=0) == empty
        best: Any = await deployment.query("scores:best", game="go")
        assert [found["points"] for found in best["scores"]] == [40, 30, 20, 10]
        assert best["isDone"]

        score = {"game": "go", "player": "new", "points": 50, "seconds": 1}
        await deployment.run(lambda ctx: ctx.db.without_triggers.insert("scores", score))
        await deployment.mutation("scores:repair")
        await deployment.finish_all_scheduled_functions()
        best = await deployment.query("scores:best", game="go")
        assert [found["points"] for found in best["scores"]] == [50, 40, 30, 20, 10]


@pytest.mark.asyncio
async def test_the_counters_of_the_page(tmp_path: Path) -> None:
    async with deployment_of("sharded-counter.md", tmp_path) as deployment:
        posts = [await deployment.mutation("posts:add", text="x" * length) for length in range(5)]
        await deployment.mutation("posts:remove", post=posts[4])
        statistics: Any = await deployment.query("posts:statistics")
        assert statistics["posts"] == 4
        assert statistics["characters"] == 6
        assert statistics["about"] % 8 == 0, "from 4 of 32 shards"
