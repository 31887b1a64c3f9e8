"""The project in docs/reference/rules.md loads, and its rules do what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

from reactor.errors import AccessDenied
from reactor.server.app import Deployment
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "reference" / "rules.md").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")

    async with Deployment(tmp_path, data=":memory:") as deployment:

        async def fill(ctx: Any) -> list[str]:
            ids = []
            for name in ("ann", "bob"):
                user = await ctx.db.insert("users", {"token": name, "name": name})
                await ctx.db.unsafe.insert("notes", {"owner": user, "text": f"of {name}"})
                await ctx.db.insert("members", {"user": user, "room": name})
                ids.append(user)
            return ids

        def notes(ctx: Any) -> Any:
            return ctx.db.query("notes").collect()

        ids: Any = await deployment.run(fill)
        bob = deployment.with_identity({"tokenIdentifier": "bob"})
        found: Any = await bob.run(notes)
        assert [note["text"] for note in found] == ["of bob"]
        assert await deployment.run(notes) == []
        everything: Any = await deployment.query("admin:all_notes")
        assert len(everything) == 2

        note = found[0]["_id"]
        await bob.run(lambda ctx: ctx.db.patch(note, {"text": "changed"}))
        message = {"room": "bob", "author": ids[1], "text": "hello"}
        sent: Any = await bob.run(lambda ctx: ctx.db.insert("messages", message))
        for write in (
            lambda ctx: ctx.db.patch(note, {"owner": ids[0]}),
            lambda ctx: ctx.db.insert("messages", {**message, "room": "ann"}),
            lambda ctx: ctx.db.delete(sent),
        ):
            with pytest.raises(AccessDenied):
                await bob.run(write)
