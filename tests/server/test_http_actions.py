"""HTTP actions called from the process of the deployment: routes, requests, responses and failures."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor.errors import ConnectionLost, InvalidArgument, Unavailable
from reactor.limits import Limits
from reactor.server.app import Deployment
from reactor.server.credentials import load_credentials
from reactor.server.system import SystemClock, SystemRng
from tests.server.http_project import write_http_project
from tests.server.projects import write_project

CREDENTIALS = ("served", "ab" * 32)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_http_project(tmp_path / "app")


@pytest_asyncio.fixture
async def deployment(project: Path) -> AsyncIterator[Deployment]:
    name, secret = CREDENTIALS
    async with Deployment(project, data=":memory:", instance_name=name, instance_secret=secret) as opened:
        yield opened


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_an_action_sees_the_request_as_it_came(deployment: Deployment, method: str) -> None:
    answer = await deployment.fetch("/info/a%20b/c?x=1&y=%3D", method=method, headers={"X-Own": "1"}, body="text")
    seen = answer.json()
    assert answer.status_code == 200
    assert (seen["method"], seen["path"], seen["query"]) == (method, "/info/a b/c", {"x": "1", "y": "="})
    assert (seen["url"], seen["base"]) == (
        "https://some.convex.site/info/a b/c?x=1&y=%3D",
        "https://some.convex.site/",
    )
    assert seen["headers"]["x-own"] == "1"
    assert seen["body"] == ("" if method in ("GET", "OPTIONS") else "text")


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/store", "/store-blocking"])
async def test_an_action_calls_functions(deployment: Deployment, path: str) -> None:
    answer = await deployment.fetch(path, method="POST", json={"body": "hello"})
    assert answer.json() == ["hello"]
    assert await deployment.query("messages:list", channel="http") == ["hello"]


@pytest.mark.asyncio
async def test_bytes_arrive_unchanged(deployment: Deployment) -> None:
    answer = await deployment.fetch("/binary")
    assert answer.content == bytes(range(256)) * 100
    assert (answer.headers["content-type"], answer.headers["etag"]) == ("application/x-all", "x")
    assert (await deployment.fetch("/echo", method="POST", body=bytes(range(256)))).content == bytes(range(256))


@pytest.mark.asyncio
async def test_head_is_get_without_the_body(deployment: Deployment) -> None:
    answer = await deployment.fetch("/binary", method="HEAD")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "25600")


@pytest.mark.asyncio
async def test_head_does_not_run_a_stream_without_end(deployment: Deployment) -> None:
    answer = await deployment.fetch("/endless", method="HEAD")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.asyncio
async def test_an_exact_route_for_one_method_leaves_the_others_to_a_prefix(deployment: Deployment) -> None:
    assert (await deployment.fetch("/info/get-only")).headers["content-type"] == "application/x-all"
    assert (await deployment.fetch("/info/get-only", method="PUT")).json()["method"] == "PUT"


@pytest.mark.asyncio
async def test_what_has_no_route(deployment: Deployment) -> None:
    for path, method in [("/", "GET"), ("/info", "GET"), ("/store", "GET"), ("/binary/", "GET"), ("/size", "TRACE")]:
        answer = await deployment.fetch(path, method=method)
        assert (answer.status_code, answer.text) == (404, "No matching routes found")
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.asyncio
async def test_a_project_without_routes(tmp_path: Path) -> None:
    async with Deployment(write_project(tmp_path), data=":memory:") as deployment:
        answer = await deployment.fetch("/")
    assert answer.status_code == 404
    assert answer.text == "This Convex deployment does not have HTTP actions enabled."


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/form", "/form-blocking"])
async def test_forms_and_files(deployment: Deployment, path: str) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert (await deployment.fetch(path, method="POST", headers=kind, body="a=1&b=%C3%A4")).json() == {
        "a": "1",
        "b": "ä",
    }
    body = (
        '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        '--x\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nfile\r\n--x--\r\n'
    )
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert (await deployment.fetch(path, method="POST", headers=kind, body=body)).json() == {"a": "1", "f": "file"}
    broken = await deployment.fetch(path, method="POST", headers=kind, body="--y\r\nContent-Disposition: form-data")
    assert broken.status_code == 400


@pytest.mark.asyncio
async def test_a_plain_action_streams(deployment: Deployment) -> None:
    assert (await deployment.fetch("/stream-blocking")).text == "0\n1\n2\n"
    assert await deployment.query("messages:list", channel="http") == ["0", "1", "2"]
    assert (await deployment.fetch("/size-blocking", method="POST", body=b"x" * 300_000)).text == "300000"


# On whose behalf.


@pytest.mark.asyncio
async def test_the_identity_of_a_caller_is_that_of_the_action(deployment: Deployment) -> None:
    alice = deployment.with_identity({"name": "Alice"})
    assert (await alice.fetch("/info/")).json()["user"] == "Alice"
    assert (await deployment.fetch("/info/")).json()["user"] is None


@pytest.mark.asyncio
async def test_an_admin_acts_as_a_user(deployment: Deployment) -> None:
    user = base64.b64encode(json.dumps({"tokenIdentifier": "i|s", "name": "Ann"}).encode()).decode()
    answer = await deployment.fetch("/info/", headers={"Authorization": f"Convex {deployment.admin_key}:{user}"})
    assert answer.json()["user"] == "Ann"


@pytest.mark.asyncio
async def test_a_key_that_may_only_read_runs_no_action(deployment: Deployment) -> None:
    """Not even as a user: it would write in that user's name."""
    key = load_credentials(None, *CREDENTIALS, SystemRng()).admin_key(SystemClock(), SystemRng(), read_only=True)
    user = base64.b64encode(json.dumps({"tokenIdentifier": "i|s", "name": "Ann"}).encode()).decode()
    for header in (f"Convex {key}", f"Convex {key}:{user}"):
        answer = await deployment.fetch("/store", method="POST", json={"body": "x"}, headers={"Authorization": header})
        assert (answer.status_code, answer.json()["code"]) == (403, "BadDeployKey")
    assert await deployment.query("messages:list", channel="http") == []


@pytest.mark.asyncio
async def test_a_path_forges_no_line_of_the_log(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ConnectionLost):
        await deployment.fetch("/fail/late%0Aforged")
    assert caplog.records
    assert not [line for message in caplog.messages for line in message.splitlines() if line.startswith("forged")]


@pytest.mark.asyncio
@pytest.mark.parametrize("header", ["x", "Basic dTpw", "Bearer a.b.c", "Bearer sk_live_1", "Convex a|00", "Convex a:!"])
async def test_a_header_that_says_nothing_to_us_is_the_applications(deployment: Deployment, header: str) -> None:
    seen = (await deployment.fetch("/info/", headers={"Authorization": header})).json()
    assert (seen["user"], seen["headers"]["authorization"]) == (None, header)


# Failures.


@pytest.mark.asyncio
async def test_an_exception_is_told_with_its_place(deployment: Deployment, project: Path) -> None:
    answer = await deployment.fetch("/fail/value")
    told = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")
    assert set(told) == {"code", "trace"}
    assert told["code"].startswith("[Request ID: ")
    assert told["code"].endswith("] Server Error: Uncaught ValueError: no good")
    file = project / "functions" / "http.py"
    line = file.read_text().splitlines().index('        raise ValueError("no good")') + 1
    assert told["trace"] == f"Uncaught ValueError: no good\n    at fail ({file}:{line})"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "data"), [("/fail/data", {"code": "TAKEN", "limit": 2.0}), ("/fail/nested", {"code": "BAD", "max": 500.0})]
)
async def test_the_applications_own_error_keeps_its_data(deployment: Deployment, path: str, data: Any) -> None:
    told = (await deployment.fetch(path)).json()
    assert told["data"] == data
    assert "Server Error: Uncaught ConvexError: {" in told["code"]


@pytest.mark.asyncio
async def test_redacted_errors_are_a_number_and_their_data(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Deployment(project, data=":memory:", redact_logs=True) as deployment:
        value, data = (await deployment.fetch("/fail/value")).json(), (await deployment.fetch("/fail/data")).json()
    assert set(value) == {"code"}
    assert value["code"].endswith("] Server Error")
    assert (set(data), data["data"]) == ({"code", "data"}, {"code": "TAKEN", "limit": 2.0})
    assert f"{value['code']}\nUncaught ValueError: no good" in caplog.text, "the operator finds it by its number"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/fail/type", "must return one of the responses of starlette.responses"),
        ("/fail/header", "can't have the value 'b\\\\r\\\\nset-cookie: c=d'"),
        ("/fail/status", "can't have status 700"),
        ("/fail/length", "can't have the value 'many'"),
    ],
)
async def test_what_is_no_response_is_an_error(deployment: Deployment, path: str, part: str) -> None:
    answer = await deployment.fetch(path)
    assert answer.status_code == 500
    assert part in answer.text


@pytest.mark.asyncio
async def test_an_http_exception_is_its_response(deployment: Deployment) -> None:
    answer = await deployment.fetch("/fail/http")
    assert (answer.status_code, answer.text, answer.headers["x-pot"]) == (418, "a teapot", "tea")


@pytest.mark.asyncio
async def test_a_failure_within_the_response_ends_it_and_is_logged(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConnectionLost, match="before its response was complete"):
        await deployment.fetch("/fail/late")
    assert "The HTTP action for GET /fail/late failed: [Request ID: " in caplog.text
    assert "Uncaught ValueError: too late" in caplog.text


@pytest.mark.asyncio
async def test_a_call_that_was_not_awaited_fails_the_action(deployment: Deployment) -> None:
    answer = await deployment.fetch("/fail/unawaited")
    assert answer.status_code == 500
    assert "never awaited: ctx.run_query() at" in answer.json()["code"]


@pytest.mark.asyncio
async def test_a_call_that_a_stream_never_awaits_is_logged(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have been meant for the stream, so it is known only when the response is on its way."""
    answer = await deployment.fetch("/fail/unawaited_by_stream")
    assert (answer.status_code, answer.text) == (200, "x")
    assert "never awaited: ctx.run_query() at" in caplog.text


@pytest.mark.asyncio
async def test_bodies_above_the_limit_are_refused(project: Path) -> None:
    async with Deployment(project, data=":memory:", limits=Limits(http_action_bytes=1000)) as deployment:
        assert (await deployment.fetch("/size", method="POST", body=b"x" * 1000)).text == "1000"
        announced = await deployment.fetch("/size", method="POST", body=b"x" * 1001)
        sent = await deployment.fetch("/size", method="POST", body=b"x" * 1001, headers={"content-length": "5"})
        caught = await deployment.fetch("/caught", method="POST", body=b"x" * 1001, headers={"content-length": "5"})
    for answer in (announced, sent):
        assert (answer.status_code, answer.json()["code"]) == (413, "RequestTooLarge")
        assert "larger than 1000 bytes, the limit (REACTOR_HTTP_ACTION_BYTES)" in answer.json()["message"]
    assert caught.json() == {"code": "LimitExceeded", "rule": "RequestTooLarge"}


@pytest.mark.asyncio
async def test_requests_beyond_the_places_are_told_to_come_later(project: Path) -> None:
    """They have places of their own: neither calls of functions nor other actions lose any."""
    limits = Limits(http_actions=2, http_wait_seconds=0, http_requests=1, actions=1)
    async with Deployment(project, data=":memory:", limits=limits) as deployment:
        async with deployment.subscribe("messages:list", channel="http") as live:
            under_way = []
            for number in (1, 2):
                assert (await deployment.fetch("/binary")).status_code == 200
                under_way.append(asyncio.create_task(deployment.fetch("/patient")))
                while await live.next() != ["begun"] * number:
                    pass
        answer = await deployment.fetch("/binary")
        assert (answer.status_code, answer.json()["code"]) == (429, "TooManyConcurrentRequests")
        assert "REACTOR_HTTP_ACTIONS" in answer.json()["message"]
        under_way[0].cancel()
        await asyncio.wait(under_way[:1])
        assert (await deployment.fetch("/binary")).status_code == 200


@pytest.mark.asyncio
async def test_an_action_that_takes_too_long_is_ended(project: Path) -> None:
    async with Deployment(project, data=":memory:", limits=Limits(action_seconds=0.05)) as deployment:
        answer = await deployment.fetch("/patient")
    assert answer.status_code == 500
    assert "timed out (maximum duration: 0.05s)" in answer.json()["code"]


@pytest.mark.asyncio
async def test_an_action_ends_when_nothing_can_take_its_answer(deployment: Deployment) -> None:
    assert deployment._host is not None
    actions = deployment._host.actions
    under_way = asyncio.create_task(deployment.fetch("/never-read", method="POST"))
    while not len(actions):
        await deployment.query("messages:list", channel="http")
    under_way.cancel()
    while len(actions):
        await deployment.query("messages:list", channel="http")


@pytest.mark.asyncio
async def test_closing_ends_actions(project: Path) -> None:
    deployment = Deployment(project, data=":memory:")
    await deployment.open()
    async with deployment.subscribe("messages:list", channel="http") as live:
        under_way = asyncio.create_task(deployment.fetch("/patient"))
        while await live.next() != ["begun"]:
            pass
    await deployment.close()
    answer = await under_way
    assert (answer.status_code, answer.json()["code"]) == (503, "Unavailable")
    with pytest.raises(Unavailable):
        await deployment.fetch("/binary")


@pytest.mark.asyncio
async def test_what_an_action_prints_is_the_operators(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "reactor.functions"):
        await deployment.fetch("/store", method="POST", json={"body": "a"})
    assert "POST /store: [LOG] [messages:send] 'sent a'" in caplog.text


# CORS.


def origin(name: str, **headers: str) -> dict[str, str]:
    return {"Origin": f"https://{name}", **headers}


@pytest.mark.asyncio
async def test_nothing_is_said_about_origins_unasked(deployment: Deployment) -> None:
    for method, path in [("GET", "/binary"), ("GET", "/nothing"), ("GET", "/fail/value")]:
        answer = await deployment.fetch(path, method=method, headers=origin("a.example"))
        assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = origin("a.example", **{"Access-Control-Request-Method": "GET"})
    assert (await deployment.fetch("/binary", method="OPTIONS", headers=asked)).status_code == 404


@pytest.mark.asyncio
async def test_a_route_with_cors_lets_its_origins_in_and_answers_for_itself(deployment: Deployment) -> None:
    answer = await deployment.fetch("/cors", headers=origin("a.example"))
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in (await deployment.fetch("/cors", headers=origin("b.example"))).headers
    asked = {"Access-Control-Request-Method": "POST"}
    preflight = await deployment.fetch("/cors", method="OPTIONS", headers=origin("a.example", **asked))
    assert (preflight.status_code, preflight.headers["access-control-allow-methods"]) == (200, "GET, POST")
    refused = await deployment.fetch("/cors", method="OPTIONS", headers=origin("b.example", **asked))
    assert refused.status_code == 400


@pytest.mark.asyncio
async def test_a_browser_may_read_what_went_wrong(deployment: Deployment) -> None:
    answer = await deployment.fetch("/cors", method="PUT", headers=origin("a.example"))
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (404, "https://a.example")


@pytest.mark.asyncio
async def test_an_applications_own_preflight_goes_first(deployment: Deployment) -> None:
    asked = origin("a.example", **{"Access-Control-Request-Method": "POST"})
    answer = await deployment.fetch("/cors-own", method="OPTIONS", headers=asked)
    assert answer.headers["content-type"] == "application/x-all"
    assert (await deployment.fetch("/cors-own", method="POST", headers=asked)).headers[
        "access-control-allow-origin"
    ] == "*"


# The verb itself.


@pytest.mark.asyncio
async def test_a_path_begins_with_a_slash(deployment: Deployment) -> None:
    with pytest.raises(InvalidArgument, match="must begin with '/'"):
        await deployment.fetch("binary")
    with pytest.raises(InvalidArgument, match="body= or json="):
        await deployment.fetch("/store", method="POST", body="x", json={})


def test_the_blocking_form(project: Path) -> None:
    with Deployment(project, data=":memory:").blocking() as deployment:
        assert deployment.fetch("/store", method="POST", json={"body": "a"}, timeout=30).status_code == 201
        assert deployment.with_identity({"name": "Bo"}).fetch("/info/").json()["user"] == "Bo"
