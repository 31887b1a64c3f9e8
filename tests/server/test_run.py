"""Serving as a process: ports, signals, and the order of ending."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from reactor.errors import InvalidArgument, PushError
from reactor.server.app import Deployment
from reactor.server.run import _Stop, bind, serve, url_of
from tests.server.projects import raw_client, write_project

pytestmark = pytest.mark.asyncio


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "app")


async def test_a_taken_port_is_named_before_anything_is_opened() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InvalidArgument, match=f"port {port}.*--port"):
            bind("127.0.0.1", port)
    bind("127.0.0.1", port).close()


async def test_a_host_that_is_none_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"no\.such\.host\.invalid"):
        bind("no.such.host.invalid", 0)


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
async def test_the_url_is_one_to_connect_to(host: str, shown: str) -> None:
    with bind(host, 0) as listener:
        assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"


async def test_nobody_is_answered_before_what_comes_before(project: Path) -> None:
    """Clients that come meanwhile wait: they were connected to the last server, and expect the same project."""
    deployment = Deployment(project, data=":memory:")
    listener = bind("127.0.0.1", 0)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def load() -> None:
        begun.set()
        await go_on.wait()
        await deployment.reload()

    serving = asyncio.create_task(serve(deployment, listener, load=False, before=load))
    await begun.wait()
    async with httpx.AsyncClient(base_url=url_of(listener)) as client:
        body = {"path": "messages:send", "args": {"channel": "a", "body": "x"}, "format": "json"}
        asked = asyncio.create_task(client.post("/api/mutation", json=body))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not asked.done()
        go_on.set()
        assert (await asked).json()["status"] == "success"
    os.kill(os.getpid(), signal.SIGINT)
    await serving


async def test_a_signal_that_the_supervisor_gets_too_counts_once() -> None:
    """As by Ctrl-C, in whatever order the two arrive; the second Ctrl-C then cuts the shutdown short."""
    hears, tells = os.pipe()
    stop = _Stop(hears)
    was_cut_short: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stop.cut_short = lambda: was_cut_short.set_result(None)
    try:
        with stop.on_signals():
            os.write(tells, b".")
            await stop.asked.wait()
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not was_cut_short.done()
            os.kill(os.getpid(), signal.SIGINT)
            await was_cut_short
            os.write(tells, b".")
            for _ in range(100):
                await asyncio.sleep(0)
    finally:
        os.close(hears)
        os.close(tells)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_accepting_first_and_data_last(project: Path, number: signal.Signals) -> None:
    deployment = Deployment(project, data=":memory:")
    listener = bind("127.0.0.1", 0)
    url = url_of(listener)
    codes: list[int] = []

    async def client() -> None:
        async with raw_client(url) as raw:
            await raw.connect()
            await raw.mutate(0, "messages:send", channel="a", body="x")
            os.kill(os.getpid(), number)
            await raw.receive_type("MutationResponse")  # what was asked before is answered
            with pytest.raises(ConnectionClosed) as closed:
                await raw.receive_type("never")
            assert closed.value.rcvd is not None
            codes.append(closed.value.rcvd.code)

    talking: list[asyncio.Task[None]] = []
    await serve(deployment, listener, ready=lambda: talking.append(asyncio.create_task(client())))
    await asyncio.gather(*talking)
    assert codes == [1001]
    assert not deployment.is_open
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener_address(url))


def listener_address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


async def test_a_signal_while_opening_ends_it(project: Path) -> None:
    (project / "functions" / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    deployment = Deployment(project, data=":memory:")
    await serve(deployment, bind("127.0.0.1", 0))
    assert not deployment.is_open


async def test_a_project_that_does_not_load_is_raised_and_the_port_freed(project: Path) -> None:
    (project / "schema.py").write_text("raise ValueError\n")
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with pytest.raises(PushError):
        await serve(Deployment(project, data=":memory:"), listener)
    bind("127.0.0.1", port).close()


async def test_requests_before_the_first_push_are_told(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")
    listener = bind("127.0.0.1", 0)
    url = url_of(listener)

    async def body() -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            asked = {"path": "messages:list", "args": {"channel": "a"}}
            answer = await client.post("/api/query", json=asked)
            assert (answer.status_code, answer.json()["code"]) == (503, "Unavailable")
            await deployment.reload()
            assert (await client.post("/api/query", json=asked)).json()["value"] == []

    await serve(deployment, listener, load=False, alongside=body)
