"""Documents: what may be written, what is read back, and in which order."""

from typing import Any

import pytest

from reactor import Int64, undefined
from reactor.errors import Error
from reactor.testing.deployment import MemoryDeployment

MESSAGE = {"author": "ann", "body": "hello", "note": "x"}


@pytest.mark.parametrize("write", ["patch", "replace"])
@pytest.mark.parametrize("field", ["_id", "_creationTime"])
async def test_system_fields_can_not_be_changed(deployment: MemoryDeployment, write: str, field: str) -> None:
    id = await deployment.run(lambda ctx: ctx.db.insert("messages", MESSAGE))
    other = await deployment.run(lambda ctx: ctx.db.insert("messages", MESSAGE))
    document: Any = await deployment.run(lambda ctx: ctx.db.get(id))
    wrong = {"_id": other, "_creationTime": document["_creationTime"] + 1}[field]
    with pytest.raises(Error, match=field):
        await deployment.run(lambda ctx: getattr(ctx.db, write)(id, {**MESSAGE, field: wrong}))
    await deployment.run(lambda ctx: getattr(ctx.db, write)(id, {**MESSAGE, field: document[field]}))
    assert await deployment.run(lambda ctx: ctx.db.get(id)) == document


async def test_undefined_removes_a_field(deployment: MemoryDeployment) -> None:
    id = await deployment.run(lambda ctx: ctx.db.insert("messages", MESSAGE))
    await deployment.run(lambda ctx: ctx.db.patch(id, {"note": undefined, "body": "bye"}))
    document: Any = await deployment.run(lambda ctx: ctx.db.get(id))
    assert ("note" in document, document["body"], document["author"]) == (False, "bye", "ann")


async def test_what_was_deleted_in_the_transaction_is_gone(deployment: MemoryDeployment) -> None:
    id = await deployment.run(lambda ctx: ctx.db.insert("messages", MESSAGE))

    async def delete_and_look(ctx: Any) -> Any:
        await ctx.db.delete(id)
        return await ctx.db.get(id)

    assert await deployment.run(delete_and_look) is None
    assert await deployment.query(lambda ctx: ctx.db.get(id)) is None


async def test_values_of_all_types_have_one_order(deployment: MemoryDeployment) -> None:
    values: list[Any] = [
        None,
        Int64(-3),
        Int64(7),
        -1.5,
        0.0,
        12.0,
        False,
        True,
        "",
        "a",
        "b",
        b"",
        b"\x01",
        [],
        [1.0],
        [1.0, 2.0],
        {},
        {"a": 1.0},
        {"a": 2.0},
    ]

    async def insert(ctx: Any) -> None:
        for value in reversed(values):
            await ctx.db.insert("things", {"value": value})
        await ctx.db.insert("things", {})

    await deployment.run(insert)
    things: Any = await deployment.query(lambda ctx: ctx.db.query("things").with_index("by_value").collect())
    assert ["value" in thing for thing in things] == [False] + [True] * len(values), "what is missing comes first"
    assert [thing["value"] for thing in things[1:]] == values
    assert [type(thing["value"]) for thing in things[1:]] == [type(value) for value in values]


async def test_an_index_finds_what_has_no_value(deployment: MemoryDeployment) -> None:
    for document in ({}, {"value": None}, {"value": 1}):
        await deployment.run(lambda ctx, document=document: ctx.db.insert("things", document))  # type: ignore[misc]

    def found(value: Any) -> Any:
        return deployment.query(
            lambda ctx: ctx.db.query("things").with_index("by_value", lambda q: q.eq("value", value)).count()
        )

    assert [await found(value) for value in (undefined, None, 1, 2)] == [1, 1, 1, 0]


async def test_normalize_id(deployment: MemoryDeployment) -> None:
    id: Any = await deployment.run(lambda ctx: ctx.db.insert("messages", MESSAGE))
    for verb in (deployment.query, deployment.run):
        assert await verb(lambda ctx: ctx.db.normalize_id("messages", id)) == id
        assert await verb(lambda ctx: ctx.db.normalize_id("things", id)) is None
        assert await verb(lambda ctx: ctx.db.normalize_id("messages", "nonsense")) is None


async def test_count(deployment: MemoryDeployment) -> None:
    for author in ("ann", "ann", "bob"):
        await deployment.mutation("messages:add", body="x", author=author)
    assert await deployment.query(lambda ctx: ctx.db.query("messages").count()) == 3
    assert (
        await deployment.query(lambda ctx: ctx.db.query("messages").with_index("by_author", author="ann").count()) == 2
    )


async def test_an_inline_query_can_not_write(deployment: MemoryDeployment) -> None:
    with pytest.raises(AttributeError, match="insert"):
        await deployment.query(lambda ctx: ctx.db.insert("messages", MESSAGE))
    with pytest.raises(AttributeError, match=r"An action has no ctx\.db"):
        await deployment.action(lambda ctx: ctx.db)
    with pytest.raises(Error, match="takes ctx and nothing else"):
        await deployment.query(lambda ctx: 1, {"limit": 1})


@pytest.mark.asyncio
async def test_deployments_of_one_test_see_nothing_of_each_other(make_deployment: Any) -> None:
    async with make_deployment() as one, make_deployment() as two:
        await one.mutation("messages:add", body="x")
        assert [await each.query("messages:bodies") for each in (one, two)] == [["x"], []]


async def test_arguments_and_results_are_checked(deployment: MemoryDeployment) -> None:
    with pytest.raises(Error, match="body"):
        await deployment.mutation("messages:add", body=3)
    with pytest.raises(Error, match="body"):
        await deployment.mutation("messages:add")
