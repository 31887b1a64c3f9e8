"""A deployment that is its own issuer: its HTTP actions publish the keys that its tokens are checked with."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from reactor.limits import Limits
from reactor.server.app import Deployment
from reactor.server.run import bind, serve, url_of
from reactor.testing.clock import VirtualClock
from tests.auth.issuer import jwks, public_jwk, sign
from tests.server.fakes import add
from tests.server.projects import raw_client, write_project
from tests.server.test_auth import WHO, authenticate

pytestmark = pytest.mark.asyncio

HTTP = """
import json

from reactor import Response, http_action, http_router, mutation

KEYS = {keys!r}
SITE = {site!r}

@mutation
async def asked(ctx):
    await ctx.db.insert("messages", {{"channel": "asked", "body": ""}})

@http_action
async def discovery(ctx, request):
    return Response(json.dumps({{"issuer": SITE, "jwks_uri": SITE + "/jwks"}}), media_type="application/json")

@http_action
async def keys(ctx, request):
    await ctx.run_mutation(asked)
    return Response(KEYS, media_type="application/jwk-set+json")

@http_action
async def me(ctx, request):
    identity = await ctx.auth.get_user_identity()
    return Response("nobody" if identity is None else identity["subject"])

http = http_router()
http.route(path="/.well-known/openid-configuration", method="GET", handler=discovery)
http.route(path="/jwks", method="GET", handler=keys)
http.route(path="/me", method="GET", handler=me)
"""
CONFIG = """
from reactor import auth_config, oidc

auth = auth_config([oidc(domain={site!r}, application_id="app")])
"""


async def on_own_issuer(folder: Path, limits: Limits, body: Callable[[str, str, str], Awaitable[None]]) -> None:
    """Run `body(url, site, token)`; HTTP actions have a port of their own, as under `dev` and `serve`."""
    listener, site_listener = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
    url, site = url_of(listener), url_of(site_listener)
    write_project(folder)
    (folder / "functions" / "who.py").write_text(WHO)
    (folder / "functions" / "http.py").write_text(HTTP.format(keys=jwks(public_jwk("EdDSA")), site=site))
    (folder / "functions" / "auth_config.py").write_text(CONFIG.format(site=site))
    clock = VirtualClock()
    deployment = Deployment(folder, data=":memory:", clock=clock, alarms=clock, limits=limits)
    token = sign({"iss": site, "aud": "app", "sub": "ann", "exp": clock.now_ns() // 10**9 + 60}, "EdDSA")
    await serve(deployment, listener, site=site_listener, alongside=lambda: run(body, url, site, token))


async def run(body: Callable[[str, str, str], Awaitable[None]], url: str, site: str, token: str) -> None:
    await body(url, site, token)


async def asked(http: httpx.AsyncClient, url: str) -> int:
    """How often the keys were asked for."""
    answer = await http.post(f"{url}/api/query", json={"path": "messages:list", "args": {"channel": "asked"}})
    return len(answer.json()["value"])


async def test_keys_come_from_the_deployments_own_http_actions(tmp_path: Path) -> None:
    async def body(url: str, site: str, token: str) -> None:
        async with httpx.AsyncClient(timeout=30) as http, raw_client(url) as client:
            assert await asked(http, url) == 0, "nothing is fetched at start"
            await client.connect()
            await authenticate(client, token)
            await client.modify(add(0, "who:me"))
            while not client.values:
                await client.receive_type("Transition")
            assert client.values == {0: "ann"}
            bearer = {"Authorization": f"Bearer {token}"}
            assert (await http.get(f"{site}/me", headers=bearer)).text == "ann"
            assert (await http.get(f"{site}/me", headers={"Authorization": "Bearer x.y.z"})).text == "nobody"
            assert (await http.get(f"{site}/me")).text == "nobody"
            assert await asked(http, url) == 1

    await on_own_issuer(tmp_path / "app", Limits(), body)


@pytest.mark.parametrize("path", ["/api/query", "/me"])
async def test_requests_that_wait_for_the_keys_leave_a_place_for_who_gives_them(tmp_path: Path, path: str) -> None:
    """With more of them than may run: those who may not wait are told so, and nobody waits for ever."""

    async def body(url: str, site: str, token: str) -> None:
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=20)) as http:
            headers = {"Authorization": f"Bearer {token}"}

            async def ask() -> httpx.Response:
                if path == "/me":
                    return await http.get(site + path, headers=headers)
                return await http.post(url + path, json={"path": "who:me", "args": {}}, headers=headers)

            answers = await asyncio.gather(*(ask() for _ in range(12)))
            assert {answer.status_code for answer in answers} <= {200, 429, 503}
            assert sum(answer.status_code == 200 for answer in answers) >= 2
            assert (await ask()).status_code == 200
            assert await asked(http, url) == 1

    await on_own_issuer(tmp_path / "app", Limits(http_requests=4, http_wait_seconds=0.5), body)
