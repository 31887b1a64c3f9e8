"""Scheduled functions and crons on a real server, seen by the official JavaScript client."""

from pathlib import Path

from tests.runtime.projects import write
from tests.servers import javascript, output, running, start_dev

PROJECT = {
    "schema.py": """
from reactor import define_schema, define_table, v

schema = define_schema({"notes": define_table({"text": v.string()})})
""",
    "functions/notes.py": """
from datetime import timedelta
from reactor import internal, internal_action, internal_mutation, mutation, query

@query
async def list(ctx):
    return [note["text"] for note in await ctx.db.query("notes").collect()]

@query
async def state(ctx, job: str):
    return await ctx.db.system.get(job)

@internal_mutation
async def write(ctx, text: str):
    await ctx.db.insert("notes", {"text": text})

@internal_action
async def act(ctx, text: str):
    await ctx.scheduler.run_after(0, write, text=text)

@mutation
async def later(ctx, text: str):
    return await ctx.scheduler.run_after(timedelta(milliseconds=50), internal.notes.write, {"text": text})

@mutation
def act_later(ctx, text: str):
    return ctx.scheduler.run_after(0, act, text=text)

@mutation
async def far_away(ctx):
    return await ctx.scheduler.run_after(timedelta(days=1), write, text="never")

@mutation
async def cancel(ctx, job: str):
    await ctx.scheduler.cancel(job)
""",
    "functions/crons.py": """
from reactor import cron_jobs, internal

crons = cron_jobs()
crons.interval("write", internal.notes.write, {"text": "by a cron"}, seconds=3600)
""",
}


def test_a_live_query_sees_what_was_scheduled(tmp_path: Path) -> None:
    server = start_dev(write(tmp_path, PROJECT), "--data", ":memory:")
    with running(server):
        steps = dict(output(javascript("js_scheduled", server.url)))

    assert sorted(steps["mutation"]) == ["by a cron", "by a mutation"]
    row = steps["state"]
    assert row["scheduledTime"] <= row["completedTime"]
    assert (row["name"], row["args"]) == ("notes.js:write", [{"text": "by a mutation"}])
    assert row.keys() == {"_id", "_creationTime", "name", "args", "scheduledTime", "completedTime", "state"}
    assert steps["action"] == 3
    assert steps["acted"] == "notes.js:act"
    assert steps["cancelled"] == {"kind": "canceled"}
    assert steps["cron"] is True
