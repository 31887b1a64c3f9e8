"""A deployment under a prefix of a host application: the JavaScript client keeps the path of the URL it is given."""

import signal
import sys
from pathlib import Path

import pytest

from tests.conformance.test_restart import lines
from tests.servers import CONFORMANCE, ROOT, Program, Server, free_port, running

CALLS = 5


def start_host(framework: str, port: int, project: Path) -> Server:
    host = Server(
        [sys.executable, CONFORMANCE / "mounted_host.py", framework, str(port), project],
        cwd=project,
        env={"PYTHONPATH": str(ROOT), "AI_PUBLIC_LOGGING": "true"},
    )
    try:
        return host.wait_until_ready()
    except BaseException:
        host.close()
        raise


@pytest.mark.parametrize("framework", ["fastapi", "starlette"])
def test_a_client_subscribes_calls_and_reconnects_through_a_host_application(
    framework: str, project: Path, node: str
) -> None:
    port = free_port()
    host = start_host(framework, port, project)
    with running(host):
        client = Program([node, CONFORMANCE / "js_load.mjs", host.url], cwd=CONFORMANCE)
        with running(client):
            client.wait_for(lambda it: len(lines(it, "acknowledged")) >= CALLS, "calls to succeed")
            client.wait_for(lambda it: len(lines(it, "seen")) > 1, "a push")
            host.end(signal.SIGKILL)
            before, seen = len(lines(client, "acknowledged")), len(lines(client, "seen"))
            again = start_host(framework, port, project)
            with running(again):
                client.wait_for(lambda it: len(lines(it, "acknowledged")) >= before + CALLS, "calls after the restart")
                client.wait_for(lambda it: len(lines(it, "seen")) > seen, "a push after the restart")
                client.end(signal.SIGKILL)
                assert again.end(signal.SIGINT) in (0, -signal.SIGINT)
