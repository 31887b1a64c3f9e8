"""Both sides of the recorded conversations: a real server is told what the official clients said, and answers in kind.

What the stub answered is compared wherever a real server would have answered too: the shape of each message, which
request is answered how, and which queries are reported. What can't be asserted:

- values, timestamps, clock skews and log lines: the stub made them up;
- calls into components, and what follows a user's token, until there are such things;
- when a frame came: the stub withheld, merged or repeated Transitions on purpose. Ours follow each request;
- what the stub did wrong or no server of ours ever does, to see the client's reaction: `ONLY_THE_STUB`;
- 560 as a status: the reference server has none.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from reactor.protocol.sync import ServerMessage, decode_server_message, encode_server_message
from reactor.server.app import Deployment
from tests.server.fakes import SECRET
from tests.server.projects import RawClient, raw_client, served

FRAMES = json.loads((Path(__file__).parent.parent / "vectors" / "sync-frames.json").read_text(encoding="utf-8"))

ONLY_THE_STUB = {
    "js-unknown-server-message": "a message type that is none",
    "py081-unknown": "a message type that is none",
    "js-transition-wrong-startversion": "versions that do not chain",
    "py081-dupresp": "an answer to a request nobody made",
    "js-transition-before-response": "a Transition with the effects of a mutation before its answer",
    "js-fatal-error": "a FatalError for nothing the client did",
    "py081-fatal": "a FatalError for nothing the client did",
    "js-transition-chunk": "parts of a small Transition",
    "py081-chunk": "parts for a client that takes none",
    "py081-no-loglines-key": "a message without a required field",
    "py081-no-journal-key": "a message without a field we always send",
    "py081-no-skew-fields": "a message without fields we always send",
}
ELSEWHERE = {"js-path-prefix": "needs a host application: tests/conformance/test_mounting.py"}

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({"messages": define_table({"body": v.any()})})
"""
MESSAGES = """
from reactor import ReactorError, mutation, query


@query()
async def list(ctx, **args):
    return [message["body"] for message in await ctx.db.query("messages").collect()]


@query()
async def pg(ctx, **args):
    return {"page": [], "isDone": True, "continueCursor": "end"}


@query()
async def boom(ctx, **args):
    raise ReactorError({"code": "NOPE"})


@query()
async def crash(ctx, **args):
    raise ValueError("no")


@mutation()
async def send(ctx, **args):
    await ctx.db.insert("messages", {"body": args.get("body")})


@mutation()
async def fail(ctx, **args):
    raise ReactorError({"code": "NOPE"})
"""
ACTS = """
from reactor import ReactorError, action


@action()
async def run(ctx, **args):
    return {"echo": args}


@action()
def fail(ctx, **args):
    raise ReactorError(7)
"""
BAZ = """
from reactor import query


@query()
async def baz(ctx, **args):
    return None
"""


def scenarios(kind: str) -> Iterator[Any]:
    for scenario in FRAMES["scenarios"]:
        if any(frame["from"] == kind for frame in scenario["frames"]):
            yield pytest.param(scenario, id=scenario["name"])


def shape(message: dict[str, Any]) -> tuple[object, ...]:
    return (message["type"], message.get("success"), *sorted(message))


def shapes(messages: Iterator[dict[str, Any]]) -> set[tuple[object, ...]]:
    found: set[tuple[object, ...]] = set()
    for message in messages:
        found.add(shape(message))
        found |= {shape(modification) for modification in message.get("modifications", ())}
    return found


def said_by_the_stub() -> Iterator[dict[str, Any]]:
    for scenario in FRAMES["scenarios"]:
        if scenario["name"] not in ONLY_THE_STUB:
            yield from (frame["message"] for frame in scenario["frames"] if frame["from"] == "server")


SHAPES = shapes(said_by_the_stub())


@pytest.mark.parametrize("scenario", list(scenarios("server")))
def test_what_clients_were_told_is_what_our_messages_say(scenario: dict[str, Any]) -> None:
    """Decoded and encoded again, each server message is the same, apart from fields that we always send."""
    if scenario["name"] in ONLY_THE_STUB:
        pytest.skip(ONLY_THE_STUB[scenario["name"]])
    for frame in scenario["frames"]:
        if frame["from"] == "server":
            message: ServerMessage = decode_server_message(json.dumps(frame["message"]))
            again = json.loads(encode_server_message(message))
            assert {**again, **frame["message"]} == again


@pytest_asyncio.fixture
async def deployment(tmp_path: Path) -> Deployment:
    project = tmp_path / "app"
    (project / "functions" / "foo").mkdir(parents=True)
    (project / "schema.py").write_text(SCHEMA)
    (project / "functions" / "messages.py").write_text(MESSAGES)
    (project / "functions" / "acts.py").write_text(ACTS)
    (project / "functions" / "foo" / "bar.py").write_text(BAZ)
    return Deployment(project, data=":memory:", instance_name="happy", instance_secret=SECRET)


@pytest.mark.asyncio
async def test_a_real_server_answers_in_kind(deployment: Deployment) -> None:
    """One server for all, as they come; what differs is listed by scenario."""
    differences: dict[str, object] = {}

    async def body(url: str) -> None:
        for scenario in FRAMES["scenarios"]:
            name, frames = scenario["name"], scenario["frames"]
            if name in ELSEWHERE:
                continue
            for number in dict.fromkeys(frame["conn"] for frame in frames if frame["from"] == "client"):
                conversation = [frame for frame in frames if frame["conn"] == number]
                try:
                    differs = await replay(url, conversation, deployment.admin_key)
                except Exception as error:
                    error.add_note(f"in {name}, connection {number}")
                    raise
                if differs and name not in ONLY_THE_STUB:
                    differences[name] = differs

    await served(deployment, body)
    assert differences == {}


async def replay(url: str, frames: list[dict[str, Any]], admin_key: str) -> dict[object, object]:
    """Say what the client said, check the shape of the answers, and return which of the stub's differ from ours."""
    upgrade = next(frame["detail"] for frame in frames if frame["from"] == "upgrade")
    headers = {name: text for name, text in upgrade["headers"].items() if name == "convex-client"}
    said: list[dict[str, Any]] = []
    incomparable: set[object] = set()
    async with raw_client(url, upgrade["path"], additional_headers=headers) as client:
        for frame in frames:
            if frame["from"] == "client":
                message = frame["message"]
                if message.get("tokenType") == "Admin":
                    message = {**message, "value": admin_key}
                if message.get("componentPath"):  # there are no components yet
                    incomparable.add(("request", message["requestId"]))
                await client.send(message)
                await answers(client, message, said)
                if message.get("tokenType") == "User":
                    assert said[-1]["authUpdateAttempted"]
                    await client.socket.wait_closed()
                    assert client.socket.close_code == 1005
                    break
    assert shapes(iter(said)) <= SHAPES
    stub = outcomes([frame["message"] for frame in frames if frame["from"] == "server"])
    ours = outcomes(said)
    return {key: told for key, told in stub.items() if key in ours and ours[key] != told and key not in incomparable}


async def answers(client: RawClient, message: dict[str, Any], said: list[dict[str, Any]]) -> None:
    """Take what the server sends up to the Transition that `message` asks for."""

    async def until(kind: str, **fields: Any) -> dict[str, Any]:
        while True:
            got = await client.receive()
            said.append(got)
            if got["type"] == kind and all(got[name] == value for name, value in fields.items()):
                return got

    match message["type"]:
        case "ModifyQuerySet":
            while client.version["querySet"] != message["newVersion"]:
                await until("Transition")
        case "Authenticate" if message["tokenType"] == "User":
            await until("AuthError", baseVersion=message["baseVersion"])
        case "Authenticate":
            while client.version["identity"] != message["baseVersion"] + 1:
                await until("Transition")
        case "Mutation" | "Action" as kind:
            await until(f"{kind}Response", requestId=message["requestId"])
            await until("Transition")


def outcomes(messages: list[dict[str, Any]]) -> dict[object, object]:
    """What became of each request and each query: success or failure, with data or without."""
    found: dict[object, object] = {}
    for message in messages:
        if message["type"] in ("MutationResponse", "ActionResponse"):
            found["request", message["requestId"]] = (message["success"], "errorData" in message)
        for modification in message.get("modifications", ()):
            if modification["type"] != "QueryRemoved":
                found["query", modification["queryId"]] = (modification["type"], "errorData" in modification)
    return found


NO_PROVIDER = (401, {"code", "message"})
NOT_AN_ADMIN = (403, {"code", "message"})


@pytest.mark.asyncio
@pytest.mark.parametrize("scenario", list(scenarios("http-request")))
async def test_http_requests_are_answered_in_kind(deployment: Deployment, scenario: dict[str, Any]) -> None:
    """The stub's keys are not ours, and there are no providers yet; the rest has its status and fields."""

    async def body(url: str) -> None:
        details = [frame["detail"] for frame in scenario["frames"]]
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            for asked, told in zip(details[::2], details[1::2], strict=True):
                sent = dict(asked["body"]) if asked["body"] else None
                if sent and sent["path"] == "bad":  # which is one: the default function of module `bad`
                    sent["path"] = "not a path"
                if sent and "ts" in sent:
                    sent["ts"] = (await http.post("/api/query_ts")).json()["ts"]
                headers = dict(asked["headers"])
                authorization = headers.get("authorization", "")
                content = json.dumps(sent).encode() if sent else b""
                answer = await http.request(asked["method"], asked["path"], headers=headers, content=content)
                got = answer.status_code, set(answer.json())
                if authorization.startswith("Bearer"):
                    assert got == NO_PROVIDER
                elif authorization:
                    assert got == NOT_AN_ADMIN
                    headers["authorization"] = f"Convex {deployment.admin_key}"
                    answer = await http.request(asked["method"], asked["path"], headers=headers, content=content)
                    got = answer.status_code, set(answer.json())
                if authorization.startswith("Bearer") or "componentPath" in (sent or {}):
                    continue
                status = 200 if told["status"] == 560 else told["status"]
                assert got == (status, set(told["body"]) - {"logLines"})

    await served(deployment, body)


def test_every_exception_is_a_scenario() -> None:
    names = {scenario["name"] for scenario in FRAMES["scenarios"]}
    assert {*ONLY_THE_STUB, *ELSEWHERE} <= names
