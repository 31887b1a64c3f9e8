"""Relationships: each helper, with and without what it looks for, and what its errors say."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor import Error
from reactor.helpers.relationships import (
    DocumentMissing,
    get_all,
    get_all_or_throw,
    get_many_from,
    get_many_via,
    get_many_via_or_throw,
    get_one_from,
    get_one_from_or_throw,
    get_or_throw,
)
from reactor.testing.deployment import MemoryDeployment
from tests.projects import opened

pytestmark = pytest.mark.asyncio

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "users": define_table({"name": v.string(), "home": v.object({"city": v.string()})})
        .index("by_name", ["name"]).index("cities", ["home.city"]),
    "rooms": define_table({"title": v.string()}),
    "members": define_table({"room": v.id("rooms"), "user": v.optional(v.id("users"))})
        .index("by_room", ["room"]).index("room_of_user", ["user"]),
})
"""


@pytest_asyncio.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[MemoryDeployment]:
    async with opened(tmp_path, {"schema.py": SCHEMA, "functions/empty.py": ""}) as one:
        yield one


async def fill(ctx: Any) -> tuple[str, list[str]]:
    """Insert three users of a room, of whom the last is deleted; return the room and their ids."""
    room = await ctx.db.insert("rooms", {"title": "all"})
    users = []
    for name, city in (("ann", "Bonn"), ("bob", "Bonn"), ("cho", "Seoul")):
        users.append(await ctx.db.insert("users", {"name": name, "home": {"city": city}}))
        await ctx.db.insert("members", {"room": room, "user": users[-1]})
    await ctx.db.delete(users[-1])
    return room, users


async def test_documents_by_their_ids(deployment: MemoryDeployment) -> None:
    async def check(ctx: Any) -> None:
        room, (ann, bob, cho) = await fill(ctx)
        assert (await get_or_throw(ctx.db, ann))["name"] == "ann"
        assert (await get_or_throw(ctx.db, "users", bob))["name"] == "bob"
        found = await get_all(ctx.db, [bob, cho, ann])
        assert [user and user["name"] for user in found] == ["bob", None, "ann"]
        assert [user["name"] for user in await get_all_or_throw(ctx.db, [bob, ann], table="users")] == ["bob", "ann"]
        with pytest.raises(DocumentMissing, match=f"^Table 'users' has no document {cho}$") as missing:
            await get_or_throw(ctx.db, "users", cho)
        assert (missing.value.table, missing.value.id) == ("users", cho)
        with pytest.raises(DocumentMissing, match=f"^There is no document {cho}$"):
            await get_all_or_throw(ctx.db, [ann, cho])
        with pytest.raises(Error, match='expected to be an Id<"users">'):
            await get_or_throw(ctx.db, "users", room)
        with pytest.raises(Error, match='expected to be an Id<"users">'):
            await get_all(ctx.db, [room], table="users")

    await deployment.run(check)


async def test_documents_by_a_field(deployment: MemoryDeployment) -> None:
    async def check(ctx: Any) -> None:
        room, (ann, *_) = await fill(ctx)
        assert (await get_one_from_or_throw(ctx.db, "users", "by_name", "ann"))["_id"] == ann
        assert await get_one_from(ctx.db, "users", "by_name", "nobody") is None
        with pytest.raises(
            DocumentMissing, match=r"^Table 'users' has no document with name = 'dan' \(index 'by_name'"
        ):
            await get_one_from_or_throw(ctx.db, "users", "by_name", "dan")
        of_bonn = await get_many_from(ctx.db, "users", "cities", "Bonn", "home.city")
        assert [user["name"] for user in of_bonn] == ["ann", "bob"]
        with pytest.raises(Error, match="unique"):
            await get_one_from(ctx.db, "users", "cities", "Bonn", "home.city")
        with pytest.raises(DocumentMissing, match=r"home\.city = 'Rome'"):
            await get_one_from_or_throw(ctx.db, "users", "cities", "Rome", "home.city")
        assert len(await get_many_from(ctx.db, "members", "by_room", room)) == 3
        assert len(await get_many_from(ctx.db, "members", "room_of_user", ann, "user")) == 1
        with pytest.raises(Error, match="doesn't index this field"):
            await get_many_from(ctx.db, "members", "room_of_user", ann)

    await deployment.run(check)


async def test_documents_through_a_table_in_between(deployment: MemoryDeployment) -> None:
    async def check(ctx: Any) -> None:
        room, (*_, cho) = await fill(ctx)
        found = await get_many_via(ctx.db, "members", "user", "by_room", room)
        assert [user and user["name"] for user in found] == ["ann", "bob", None]
        with pytest.raises(DocumentMissing, match=f"^Document {cho} is gone, which 'user' of members .* refers to$"):
            await get_many_via_or_throw(ctx.db, "members", "user", "by_room", room)
        for member in await get_many_from(ctx.db, "members", "room_of_user", cho, "user"):
            await ctx.db.delete(member["_id"])
        kept = await get_many_via_or_throw(ctx.db, "members", "user", "by_room", room)
        assert [user["name"] for user in kept] == ["ann", "bob"]
        await ctx.db.insert("members", {"room": room})
        for read in (get_many_via, get_many_via_or_throw):
            with pytest.raises(DocumentMissing, match="has no id in 'user', but None"):
                await read(ctx.db, "members", "user", "by_room", room)

    await deployment.run(check)
