"""What `reactor dev` tells in its terminal."""

from pathlib import Path

from reactor.client import BlockingClient
from tests.runtime.hosts import project_files
from tests.runtime.projects import write
from tests.servers import running, start_dev

COUNTER = """
calls = []

@query
async def count(ctx):
    calls.append(1)
    return {"calls": len(calls)}
"""


def test_a_function_that_is_not_deterministic_is_named(tmp_path: Path) -> None:
    project = write(tmp_path, project_files(m=COUNTER))
    (project / "pyproject.toml").write_text("[tool.reactor]\ndeterminism_sample = 1\n")
    server = start_dev(project, "--data", ":memory:")
    with running(server), BlockingClient(server.url) as client:
        assert client.query("m:count") == {"calls": 1}
        server.wait_for_line("m:count is not deterministic", "err")
        assert any("result.calls (1.0, then 2.0)" in line for line in server.err), server.transcript()
