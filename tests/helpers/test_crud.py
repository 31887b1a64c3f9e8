"""`crud`: five functions, internal unless somebody says otherwise."""

from pathlib import Path
from typing import Any

import pytest

from reactor import Error, ReactorError
from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.projects import opened
from tests.runtime.projects import write

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({"users": define_table({"name": v.string()}), "notes": define_table({"text": v.string()})})
"""
FUNCTIONS = """
from reactor import ReactorError, mutation, query
from reactor.helpers.crud import crud

def check(ctx, key):
    if key != "open":
        raise ReactorError("no")

create, read, paginate, update, destroy = crud("users")
"""
PUBLIC = """
from functions.users import check
from reactor import mutation, query, v
from reactor.helpers.crud import crud

keyed = {"context": check, "args": {"key": v.string()}}
notes = crud("notes", query=query, mutation=mutation.extend(**keyed))
add_note, read_note, destroy_note = notes.create, notes.read, notes.destroy
"""
APP = {"schema.py": SCHEMA, "functions/users.py": FUNCTIONS, "functions/notes.py": PUBLIC}


async def call(deployment: MemoryDeployment, name: str, **args: Any) -> Any:
    registered = deployment.running().registry.functions[f"users:{name}"]
    return await (deployment.query if registered.kind == "query" else deployment.mutation)(f"users:{name}", args)


@pytest.mark.asyncio
async def test_a_document_is_created_read_updated_and_destroyed(tmp_path: Path) -> None:
    async with opened(tmp_path, APP) as deployment:
        made = await call(deployment, "create", document={"name": "ann"})
        assert made == {"_id": made["_id"], "_creationTime": made["_creationTime"], "name": "ann"}
        assert await call(deployment, "read", id=made["_id"]) == made
        assert await call(deployment, "update", id=made["_id"], patch={"name": "bob"}) is None
        other = await call(deployment, "create", document={"name": "cho"})
        page = await call(deployment, "paginate", paginationOpts={"numItems": 1, "cursor": None})
        assert page["page"] == [{**made, "name": "bob"}]
        options = {"numItems": 5, "cursor": page["continueCursor"]}
        assert (await call(deployment, "paginate", paginationOpts=options))["page"] == [other]
        assert await call(deployment, "destroy", id=made["_id"]) == {**made, "name": "bob"}
        assert await call(deployment, "destroy", id=made["_id"]) is None
        assert await call(deployment, "read", id=made["_id"]) is None
        for wrong in ({"document": {"nam": "x"}}, {"document": {"name": 5}}, {}):
            with pytest.raises(Error):
                await call(deployment, "create", **wrong)


def test_they_are_internal_and_have_the_names_they_are_bound_to(tmp_path: Path) -> None:
    project = ProjectLoader(write(tmp_path, APP)).load()
    visible = {path: function.visibility for path, function in project.registry.functions.items()}
    project.release()
    assert visible == {
        **{f"users:{name}": "internal" for name in ("create", "read", "paginate", "update", "destroy")},
        **{f"notes:{name}": "public" for name in ("add_note", "read_note", "destroy_note")},
    }


@pytest.mark.asyncio
async def test_decorators_of_ones_own_check_who_calls(tmp_path: Path) -> None:
    async with opened(tmp_path, APP) as deployment:
        with pytest.raises(ReactorError):
            await deployment.mutation("notes:add_note", {"document": {"text": "x"}, "key": "wrong"})
        note: Any = await deployment.mutation("notes:add_note", {"document": {"text": "x"}, "key": "open"})
        assert await deployment.query("notes:read_note", id=note["_id"]) == note
