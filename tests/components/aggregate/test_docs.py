"""The example of docs/components/aggregate.md runs, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from tests.projects import opened_page


@pytest.mark.asyncio
async def test_the_leaderboard_of_the_page(tmp_path: Path) -> None:
    async with opened_page("components/aggregate.md", tmp_path) as deployment:
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
