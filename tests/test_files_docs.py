"""The functions of docs/howto/uploads.md and docs/reference/files.md are a project that loads and works."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from reactor.errors import ReactorError
from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.servers import ROOT

SCHEMA = """
from reactor import define_schema, define_table, v
schema = define_schema({"images": define_table({"file": v.id("_storage"), "title": v.string()})})
"""


def first_block(page: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(r"```python[^\n]*\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.asyncio
async def test_the_examples_run(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "schema.py").write_text(SCHEMA)
    (tmp_path / "functions" / "images.py").write_text(first_block("howto/uploads.md"))
    (tmp_path / "functions" / "thumbnails.py").write_text(first_block("reference/files.md"))
    project = ProjectLoader(tmp_path).load()
    async with MemoryDeployment(project, tmp_path) as deployment:
        with pytest.raises(ReactorError, match="sign in first"):
            await deployment.mutation("images:upload_url")
        ann = deployment.with_identity({"name": "Ann"})
        transport = httpx.ASGITransport(deployment.asgi())
        async with httpx.AsyncClient(transport=transport) as browser:
            url: Any = await ann.mutation("images:upload_url")
            answer = await browser.post(url, content=b"\x89PNG", headers={"content-type": "image/png"})
            id = await ann.mutation("images:add", {"storage_id": answer.json()["storageId"], "title": "me"})
            async with ann.subscribe("images:shown") as live:
                (image,) = await live.next()
                shown = await browser.get(image["url"])
                assert (shown.content, shown.headers["content-type"]) == (b"\x89PNG", "image/png")

                async with deployment.fork() as fork:  # has the file, and neither sees what the other does
                    await ann.mutation("images:remove", {"id": id})
                    assert await live.next() == []
                    assert (await browser.get(image["url"])).status_code == 404
                    (kept,) = await fork.query("images:shown")  # type: ignore[misc, union-attr]
                    async with httpx.AsyncClient(transport=httpx.ASGITransport(fork.asgi())) as other:
                        assert (await other.get(kept["url"])).content == b"\x89PNG"  # type: ignore[index, call-overload]
    project.release()
