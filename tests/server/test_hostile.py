"""Bad input to a real server process: each gets the protocol's error, nobody else notices, and no memory is lost."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.fakes import SESSION_ID, add
from tests.server.frames import BINARY, CONT, TEXT, FrameSocket
from tests.server.projects import RawClient, raw_client
from tests.servers import Server, copy_fixture, running, start_serve
from tests.sizes import size

ROUNDS, WARM = size(24, 1000), size(12, 100)
GROWTH = 1.05
TIMEOUT_SECONDS = size(50, 900)

INVALID_JSON = "Received Invalid JSON on websocket: "
NOT_FOUND = "Could not find public function for "


def mutation(args: str, path: str = "messages:send", request: int = 0) -> str:
    return f'{{"type":"Mutation","requestId":{request},"udfPath":"{path}","args":{args}}}'


def modify(*changes: dict[str, Any], base: int = 0, new: int = 1) -> str:
    message = {"type": "ModifyQuerySet", "baseVersion": base, "newVersion": new, "modifications": list(changes)}
    return json.dumps(message)


def nested(depth: int) -> str:
    return '{"channel":"a","body":' + "[" * depth + "]" * depth + "}"


# What is sent, and the error: the start of a FatalError, or a close code without a message.
FATAL: dict[str, tuple[str, str]] = {
    "no JSON": ("{", INVALID_JSON),
    "nothing": ("", INVALID_JSON),
    "no object": ("[1]", INVALID_JSON),
    "two values": ('{"type":"Event","eventType":"x"} {}', INVALID_JSON),
    "no type": ("{}", INVALID_JSON),
    "unknown type": ('{"type":"Subscribe"}', INVALID_JSON),
    "a server's type": ('{"type":"Transition"}', INVALID_JSON),
    "missing field": ('{"type":"Mutation","requestId":0}', INVALID_JSON),
    "no arguments": (mutation("[]"), INVALID_JSON),
    "two arguments": (mutation("[{},{}]"), INVALID_JSON),
    "arguments that are a text": (mutation('["x"]'), INVALID_JSON),
    "NaN": (mutation('[{"n":NaN}]'), INVALID_JSON),
    "Infinity": (mutation('[{"n":-Infinity}]'), INVALID_JSON),
    "a lone surrogate": (mutation('[{"channel":"a","body":"\\ud800 and on"}]'), INVALID_JSON),
    "half a pair": (mutation('[{"channel":"a","body":"\\udc00 and on"}]'), INVALID_JSON),
    "negative request": (mutation("[{}]", request=-1), INVALID_JSON),
    "request too large": (mutation("[{}]", request=2**32), INVALID_JSON),
    "nesting without end": (mutation(f"[{nested(100_000)}]"), INVALID_JSON),
    "brackets without end": ("[" * 100_000, INVALID_JSON),
    "a name that is none": (mutation("[{}]", path="../etc:passwd"), INVALID_JSON),
    "an empty name": (mutation("[{}]", path=""), INVALID_JSON),
    "a version that went back": (modify(base=0, new=0), INVALID_JSON),
    "a session that is none": ('{"type":"Connect","sessionId":"me","connectionCount":0}', INVALID_JSON),
    "a timestamp that is none": (
        f'{{"type":"Connect","sessionId":"{SESSION_ID}","connectionCount":0,"maxObservedTimestamp":"AAAA"}}',
        INVALID_JSON,
    ),
    "a token that is missing": ('{"type":"Authenticate","baseVersion":0,"tokenType":"User"}', INVALID_JSON),
    "wrong version": (modify(base=7, new=8), "Base version 7 passed up doesn't match the current version 0"),
}
CLOSED: dict[str, tuple[str, int, str]] = {
    "wrong identity version": (
        '{"type":"Authenticate","baseVersion":1,"tokenType":"None"}',
        1011,
        "InternalServerError",
    ),
    "a query twice": (modify(add(0), add(0)), 1011, "InternalServerError"),
    "an unknown query": (modify({"type": "Remove", "queryId": 4}), 1011, "InternalServerError"),
    "a component without a key": (modify(add(0, componentPath="waitlist")), 1011, "InternalServerError"),
    "a timestamp from the future": (
        f'{{"type":"Connect","sessionId":"{SESSION_ID}","connectionCount":0,"maxObservedTimestamp":"/////////38="}}',
        1011,
        "InternalServerError",
    ),
}
# Functions that fail: what is sent as arguments of a mutation, and a part of the error text.
FAILING: dict[str, tuple[str, str]] = {
    "unknown function": (mutation("[{}]", path="messages:nothing"), NOT_FOUND),
    "unknown module": (mutation("[{}]", path="nothing"), NOT_FOUND),
    "internal function": (mutation("[{}]", path="messages:secret"), NOT_FOUND),
    "system function": (mutation("[{}]", path="_system/cli/tables:default"), "You do not have permission"),
    "a query as a mutation": (mutation('[{"channel":"a"}]', path="messages:list_messages"), "Trying to execute"),
    "missing argument": (mutation('[{"channel":"a"}]'), "body"),
    "wrong type": (mutation('[{"channel":"a","body":7}]'), "body"),
    "extra argument": (mutation('[{"channel":"a","body":"b","more":1}]'), "more"),
    "deeply nested": (mutation(f"[{nested(70)}]"), "nest"),
    "a field that is reserved": (mutation('[{"channel":"a","body":"b","$x":1}]'), ""),
    "a marker that is none": (mutation('[{"channel":"a","body":{"$integer":"AA"}}]'), ""),
    "an ordinary number as special": (mutation('[{"channel":"a","body":{"$float":"AAAAAAAA8D8="}}]'), ""),
    "a number without end": (mutation(f'[{{"channel":"a","body":1{"0" * 400}}}]'), ""),
}
MALFORMED: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{", 400, "BadJsonBody"),
    "nothing": (b"", 400, "BadJsonBody"),
    "invalid UTF-8": (b'{"path":"\xff","args":{}}', 400, "BadJsonBody"),
    "NaN": (b'{"path":"messages:send","args":{"n":NaN}}', 400, "BadJsonBody"),
    "nesting without end": (b'{"path":"m","args":' + nested(100_000).encode() + b"}", 400, "BadJsonBody"),
    "a lone surrogate": (b'{"path":"messages:send","args":{"body":"\\ud800 and on"}}', 400, "BadJsonBody"),
    "no object": (b'{"path":"messages:send","args":7}', 400, "BadQueryArgs"),
    "two objects": (b'{"path":"messages:send","args":[{},{}]}', 400, "BadQueryArgs"),
    "a name that is none": (b'{"path":"../etc:passwd","args":{}}', 400, "BadConvexFunctionIdentifier"),
    "a format that is none": (b'{"path":"messages:send","args":{},"format":"xml"}', 400, "BadFormat"),
    "too large": (b'{"path":"' + b"x" * (17 << 20), 413, "RequestTooLarge"),
}
HEADERS: dict[str, tuple[dict[str, str], int, str]] = {
    "a short header": ({"authorization": "x"}, 400, "InvalidHeaderFailure"),
    "a strange scheme": ({"authorization": "Basic abcdef"}, 400, "InvalidAdminKey"),
    "a token": ({"authorization": "Bearer a.b.c"}, 401, "InvalidAuthHeader"),
    "a bad key": ({"authorization": "Convex me|00"}, 403, "BadDeployKey"),
    "a garbled identity": ({"authorization": "Convex me|00:!!!"}, 400, "InvalidHeaderFailure"),
    "a client that is none": ({"convex-client": "x"}, 400, "InvalidClientVersion"),
    "no content type": ({"content-type": "text/plain"}, 400, "BadJsonBody"),
}


async def read_messages(socket: FrameSocket, count: int) -> list[Any]:
    return [json.loads((await socket.read()).payload) for _ in range(count)]


async def attack_sockets(url: str) -> None:
    for name, (text, error) in FATAL.items():
        async with FrameSocket(url) as socket:
            socket.write(TEXT, text.encode())
            (message,) = await read_messages(socket, 1)
            assert message["type"] == "FatalError", name
            assert message["error"].startswith(error), (name, message)
            assert await socket.read_close() == (1005, ""), name
    for name, (text, *close) in CLOSED.items():
        async with FrameSocket(url) as socket:
            socket.write(TEXT, text.encode())
            frame = await socket.read_close()
            assert frame == tuple(close), name
    async with FrameSocket(url) as socket:  # those are answered, one after the other, on a connection that goes on
        for name, (text, error) in FAILING.items():
            socket.write(TEXT, text.encode())
            answer, transition = await read_messages(socket, 2)
            assert (answer["type"], answer["success"], transition["type"]) == ("MutationResponse", False, "Transition")
            assert error in answer["result"], (name, answer)
        socket.write(TEXT, b"\xff")
        assert (await socket.read_close())[0] == 1007
    async with FrameSocket(url) as socket:
        socket.write(BINARY, b"{}")
        assert await socket.read_close() == (1011, "InternalServerError")
    async with FrameSocket(url) as socket:
        socket.writer.write(b"\x81\xff" + (100 << 20).to_bytes(8, "big") + bytes(4) + bytes(1 << 16))
        assert (await socket.read_close())[0] == 1009
    async with FrameSocket(url) as socket:
        for _ in range(2000):
            socket.write(CONT if _ else TEXT, b"", fin=False)
    async with FrameSocket(url, "/api/1.48.0/sync") as socket:  # gone in the middle of things
        socket.write(TEXT, modify(add(0, "messages:list_messages", {"channel": "a"})).encode())
        socket.write(TEXT, mutation('[{"channel":"b","body":"x"}]').encode())


async def attack_http(http: httpx.AsyncClient, *, large: bool) -> None:
    json_type = {"content-type": "application/json"}
    for name, (body, status, code) in MALFORMED.items():
        if large or len(body) < 1 << 20:
            answer = await http.post("/api/mutation", content=body, headers=json_type)
            assert (answer.status_code, answer.json()["code"]) == (status, code), name
    for name, (headers, status, code) in HEADERS.items():
        content = b'{"path":"messages:send","args":{"channel":"a","body":""}}'
        answer = await http.post("/api/mutation", content=content, headers={**json_type, **headers})
        assert (answer.status_code, answer.json()["code"]) == (status, code), name
    for name, (text, error) in FAILING.items():
        message = json.loads(text) if "0" * 400 not in text else None
        if message is None:
            continue
        body = json.dumps({"path": message["udfPath"], "args": message["args"][0]}).encode()
        answer = await http.post("/api/mutation", content=body, headers=json_type)
        told = answer.json()
        assert (answer.status_code, told.get("status")) == (200, "error"), (name, told)
        assert error in told["errorMessage"], (name, told)


class Bystander:
    """Somebody with a live query, who calls one mutation per round and must notice nothing else."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._calls = 0

    async def begin(self) -> None:
        await self._client.connect()
        await self._client.modify(add(0, "messages:list_messages", {"channel": "quiet"}))
        await self._client.receive_type("Transition")

    async def call(self) -> None:
        request, self._calls = self._calls, self._calls + 1
        await self._client.mutate(request, "messages:send", channel="quiet", body="b")
        answer = await self._client.receive_type("MutationResponse")
        assert (answer["requestId"], answer["success"], answer["result"]) == (request, True, float(self._calls))
        while len(self._client.values[0]) < self._calls:
            await self._client.receive_type("Transition")
        assert self._client.values[0] == ["b"] * self._calls


def resident(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = start_serve(copy_fixture(tmp_path / "app"), "--data", tmp_path / "data", kill_after=TIMEOUT_SECONDS)
    with running(server):
        yield server


@pytest.mark.timeout(TIMEOUT_SECONDS + 10)
def test_bad_input_gets_its_error_and_leaves_no_trace(server: Server) -> None:
    sizes: dict[int, int] = {}

    async def attack() -> None:
        async with (
            raw_client(server.url) as socket,
            httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http,
        ):
            bystander = Bystander(socket)
            await bystander.begin()
            for number in range(1, ROUNDS + 1):
                await asyncio.gather(attack_sockets(server.url), attack_http(http, large=number % 10 == 1))
                await bystander.call()
                if number in (WARM, ROUNDS):
                    sizes[number] = resident(server)

    asyncio.run(attack())
    assert sizes[ROUNDS] <= sizes[WARM] * GROWTH, sizes
    assert server.process.poll() is None
    assert "Traceback" not in server.transcript()
    server.end()
