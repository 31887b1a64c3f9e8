"""Validators made of others."""

from pathlib import Path
from typing import Any

import pytest

from reactor import Error, define_schema, define_table, v
from reactor.helpers.validators import document, literals, system_fields
from tests.projects import opened


def test_literals_are_a_union_of_them() -> None:
    assert literals("a", 1) == v.union(v.literal("a"), v.literal(1))
    assert literals("a") == v.literal("a")
    with pytest.raises(ValueError, match="needs a value"):
        literals()


def test_a_document_has_its_system_fields() -> None:
    circle, square = v.object({"r": v.number()}), v.object({"side": v.number()})
    schema = define_schema(
        {
            "users": define_table({"name": v.string(), "n": v.optional(v.integer())}),
            "shapes": define_table(v.union(circle, square)),
            "any": define_table(v.any()),
        }
    )
    fields = {"_id": v.id("users"), "_creationTime": v.number()}
    assert system_fields("users") == fields
    assert document(schema, "users") == v.object({"name": v.string(), "n": v.optional(v.integer()), **fields})
    assert document(schema, "shapes") == v.union(
        circle.extend(system_fields("shapes")), square.extend(system_fields("shapes"))
    )
    assert document(schema, "any") == v.any()
    with pytest.raises(KeyError):
        document(schema, "others")


PROJECT = {
    "schema.py": """
from reactor import define_schema, define_table, v
from reactor.helpers.validators import literals

schema = define_schema({"tasks": define_table({"state": literals("open", "done"), "n": v.integer()})})
""",
    "functions/tasks.py": """
from reactor import mutation, query, v
from reactor.helpers.validators import document
from schema import schema

@mutation
async def add(ctx, state: str) -> str:
    return await ctx.db.insert("tasks", {"state": state, "n": 1})

@query(returns=v.nullable(document(schema, "tasks")))
async def first(ctx):
    return await ctx.db.query("tasks").first()
""",
}


@pytest.mark.asyncio
async def test_functions_return_whole_documents(tmp_path: Path) -> None:
    async with opened(tmp_path, PROJECT) as deployment:
        assert await deployment.query("tasks:first") is None
        task = await deployment.mutation("tasks:add", state="open")
        found: Any = await deployment.query("tasks:first")
        assert (found["_id"], found["state"], found["n"]) == (task, "open", 1)
        with pytest.raises(Error):
            await deployment.mutation("tasks:add", state="lost")
