"""The functions in docs/reference/queries.md are a project that loads and answers."""

import re
from pathlib import Path
from typing import Any

import pytest

from reactor.server.app import Deployment
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "reference" / "queries.md").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")

    async with Deployment(tmp_path, data=":memory:") as deployment:

        async def fill(ctx: Any) -> None:
            for number, body in enumerate(["Hello all", "hello", "bye"]):
                author = {"name": "bot" if number == 1 else "ann"}
                await ctx.db.insert("messages", {"channel": "a", "author": author, "body": body, "likes": 10 + number})

        def bodies(found: Any) -> list[str]:
            return [message["body"] for message in found]

        await deployment.run(fill)

        assert bodies(await deployment.query("ranges:liked", channel="a", at_least=11)) == ["bye", "hello"]
        assert len(await deployment.query("ranges:inChannel", channel="a")) == 3
        assert bodies(await deployment.query("filters:popular", channel="a")) == ["bye"]
        assert bodies(await deployment.query("filters:even")) == ["Hello all", "bye"]
        assert bodies(await deployment.query("predicates:greetings")) == ["Hello all", "hello"]
        newest = await deployment.query("pages:newest", paginationOpts={"numItems": 1, "cursor": None})
        assert bodies(newest["page"]) == ["bye"]
        first = await deployment.query("pages:firstTwo")
        second = await deployment.query("pages:firstTwo", cursor=first["continueCursor"])
        assert bodies(first["page"] + second["page"]) == ["Hello all", "hello", "bye"]
        assert (first["isDone"], second["isDone"]) == (False, True)
