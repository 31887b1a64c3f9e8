"""Row rules through the official client and a real server: each user sees the own part, and learns of no other."""

import json
from pathlib import Path

from tests.runtime.projects import write
from tests.servers import javascript, output, running, start_dev

PROJECT = {
    "schema.py": """
        from reactor import define_rules, define_schema, define_table, v

        schema = define_schema({
            "members": define_table({"room": v.string(), "user": v.string()}).index("by_user", ["user", "room"]),
            "messages": define_table({"room": v.string(), "text": v.string()}),
        })

        async def is_member(ctx, doc):
            if ctx.user is None:
                return False
            found = ctx.db.query("members").with_index("by_user", user=ctx.user["name"], room=doc["room"])
            return await found.first() is not None

        rules = define_rules({
            "members": {
                "read": lambda ctx, doc: ctx.user is not None and doc["user"] == ctx.user["name"],
                "insert": lambda ctx, doc: doc["user"] == ctx.user["name"],
            },
            "messages": {"read": is_member, "insert": is_member, "delete": is_member},
        })
    """,
    "functions/rooms.py": """
        from reactor import mutation, query

        @mutation
        async def join(ctx, room: str):
            user = await ctx.auth.get_user_identity()
            await ctx.db.insert("members", {"room": room, "user": user["name"]})

        @mutation
        async def post(ctx, room: str, text: str):
            return await ctx.db.insert("messages", {"room": room, "text": text})

        @mutation
        async def remove(ctx, id: str):
            await ctx.db.delete(id)

        @query
        async def messages(ctx):
            return [message["text"] async for message in ctx.db.query("messages")]

        @query
        async def count(ctx):
            return [await ctx.db.query("messages").count(), await ctx.db.query("members").count()]

        @query
        async def get(ctx, id: str):
            found = await ctx.db.get(id)
            return found and found["text"]

        @query
        async def page(ctx, opts: dict):
            page = await ctx.db.query("messages").paginate(opts)
            return {**page, "page": [message["text"] for message in page["page"]]}

        @query
        async def only(ctx):
            return await ctx.db.query("messages").unique()

        @query
        async def everything(ctx):
            return await ctx.db.unsafe.query("messages").count()
    """,
}


def test_javascript(tmp_path: Path) -> None:
    project = write(tmp_path / "app", PROJECT)
    server = start_dev(project, "--data", ":memory:")
    with running(server):
        key = json.loads((project / ".reactor" / "dev.json").read_text())["adminKey"]
        steps = output(javascript("js_rules", server.url, key))
        server.wait_for_line("rooms:everything goes past the row rules of table 'messages'", "err")

    denied = 'Uncaught AccessDenied: The rules of table "messages" do not allow this insert: '
    denied += "the rule for it does not hold for this caller and document."
    assert steps == [
        ["nothing yet", []],
        ["bob is told of his own", [["in blue"], ["in blue", "in blue"]]],
        ["ann reads", ["in red", "in red"]],
        ["ann counts", [2, 1]],
        ["ann gets", ["in red", None, "in red", None]],
        ["bob reads", ["in blue", "in blue"]],
        ["bob counts", [2, 1]],
        ["bob gets", [None, "in blue", None, "in blue"]],
        ["nobody reads", []],
        ["nobody counts", [0, 0]],
        ["nobody gets", [None, None, None, None]],
        ["page", [["in blue"], False, "SplitRequired"]],
        ["unique", [False, True, False, True]],
        ["hidden is missing", True],
        ["bob is told of his removal", ["in blue"]],
        ["denied", denied],
        ["nobody is denied", denied],
        ["a changed input", ["in red", "in red", "in blue"]],
        ["past the rules", 3],
    ]
