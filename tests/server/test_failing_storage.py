"""What clients on sockets and over HTTP are told while commits are not durable yet, are lost, or can't be written."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from reactor.engine import publisher as publisher_module
from reactor.limits import Limits
from reactor.server.app import Deployment
from reactor.storage.interface import Persistence
from reactor.storage.memory import MemoryPersistence
from tests.server.fakes import add
from tests.server.projects import RawClient, raw_client, served
from tests.storage.faults import Fault, FaultyPersistence

pytestmark = pytest.mark.asyncio

SESSIONS = ("b1350d76-3c69-4e7e-8fa0-bc64ddce0796", "c2460e87-3c69-4e7e-8fa0-bc64ddce0796")
INTERNAL = (1011, "InternalServerError")
COUNTER = """
from reactor import ReactorError, mutation, query

RAN = []  # which functions have come to their end, for the tests to look at


@mutation
async def add(ctx) -> int:
    counter = await ctx.db.query("counters").first()
    value = 1 if counter is None else counter["value"] + 1
    if counter is None:
        await ctx.db.insert("counters", {"value": value})
    else:
        await ctx.db.patch(counter["_id"], {"value": value})
    RAN.append("add")
    return value


@mutation
async def refuse(ctx):
    counter = await ctx.db.query("counters").first()
    RAN.append("refuse")
    raise ReactorError({"found": None if counter is None else counter["value"]})


@query
async def total(ctx) -> float:
    return sum([counter["value"] async for counter in ctx.db.query("counters")])
"""


class FailingDeployment(Deployment):
    """A deployment on storage that fails on request."""

    def __init__(self, project: Path, **limits: Any) -> None:
        super().__init__(project, data=":memory:", limits=Limits(**limits))
        self.storage = FaultyPersistence(MemoryPersistence())

    def _persistence(self, directory: Path | None) -> Persistence:
        return self.storage

    async def has_run(self, *names: str) -> None:
        """Return when exactly these have come to their end, in this order."""
        assert self._host is not None
        ran = self._host.versions.latest().project.modules["functions.counter"].RAN
        for _ in range(1_000_000):
            if len(ran) >= len(names):
                break
            await asyncio.sleep(0)
        assert ran == list(names)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "counter.py").write_text(COUNTER)
    (tmp_path / "schema.py").write_text(
        "from reactor import define_schema, define_table, v\n"
        'schema = define_schema({"counters": define_table({"value": v.number()})})\n'
    )
    return tmp_path


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_SECONDS", (0.0,))


@asynccontextmanager
async def connected(url: str, session: str, connection: int = 0) -> AsyncIterator[RawClient]:
    async with raw_client(url) as client:
        await client.connect(sessionId=session, connectionCount=connection)
        await client.modify(add(0, "counter:total"))
        await client.receive_type("Transition")
        yield client


async def next_answer(client: RawClient) -> dict[str, Any]:
    return await client.receive_type("MutationResponse")


async def closing(client: RawClient) -> tuple[int, str]:
    """Read up to the close frame; no mutation is answered before it."""
    try:
        while True:
            assert (await client.receive())["type"] in ("Transition", "Ping")
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


async def round_trips(url: str) -> None:
    """Whatever the server was ready to send has been sent, and come, before this returns."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for _ in range(3):
            assert (await http.post("/api/query", json={"path": "counter:total", "args": {}})).status_code == 200


async def test_an_error_that_rests_on_what_is_not_durable_leaves_when_it_is(project: Path) -> None:
    """Conformance #29."""
    deployment = FailingDeployment(project)

    async def body(url: str) -> None:
        async with connected(url, SESSIONS[0]) as writer, connected(url, SESSIONS[1]) as reader:
            deployment.storage.hold()
            await writer.mutate(0, "counter:add")
            await deployment.storage.held()
            await reader.mutate(0, "counter:refuse")
            await deployment.has_run("add", "refuse")
            answers = [asyncio.ensure_future(next_answer(client)) for client in (writer, reader)]
            await round_trips(url)
            assert not any(answer.done() for answer in answers), "both rest on a commit that may yet be lost"

            deployment.storage.release()
            added, refused = await asyncio.gather(*answers)
            assert (added["success"], added["result"]) == (True, 1)
            assert (refused["success"], refused["errorData"]) == (False, {"found": 1.0})

    await served(deployment, body)


async def test_a_commit_that_was_lost_is_answered_by_nobody_and_made_again_once(project: Path) -> None:
    """Conformance #28, #29: who made it and who read it are disconnected; over HTTP there is a code for it."""
    deployment = FailingDeployment(project)

    async def body(url: str) -> None:
        async with (
            connected(url, SESSIONS[0]) as writer,
            connected(url, SESSIONS[1]) as reader,
            httpx.AsyncClient(base_url=url, trust_env=False) as http,
        ):
            deployment.storage.hold()
            await writer.mutate(0, "counter:add")
            await deployment.has_run("add")
            await reader.mutate(0, "counter:refuse")
            await deployment.has_run("add", "refuse")
            calling = asyncio.ensure_future(http.post("/api/mutation", json={"path": "counter:add", "args": {}}))
            await deployment.has_run("add", "refuse", "add")
            deployment.storage.faults.append(Fault.UNKNOWN_LOST)
            deployment.storage.release()

            assert await closing(writer) == INTERNAL
            assert await closing(reader) == INTERNAL
            answer = await calling
            assert (answer.status_code, answer.json()["code"]) == (503, "OutcomeUnknown")
            assert writer.values == reader.values == {0: 0}, "nobody who watched has seen it"

        async with connected(url, SESSIONS[0], 1) as writer, connected(url, SESSIONS[1], 1) as reader:
            await writer.mutate(0, "counter:add")
            assert (await next_answer(writer))["result"] == 1
            await reader.mutate(0, "counter:refuse")
            assert (await next_answer(reader))["errorData"] == {"found": 1.0}

    await served(deployment, body)


async def test_while_no_writes_are_taken_reads_go_on(project: Path) -> None:
    """Mutations are refused and do not run: over HTTP with a code, on a socket by its end, so that they are resent."""
    deployment = FailingDeployment(project, storage_patience_seconds=0.0)
    storage = deployment.storage

    async def body(url: str) -> None:
        asked = {"path": "counter:add", "args": {}}
        async with (
            connected(url, SESSIONS[0]) as watcher,
            connected(url, SESSIONS[1]) as writer,
            httpx.AsyncClient(base_url=url, trust_env=False) as http,
        ):
            assert (await http.post("/api/mutation", json=asked)).json() == {"status": "success", "value": 1}
            while watcher.values != {0: 1}:
                await watcher.receive()
            storage.failing |= {"reopen"}
            storage.faults.append(Fault.UNKNOWN_LOST)
            during = await http.post("/api/mutation", json=asked)
            assert (during.status_code, during.json()["code"]) == (503, "OutcomeUnknown")
            refused = await http.post("/api/mutation", json=asked)
            assert (refused.status_code, refused.json()["code"]) == (503, "StorageError")
            assert refused.json()["message"] == (
                f"No writes are taken at the moment: {storage.trouble}. "
                "Reads go on, and writes resume by themselves when storage works again."
            )
            await writer.mutate(0, "counter:add")
            assert await closing(writer) == INTERNAL
            await deployment.has_run("add", "add")

            await watcher.modify(add(1, "counter:total"), base=1)
            await watcher.receive_type("Transition")
            assert watcher.values == {0: 1, 1: 1}
            storage.failing.clear()
            assert await resent(url, 0, "counter:add") == 2
            while watcher.values != {0: 2, 1: 2}:
                await watcher.receive()

    await served(deployment, body)


async def resent(url: str, request: int, path: str) -> Any:
    """Do what clients do: send it again, on a new connection each time, until it is answered."""
    for connection in itertools.count(1):
        async with connected(url, SESSIONS[1], connection) as client:
            await client.mutate(request, path)
            with suppress(ConnectionClosed):
                return (await next_answer(client))["result"]
