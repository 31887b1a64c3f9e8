"""The projects in docs/helpers load, and their functions do what the pages say."""

from pathlib import Path
from typing import Any

import pytest

from reactor import ReactorError
from tests.projects import opened_page

pytestmark = pytest.mark.asyncio


async def test_relationships(tmp_path: Path) -> None:
    async with opened_page("helpers/relationships.md", tmp_path) as deployment:

        async def fill(ctx: Any) -> str:
            ann = await ctx.db.insert("users", {"name": "ann"})
            bob = await ctx.db.insert("users", {"name": "bob"})
            book = await ctx.db.insert("books", {"author": ann, "title": "On keys"})
            await ctx.db.insert("loans", {"book": book, "reader": bob})
            return str(book)

        book = await deployment.run(fill)
        assert await deployment.query("library:shelf", name="ann") == {"written": ["On keys"], "borrowed": []}
        assert await deployment.query("library:shelf", name="bob") == {"written": [], "borrowed": ["On keys"]}
        assert await deployment.query("library:author", book=book) == "ann"


async def test_streams(tmp_path: Path) -> None:
    async with opened_page("helpers/streams.md", tmp_path) as deployment:

        async def fill(ctx: Any) -> list[float]:
            times = []
            for number, (channel, sender, to) in enumerate(
                [
                    ("a", "ann", "bob"),
                    ("b", "cho", "ann"),
                    ("a", "bob", "ann"),
                    ("b", "ann", "bob"),
                    ("c", "ann", "cho"),
                ]
            ):
                message = {"channel": channel, "from": sender, "to": to, "body": f"{number} {channel}"}
                id = await ctx.db.insert("messages", message)
                times.append((await ctx.db.get(id))["_creationTime"])
            for channel in ("b", "c"):
                await ctx.db.insert("members", {"user": "ann", "channel": channel})
            return times

        times: Any = await deployment.run(fill)
        two = {"numItems": 2, "cursor": None}
        page: Any = await deployment.query("messages:containing", {"channel": "a", "word": "0", "paginationOpts": two})
        assert [message["body"] for message in page["page"]] == ["0 a"]
        page = await deployment.query("messages:between", {"one": "ann", "other": "bob", "paginationOpts": two})
        assert [message["body"] for message in page["page"]] == ["0 a", "2 a"]
        rest = {"numItems": 2, "cursor": page["continueCursor"]}
        page = await deployment.query("messages:between", {"one": "ann", "other": "bob", "paginationOpts": rest})
        assert [message["body"] for message in page["page"]] == ["3 b"]
        assert await deployment.query("messages:of_user", user="ann") == ["1 b", "3 b", "4 c"]
        assert await deployment.query("messages:channels") == ["a", "b", "c"]
        assert await deployment.query("index:around", channel="b", time=times[2]) == ["1 b", "3 b"]


async def test_sessions(tmp_path: Path) -> None:
    async with opened_page("helpers/sessions.md", tmp_path) as deployment:
        mine = {"sessionId": "0123456789abcdef"}
        await deployment.mutation("cart:add", {**mine, "item": "tea"})
        await deployment.mutation("cart:add", {**mine, "item": "milk"})
        assert await deployment.query("cart:items", mine) == ["tea", "milk"]
        await deployment.mutation("cart:forget", mine)
        assert await deployment.query("cart:items", mine) == []


async def test_cors(tmp_path: Path) -> None:
    async with opened_page("helpers/cors.md", tmp_path) as deployment:
        for path, origin, status in (
            ("/hello", "https://app.example.com", 200),
            ("/hello", "https://a.example.org", 200),
            ("/hello", "https://evil.example", 403),
            ("/tenant?tenant=ann", "https://ann.example.com", 200),
            ("/tenant?tenant=ann", "https://app.example.com", 403),
        ):
            answer = await deployment.fetch(path, headers={"Origin": origin})
            assert answer.status_code == status
            assert answer.headers.get("access-control-allow-origin") == (origin if status == 200 else None)


async def test_crud(tmp_path: Path) -> None:
    async with opened_page("helpers/crud.md", tmp_path) as deployment:
        user: Any = await deployment.mutation("users:create", {"document": {"name": "ann"}})
        assert await deployment.query("users:read", id=user["_id"]) == user
        with pytest.raises(ReactorError):
            await deployment.mutation("notes:create", {"document": {"text": "x"}})
        note: Any = await deployment.as_admin().mutation("notes:create", {"document": {"text": "x"}})
        assert await deployment.as_admin().mutation("notes:destroy", id=note["_id"]) == note


async def test_validators(tmp_path: Path) -> None:
    async with opened_page("helpers/validators.md", tmp_path) as deployment:
        task = await deployment.mutation("tasks:add", text="x")
        found: Any = await deployment.query("tasks:everything")
        assert [(one["_id"], one["state"]) for one in found] == [(task, "open")]
