"""Bad clients of actions, HTTP actions, files, jobs and tokens: each gets its error, and no memory is lost."""

import asyncio
import json
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.fakes import SESSION_ID
from tests.server.frames import TEXT, FrameSocket
from tests.server.test_hostile import resident
from tests.servers import Server, running, start_serve
from tests.sizes import size

ROUNDS, WARM = size(8, 1000), size(4, 100)
GROWTH = size(1.2, 1.1)  # of some 100 MB, of which a round takes and frees a third
TIMEOUT_SECONDS = size(50, 1800)

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({"marks": define_table({"name": v.string()})})
"""
AUTH = """
from reactor import auth_config, custom_jwt

auth = auth_config([custom_jwt(issuer="https://a", jwks='data:,{"keys":[]}', algorithm="EdDSA")])
"""
APP = """
import asyncio

from reactor import action, internal, internal_mutation, mutation, query

@action
async def floods(ctx):
    for _ in range(1000):
        print("x" * 10_000)
    raise ValueError

@action
def floods_blocking(ctx):
    for _ in range(1000):
        print("x" * 10_000)
    raise ValueError

@action
async def waits(ctx):
    await asyncio.sleep(0.05)
    return await ctx.run_query("app:total")

@query
async def total(ctx) -> int:
    return await ctx.db.query("marks").count()

@mutation
async def plan(ctx):
    for _ in range(20):
        await ctx.scheduler.run_after(0, internal.app.fails)

@internal_mutation
async def fails(ctx):
    raise ValueError

@mutation
async def upload_url(ctx) -> str:
    return await ctx.storage.generate_upload_url()
"""
HTTP = """
from reactor import http_action, http_router
from starlette.responses import PlainTextResponse, StreamingResponse

@http_action
async def endless(ctx, request):
    async def parts():
        while True:
            yield bytes(1 << 20)
    return StreamingResponse(parts())

@http_action
async def takes(ctx, request):
    return PlainTextResponse(str(len(await request.body())))

@http_action
def fails(ctx, request):
    raise SystemExit

http = http_router()
http.route(path="/endless", method="GET", handler=endless)
http.route(path="/takes", method="POST", handler=takes)
http.route(path="/fails", method="GET", handler=fails)
"""
KINDS = ("floods", "floods_blocking")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    project = tmp_path / "app"
    (project / "functions").mkdir(parents=True)
    (project / "schema.py").write_text(SCHEMA)
    for name, text in (("app", APP), ("http", HTTP), ("auth_config", AUTH)):
        (project / "functions" / f"{name}.py").write_text(text)
    # What jobs leave behind for a while is data, and not what is looked for here.
    env = {"REACTOR_SCHEDULED_RESULT_DAYS": "0", "REACTOR_WRITE_LOG_COMMITS": "500"}
    server = start_serve(project, "--data", tmp_path / "data", env=env, kill_after=TIMEOUT_SECONDS)
    with running(server):
        yield server


class Attacker:
    """Everything that is done in one round."""

    def __init__(self, server: Server, http: httpx.AsyncClient) -> None:
        self._server = server
        self._http = http

    async def round(self, number: int) -> None:
        await asyncio.gather(*self._attacks(number))

    def _attacks(self, number: int) -> Iterator[Awaitable[Any]]:
        for kind in KINDS * 4:
            yield self._floods(kind)
        for _ in range(4):
            yield self._broken("GET /http/endless HTTP/1.1\r\nHost: x\r\n\r\n", b"", 1 << 20)
            yield self._broken(
                "POST /http/takes HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n", bytes(300_000)
            )
            yield self._broken("GET /http/takes HTTP/1.1\r\nHost: ", b"x" * 60_000)
            yield self._upload()
            yield self._socket(number)
        yield self._status("GET", "/http/fails", 500)
        yield self._status("POST", "/http/takes", 413, content=bytes(21 << 20) if number % 10 == 1 else None)
        yield self._status("POST", f"/api/storage/upload?token={number}", 401, content=bytes(1000))
        yield self._status("GET", f"/api/storage/{number:032}?component={number}", 400)
        yield self._status("GET", "/api/list_environment_variables", 403)
        yield self._status("POST", "/api/query", 401, headers={"Authorization": f"Bearer e30.e30.{number:06}"})
        yield self._call("mutation", "app:plan")

    async def _call(self, kind: str, path: str) -> Any:
        return (await self._http.post(f"/api/{kind}", json={"path": path, "args": {}})).json()

    async def _floods(self, kind: str) -> None:
        told = await self._call("action", f"app:{kind}")
        assert (told["status"], len(told["logLines"])) == ("error", 256)

    async def _status(self, method: str, path: str, status: int, **options: Any) -> None:
        if status == 413 and options["content"] is None:
            return
        options.setdefault("json", {"path": "app:total", "args": {}} if path == "/api/query" else None)
        answer = await self._http.request(method, path, **options)
        assert answer.status_code == status, (path, answer.text)

    async def _upload(self) -> None:
        url = (await self._call("mutation", "app:upload_url"))["value"]
        path = url[url.index("/api/") :]
        await self._broken(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n", bytes(300_000))

    async def _broken(self, head: str, body: bytes, answer_bytes: int = 0) -> None:
        """Send a part of a request, read a part of the answer, and go away."""
        parts = urlsplit(self._server.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode() + body)
        await writer.drain()
        if answer_bytes:
            await reader.readexactly(answer_bytes)
        writer.transport.abort()

    async def _socket(self, number: int) -> None:
        """Begin actions and go away, or bring a token that is none."""
        async with FrameSocket(self._server.url) as socket:
            for request, path in enumerate(("floods", "waits", "nothing")):
                message = {"type": "Action", "requestId": request, "udfPath": f"app:{path}", "args": [{}]}
                socket.write(TEXT, json.dumps(message).encode())
            await socket.read()
        async with FrameSocket(self._server.url) as socket:
            token = {"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": f"e30.e30.{number:06}"}
            for message in ({"type": "Connect", "sessionId": SESSION_ID, "connectionCount": 0}, token):
                socket.write(TEXT, json.dumps(message).encode())
            assert json.loads((await socket.read()).payload)["type"] == "AuthError"


@pytest.mark.timeout(TIMEOUT_SECONDS + 10)
def test_bad_clients_of_the_platform_leave_no_trace(server: Server) -> None:
    sizes: dict[int, int] = {}

    async def attack() -> None:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http:
            attacker = Attacker(server, http)
            for number in range(1, ROUNDS + 1):
                await attacker.round(number)
                if number in (WARM, ROUNDS):
                    sizes[number] = resident(server)
            total = await http.post("/api/query", json={"path": "app:total", "args": {}})
            assert total.json() == {"status": "success", "value": 0.0}

    asyncio.run(attack())
    assert sizes[ROUNDS] <= sizes[WARM] * GROWTH, sizes
    assert server.process.poll() is None
    server.end()
    assert "Traceback" not in server.transcript()
