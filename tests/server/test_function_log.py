"""The function log: what is taken down of each run, who may read it, and how readers follow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor.limits import MAX_LOGGED_BYTES, MAX_LOGGED_ENTRIES
from reactor.runtime.calls import Call, session_request_id
from reactor.runtime.functionlog import FunctionLog
from reactor.server.app import Deployment
from reactor.testing.clock import VirtualClock
from tests.runtime.projects import write
from tests.sizes import size

FUNCTIONS = """
import logging
from reactor import action, http_action, http_router, internal_mutation, mutation, query

@query
async def ask(ctx):
    print("asking")
    return await ctx.db.query("items").collect()

@mutation
async def send(ctx, body: str):
    logging.warning("sending")
    if body == "bad":
        raise ValueError("no such body")
    await ctx.db.insert("items", {"body": body})
    await ctx.run_mutation("app:inner")

@internal_mutation
async def inner(ctx):
    print("inside")

@action
async def act(ctx):
    print("acting")
    await ctx.run_mutation("app:send", {"body": "from act"})
    print("acted")

@mutation
async def later(ctx):
    await ctx.scheduler.run_after(0, "app:send", {"body": "scheduled"})
"""
ROUTES = """
from reactor import http_action, http_router
from starlette.responses import PlainTextResponse
http = http_router()

@http_action
async def hello(ctx, request):
    print("hello")
    return PlainTextResponse("hi", status_code=201)

http.route(path="/hello", method="GET", handler=hello)
"""
CLI = {"Convex-Client": "npm-cli-1.48.0"}


class Reader:
    """Reads the log of a deployment, from the beginning on."""

    def __init__(self, deployment: Deployment, http: httpx.AsyncClient) -> None:
        self.deployment = deployment
        self.http = http
        self.headers = {"Authorization": f"Convex {deployment.admin_key}"}
        self.cursor: Any = 0

    async def get(self, path: str = "stream_function_logs", **query: Any) -> httpx.Response:
        return await self.http.get(f"/api/{path}", params=query, headers=self.headers | CLI)

    async def next(self) -> list[dict[str, Any]]:
        """Return the entries that follow, which may be a while in coming."""
        answer = (await self.get(cursor=self.cursor)).json()
        assert answer["newCursor"] > self.cursor
        self.cursor = answer["newCursor"]
        entries: list[dict[str, Any]] = answer["entries"]
        return entries


@asynccontextmanager
async def reading(root: Path, *, redact: bool = False) -> AsyncIterator[Reader]:
    files = {"functions/app.py": FUNCTIONS, "functions/http.py": ROUTES}
    async with Deployment(write(root, files), data=":memory:", redact_logs=redact) as deployment:
        transport = httpx.ASGITransport(app=deployment.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield Reader(deployment, http)


def told(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the kind, the function and the lines of each entry."""
    return [
        (
            entry["kind"][0] + entry["udfType"][0],
            entry["identifier"],
            [line["messages"][0] for line in entry["logLines"]],
        )
        for entry in entries
    ]


@pytest.mark.asyncio
async def test_each_run_is_one_entry_and_each_line_is_told_once(tmp_path: Path) -> None:
    async with reading(tmp_path) as reader:
        deployment = reader.deployment
        await deployment.mutation("app:send", {"body": "one"})
        await deployment.query("app:ask")
        await deployment.query("app:ask")
        await deployment.run(lambda ctx: ctx.db.query("items").collect())  # no function of the project
        entries = await reader.next()
        assert told(entries) == [
            ("CM", "app:send", ["'sending'", "'inside'"]),
            ("CQ", "app:ask", ["'asking'"]),
            ("CQ", "app:ask", []),
        ]
        first, second, third = entries
        assert [line["level"] for line in first["logLines"]] == ["WARN", "LOG"]
        assert [line.get("udfPath") for line in first["logLines"]] == [None, "app:inner"]
        assert (first["error"], first["caller"], first["identityType"]) == (None, "Tester", "unknown")
        assert first["usageStats"]["databaseWriteDocuments"] == 1
        assert second["usageStats"]["databaseReadDocuments"] == 1
        assert (second["cachedResult"], third["cachedResult"]) == (False, True)
        assert second["returnBytes"] > 50
        assert first["timestamp"] < second["timestamp"] < third["timestamp"]
        assert len({entry["executionId"] for entry in entries}) == 3

        await deployment.action("app:act")
        entries = await reader.next()
        while entries[-1]["identifier"] != "app:act" or entries[-1]["kind"] != "Completion":
            entries += await reader.next()
        lines = [line for _, _, lines in told(entries) for line in lines]
        assert sorted(lines) == ["'acted'", "'acting'", "'inside'", "'sending'"], "none of them twice"
        (sent,) = [entry for entry in entries if entry["identifier"] == "app:send"]
        acts = [entry for entry in entries if entry["identifier"] == "app:act"]
        assert {entry["kind"] for entry in acts[:-1]} == {"Progress"}
        assert {entry["executionId"] for entry in acts} == {sent["parentExecutionId"]}
        assert {entry["requestId"] for entry in entries} == {sent["requestId"]}
        assert (sent["caller"], acts[-1]["logLines"]) == ("Action", [])

        await deployment.fetch("/hello")
        entries = await reader.next()
        while entries[-1]["kind"] != "Completion":
            entries += await reader.next()
        assert told(entries) == [("PH", "GET /hello", ["'hello'"]), ("CH", "GET /hello", [])]
        assert (entries[-1]["success"], entries[-1]["caller"]) == ({"status": "201"}, "HttpEndpoint")

        await deployment.mutation("app:later")
        entries = await reader.next()
        while entries[-1]["identifier"] != "app:send":
            entries += await reader.next()
        assert entries[-1]["caller"] == "Scheduler"


@pytest.mark.asyncio
@pytest.mark.parametrize("redact", [False, True])
async def test_failures_are_told_in_full_also_when_clients_are_not(tmp_path: Path, redact: bool) -> None:
    async with reading(tmp_path, redact=redact) as reader:
        body = {"path": "app:send", "args": {"body": "bad"}}
        answer = (await reader.http.post("/api/mutation", json=body)).json()
        assert ("no such body" in answer["errorMessage"]) is not redact
        (entry,) = await reader.next()
        assert entry["error"].startswith("Uncaught ValueError: no such body\n    at send (")
        assert f"[Request ID: {entry['requestId']}]" in answer["errorMessage"], "this is how the two are joined"
        assert [line["messages"] for line in entry["logLines"]] == [["'sending'"]]


@pytest.mark.asyncio
async def test_a_reader_waits_for_what_comes_and_is_sent_home_at_the_end(tmp_path: Path) -> None:
    async with reading(tmp_path) as reader:
        assert await reader.next() == [], "an empty log is told at once: the first answer is for history"
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        await reader.deployment.query("app:ask")
        assert told(await waiting) == [("CQ", "app:ask", ["'asking'"])]
        last = asyncio.create_task(reader.get(cursor=reader.cursor))
        for _ in range(20):
            await asyncio.sleep(0)
        await reader.deployment.quiesce()
        assert (await last).json() == {"entries": [], "newCursor": reader.cursor}


@pytest.mark.asyncio
async def test_one_request_can_be_asked_for(tmp_path: Path) -> None:
    async with reading(tmp_path) as reader:
        session = "11111111-2222-3333-4444-555555555555"
        functions = reader.deployment.backend().functions
        for number in range(3):
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            call = Call("app:send", b'{"body": "x"}', session=session, request=number)
            functions.submit_mutation(call, done.set_result)
            await done
        answer = await reader.get(cursor=0, sessionId=session.upper(), clientRequestCounter=1)
        assert [entry["requestId"] for entry in answer.json()["entries"]] == [session_request_id(session, 1)]


@pytest.mark.asyncio
async def test_only_administrators_read_and_nonsense_is_refused(tmp_path: Path) -> None:
    async with reading(tmp_path) as reader:
        for path in ("stream_function_logs", "app_metrics/stream_function_logs", "stream_udf_execution"):
            assert (await reader.get(path, cursor=0)).status_code == 200
            for headers in ({}, {"Authorization": "Convex reactor|00"}, {"Authorization": "Bearer x"}):
                answer = await reader.http.get(f"/api/{path}?cursor=0", headers=headers)
                assert answer.status_code in (401, 403)
        for query in ({"cursor": "x"}, {"cursor": "nan"}, {"cursor": "-1"}, {"cursor": "1e300"}, {"sessionId": "a"}):
            assert (await reader.get(**query)).status_code == 400


@pytest.mark.asyncio
async def test_other_clients_get_lines_as_text(tmp_path: Path) -> None:
    async with reading(tmp_path) as reader:
        await reader.deployment.action("app:act")
        plain = await reader.http.get("/api/stream_function_logs?cursor=0", headers=reader.headers)
        assert plain.json()["entries"][0]["logLines"][0] == "[LOG] 'acting'"
        answer = await reader.get("stream_udf_execution", cursor=0)
        assert [entry["kind"] for entry in answer.json()["entries"]] == ["Completion", "Completion"]


@settings(deadline=None, max_examples=size(8, 200))
@given(
    st.lists(st.sampled_from([0, 100, MAX_LOGGED_BYTES // 3, MAX_LOGGED_BYTES // 2]), max_size=12), st.integers(0, 12)
)
def test_the_ring_is_bounded_and_its_order_is_that_of_its_moments(sizes: list[int], steps: int) -> None:
    clock = VirtualClock()
    log = FunctionLog(clock, lambda: 0, redact=False)
    call = Call("app:ask", b"{}")
    for number, bytes_ in enumerate(sizes):
        log.add(call, "query", f"app:f{number}", execution=number, lines=("x" * bytes_,) if bytes_ else ())
    found = log.after(0)
    moments = [entry.ts_ns for entry in found]
    assert moments == sorted(set(moments))
    assert sum(len(line) for entry in found for line in entry.log_lines) <= MAX_LOGGED_BYTES
    assert [entry.execution for entry in found] == list(range(len(sizes)))[len(sizes) - len(found) :], "the newest"
    if len(found) > steps:
        assert log.after(moments[steps]) == found[steps + 1 :]


def test_the_number_of_entries_is_bounded() -> None:
    log = FunctionLog(VirtualClock(), lambda: 0, redact=False)
    for number in range(MAX_LOGGED_ENTRIES + 5):
        log.add(Call("app:ask", b"{}"), "query", "app:ask", execution=number)
    assert (len(log), log.after(0)[0].execution) == (MAX_LOGGED_ENTRIES, 5)


def test_nobody_is_told_of_what_is_not_durable() -> None:
    durable = 10
    log = FunctionLog(VirtualClock(), lambda: durable, redact=False)
    for rests_on in (0, 11, 0):
        log.add(Call("app:ask", b"{}"), "query", "app:ask", execution=rests_on)
        log._entries[-1].rests_on = rests_on
    assert [entry.rests_on for entry in log.after(0)] == [0]
    durable = 11
    assert [entry.rests_on for entry in log.after(0)] == [0, 11, 0]
