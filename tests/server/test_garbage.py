"""What requests leave behind is freed when they have ended, not by the next garbage collection."""

import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from reactor.server.app import Deployment
from tests.garbage import kept_garbage
from tests.server.frames import TEXT, FrameSocket
from tests.server.http_project import write_http_project
from tests.server.projects import raw_client, served
from tests.servers import FIXTURE

pytestmark = pytest.mark.asyncio
CONTENT = bytes(range(256)) * 1500  # more than one part


async def test_requests_over_http_and_sockets_leave_no_cycles(tmp_path: Path) -> None:
    """But for a stream of a plain `def` action: the event loop in its thread is a cycle of asyncio's own."""
    project = write_http_project(tmp_path / "app")
    shutil.copy(FIXTURE / "functions/files.py", project / "functions")
    deployment = Deployment(project, data=tmp_path / "data", cloud_origin="http://here")
    left: dict[str, list[Any]] = {}

    async def body(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http, raw_client(url) as socket:
            await socket.connect()
            numbers = iter(range(1000))

            async def call(kind: str, path: str, **args: Any) -> Any:
                sent = {"path": path, "args": args, "format": "json"}
                return (await http.post(f"/api/{kind}", json=sent)).json().get("value")

            async def upload() -> str:
                path = (await call("mutation", "files:upload_url")).removeprefix("http://here")
                return str((await http.post(path, content=CONTENT)).json()["storageId"])

            async def download(**headers: str) -> None:
                path = (await call("query", "files:url", id=await upload())).removeprefix("http://here")
                answer = await http.get(path, headers=headers)
                assert answer.content == (CONTENT[:10] if headers else CONTENT)

            async def mutate() -> None:
                await socket.mutate(next(numbers), "messages:send", channel="a", body="b")
                assert (await socket.receive_type("MutationResponse"))["success"]

            async def mutate_wrongly() -> None:
                await socket.mutate(next(numbers), "messages:send", channel="a")
                assert not (await socket.receive_type("MutationResponse"))["success"]

            async def connect() -> None:
                async with FrameSocket(url) as gone:
                    gone.write(TEXT, b'{"type":"Event","eventType":"x","event":null}')

            async def watch() -> None:
                change = {"type": "Add", "queryId": 0, "udfPath": "messages:list", "args": [{"channel": "a"}]}
                message = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [change]}
                async with FrameSocket(url) as gone:
                    gone.write(TEXT, json.dumps(message).encode())
                    await gone.read()

            async def act() -> None:
                async with FrameSocket(url) as gone:
                    gone.write(TEXT, b'{"type":"Action","requestId":0,"udfPath":"messages:none","args":[{}]}')
                    await gone.read()

            async def break_off() -> None:
                async with FrameSocket(url) as broken:
                    broken.write(TEXT, b"{")
                    await broken.read_close()

            async def say_half() -> None:
                async with FrameSocket(url) as gone:
                    gone.write(TEXT, b"{", fin=False)
                    gone.writer.write(b"\x80\xff")  # the beginning of a continuation

            async def say_too_much() -> None:
                async with FrameSocket(url) as broken:
                    broken.writer.write(b"\x81\xff" + (100 << 20).to_bytes(8, "big") + bytes(4))
                    assert (await broken.read_close())[0] == 1009

            async def upgrade_wrongly() -> None:
                assert (await http.get("/api/sync")).status_code in (400, 404, 426)

            requests: dict[str, Callable[[], Awaitable[Any]]] = {
                "query": lambda: call("query", "messages:list", channel="a"),
                "mutation": lambda: call("mutation", "messages:send", channel="a", body="b"),
                "wrong": lambda: call("mutation", "messages:send", channel="a"),
                "upload": upload,
                "download": download,
                "range": lambda: download(range="bytes=0-9"),
                "socket mutation": mutate,
                "wrong socket mutation": mutate_wrongly,
                "socket that is dropped": connect,
                "socket that watches": watch,
                "socket that acts": act,
                "socket that breaks the protocol": break_off,
                "socket that ends in a message": say_half,
                "socket that says too much": say_too_much,
                "no socket": upgrade_wrongly,
                "http action": lambda: http.get("/http/binary"),
                "storing": lambda: http.post("/http/store", json={"body": "x"}),
                "storing plainly": lambda: http.post("/http/store-blocking", json={"body": "x"}),
                "streamed": lambda: http.post("/http/echo", content=CONTENT),
                "failing": lambda: http.get("/http/fail/value"),
                "failing within": lambda: http.get("/http/fail/nested"),
                "no such route": lambda: http.get("/http/nothing"),
            }
            for name, request in requests.items():
                await request()
                await http.get("/version")
                with kept_garbage() as garbage:
                    for _ in range(3):
                        await request()
                    await http.get("/version")  # what is behind it has come to its end
                    while len(deployment.sockets) > 1:  # that of the whole test
                        await http.get("/version")
                    await http.get("/version")
                    left[name] = garbage()

    await served(deployment, body)
    assert not any(left.values()), {name: things for name, things in left.items() if things}
