"""Killing the server under load: nothing acknowledged is lost, nothing happens twice, the official client goes on."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.servers import REACTOR, Program, free_port, running, start_dev
from tests.sizes import size

HERE = Path(__file__).parent
RESTARTS = size(2, 10)
CALLS_BETWEEN = size(10, 40)


def lines(program: Program, key: str) -> list[Any]:
    results = [
        json.loads(line) for line in list(program.out) if line.startswith("{")
    ]  # the client reports its state too
    return [result[key] for result in results if key in result]


def test_acknowledged_mutations_survive_kill_9(project: Path, node: str) -> None:
    port = free_port()
    server = start_dev(project, port=port, env={"AI_PUBLIC_LOGGING": "true"})
    client = Program([node, HERE / "js_load.mjs", server.url], cwd=HERE, kill_after=size(50, 600))
    with running(client):
        for _ in range(RESTARTS):
            before = len(lines(client, "acknowledged"))
            client.wait_for(
                lambda it, before=before: len(lines(it, "acknowledged")) >= before + CALLS_BETWEEN, "calls to succeed"
            )
            # Not the supervisor, behind whose back the server would shut down properly.
            os.kill(json.loads((project / ".reactor" / "dev.json").read_text())["pid"], signal.SIGKILL)
            server.finish()
            server.close()
            server = start_dev(project, port=port, env={"AI_PUBLIC_LOGGING": "true"})
        with running(server):
            seen = len(lines(client, "seen"))
            client.wait_for(lambda it: len(lines(it, "seen")) > seen, "a push after the last restart")
            client.end(signal.SIGKILL)
            stored = stored_models(project)
    acknowledged = lines(client, "acknowledged")
    assert len(stored) == len(set(stored)), "a resent mutation took effect twice"
    assert {f"m{number}" for number in acknowledged} <= set(stored), "an acknowledged mutation is missing"
    counts = lines(client, "seen")
    assert counts == sorted(counts), "a live query went back in time"


def stored_models(project: Path) -> list[str]:
    """Read what is stored through a function added for it, which also shows that reload works after all this."""
    (project / "functions" / "inspect_models.py").write_text(
        "from reactor import query\n\n"
        "@query\n"
        "async def models(ctx):\n"
        "    return [row['model'] async for row in ctx.db.query('aiRequestLogs')]\n"
    )
    watch = Program([*REACTOR, "run", "inspect_models:models", "--watch"], cwd=project)
    with running(watch):
        watch.wait_for_line("[")
        models: list[str] = json.loads(next(line for line in watch.out if line.startswith("[")))
    return models
