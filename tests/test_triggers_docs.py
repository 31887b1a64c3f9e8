"""The project in docs/reference/triggers.md loads, and its triggers do what the page says."""

import re
from pathlib import Path

import pytest

from reactor.errors import ReactorError
from reactor.server.app import Deployment
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "reference" / "triggers.md").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")

    async with Deployment(tmp_path, data=":memory:") as deployment:
        ann = await deployment.mutation("users:add", name="Ann", email="ann@example.com")
        bob = await deployment.mutation("users:add", name="Bob", email="bob@example.com")
        with pytest.raises(ReactorError) as refused:
            await deployment.mutation("users:add", name="Again", email="ann@example.com")
        assert refused.value.data == {"code": "EMAIL_TAKEN"}
        for text in ("one", "two"):
            await deployment.mutation("users:post", author=ann, text=text)
        await deployment.mutation("users:post", author=bob, text="three")
        assert await deployment.query("users:total") == 3
        assert await deployment.mutation("users:remove", user=ann) == 1
        assert await deployment.query("users:total") == 1
        assert await deployment.run(lambda ctx: ctx.db.query("posts").count()) == 1
