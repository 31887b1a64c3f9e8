"""The pump between an ASGI socket and a session, with the socket replaced by queues."""

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from reactor.auth.identity import ANONYMOUS, user_identity
from reactor.errors import Unavailable
from reactor.limits import Limits
from reactor.runtime.calls import Success
from reactor.server.sync.connection import SyncEndpoint
from reactor.server.sync.outbox import DIRECT, Outbox
from reactor.server.sync.session import Session
from tests.server.fakes import SESSION_ID, FakeClock, FakeLive, FakeMutations, FakeRng, FakeTokens, check_admin, success

pytestmark = pytest.mark.asyncio
SCOPE = {
    "type": "websocket",
    "headers": [],
    "path_params": {"version": "1.48.0"},
    "extensions": {"websocket.http.response": {}},
}
ANN, BOB = user_identity({"subject": "ann"}), user_identity({"subject": "bob"})
CONNECT = {"type": "Connect", "sessionId": SESSION_ID, "connectionCount": 0}


class Socket:
    """An ASGI socket: what the client sends is put in, what the server sends is a list."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.sent: list[MutableMapping[str, Any]] = []
        self.room = asyncio.Event()
        self.room.set()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self._news = asyncio.Event()

    async def sent_messages(self, count: int) -> list[Any]:
        """Return the messages once there are `count` of them."""
        while len(self.messages) < count:
            self._news.clear()
            await self._news.wait()
        return self.messages

    async def receive(self) -> MutableMapping[str, Any]:
        return await self.incoming.get()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.room.wait()
        self.sent.append(message)
        self._news.set()
        if message["type"] == "websocket.close":
            self.disconnect()

    def say(self, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def disconnect(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1005})

    @property
    def messages(self) -> list[Any]:
        return [json.loads(message["text"]) for message in self.sent if message["type"] == "websocket.send"]

    @property
    def closes(self) -> list[Any]:
        return [(m["code"], m["reason"]) for m in self.sent if m["type"] == "websocket.close"]


class Site:
    """An endpoint whose sessions stand on fakes."""

    def __init__(self, **limits: Any) -> None:
        self.clock, self.live, self.mutations = FakeClock(), FakeLive(), FakeMutations()
        self.mutations.action_outcome = Success(value=b"null", ts=1000)
        self.tokens = FakeTokens()
        self.limits = Limits(**limits)
        self.sessions: list[tuple[Session, bool]] = []
        self.refusal: Unavailable | None = None
        self.endpoint = SyncEndpoint(self.new_session, self.clock, self.limits)

    def new_session(self, outbox: Outbox, *, chunks: bool) -> Session:
        if self.refusal is not None:
            raise self.refusal
        session = Session(
            outlet=outbox,
            functions=self.mutations,
            live=self.live,
            check_admin=check_admin,
            check_token=self.tokens,
            durable_ts=lambda: 1000,
            clock=self.clock,
            alarms=self.clock,
            rng=FakeRng(),
            limits=self.limits,
            chunks=chunks,
        )
        self.sessions.append((session, chunks))
        return session

    def open(self, socket: Socket, **scope: Any) -> "asyncio.Task[None]":
        return asyncio.create_task(self.endpoint({**SCOPE, **scope}, socket.receive, socket.send))


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_conversation() -> None:
    site, socket = Site(), Socket()
    task = site.open(socket)
    socket.say(CONNECT)
    socket.say({"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []})
    socket.say({"type": "Mutation", "requestId": 0, "udfPath": "m:f", "args": [{}]})
    await settle()
    assert socket.sent[0]["type"] == "websocket.accept"
    site.sessions[0][0].settled(1000)
    site.mutations.submitted[0][1](success(1001))
    assert [message["type"] for message in socket.messages] == ["Transition", "MutationResponse"]
    assert len(site.endpoint) == 1
    socket.disconnect()
    await task
    assert len(site.endpoint) == 0
    assert site.sessions[0][0].is_closed


@pytest.mark.parametrize(
    ("headers", "version", "chunks"),
    [
        ([], "1.28.0", True),
        ([], "1.27.9", False),
        ([], None, False),
        ([(b"convex-client", b"python-0.8.1")], None, False),
        ([(b"convex-client", b"npm-1.48.0")], None, True),
    ],
)
async def test_who_takes_parts(headers: Any, version: str | None, chunks: bool) -> None:
    site, socket = Site(), Socket()
    task = site.open(socket, headers=headers, path_params={} if version is None else {"version": version})
    socket.disconnect()
    await task
    assert site.sessions[0][1] is chunks


async def test_a_version_that_is_none_is_refused_before_the_upgrade() -> None:
    site, socket = Site(), Socket()
    await site.open(socket, path_params={"version": "latest"})
    assert socket.sent[0]["type"] == "websocket.http.response.start"
    assert socket.sent[0]["status"] == 400
    assert json.loads(socket.sent[1]["body"])["code"] == "InvalidClientVersion"


@pytest.mark.parametrize("extensions", [{}, {"websocket.http.response": {}}])
async def test_a_closed_deployment_refuses_sockets(extensions: dict[str, Any]) -> None:
    site, socket = Site(), Socket()
    site.refusal = Unavailable("not open")
    await site.open(socket, extensions=extensions)
    if extensions:
        assert socket.sent[0]["status"] == 503
    else:
        assert socket.sent[0]["type"] == "websocket.close"
    assert "websocket.accept" not in [message["type"] for message in socket.sent]


async def test_binary_frames_close_the_socket() -> None:
    site, socket = Site(), Socket()
    task = site.open(socket)
    socket.incoming.put_nowait({"type": "websocket.receive", "bytes": b"{}"})
    await task
    assert socket.closes == [(1011, "InternalServerError")]


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"type":"Nope"}', '{"type":"Mutation"}', "\ud800"])
async def test_anything_else_is_a_fatal_error(text: str) -> None:
    site, socket = Site(), Socket()
    task = site.open(socket)
    socket.say(text)
    socket.say(CONNECT)  # comes too late
    await task
    (message,) = socket.messages
    assert message["type"] == "FatalError"
    assert message["error"].startswith("Received Invalid JSON on websocket: ")
    assert socket.closes == [(None, "")]


async def test_ping_after_silence() -> None:
    site, socket = Site(ping_seconds=0.05), Socket()
    task = site.open(socket)
    await settle()
    assert socket.messages == []
    site.clock.seconds += 0.06
    assert await socket.sent_messages(1) == [{"type": "Ping"}]
    socket.disconnect()
    await task


async def test_a_mutation_that_hangs_closes_the_socket_although_the_client_is_silent() -> None:
    site, socket = Site(ping_seconds=0.05, mutation_seconds=1), Socket()
    task = site.open(socket)
    socket.say({"type": "Mutation", "requestId": 0, "udfPath": "m:f", "args": [{}]})
    await socket.sent_messages(0)
    while not site.mutations.submitted:
        await settle()
    site.clock.seconds += 0.06
    await socket.sent_messages(1)  # a Ping: it was looked at
    site.clock.seconds += 2
    await task
    assert socket.closes == [(1013, "SystemTimeoutError")]


async def test_old_clients_are_told_to_upgrade() -> None:
    for version, told in (("python-0.2.0", True), ("python-0.8.1", False)):
        site, socket = Site(), Socket()
        task = site.open(socket, headers=[(b"convex-client", version.encode())], path_params={})
        socket.disconnect()
        await task
        assert (b"x-convex-deprecation-state", b"UpgradeRequired") in socket.sent[0]["headers"] or not told
        assert bool(socket.sent[0]["headers"]) is told


@pytest.mark.parametrize("version", ["npm-0.19.1", "python-0.0.2"])
async def test_clients_of_another_age_are_refused(version: str) -> None:
    site, socket = Site(), Socket()
    await site.open(socket, headers=[(b"convex-client", version.encode())])
    assert socket.sent[0]["status"] == 400
    assert json.loads(socket.sent[1]["body"])["code"] == "ClientVersionUnsupported"


async def test_a_client_that_never_reads_is_given_up() -> None:
    site, socket = Site(ping_seconds=0.05, client_silence_seconds=1.0), Socket()
    task = site.open(socket)
    await settle()
    socket.room.clear()
    socket.say({"type": "Action", "requestId": 0, "udfPath": "a:b", "args": [{}]})
    await settle()
    site.clock.seconds += 2
    await task  # ends by itself
    assert site.sessions[0][0].is_closed


async def test_who_does_not_read_is_not_read_from() -> None:
    site, socket = Site(message_bytes=2000), Socket()
    task = site.open(socket)
    await settle()
    socket.room.clear()
    for request in range(200):
        socket.say({"type": "Action", "requestId": request, "udfPath": "a:b", "args": [{}]})
    await settle()
    await settle()
    left = socket.incoming.qsize()
    assert left > 150
    socket.room.set()
    await socket.sent_messages(200)
    socket.disconnect()
    await task


async def test_who_sends_faster_than_we_work_is_not_read_from() -> None:
    site, socket = Site(message_bytes=2000), Socket()
    task = site.open(socket)
    for request in range(4):
        socket.say({"type": "Mutation", "requestId": request, "udfPath": "m:f", "args": [{"text": "x" * 1500}]})
    await settle()
    assert socket.incoming.qsize() == 2
    site.mutations.submitted[-1][1](success(1001))
    await settle()
    assert socket.incoming.qsize() == 1
    socket.disconnect()
    site.mutations.submitted[-1][1](success(1002))
    site.mutations.submitted[-1][1](success(1003))
    await task


async def test_nothing_behind_a_token_is_taken_before_it_is_checked() -> None:
    """Both ways in: what comes while the connection reads, and what is handed to it as it comes."""
    site, socket = Site(), Socket()
    heard: list[Callable[[str], bool]] = []
    direct = {DIRECT: {"write": lambda frame: False, "listen": heard.append}}
    task = site.open(socket, extensions=direct)
    await settle()
    first, second = ({"type": "Mutation", "requestId": n, "udfPath": "m:f", "args": [{}]} for n in range(2))
    token = {"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "ann"}

    assert heard[-1](json.dumps(first))
    site.mutations.run(0)
    assert not heard[-1](json.dumps(token)), "from here on they wait in line"
    socket.say(second)
    socket.say({**token, "baseVersion": 1, "value": "bob"})
    socket.say({"type": "Mutation", "requestId": 2, "udfPath": "m:f", "args": [{}]})
    await settle()
    assert len(site.mutations.submitted) == 1
    assert list(site.tokens.checks) == ["ann"]

    site.tokens.answer("ann", ANN)
    await settle()
    site.mutations.run(1)
    assert list(site.tokens.checks) == ["bob"]
    site.tokens.answer("bob", BOB)
    await settle()

    assert [call.identity for call, _ in site.mutations.submitted] == [ANONYMOUS, ANN, BOB]
    socket.disconnect()
    await task


async def test_a_client_that_goes_takes_its_check_with_it() -> None:
    site, socket = Site(shutdown_seconds=0), Socket()
    task = site.open(socket)
    socket.say({"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "ann"})
    await settle()
    assert list(site.tokens.checks) == ["ann"]
    await site.endpoint.close(1001, "bye")
    assert socket.closes == [(1001, "bye")]
    assert site.tokens.checks == {}
    socket.disconnect()
    await task


async def test_closing_waits_for_answers() -> None:
    site, socket, idle = Site(), Socket(), Socket()
    tasks = [site.open(socket), site.open(idle)]
    socket.say({"type": "Mutation", "requestId": 0, "udfPath": "m:f", "args": [{}]})
    await settle()
    closing = asyncio.create_task(site.endpoint.close(1001, "bye"))
    await settle()
    assert idle.closes == [(1001, "bye")]
    assert socket.closes == []
    site.mutations.submitted[0][1](success(1005))
    site.sessions[0][0].settled(1005)
    await closing
    assert [message["type"] for message in socket.messages] == ["MutationResponse", "Transition"]
    assert socket.closes == [(1001, "bye")]
    await asyncio.gather(*tasks)


async def test_closing_does_not_wait_for_ever() -> None:
    site, socket = Site(shutdown_seconds=0), Socket()
    task = site.open(socket)
    socket.say({"type": "Mutation", "requestId": 0, "udfPath": "m:f", "args": [{}]})
    await settle()
    await site.endpoint.close(1001, "bye")
    assert socket.closes == [(1001, "bye")]
    await task


async def test_a_cancelled_server_task_stays_cancelled() -> None:
    site, socket = Site(), Socket()
    task = site.open(socket)
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert site.sessions[0][0].is_closed
