"""What `reactor dev` tells in its terminal."""

from pathlib import Path

from reactor.client import BlockingClient
from tests.runtime.hosts import project_files
from tests.runtime.projects import write
from tests.servers import REACTOR, Program, Server, running, start_dev

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


AUTH = """
from reactor import auth_config, env, oidc

auth = auth_config([oidc(domain=env.ref("AUTH_DOMAIN"), application_id="app")])
"""


def test_a_variable_that_the_first_push_needs_can_be_set(tmp_path: Path) -> None:
    """Nothing runs yet, and `reactor env` finds the server all the same."""
    project = write(tmp_path, project_files(m=COUNTER) | {"functions/auth_config.py": AUTH})
    server = Server([*REACTOR, "dev", "--port", "0", "--data", ":memory:"], cwd=project)
    with running(server):
        server.wait_for_line("Set it with: reactor env set AUTH_DOMAIN=", "err")
        server.wait_for_line("Waiting for an edit.")
        for given, printed in (("unset OTHER", ""), ("set OTHER=1", "Set OTHER."), ("list", "OTHER=1")):
            command = Program([*REACTOR, "env", *given.split()], cwd=project)
            with running(command):
                assert command.finish() == 0, command.transcript()
            assert printed in "".join(command.out)
        seen = server.wait_for_line("Waiting for an edit.")
        server.wait_for_line("Waiting for an edit.", after=seen)  # the push was tried again
        command = Program([*REACTOR, "env", "set", "AUTH_DOMAIN=https://issuer.example"], cwd=project)
        with running(command):
            assert command.finish() == 0, command.transcript()
        server.wait_until_ready()
