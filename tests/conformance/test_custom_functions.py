"""The project of docs/howto/custom-functions.md, served to the official client."""

import json
import re
from pathlib import Path
from typing import Any

from tests.servers import ROOT, javascript, output, running, start_dev

PAGE = (ROOT / "docs" / "howto" / "custom-functions.md").read_text(encoding="utf-8")
SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "users": define_table({"token": v.string(), "admin": v.optional(v.boolean())}).index("by_token", ["token"]),
    "notes": define_table({"owner": v.id("users"), "text": v.string()}).index("by_owner", ["owner"]),
    "settings": define_table({"limit": v.number()}),
    "audit": define_table({"args": v.any(), "result": v.any()}),
})
"""
SETUP = """
from functions._admins import admin_mutation
from functions._simple import settings_query
from reactor import internal_query, mutation

@mutation
async def join(ctx) -> str:
    identity = await ctx.auth.get_user_identity()
    return await ctx.db.insert("users", {"token": identity["tokenIdentifier"]})

@admin_mutation
async def clear(ctx) -> None:
    raise AssertionError("nobody is an admin")

@settings_query
async def limit(ctx) -> float:
    return ctx.settings["limit"]

@internal_query
async def audit(ctx):
    return [[row["args"], row["result"]] for row in await ctx.db.query("audit").collect()]
"""


def write_project(folder: Path) -> None:
    (folder / "functions").mkdir()
    (folder / "schema.py").write_text(SCHEMA)
    (folder / "functions" / "setup.py").write_text(SETUP)
    for name, code in re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (folder / name).write_text(code, encoding="utf-8")
    (folder / "pyproject.toml").write_text('[tool.reactor]\nenv = ["API_KEY"]\n')


def test_the_project_of_the_guide(tmp_path: Path) -> None:
    write_project(tmp_path)
    server = start_dev(tmp_path, "--data", ":memory:", env={"API_KEY": "k"})
    with running(server):
        key = json.loads((tmp_path / ".reactor" / "dev.json").read_text())["adminKey"]
        steps: dict[str, Any] = dict(output(javascript("js_custom", server.url, key)))

    assert "ArgumentValidationError" in steps.pop("no key")["message"]
    assert steps == {
        "nobody": {"data": {"code": "LOGIN_REQUIRED"}},
        "stranger": {"data": {"code": "NO_SUCH_USER"}},
        "joined": "string",
        "mine": ["hello"],
        "bob's": [],
        "not his": {"data": {"code": "NOT_YOURS"}},
        "not an admin": {"data": {"code": "ADMINS_ONLY"}},
        "wrong key": {"data": {"code": "WRONG_KEY"}},
        "keyed": "started a",
    }
