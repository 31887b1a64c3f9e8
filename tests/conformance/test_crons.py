"""Crons of a real server: they go on and on, follow edits, and go on after a crash. Seen by the official client."""

import json
import signal
from pathlib import Path
from typing import Any

from tests.runtime.projects import write
from tests.servers import Program, free_port, javascript, running, start_dev

PROJECT = {
    "schema.py": """
from reactor import define_schema, define_table, v

schema = define_schema({"ticks": define_table({"kind": v.string()}).index("by_kind", ["kind"])})
""",
    "functions/ticks.py": """
from reactor import internal_action, internal_mutation, query

@query
async def counts(ctx):
    kinds = ("mutation", "action", "edited")
    return {kind: await ctx.db.query("ticks").with_index("by_kind", kind=kind).count() for kind in kinds}

@internal_mutation
async def tick(ctx, kind: str):
    await ctx.db.insert("ticks", {"kind": kind})

@internal_action
async def act(ctx):
    await ctx.run_mutation(tick, kind="action")
""",
    "functions/crons.py": """
from reactor import cron_jobs, internal

crons = cron_jobs()
crons.interval("mutation", internal.ticks.tick, {"kind": "mutation"}, seconds=1)
crons.interval("action", internal.ticks.act, seconds=1)
""",
}


def newest(live: Program) -> dict[str, Any]:
    results = [json.loads(line) for line in live.out if line.startswith("{")]
    counts: dict[str, Any] = results[-1]["value"] if results else {"mutation": 0, "action": 0, "edited": 0}
    return counts


def wait_for(live: Program, **least: float) -> None:
    live.wait_for(lambda _: all(newest(live)[kind] >= count for kind, count in least.items()), f"counts of {least}")


def test_they_go_on_follow_edits_and_survive_a_crash(tmp_path: Path) -> None:
    project, port = write(tmp_path / "app", PROJECT), free_port()
    server = start_dev(project, port=port)
    with running(server):
        live = javascript("js_live", server.url, "ticks:counts", "{}")
        with running(live):
            wait_for(live, mutation=2, action=1)

            crons = project / "functions" / "crons.py"
            crons.write_text(crons.read_text().replace('{"kind": "mutation"}', '{"kind": "edited"}'))
            wait_for(live, edited=1)
            before = newest(live)

            server.end(signal.SIGKILL)
            with running(start_dev(project, port=port)):
                wait_for(live, edited=before["edited"] + 1, action=before["action"] + 1)
                assert newest(live)["mutation"] <= before["mutation"], "what it was before does not run any more"
