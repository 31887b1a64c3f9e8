"""The HTTP API over a fake backend: bodies, headers, statuses, CORS, mounting."""

import asyncio
import base64
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import ASGIApp

from reactor.errors import Error, OutcomeUnknown, SnapshotTooOld, StorageError, Unavailable, WriteConflict
from reactor.limits import MAX_BATCH_QUERIES, MAX_HTTP_BODY_BYTES, Limits
from reactor.protocol.sync import encode_ts
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.runtime.environment.origins import Origins
from reactor.server.backend import Backend
from reactor.server.http.bodies import read_body
from reactor.server.http.deploys import DeployApi
from reactor.server.http.environment import EnvironmentApi
from reactor.server.http.files import FileApi
from reactor.server.http.functions import FunctionApi
from reactor.server.http.logs import LogApi
from reactor.server.http.push import PushApi
from reactor.server.http.router import HttpApp
from reactor.server.http.transfers import TransferApi
from reactor.server.snapshots import Snapshots
from tests.server.fakes import (
    ADMIN_KEY,
    READ_ONLY_KEY,
    FakeLive,
    FakeRng,
    check_admin,
    refuse_every_token,
    refuse_token,
)

pytestmark = pytest.mark.asyncio
JSON = {"content-type": "application/json"}
INT64 = b'{"big":{"$integer":"CgAAAAAAAAA="},"n":1.0}'


class FakeHttp:
    """Nobody asks for it here."""

    def version(self) -> Any:
        raise AssertionError

    def run(self, *args: Any, **options: Any) -> Any:
        raise AssertionError


async def seen_path(scope: Any, receive: Any, send: Any) -> None:
    """Answer as HTTP actions do: with what they see."""
    await JSONResponse([scope["path"], scope["raw_path"].decode(), scope["root_path"]])(scope, receive, send)


class FakeFunctions:
    """Answers every call with `outcome`, and keeps it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Call]] = []
        self.outcome: Outcome | None = Success(value=INT64, ts=5)  # None: no answer
        self.asked_at: list[int | None] = []
        self.unanswered: list[Callable[[Outcome], None]] = []
        self._news = asyncio.Event()

    async def waiting(self, count: int) -> None:
        """Return once `count` calls have come that were not answered at once."""
        while len(self.unanswered) < count:
            self._news.clear()
            await self._news.wait()

    def submit_query(self, call: Call, done: Callable[[Outcome], None], ts: int | None = None) -> None:
        self.asked_at.append(ts)
        self._submit("query", call, done)

    def submit_mutation(self, call: Call, done: Callable[[Outcome], None]) -> None:
        self._submit("mutation", call, done)

    def submit_action(self, call: Call, done: Callable[[Outcome], None]) -> None:
        self._submit("action", call, done)

    def submit_any(self, call: Call, done: Callable[[Outcome], None]) -> None:
        self._submit("any", call, done)

    def _submit(self, kind: str, call: Call, done: Callable[[Outcome], None]) -> None:
        self.calls.append((kind, call))
        if self.outcome is None:
            self.unanswered.append(done)
            self._news.set()
        else:
            done(self.outcome)


class Site:
    """An HTTP client in front of the application."""

    def __init__(self, prefix: str = "", *, redact: bool = False, **limits: Any) -> None:
        self.functions = FakeFunctions()
        self.pins: list[int] = []
        self.is_open = True
        backend = Backend(
            functions=self.functions,
            live=FakeLive(),
            http=FakeHttp(),
            http_actions=seen_path,
            snapshots=Snapshots(
                pin=self.pins.append,
                unpin=self.pins.remove,
                durable_ts=lambda: 5,
                seconds=30,
                later=asyncio.get_running_loop().call_later,
            ),
            durable_ts=lambda: 5,
            check_admin=check_admin,
            check_token=refuse_token,
            identify=refuse_every_token,
            submit_handler=lambda kind, handler, call, done: None,
            rng=FakeRng(),
            files=None,  # type: ignore[arg-type]  # nobody asks for them here
            log=None,  # type: ignore[arg-type]  # nor for what ran
            transfers=None,  # type: ignore[arg-type]  # nor for these
            deploys=None,
            before_push=lambda: None,
        )

        def opened() -> Backend:
            if not self.is_open:
                raise Unavailable("This deployment is not open. Open it.")
            return backend

        async def no_sockets(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError("no sockets here")

        app: ASGIApp = HttpApp(
            functions=FunctionApi(opened),
            environment=EnvironmentApi(opened),
            files=FileApi(opened, Limits()),
            push=PushApi(opened, lambda: None, Origins.of(None, None)),  # type: ignore[arg-type, return-value]
            logs=LogApi(opened),
            transfers=TransferApi(opened),
            deploys=DeployApi(opened, Limits()),
            sync=no_sockets,
            actions=seen_path,
            limits=Limits(**limits),
            name=lambda: "my-instance",
            version="1.2.3",
            page=None,
            redact=redact,
        )
        if prefix:
            app = Starlette(routes=[Mount(prefix, app=app)])
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test" + prefix)

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        return await self.client.post(path, content=json.dumps(body), headers={**JSON, **names})

    @property
    def call(self) -> Call:
        return self.functions.calls[-1][1]


async def failure(response: httpx.Response, status: int, code: str) -> str:
    body = response.json()
    assert (response.status_code, body["code"], set(body)) == (status, code, {"code", "message"})
    return str(body["message"])


@pytest.mark.parametrize(("path", "kind"), [("/api/query", "query"), ("/api/mutation", "mutation")])
@pytest.mark.parametrize("args", [{"a": 1}, [{"a": 1}]])
async def test_a_function_answers_200(path: str, kind: str, args: Any) -> None:
    site = Site()
    response = await site.post(path, {"path": "messages:list", "args": args, "format": "convex_encoded_json"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"status": "success", "value": json.loads(INT64)}
    assert site.functions.calls[-1][0] == kind
    assert json.loads(bytes(site.call.args)) == {"a": 1}
    assert (site.call.session, site.call.internal, site.call.identity.kind) == (None, False, "none")


async def test_a_query_can_be_asked_by_get() -> None:
    site = Site()
    response = await site.client.get("/api/query", params={"path": "m:f", "args": '{"a":2}', "format": "json"})
    assert response.json()["value"] == {"big": "10", "n": 1.0}
    assert json.loads(bytes(site.call.args)) == {"a": 2}


@pytest.mark.parametrize(
    ("client", "format", "value"),
    [
        (None, None, {"big": "10", "n": 1}),
        ("npm-1.48.0", None, {"big": "10", "n": 1}),
        ("npm-1.4.0", None, json.loads(INT64)),
        ("python-0.4.9", None, json.loads(INT64)),
        ("rust-0.1.0", None, {"big": "10", "n": 1}),
        ("npm-1.4.0", "json", {"big": "10", "n": 1}),
        (None, "convex_json", json.loads(INT64)),
        (None, "export_json", {"big": 10, "n": 1}),
    ],
)
async def test_formats(client: str | None, format: str | None, value: Any) -> None:
    body = {"path": "m:f", "args": {}, **({} if format is None else {"format": format})}
    response = await Site().post("/api/query", body, **({} if client is None else {"convex_client": client}))
    assert response.json()["value"] == value


async def test_function_errors_are_200_too() -> None:
    site = Site()
    site.functions.outcome = Failure(message="text", detail="text", ts=1, data=INT64, log_lines=("[LOG] 'x'",))
    response = await site.post("/api/mutation", {"path": "m:f", "args": {}})
    assert response.status_code == 200
    assert response.json() == {
        "status": "error",
        "errorMessage": "text",
        "errorData": {"big": "10", "n": 1},
        "logLines": ["[LOG] 'x'"],
    }
    site.functions.outcome = Failure(message="\ud800", detail="", ts=1)
    response = await site.post("/api/mutation", {"path": "m:f", "args": {}})
    assert response.json() == {"status": "error", "errorMessage": "?"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (WriteConflict("lost"), 503, "OptimisticConcurrencyControlFailure"),
        (OutcomeUnknown("?"), 503, "OutcomeUnknown"),
        (Unavailable("closing"), 503, "Unavailable"),
        (Error("secret detail"), 500, "InternalServerError"),
    ],
)
async def test_system_errors_have_a_status(error: Error, status: int, code: str) -> None:
    site = Site()
    site.functions.outcome = Refused(error)
    message = await failure(await site.post("/api/mutation", {"path": "m:f", "args": {}}), status, code)
    assert "secret" not in message


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "BadJsonBody"),
        (b"\xff", JSON, 400, "BadJsonBody"),
        (b'{"path":"m:f","args":{}}', {}, 400, "BadJsonBody"),
        (b'{"path":"m:f","args":{}}', {"content-type": "text/plain"}, 400, "BadJsonBody"),
        (b'{"path":"m:f","args":3}', JSON, 400, "BadQueryArgs"),
        (b'{"path":"m:f","args":[{},{}]}', JSON, 400, "BadQueryArgs"),
        (b'{"path":"m:f","args":{},"format":"xml"}', JSON, 400, "BadFormat"),
        (b'{"path":"a b:f","args":{}}', JSON, 400, "BadConvexFunctionIdentifier"),
        (b'{"path":"m:f","args":{}}', {**JSON, "convex-client": "npm-x"}, 400, "InvalidClientVersion"),
        (b'{"path":"m:f","args":{}}', {**JSON, "convex-client": "npm-0.19.1"}, 400, "ClientVersionUnsupported"),
        (b'{"path":"m:f","args":{}}', {**JSON, "authorization": "Bearer a.b.c"}, 401, "NoAuthProvider"),
        (b'{"path":"m:f","args":{}}', {**JSON, "authorization": "Basic abcdef"}, 400, "InvalidAdminKey"),
        (b'{"path":"m:f","args":{}}', {**JSON, "authorization": "x"}, 400, "InvalidHeaderFailure"),
        (b'{"path":"m:f","args":{}}', {**JSON, "authorization": "Convex a|00"}, 403, "BadDeployKey"),
    ],
)
async def test_bad_requests(body: bytes, headers: dict[str, str], status: int, code: str) -> None:
    site = Site()
    await failure(await site.client.post("/api/query", content=body, headers=headers), status, code)
    assert site.functions.calls == []


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/vnd.x+json", "Application/JSON"]
)
async def test_json_content_types(content_type: str) -> None:
    response = await Site().client.post(
        "/api/query", content=b'{"path":"m:f","args":{}}', headers={"content-type": content_type}
    )
    assert response.status_code == 200


async def test_the_body_has_a_limit() -> None:
    response = await Site().client.post("/api/query", content=b" " * (MAX_HTTP_BODY_BYTES + 1), headers=JSON)
    await failure(response, 413, "RequestTooLarge")


@pytest.mark.parametrize("scheme", ["Convex", "convex", "CONVEX"])
async def test_an_admin_may_call_any_function(scheme: str) -> None:
    site = Site()
    body = {"path": "internal_things:go", "args": {}, "componentPath": None, "format": "convex_encoded_json"}
    response = await site.post("/api/function", body, authorization=f"{scheme} {ADMIN_KEY}")
    assert response.status_code == 200
    assert (site.functions.calls[-1][0], site.call.internal, site.call.identity.kind) == ("any", True, "admin")


async def test_an_admin_may_act_as_a_user() -> None:
    site = Site()
    suffix = base64.b64encode(b'{"tokenIdentifier":"https://me|7","name":"Ann"}').decode()
    await site.post("/api/query", {"path": "m:f", "args": {}}, authorization=f"Convex {ADMIN_KEY}:{suffix}")
    assert site.call.identity.claims == {"tokenIdentifier": "https://me|7", "name": "Ann"}
    response = await site.post("/api/query", {"path": "m:f", "args": {}}, authorization=f"Convex {ADMIN_KEY}:e30=")
    await failure(response, 400, "InvalidHeaderFailure")


async def test_the_key_may_stand_in_the_url_when_there_is_no_header() -> None:
    site = Site()
    await site.post(f"/api/function?adminKey={ADMIN_KEY}", {"path": "m:f", "args": {}})
    assert site.call.identity.kind == "admin"
    response = await site.post(
        f"/api/function?adminKey={ADMIN_KEY}", {"path": "m:f", "args": {}}, authorization="Bearer a.b.c"
    )
    await failure(response, 401, "NoAuthProvider")


async def test_without_a_key_there_is_no_admin_endpoint() -> None:
    site = Site()
    message = await failure(await site.post("/api/function", {"path": "m:f", "args": {}}), 403, "BadDeployKey")
    assert "You do not have permission to perform this operation" in message


async def test_a_read_only_key_does_not_write() -> None:
    site = Site()
    key = f"Convex {READ_ONLY_KEY}"
    response = await site.post("/api/mutation", {"path": "m:f", "args": {}}, authorization=key)
    assert "read-only" in response.json()["errorMessage"]
    assert site.functions.calls == []
    await site.post("/api/function", {"path": "m:f", "args": {}}, authorization=key)
    assert site.functions.calls[-1][0] == "query"


async def test_system_functions_need_a_key() -> None:
    site = Site()
    response = await site.post("/api/query", {"path": "_system/cli/tables", "args": {}})
    assert "You do not have permission to perform this operation" in response.json()["errorMessage"]


async def test_run_takes_the_function_from_the_url() -> None:
    site = Site()
    response = await site.post("/api/run/ai/analytics/log%41", {"args": {"a": 1}})
    assert response.json()["value"] == {"big": "10", "n": 1}
    assert (site.call.path, site.call.internal) == ("ai/analytics:logA", False)
    await failure(await site.post("/api/run/messages", {"args": {}}), 400, "MissingIdentifier")


async def test_actions_have_an_endpoint() -> None:
    site = Site()
    response = await site.post("/api/action", {"path": "m:f", "args": {"a": 1}})
    assert response.json() == (await site.post("/api/mutation", {"path": "m:f", "args": {"a": 1}})).json()
    assert [kind for kind, _ in site.functions.calls] == ["action", "mutation"]
    response = await site.post("/api/action", {"path": "m:f", "args": {}}, authorization=f"Convex {READ_ONLY_KEY}")
    assert "read-only" in response.json()["errorMessage"]


async def test_a_client_may_choose_the_request_id() -> None:
    site = Site()
    await site.post("/api/query", {"path": "m:f", "args": {}}, convex_request_id="abc123")
    assert site.call.request_id == "abc123"
    await site.post("/api/query", {"path": "m:f", "args": {}}, convex_request_id="a b\tc")
    assert site.call.request_id == "ab" * 8


async def test_meta_routes() -> None:
    site = Site()
    assert (await site.client.get("/version")).text == "1.2.3"
    assert (await site.client.get("/instance_version")).text == "1.2.3"
    assert (await site.client.get("/instance_name")).text == "my-instance"
    assert "is running" in (await site.client.get("/")).text
    assert (await site.client.post("/echo", content=b"abc")).content == b"abc"


async def test_unknown_paths_and_methods_answer_in_json() -> None:
    site = Site()
    await failure(await site.client.get("/api/nothing"), 404, "NotFound")
    await failure(await site.client.get("/nothing"), 404, "NotFound")
    await failure(await site.client.get("/api/mutation"), 405, "MethodNotAllowed")


@pytest.mark.parametrize("prefix", ["", "/reactor", "/a/b"])
async def test_doubled_slashes_and_prefixes(prefix: str) -> None:
    site = Site(prefix)
    for path in ("/api/query", "//api/query", "///api/query"):
        response = await site.client.post(
            f"http://test{prefix}{path}", content=b'{"path":"m:f","args":{}}', headers=JSON
        )
        assert response.status_code == 200
    assert (await site.post("/api/run/a/b/c", {"args": {}})).status_code == 200
    assert site.call.path == "a/b:c"


async def test_closed_deployments_say_so() -> None:
    site = Site()
    site.is_open = False
    message = await failure(await site.post("/api/query", {"path": "m:f", "args": {}}), 503, "Unavailable")
    assert "not open" in message


async def test_cors_on_answers_and_errors() -> None:
    site = Site()
    for path in ("/api/query", "/api/nothing", "/version", "/", "/instance_name"):
        response = await site.client.get(path, headers={"origin": "http://app.test"})
        assert response.headers["access-control-allow-origin"] == "http://app.test"
        assert response.headers["access-control-allow-credentials"] == "true"
        assert response.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in (await site.client.get("/version")).headers
    assert "access-control-allow-origin" not in (await site.client.get("/http/a", headers={"origin": "x"})).headers


async def test_preflight() -> None:
    response = await Site().client.options(
        "/api/mutation",
        headers={
            "origin": "http://app.test",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,convex-client,content-type",
        },
    )
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "http://app.test"
    assert response.headers["access-control-allow-headers"] == "authorization,convex-client,content-type"
    assert response.headers["access-control-allow-methods"] == "GET, POST, OPTIONS, PATCH, DELETE, PUT"
    assert response.headers["access-control-max-age"] == "86400"


async def test_any_options_request_is_a_preflight() -> None:
    response = await Site().client.options("/api/nothing")
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["access-control-allow-credentials"] == "true"


async def test_a_timestamp_is_lent_and_asked_at() -> None:
    site = Site()
    lent = (await site.post("/api/query_ts", None)).json()
    assert lent == {"ts": encode_ts(5)}
    assert site.pins == [5]
    body = {"path": "m:f", "args": {"a": 1}, "ts": lent["ts"], "format": "json"}
    assert (await site.post("/api/query_at_ts", body)).json()["value"] == {"big": "10", "n": 1}
    assert site.functions.asked_at == [5]
    await failure(await site.post("/api/query_at_ts", {**body, "ts": encode_ts(6)}), 400, "InvalidTimestamp")
    await failure(await site.post("/api/query_at_ts", {**body, "ts": "AA=="}), 400, "BadJsonBody")
    site.functions.outcome = Refused(SnapshotTooOld("gone"))
    await failure(await site.post("/api/query_at_ts", body), 503, "OutOfRetention")


async def test_a_batch_is_at_one_timestamp_and_keeps_its_order() -> None:
    site = Site()
    site.functions.outcome = None
    queries = [{"path": f"m:f{number}", "args": {}, "format": "convex_encoded_json"} for number in range(45)]
    task = asyncio.create_task(site.post("/api/query_batch", {"queries": queries}))
    answered = 0
    while answered < len(queries):
        await site.functions.waiting(answered + 1)
        assert len(site.functions.unanswered) - answered <= 20
        while answered < len(site.functions.unanswered):
            assert site.pins == [5]
            site.functions.unanswered[answered](Success(value=b"%d" % answered, ts=5))
            answered += 1
    results = (await task).json()["results"]
    assert results == [{"status": "success", "value": number} for number in range(45)]
    assert set(site.functions.asked_at) == {5}
    assert [call.path for _, call in site.functions.calls] == [query["path"] for query in queries]
    assert site.pins == []


async def test_a_batch_with_a_bad_query_runs_nothing() -> None:
    good = {"path": "m:f", "args": {}}
    for bad, code in [
        ({"path": "a/../b", "args": {}}, "BadConvexFunctionIdentifier"),
        ({**good, "format": "xml"}, "BadFormat"),
        ({**good, "args": 7}, "BadQueryArgs"),
    ]:
        site = Site()
        await failure(await site.post("/api/query_batch", {"queries": [good, bad]}), 400, code)
        assert site.functions.calls == []
    too_many = {"queries": [good] * (MAX_BATCH_QUERIES + 1)}
    await failure(await Site().post("/api/query_batch", too_many), 400, "TooManyQueries")
    assert (await Site().post("/api/query_batch", {"queries": []})).json() == {"results": []}


async def test_failures_in_a_batch_are_results_and_system_errors_are_not() -> None:
    site = Site()
    body = {"queries": [{"path": "m:f", "args": {}}, {"path": "_system/f", "args": {}}]}
    first, second = (await site.post("/api/query_batch", body)).json()["results"]
    assert (first["status"], second["status"]) == ("success", "error")
    site.functions.outcome = Refused(SnapshotTooOld("gone"))
    await failure(await site.post("/api/query_batch", body), 503, "OutOfRetention")
    assert site.pins == []


async def test_calls_beyond_the_limit_wait_and_are_refused() -> None:
    site = Site(http_requests=2, http_wait_seconds=0)
    site.functions.outcome = None
    body = {"path": "m:f", "args": {}}
    tasks = [asyncio.create_task(site.post("/api/query", body)) for _ in range(2)]
    await site.functions.waiting(2)
    message = await failure(await site.post("/api/mutation", body), 429, "TooManyConcurrentRequests")
    assert "REACTOR_HTTP_REQUESTS" in message
    assert (await site.client.get("/version")).status_code == 200
    for answer in site.functions.unanswered:
        answer(Success(value=b"1", ts=5))
    assert {response.status_code for response in await asyncio.gather(*tasks)} == {200}
    site.functions.outcome = Success(value=b"1", ts=5)
    assert (await site.post("/api/query", body)).status_code == 200


async def test_who_waits_goes_first_come_first_served() -> None:
    site = Site(http_requests=1, http_wait_seconds=600)
    site.functions.outcome = None
    tasks = []
    for number in range(4):
        tasks.append(asyncio.create_task(site.post("/api/query", {"path": f"m:f{number}", "args": {}})))
        for _ in range(30):
            await asyncio.sleep(0)
    tasks.pop(2).cancel()  # gone while it waited
    for number, expected in enumerate(("m:f0", "m:f1", "m:f3")):
        await site.functions.waiting(number + 1)
        assert [call.path for _, call in site.functions.calls][-1] == expected
        assert len(site.functions.unanswered) == number + 1
        site.functions.unanswered[number](Success(value=b"1", ts=5))
    assert {response.status_code for response in await asyncio.gather(*tasks)} == {200}


async def test_a_call_that_is_not_answered_in_time_is_ended() -> None:
    site = Site(http_seconds=0.05, http_requests=1)
    site.functions.outcome = None
    message = await failure(await site.post("/api/mutation", {"path": "m:f", "args": {}}), 408, "RequestTimeout")
    assert "may still take effect" in message
    site.functions.unanswered[0](Success(value=b"1", ts=5))  # nobody waits any more
    site.functions.outcome = Success(value=b"1", ts=5)
    assert (await site.post("/api/query", {"path": "m:f", "args": {}})).status_code == 200  # its place is free


@pytest.mark.parametrize(
    ("client", "status", "code"),
    [
        ("npm-0.19.1", 400, "ClientVersionUnsupported"),
        ("python-0.0.2", 400, "ClientVersionUnsupported"),
        ("npm-latest", 400, "InvalidClientVersion"),
        ("1.2.3", 400, "InvalidClientVersion"),
    ],
)
async def test_versions_that_are_refused(client: str, status: int, code: str) -> None:
    body = {"path": "m:f", "args": {}, "format": "json"}
    await failure(await Site().post("/api/query", body, convex_client=client), status, code)


@pytest.mark.parametrize(
    ("client", "state"),
    [("python-0.2.0", "UpgradeRequired"), ("python-0.2.1", None), ("npm-1.48.0", None), ("npm-0.19.2", None)],
)
async def test_old_clients_are_told_to_upgrade(client: str, state: str | None) -> None:
    response = await Site().post("/api/query", {"path": "m:f", "args": {}}, convex_client=client)
    assert response.status_code == 200
    assert response.headers.get("x-convex-deprecation-state") == state
    assert ("x-convex-deprecation-message" in response.headers) == (state is not None)


async def test_reports_of_clients_are_taken() -> None:
    assert (await Site().post("/api/debug_event", {"event": "outage"})).status_code == 200


# HTTP actions.


@pytest.mark.parametrize("prefix", ["", "/reactor", "/a/http"])
@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/http", ["/", "/"]),
        ("/http/", ["/", "/"]),
        ("/http/a", ["/a", "/a"]),
        ("/http/http/a", ["/http/a", "/http/a"]),
        ("/http/a%2Fb%20c", ["/a/b c", "/a%2Fb%20c"]),
        ("/http//a", ["//a", "//a"]),
    ],
)
async def test_http_actions_see_paths_without_what_is_above_them(prefix: str, path: str, seen: list[str]) -> None:
    answer = await Site(prefix).client.get(path, headers={"origin": "https://a.example"})
    assert answer.json() == [*seen, ""]
    assert "access-control-allow-origin" not in answer.headers


async def test_what_only_looks_like_their_path_is_not_theirs() -> None:
    assert (await Site().client.get("/https")).status_code == 404


@pytest.mark.parametrize("error", [StorageError("/srv/data: full"), WriteConflict("notes j57…"), OutcomeUnknown("a b")])
async def test_what_only_developers_should_know_can_be_hidden(error: Error, caplog: pytest.LogCaptureFixture) -> None:
    for redact in (False, True):
        site = Site(redact=redact)
        site.functions.outcome = Refused(error)
        told = await failure(await site.post("/api/mutation", {"path": "m:f", "args": {}}), 503, error.code)
        assert told == ("Your request couldn't be completed. Try again later." if redact else str(error))
    assert str(error) in caplog.text, "the operator finds it"


async def test_an_echo_waits_for_a_place_like_a_call() -> None:
    site = Site(http_requests=1, http_wait_seconds=0)
    site.functions.outcome = None
    waiting = asyncio.ensure_future(site.post("/api/mutation", {"path": "m:f", "args": {}}))
    await site.functions.waiting(1)
    await failure(await site.post("/echo", {}), 429, "TooManyConcurrentRequests")
    site.functions.unanswered[0](Success(value=INT64, ts=5))
    assert (await waiting).status_code == 200
    assert (await site.post("/echo", {})).status_code == 200


async def test_a_body_that_comes_in_tiny_parts_takes_its_size() -> None:
    parts = 50_000
    left = parts

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": b"%03d" % (left % 1000), "more_body": left > 0}

    tracemalloc.start()
    try:
        request = Request({"type": "http", "method": "POST", "headers": []}, receive)
        assert len(await read_body(request, MAX_HTTP_BODY_BYTES)) == 3 * parts
        assert tracemalloc.get_traced_memory()[1] < 6 * 3 * parts
    finally:
        tracemalloc.stop()
