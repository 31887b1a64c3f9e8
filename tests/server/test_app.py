"""A whole deployment: its verbs, its life, and its sockets and requests through a real server."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed, InvalidStatus

from reactor.errors import (
    ArgumentsInvalid,
    InvalidArgument,
    PushError,
    ReactorError,
    StorageError,
    Unavailable,
)
from reactor.limits import Limits
from reactor.protocol.sync import decode_ts
from reactor.server.app import Deployment
from tests.engine.work import HandClock
from tests.server.fakes import SECRET, add
from tests.server.projects import MESSAGES, raw_client, served, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "app")


@pytest_asyncio.fixture
async def deployment(project: Path) -> AsyncIterator[Deployment]:
    async with Deployment(project, data=":memory:") as opened:
        yield opened


# In process.


@pytest.mark.asyncio
async def test_values_in_and_values_out(deployment: Deployment) -> None:
    assert await deployment.query("messages:list", {"channel": "a"}) == []
    message = await deployment.mutation("messages:send", channel="a", body="hi")
    assert await deployment.query("messages:list", channel="a") == ["hi"]
    assert await deployment.query("messages:count") == 1
    document = await deployment.run(lambda ctx: ctx.db.get(message))
    assert isinstance(document, dict)
    assert document["body"] == "hi"


@pytest.mark.asyncio
async def test_what_a_function_raises_is_raised(deployment: Deployment) -> None:
    with pytest.raises(ReactorError) as application:
        await deployment.mutation("messages:send", channel="a", body="bad")
    assert application.value.data == {"code": "BAD", "max": 500.0}
    with pytest.raises(ValueError, match="boom"):
        await deployment.mutation("messages:send", channel="a", body="boom")
    with pytest.raises(ArgumentsInvalid):
        await deployment.mutation("messages:send", channel="a")


@pytest.mark.asyncio
async def test_handlers_may_be_anything_callable(deployment: Deployment) -> None:
    async def insert_two(ctx: object) -> int:
        for body in ("one", "two"):
            await ctx.db.insert("messages", {"channel": "x", "body": body})  # type: ignore[attr-defined]
        return 2

    def broken(ctx: object) -> None:
        raise KeyError("nothing is written")

    assert await deployment.run(insert_two) == 2
    assert await deployment.run(lambda ctx: 7) == 7
    with pytest.raises(KeyError):
        await deployment.run(broken)
    assert await deployment.query("messages:list", channel="x") == ["one", "two"]


@pytest.mark.asyncio
async def test_subscriptions_see_each_commit(deployment: Deployment) -> None:
    async with deployment.subscribe("messages:list", channel="a") as live:
        assert await live.next() == []
        await deployment.mutation("messages:send", channel="a", body="1")
        assert await live.next() == ["1"]
        await deployment.mutation("messages:send", channel="b", body="elsewhere")
        await deployment.mutation("messages:send", channel="a", body="2")
        assert await live.next() == ["1", "2"]
    async with deployment.subscribe("messages:nothing") as live:
        with pytest.raises(Exception, match="Could not find public function"):
            await live.next()


@pytest.mark.asyncio
async def test_identities_are_seen_by_functions_and_not_shared(deployment: Deployment) -> None:
    alice, bob = deployment.with_identity({"name": "Alice"}), deployment.with_identity({"name": "Bob"})
    async with alice.subscribe("messages:who") as hers, bob.subscribe("messages:who") as his:
        assert (await hers.next(), await his.next()) == ("Alice", "Bob")
    assert await deployment.query("messages:who") is None


@pytest.mark.asyncio
async def test_closing_ends_subscriptions_and_calls(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")
    async with deployment:
        live = deployment.subscribe("messages:list", channel="a")
        await live.next()
    with pytest.raises(Unavailable, match="closed"):
        await live.next()
    with pytest.raises(Unavailable, match="not open"):
        await deployment.query("messages:list", channel="a")
    await deployment.close()


# Its life.


@pytest.mark.asyncio
async def test_data_and_keys_survive_reopening(project: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with Deployment(project, data=data) as first:
        await first.mutation("messages:send", channel="a", body="kept")
        key = first.admin_key
    secret = data / "credentials" / "instance_secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    async with Deployment(project, data=data) as second:
        assert await second.query("messages:list", channel="a") == ["kept"]
        assert second.backend().check_admin(key, None).kind == "admin"


@pytest.mark.asyncio
async def test_the_project_says_where_its_data_is(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.reactor]\ndata = "store"\n')
    async with Deployment(project):
        assert (project / "store" / "credentials").is_dir()


@pytest.mark.asyncio
async def test_a_broken_project_touches_no_data(project: Path, tmp_path: Path) -> None:
    (project / "functions" / "messages.py").write_text("def broken(:\n")
    with pytest.raises(PushError):
        await Deployment(project, data=tmp_path / "data").open()
    assert not (tmp_path / "data").exists()


@pytest.mark.asyncio
async def test_a_failed_opening_leaves_nothing_open(project: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(InvalidArgument, match="64 hex digits"):
        await Deployment(project, data=data, instance_secret="short").open()
    deployment = Deployment(project, data=data, instance_secret=SECRET)
    async with deployment:
        assert deployment.is_open


@pytest.mark.asyncio
async def test_two_deployments_do_not_share_data(project: Path, tmp_path: Path) -> None:
    async with Deployment(project, data=tmp_path / "data"):
        with pytest.raises(StorageError, match=str(os.getpid())):
            await Deployment(project, data=tmp_path / "data").open()


@pytest.mark.asyncio
async def test_a_deployment_is_opened_once(deployment: Deployment) -> None:
    with pytest.raises(InvalidArgument, match="open already"):
        await deployment.open()


@pytest.mark.asyncio
async def test_another_event_loop_is_told(deployment: Deployment) -> None:
    def elsewhere() -> None:
        asyncio.run(deployment.query("messages:list", channel="a"))

    with pytest.raises(Unavailable, match="another event loop"):
        await asyncio.to_thread(elsewhere)


@pytest.mark.asyncio
async def test_a_reload_serves_the_edit_and_a_broken_one_does_not(deployment: Deployment, project: Path) -> None:
    file = project / "functions" / "messages.py"
    async with deployment.subscribe("messages:list", channel="a") as live:
        assert await live.next() == []
        file.write_text(MESSAGES.replace("return [message", 'return ["edited"] + [message'))
        report = await deployment.reload()
        assert report.changed_modules
        assert await live.next() == ["edited"]
        file.write_text("def broken(:\n")
        with pytest.raises(PushError):
            await deployment.reload()
        assert await deployment.query("messages:list", channel="a") == ["edited"]
        assert file in deployment.files


@pytest.mark.asyncio
async def test_an_empty_deployment_waits_for_its_first_push(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")
    await deployment.open(load=False)
    try:
        with pytest.raises(Unavailable):
            await deployment.query("messages:list", channel="a")
        await deployment.reload()
        assert await deployment.query("messages:list", channel="a") == []
    finally:
        await deployment.close()


def test_the_blocking_form(project: Path) -> None:
    with Deployment(project, data=":memory:").blocking() as deployment:
        with deployment.subscribe("messages:list", {"channel": "a"}) as live:
            assert live.next(timeout=30) == []
            message = deployment.mutation("messages:send", {"channel": "a", "body": "hi"}, timeout=30)
            assert live.next(timeout=30) == ["hi"]
        assert deployment.query("messages:list", {"channel": "a"}) == ["hi"]
        assert deployment.with_identity({"name": "Ann"}).query("messages:who") == "Ann"
        deployment.run(lambda ctx: ctx.db.delete(message))
        assert deployment.query("messages:count") == 0
        assert deployment.reload().version == 2
    deployment.close()
    with pytest.raises(Unavailable):
        deployment.query("messages:count")


def test_the_blocking_form_of_a_broken_project(project: Path) -> None:
    (project / "functions" / "messages.py").write_text("def broken(:\n")
    with pytest.raises(PushError):
        Deployment(project, data=":memory:").blocking()


# Over the network.


@pytest.mark.asyncio
async def test_a_socket_from_subscription_to_update(project: Path) -> None:
    async def body(url: str) -> None:
        async with raw_client(url) as client:
            await client.connect(clientTs=0)
            await client.modify(add(0, "messages:list", {"channel": "a"}), add(1, "messages:count"))
            first = await client.receive()
            assert client.values == {0: []}
            assert "Could not find public function for 'messages:count'" in client.errors[1]
            assert first["serverTs"] > 0
            assert first["clientClockSkew"] < 0
            for request in range(5):
                await client.mutate(request, "messages:send", channel="a", body=str(request))
            for request in range(5):
                answer = await client.receive_type("MutationResponse")
                assert (answer["requestId"], answer["success"]) == (request, True)
                assert answer["logLines"] == [f"[LOG] 'sent {request}'"]
            while client.version["ts"] != answer["ts"]:
                await client.receive()
            assert client.values[0] == ["0", "1", "2", "3", "4"]
            await client.mutate(0, "messages:send", channel="a", body="0")  # again: answered, not run
            again = await client.receive_type("MutationResponse")
            assert again["requestId"] == 0
            await client.receive()
            assert client.values[0] == ["0", "1", "2", "3", "4"]
            await client.mutate(5, "messages:send", channel="a", body="bad")
            answer = await client.receive_type("MutationResponse")
            assert (answer["success"], answer["ts"], answer["errorData"]) == (
                False,
                None,
                {"code": "BAD", "max": 500.0},
            )
            assert (await client.receive())["type"] == "Transition"

    await served(Deployment(project, data=":memory:"), body)


@pytest.mark.asyncio
async def test_a_mutation_that_changes_nothing_watched_is_followed_by_an_empty_transition(project: Path) -> None:
    """Conformance #8: without it a client would never learn that it may settle the mutation."""

    async def body(url: str) -> None:
        async with raw_client(url) as client:
            await client.connect()
            await client.modify(add(0, "messages:list", {"channel": "a"}))
            await client.receive_type("Transition")
            await client.mutate(0, "messages:send", channel="b", body="x")
            answer = await client.receive_type("MutationResponse")
            transition = await client.receive()
            assert (transition["type"], transition["modifications"]) == ("Transition", [])
            assert decode_ts(transition["endVersion"]["ts"]) >= decode_ts(answer["ts"])

    await served(Deployment(project, data=":memory:"), body)


@pytest.mark.asyncio
async def test_http_calls(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")

    async def body(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            sent = await client.post(
                "/api/mutation", json={"path": "messages:send", "args": {"channel": "a", "body": "x"}}
            )
            assert sent.json()["logLines"] == ["[LOG] 'sent x'"]
            listed = await client.post("/api/query", json={"path": "messages.js:list", "args": [{"channel": "a"}]})
            assert listed.json() == {"status": "success", "value": ["x"]}
            key = {"authorization": f"Convex {deployment.admin_key}"}
            asked = {"path": "messages:count", "args": {}}
            assert (await client.post("/api/function", json=asked, headers=key)).json()["value"] == 1
            assert (await client.post("/api/query", json=asked)).json()["status"] == "error"
            assert (await client.get("/instance_name")).text == deployment.instance_name
            assert (await client.post("/api/run/messages/list", json={"args": {"channel": "a"}})).json()["value"] == [
                "x"
            ]

    await served(deployment, body)


@pytest.mark.asyncio
async def test_queries_at_a_lent_timestamp_see_one_state(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")

    async def body(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            asked = {"path": "messages:list", "args": {"channel": "a"}}

            async def at(ts: str) -> Any:
                return (await client.post("/api/query_at_ts", json={**asked, "ts": ts})).json()["value"]

            first = (await client.post("/api/query_ts")).json()["ts"]
            for body in ("one", "two", "three"):
                await deployment.mutation("messages:send", channel="a", body=body)
            second = (await client.post("/api/query_ts")).json()["ts"]
            await deployment.run(lambda ctx: ctx.db.insert("messages", {"channel": "a", "body": "four"}))
            assert await at(second) == ["one", "two", "three"]
            assert await at(first) == []
            batch = {"queries": [asked, {**asked, "path": "messages:send"}, asked]}
            results = (await client.post("/api/query_batch", json=batch)).json()["results"]
            assert results[0]["value"] == results[2]["value"] == ["one", "two", "three", "four"]
            assert "Trying to execute messages.js:send as Query" in results[1]["errorMessage"]

    await served(deployment, body)


@pytest.mark.asyncio
async def test_close_codes_on_the_wire(project: Path) -> None:
    async def body(url: str) -> None:
        async with raw_client(url) as client:
            await client.socket.send("{}")
            assert (await client.receive())["type"] == "FatalError"
            with pytest.raises(ConnectionClosed) as closed:
                await client.receive()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1005, "")
        async with raw_client(url) as client:
            await client.socket.send(b"{}")
            with pytest.raises(ConnectionClosed) as closed:
                await client.receive()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "InternalServerError")
        with pytest.raises(InvalidStatus) as refused:
            async with raw_client(url, "/api/latest/sync"):
                pass
        assert refused.value.response.status_code == 400

    await served(Deployment(project, data=":memory:"), body)


@pytest.mark.asyncio
async def test_a_shutdown_closes_sockets_with_a_reason(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")
    codes: list[tuple[int, str]] = []
    listening = asyncio.Event()

    async def watch(url: str) -> None:
        async with raw_client(url) as client:
            await client.connect()
            await client.modify()
            await client.receive()
            listening.set()
            with pytest.raises(ConnectionClosed) as closed:
                await client.receive()
            assert closed.value.rcvd is not None
            codes.append((closed.value.rcvd.code, closed.value.rcvd.reason))

    tasks: list[asyncio.Task[None]] = []

    async def body(url: str) -> None:
        tasks.append(asyncio.create_task(watch(url)))
        await listening.wait()

    await served(deployment, body)
    await asyncio.gather(*tasks)
    assert codes == [(1001, "ServerShuttingDown")]
    assert not deployment.is_open


@pytest.mark.asyncio
async def test_mounting_in_another_application(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")
    app = FastAPI(lifespan=deployment.lifespan)
    app.mount("/reactor", deployment.asgi())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/reactor") as client:
        asked = {"path": "messages:list", "args": {"channel": "a"}}
        early = await client.post("/api/query", json=asked)
        assert early.status_code == 503
        assert "lifespan" in early.json()["message"]
        async with app.router.lifespan_context(app):
            assert (await client.post("/api/query", json=asked)).json()["value"] == []
            assert (await client.post("http://test/reactor//api/query", json=asked)).json()["value"] == []
        assert (await client.post("/api/query", json=asked)).status_code == 503


@pytest.mark.asyncio
async def test_mounting_beside_the_routes_of_a_host(project: Path) -> None:
    """For clients that replace the path of their URL."""
    deployment = Deployment(project, data=":memory:")
    app = FastAPI(lifespan=deployment.lifespan)

    @app.get("/hello")
    async def hello() -> str:
        return "from the host"

    app.mount("", deployment.asgi())
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        app.router.lifespan_context(app),
    ):
        assert (await client.get("/hello")).json() == "from the host"
        asked = {"path": "messages:list", "args": {"channel": "a"}}
        assert (await client.post("/api/query", json=asked)).json()["value"] == []


@pytest.mark.asyncio
async def test_running_as_an_application_of_its_own(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")
    app = deployment.asgi()
    incoming: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan"}, incoming.get, outgoing.put))
    incoming.put_nowait({"type": "lifespan.startup"})
    assert (await outgoing.get())["type"] == "lifespan.startup.complete"
    assert deployment.is_open
    incoming.put_nowait({"type": "lifespan.shutdown"})
    assert (await outgoing.get())["type"] == "lifespan.shutdown.complete"
    await task
    assert not deployment.is_open


SITE = """
from reactor import Response, action, http_action, internal_mutation

@action
async def ask(ctx, question: str) -> str:
    return question

@internal_mutation
async def tidy(ctx):
    return None

@http_action
async def pages(ctx, request):
    return Response("a page")
"""
ROUTES = """
from functions.site import pages
from reactor import http_router

http = http_router()
http.route(path_prefix="/pages/", method="GET", handler=pages)
"""
CRONS = """
from reactor import cron_jobs, internal

crons = cron_jobs()
crons.daily("tidy up", internal.site.tidy, hour_utc=4)
"""


@pytest.mark.asyncio
async def test_the_page_lists_what_the_project_has(project: Path) -> None:
    (project / "functions" / "site.py").write_text(SITE)
    (project / "functions" / "http.py").write_text(ROUTES)
    (project / "functions" / "crons.py").write_text(CRONS)

    async def body(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            page = await client.get("/")
            assert page.headers["content-type"].startswith("text/html")
            assert "default-src 'none'" in page.headers["content-security-policy"]
            listed = (await client.get("/_page/project")).json()
            assert [(item["path"], item["kind"]) for item in listed["functions"]] == [
                ("messages:list", "query"),
                ("messages:send", "mutation"),
                ("messages:who", "query"),
                ("site:ask", "action"),
            ]
            assert [(route["method"], route["path"]) for route in listed["routes"]] == [("GET", "/pages/*")]
            assert listed["crons"] == [{"name": "tidy up", "path": "site:tidy"}]
            assert (await client.get("/nothing")).json()["code"] == "NotFound"

    await served(Deployment(project, data=":memory:"), body, page=True)


@pytest.mark.asyncio
async def test_a_slow_reader_gets_the_newest_state(project: Path) -> None:
    """Its socket full, it skips states; once it reads, it is brought to the newest in one step."""
    deployment = Deployment(project, data=":memory:", limits=Limits(transitions_unsent=1))

    async def body(url: str) -> None:
        async with raw_client(url, "/api/sync", max_size=None, max_queue=1) as client:
            await client.connect()
            await client.modify(add(0, "messages:list", {"channel": "a"}))
            await client.receive()
            for number in range(60):
                await deployment.mutation("messages:send", channel="a", body=f"{number}-" + "x" * 100_000)
            transitions = 0
            while len(client.values[0]) < 60:
                await client.receive()
                transitions += 1
            assert transitions < 60

    await served(deployment, body)


@pytest.mark.asyncio
async def test_work_alongside_that_fails_ends_the_server(project: Path) -> None:
    async def body(url: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await served(Deployment(project, data=":memory:"), body)


# Pages.

PAGES = """
from reactor import query

@query
async def bodies(ctx, cursor: str | None):
    page = await ctx.db.query("messages").paginate(num_items=2, cursor=cursor)
    return {**page, "page": [message["body"] for message in page["page"]]}
"""


@pytest.mark.asyncio
async def test_a_cursor_is_good_after_a_restart_and_in_no_other_deployment(project: Path, tmp_path: Path) -> None:
    (project / "functions" / "pages.py").write_text(PAGES)
    async with Deployment(project, data=tmp_path / "one") as deployment:
        for body in "abc":
            await deployment.mutation("messages:send", channel="x", body=body)
        first = await deployment.query("pages:bodies", cursor=None)
    async with Deployment(project, data=tmp_path / "one") as deployment:
        second = await deployment.query("pages:bodies", cursor=first["continueCursor"])
        assert await deployment.query("pages:bodies", cursor=None) == first
    async with Deployment(project, data=tmp_path / "two") as deployment:
        with pytest.raises(ReactorError) as refused:
            await deployment.query("pages:bodies", cursor=first["continueCursor"])

    assert [first["page"], second["page"]] == [["a", "b"], ["c"]]
    assert refused.value.data == {"isConvexSystemError": True, "paginationError": "InvalidCursor"}


@pytest.mark.asyncio
async def test_a_client_comes_back_to_a_server_whose_clock_has_stepped_back(project: Path, tmp_path: Path) -> None:
    """What it has seen is in the log, so no timestamp before that is given out again."""
    clock = HandClock()
    seen: list[str] = []

    async def live(url: str) -> None:
        async with raw_client(url) as client:
            await client.connect(**({"maxObservedTimestamp": seen[-1]} if seen else {}))
            await client.modify(add(0, "messages:list", {"channel": "a"}))
            while not client.values:
                await client.receive_type("Transition")
            assert client.values == {0: ["hi"] * len(seen)}
            await client.mutate(len(seen), "messages:send", channel="a", body="hi")
            response = await client.receive_type("MutationResponse")
            while decode_ts(client.version["ts"]) < decode_ts(response["ts"]):
                await client.receive_type("Transition")
            seen.append(client.version["ts"])

    for _ in range(3):
        await served(Deployment(project, data=tmp_path / "data", clock=clock), live)
        clock.ns -= 86_400 * 10**9

    assert sorted(map(decode_ts, seen)) == list(map(decode_ts, seen))
    assert len(set(seen)) == 3
