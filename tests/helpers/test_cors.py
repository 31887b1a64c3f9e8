"""CORS over real HTTP: what browsers are told for each origin, path and method."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from reactor import http_action, http_router, query
from reactor.helpers.cors import cors_router, matches
from reactor.server.app import Deployment
from tests.runtime.projects import write
from tests.server.projects import served

HTTP = """
from reactor import Response, http_action, http_router
from reactor.helpers.cors import cors_router
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

@http_action
async def hello(ctx, request):
    return Response("hello", headers={"Vary": "Accept"})

@http_action
def hello_plainly(ctx, request):
    return Response("plainly")

@http_action
async def streams(ctx, request):
    async def parts():
        yield b"a"
        yield b"b"
    return StreamingResponse(parts())

@http_action
async def refuses(ctx, request):
    raise HTTPException(418, "a teapot", {"X-Own": "1"})

@http_action
def refuses_plainly(ctx, request):
    raise HTTPException(418, "a teapot")

async def of_tenant(request):
    return [f"https://{request.query_params['tenant']}.example.com"]

def of_tenant_plainly(request):
    return [f"https://{request.query_params['tenant']}.example.com"]

http = http_router()
http.route(path="/bare", method="GET", handler=hello)

cors = cors_router(http)
cors.route(path="/open", method="GET", handler=hello)
cors.route(path="/open", method="POST", handler=hello_plainly)
cors.route(path="/stream", method="GET", handler=streams)
cors.route(path="/teapot", method="GET", handler=refuses)
cors.route(path="/teapot", method="PUT", handler=refuses_plainly)
cors.route(path_prefix="/below/", method="DELETE", handler=hello)
cors.route(path="/login", method="GET", handler=hello, allow_credentials=True)
cors.route(path="/tenant", method="GET", handler=hello, allowed_origins=of_tenant)
cors.route(path="/tenant", method="POST", handler=hello_plainly, allowed_origins=of_tenant_plainly)
cors.route(path="/mistaken", method="GET", handler=hello_plainly, allowed_origins=of_tenant)

strict = cors_router(
    http, allowed_origins=["https://app.example.org", "*.bar.com"], allowed_headers=["Content-Type", "X-Key"],
    exposed_headers=[], allow_credentials=True, browser_cache_max_age=60, enforce_allow_origins=True, debug=True,
)
strict.route(path="/strict", method="GET", handler=hello)
strict.route(path="/strict", method="PATCH", handler=hello_plainly)
"""
ALLOWED = "access-control-allow-"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path, {"functions/http.py": HTTP})


def told(response: httpx.Response) -> dict[str, str]:
    """Return what a response tells the browser."""
    return {
        name: value for name, value in response.headers.items() if name.startswith("access-control") or name == "vary"
    }


@pytest.mark.asyncio
async def test_browsers_are_told_who_may_ask(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(url: str) -> None:
        async with httpx.AsyncClient(base_url=f"{url}/http") as client:

            async def ask(method: str, path: str, origin: str | None = "https://page.example") -> httpx.Response:
                return await client.request(method, path, headers={} if origin is None else {"Origin": origin})

            exposed = {"access-control-expose-headers": "Content-Range, Accept-Ranges"}
            for origin in ("https://page.example", None):
                answer = await ask("GET", "/open", origin)
                assert (answer.text, told(answer)) == (
                    "hello",
                    {"vary": "Accept, Origin", f"{ALLOWED}origin": "*", **exposed},
                )
            assert told(await ask("GET", "/bare")) == {"vary": "Accept"}
            assert (await ask("OPTIONS", "/bare")).status_code == 404
            for method, path, text in (("POST", "/open", "plainly"), ("GET", "/stream", "ab")):
                answer = await ask(method, path)
                assert (answer.text, told(answer)) == (text, {"vary": "Origin", f"{ALLOWED}origin": "*", **exposed})
            for method in ("GET", "PUT"):
                answer = await ask(method, "/teapot")
                assert (answer.status_code, answer.text) == (418, "a teapot")
                assert told(answer) == {"vary": "Origin", f"{ALLOWED}origin": "*", **exposed}
                assert (answer.headers.get("x-own") == "1") == (method == "GET")

            for path, methods in (("/open", "GET, POST"), ("/below/it/all", "DELETE"), ("/teapot", "GET, PUT")):
                answer = await ask("OPTIONS", path)
                assert (answer.status_code, answer.content) == (204, b"")
                assert told(answer) == {
                    "vary": "Origin",
                    f"{ALLOWED}origin": "*",
                    f"{ALLOWED}methods": f"{methods}, OPTIONS",
                    f"{ALLOWED}headers": "Content-Type",
                    "access-control-max-age": "86400",
                }

            named = {"vary": "Accept, Origin", f"{ALLOWED}origin": "https://page.example", **exposed}
            assert told(await ask("GET", "/login")) == {**named, f"{ALLOWED}credentials": "true"}
            assert told(await ask("GET", "/login", None)) == {"vary": "Accept, Origin"}

            for method, vary in (("GET", "Accept, Origin"), ("POST", "Origin")):
                mine = await ask(method, "/tenant?tenant=ann", "https://ann.example.com")
                assert told(mine) == {"vary": vary, f"{ALLOWED}origin": "https://ann.example.com", **exposed}
                other = await ask(method, "/tenant?tenant=ann", "https://bob.example.com")
                assert (other.status_code, told(other)) == (200, {"vary": vary})
            assert (await ask("GET", "/mistaken?tenant=ann")).status_code == 500

            for origin in ("https://app.example.org", "https://bar.com", "https://a.b.bar.com"):
                headers = {f"{ALLOWED}origin": origin, f"{ALLOWED}credentials": "true"}
                assert told(await ask("GET", "/strict", origin)) == {"vary": "Accept, Origin", **headers}
                assert told(await ask("OPTIONS", "/strict", origin)) == {
                    "vary": "Origin",
                    **headers,
                    f"{ALLOWED}methods": "GET, PATCH, OPTIONS",
                    f"{ALLOWED}headers": "Content-Type, X-Key",
                    "access-control-max-age": "60",
                }
            for refused in ("http://bar.com", "https://foobar.com", "https://bar.com.evil.org", "null", None):
                for method in ("GET", "PATCH", "OPTIONS"):
                    answer = await ask(method, "/strict", refused)
                    assert (answer.status_code, told(answer)) == (403, {"vary": "Origin"})

    with caplog.at_level(logging.INFO, logger="reactor.helpers.cors"):
        await served(Deployment(project, data=":memory:"), body)
    lines = [record.getMessage() for record in caplog.records if record.name == "reactor.helpers.cors"]
    assert any("origin https://foobar.com" in line and line.endswith("allowed None") for line in lines)
    assert not any("/open" in line for line in lines)


@pytest.mark.parametrize(
    ("origin", "known", "wanted"),
    [
        ("https://a.com", "*", True),
        ("https://a.com", "https://a.com", True),
        ("https://a.com:8443", "https://a.com", False),
        ("https://x.a.com", "*.a.com", True),
        ("https://a.com", "*.A.com", True),
        ("http://x.a.com", "*.a.com", False),
        ("https://xa.com", "*.a.com", False),
        ("null", "*.a.com", False),
        ("https://", "*.a.com", False),
        ("https://[a.com", "*.a.com", False),
    ],
)
def test_origins_match_as_a_whole(origin: str, known: str, wanted: bool) -> None:
    assert matches(origin, known) is wanted


def test_a_wrong_route_is_an_error() -> None:
    @http_action
    async def handler(ctx: Any, request: Any) -> Any: ...

    @query
    async def other(ctx: Any) -> Any: ...

    cors = cors_router(http_router())
    with pytest.raises(TypeError, match="allow_orgins"):
        cors.route(path="/a", method="GET", handler=handler, allow_orgins=["*"])
    with pytest.raises(TypeError, match="must be decorated with @http_action"):
        cors.route(path="/a", method="GET", handler=other)
    cors.route(path="/a", method="GET", handler=handler)
    with pytest.raises(ValueError, match="there is a route for GET already"):
        cors.route(path="/a", method="GET", handler=handler)
    cors.route(path="/b", method="OPTIONS", handler=handler)
    with pytest.raises(ValueError, match="either path= or path_prefix="):
        cors.route(method="GET", handler=handler)
