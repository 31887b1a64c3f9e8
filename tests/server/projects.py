"""A small project for tests of the server, and a raw sync client for its sockets."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from reactor.server.app import Deployment
from reactor.server.run import bind, serve, url_of

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({"messages": define_table({"channel": v.string(), "body": v.string()})
                        .index("by_channel", ["channel"])})
"""

MESSAGES = """
from reactor import ReactorError, internal_query, mutation, query, v


@query(args={"channel": v.string()})
async def list(ctx, channel):
    found = await ctx.db.query("messages").with_index("by_channel", channel=channel).collect()
    return [message["body"] for message in found]


@mutation(args={"channel": v.string(), "body": v.string()})
async def send(ctx, channel, body):
    if body == "bad":
        raise ReactorError({"code": "BAD", "max": 500})
    if body == "boom":
        raise ValueError("boom")
    print("sent", body)
    return await ctx.db.insert("messages", {"channel": channel, "body": body})


@internal_query(args={})
async def count(ctx):
    return await ctx.db.query("messages").count()


@query(args={})
async def who(ctx):
    identity = await ctx.auth.get_user_identity()
    return None if identity is None else identity["name"]
"""


def write_project(folder: Path) -> Path:
    """Write the project's files into `folder`, which may be there already."""
    (folder / "functions").mkdir(parents=True, exist_ok=True)
    (folder / "schema.py").write_text(SCHEMA)
    (folder / "functions" / "messages.py").write_text(MESSAGES)
    return folder


async def served(deployment: Deployment, body: Callable[[str], Awaitable[None]], *, page: bool = False) -> None:
    """Run `body(url)` while `deployment` is served on a real port."""
    listener = bind("127.0.0.1", 0)
    url = url_of(listener)

    async def work() -> None:
        await body(url)

    await serve(deployment, listener, page=page, alongside=work)


class RawClient:
    """A client that checks what every client relies on: Transitions chain, and their timestamps never decrease."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.version = {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}
        self.values: dict[int, Any] = {}
        self.errors: dict[int, str] = {}

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.socket.recv())
        if message["type"] == "Transition":
            assert message["startVersion"] == self.version
            self.version = message["endVersion"]
            for modification in message["modifications"]:
                number = modification["queryId"]
                self.values.pop(number, None)
                self.errors.pop(number, None)
                if modification["type"] == "QueryUpdated":
                    self.values[number] = modification["value"]
                elif modification["type"] == "QueryFailed":
                    self.errors[number] = modification["errorMessage"]
        return message

    async def receive_type(self, kind: str) -> dict[str, Any]:
        while (message := await self.receive())["type"] != kind:
            assert message["type"] in ("Transition", "Ping")
        return message

    async def connect(self, **fields: Any) -> None:
        await self.send(
            {
                "type": "Connect",
                "sessionId": "b1350d76-3c69-4e7e-8fa0-bc64ddce0796",
                "connectionCount": 0,
                "lastCloseReason": "InitialConnect",
                **fields,
            }
        )

    async def modify(self, *modifications: dict[str, Any], base: int = 0) -> None:
        await self.send(
            {
                "type": "ModifyQuerySet",
                "baseVersion": base,
                "newVersion": base + 1,
                "modifications": list(modifications),
            }
        )

    async def mutate(self, request: int, path: str, **args: Any) -> None:
        await self.send({"type": "Mutation", "requestId": request, "udfPath": path, "args": [args]})


@asynccontextmanager
async def raw_client(url: str, path: str = "/api/1.48.0/sync", **options: Any) -> AsyncIterator[RawClient]:
    """Open a socket to the server at an http URL."""
    async with connect(url.replace("http", "ws", 1) + path, **options) as socket:
        yield RawClient(socket)
