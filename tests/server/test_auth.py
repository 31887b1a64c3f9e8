"""A served deployment and a real issuer: who gets in, who waits for whom, and whose results are whose."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from websockets.exceptions import ConnectionClosed

from reactor.errors import LimitExceeded, PushError, ValidationError
from reactor.limits import Limits
from reactor.server.app import Deployment
from reactor.server.run import bind, url_of
from reactor.testing.clock import VirtualClock
from tests.auth.issuer import JWKS, Issuer, issuing, public_jwk, sign
from tests.server.fakes import add
from tests.server.projects import RawClient, raw_client, served, write_project

pytestmark = pytest.mark.asyncio

WHO = """
from reactor import mutation, query

runs = []

@query
async def me(ctx):
    runs.append("me")
    identity = await ctx.auth.get_user_identity()
    return None if identity is None else identity["subject"]

@query
async def everybody(ctx):
    runs.append("everybody")
    return await ctx.db.query("messages").count()

@query
async def claims(ctx):
    identity = await ctx.auth.get_user_identity()
    identity["roles"].append("admin")
    identity["seen"] = await ctx.db.query("messages").count()
    return identity

@mutation
async def sign_up(ctx):
    identity = await ctx.auth.get_user_identity()
    return await ctx.db.insert("messages", {"channel": identity["subject"], "body": ""})
"""
CONFIG = """
from reactor import auth_config, custom_jwt, oidc

auth = auth_config([
    oidc(domain={url!r}, application_id="app"),
    custom_jwt(issuer={url!r}, jwks={url!r} + "/keys", algorithm="RS256", application_id="plain"),
])
"""


def write(folder: Path, url: str, config: str = CONFIG) -> Path:
    write_project(folder)
    (folder / "functions" / "who.py").write_text(WHO)
    (folder / "functions" / "auth_config.py").write_text(config.format(url=url))
    return folder


class Site:
    """A deployment on a clock that stands still, served, with its issuer."""

    def __init__(self, folder: Path, issuer: Issuer, *, redact: bool = False, **limits: Any) -> None:
        self.clock = VirtualClock()
        self.issuer = issuer
        self.deployment = Deployment(
            write(folder / "app", issuer.url),
            data=":memory:",
            clock=self.clock,
            alarms=self.clock,
            limits=Limits(**{"auth_retry_seconds": 0, **limits}),
            redact_logs=redact,
        )

    def token(self, subject: str = "ann", seconds: float = 60, **claims: Any) -> str:
        now = self.clock.now_ns() / 1e9
        return self.issuer.token(**{"aud": "app", "sub": subject, "iat": now, "exp": now + seconds, **claims})

    async def serve(self, body: Callable[["Site"], Awaitable[None]]) -> None:
        async def work(url: str) -> None:
            self.url = url
            async with httpx.AsyncClient(base_url=url, timeout=30) as self.http:
                await body(self)

        await served(self.deployment, work)

    async def query(self, path: str, token: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self.http.post("/api/query", json={"path": path, "args": {}}, headers=headers)

    async def value(self, path: str, token: str | None = None) -> Any:
        answer = await self.query(path, token)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    async def refusal(self, token: str) -> tuple[int, str, str]:
        answer = await self.query("who:me", token)
        body = answer.json()
        return answer.status_code, body["code"], body["message"]

    @property
    def runs(self) -> list[str]:
        host = self.deployment._host
        assert host is not None
        runs: list[str] = host.versions.latest().project.modules["functions.who"].runs
        return runs


def on_site(**options: Any) -> Callable[[Callable[[Site], Awaitable[None]]], Callable[[Path], Awaitable[None]]]:
    """Run a test with a site of its own."""

    def decorate(test: Callable[[Site], Awaitable[None]]) -> Callable[[Path], Awaitable[None]]:
        async def run(tmp_path: Path) -> None:
            with issuing() as issuer:
                await Site(tmp_path, issuer, **options).serve(test)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


async def authenticate(client: RawClient, token: str, base: int = 0) -> None:
    await client.send({"type": "Authenticate", "baseVersion": base, "tokenType": "User", "value": token})


@on_site()
async def test_a_request_with_a_token_is_its_users(site: Site) -> None:
    assert await site.value("who:me") is None
    assert await site.value("who:me", site.token()) == "ann"
    assert await site.value("who:me", site.token("bob", aud="plain")) == "bob"
    assert site.issuer.asked[JWKS] == 2, "once for each provider"
    headers = {"Authorization": f"bearer {site.token()}"}
    answer = await site.http.post("/api/mutation", json={"path": "who:sign_up", "args": {}}, headers=headers)
    assert answer.json()["status"] == "success"
    batch = {"queries": [{"path": "who:me", "args": {}}]}
    answer = await site.http.post("/api/query_batch", json=batch, headers=headers)
    assert answer.json()["results"][0]["value"] == "ann"


@on_site()
async def test_a_request_with_a_bad_token_is_refused(site: Site) -> None:
    bad = {
        "a.b": (401, "InvalidAuthHeader", "Could not parse JWT payload."),
        site.deployment.admin_key: (401, "InvalidAuthHeader", "Could not parse JWT payload."),
        site.token(iss="https://other"): (401, "NoAuthProvider", "No auth provider found matching the given token"),
        site.token(aud="other"): (401, "NoAuthProvider", "No auth provider found matching the given token"),
        site.token(seconds=0): (401, "Unauthenticated", "Could not verify OIDC token claim."),
        site.token(aud="plain", seconds=-5): (401, "InvalidAuthHeader", "Could not validate token: It expired"),
    }
    for token, (status, code, start) in bad.items():
        answer = await site.refusal(token)
        assert answer[:2] == (status, code)
        assert answer[2].startswith(start)
    for path in ("query", "mutation", "action", "query_ts", "query_batch", "function", "run/who/me"):
        answer = await site.http.post(f"/api/{path}", json={}, headers={"Authorization": "Bearer x"})
        assert answer.status_code in (400, 401), path


@on_site(redact=True)
async def test_details_are_not_for_everybody(site: Site) -> None:
    assert await site.refusal(site.token(aud="x")) == (
        401,
        "NoAuthProvider",
        "No auth provider found matching the given token",
    )
    site.issuer.answers[JWKS] = (500, {}, b"internal address 10.0.0.7")
    failed = f"Auth provider discovery of {site.issuer.url} failed"
    assert await site.refusal(site.token()) == (503, "AuthProviderUnavailable", failed)
    site.issuer.answers[JWKS] = (404, {}, b"internal address 10.0.0.7")
    assert await site.refusal(site.token()) == (400, "AuthProviderDiscoveryFailed", failed)


@on_site()
async def test_keys_may_rotate(site: Site) -> None:
    old = site.token()
    assert await site.value("who:me", old) == "ann"
    site.issuer.rotate()
    assert await site.value("who:me", site.token()) == "ann"
    assert (await site.refusal(old))[1] == "Unauthenticated"


@on_site()
async def test_who_waits_for_an_issuer_holds_up_nobody_else(site: Site) -> None:
    """Also not the event loop: everything below is answered by it while the issuer hangs."""
    site.issuer.hangs = True
    async with raw_client(site.url) as waiting, raw_client(site.url) as other:
        await waiting.connect()
        await waiting.modify(add(0, "messages:list", {"channel": "a"}))
        await waiting.receive_type("Transition")
        await authenticate(waiting, site.token())
        await waiting.modify(add(1, "who:me"), base=1)
        await waiting.mutate(0, "who:sign_up")
        request = asyncio.ensure_future(site.query("who:me", site.token("eve")))
        await asyncio.to_thread(site.issuer.arrived.wait)

        await other.connect()
        await other.modify(add(0, "who:me"))
        await other.receive_type("Transition")
        assert other.values == {0: None}
        await other.mutate(0, "messages:send", channel="a", body="hello")
        assert (await other.receive_type("MutationResponse"))["success"]
        assert await site.value("who:everybody") == 1
        await waiting.receive_type("Transition")
        assert waiting.values == {0: ["hello"]}, "what it asked for before goes on"
        assert waiting.version["identity"] == 0
        assert not request.done()
        assert sum(site.issuer.asked.values()) == 1

        site.issuer.let_go.set()

        while waiting.version["identity"] == 0 or 1 not in waiting.values:
            await waiting.receive_type("Transition")
        assert waiting.values[1] == "ann"
        assert (await waiting.receive_type("MutationResponse"))["success"]
        assert (await request).json()["value"] == "eve"


@on_site(auth_fetch_seconds=0.2)
async def test_an_issuer_that_never_answers_ends_the_wait(site: Site) -> None:
    site.issuer.hangs = True
    async with raw_client(site.url) as client:
        await client.connect()
        await authenticate(client, site.token())
        with pytest.raises(ConnectionClosed) as closed:
            await client.receive_type("AuthError")
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "AuthProviderUnavailable")
    site.issuer.let_go.set()


@pytest.mark.parametrize("limits", [{"auth_waiting": 1}, {"http_requests": 3}])
async def test_so_many_requests_wait_for_issuers(tmp_path: Path, limits: dict[str, int]) -> None:
    with issuing() as issuer:
        await Site(tmp_path, issuer, **limits).serve(no_more_than_one_waits)


async def no_more_than_one_waits(site: Site) -> None:
    site.issuer.hangs = True
    first = asyncio.ensure_future(site.query("who:me", site.token()))
    await asyncio.to_thread(site.issuer.arrived.wait)
    assert (await site.refusal(site.token()))[:2] == (503, "TooManyConcurrentRequests")
    assert await site.value("who:me") is None
    site.issuer.let_go.set()
    assert (await first).json()["value"] == "ann"
    assert await site.value("who:me", site.token()) == "ann"


@on_site()
async def test_a_refused_token_and_one_that_expires_end_the_connection(site: Site) -> None:
    for token, text, is_update in [
        (site.token(aud="x"), "No auth provider found matching the given token", True),
        (site.token(seconds=30), "Convex token identity expired", False),
    ]:
        async with raw_client(site.url) as client:
            await client.connect()
            await authenticate(client, token)
            if not is_update:
                await client.receive_type("Transition")
                site.clock.advance(seconds=30)
            error = await client.receive_type("AuthError")
            assert error["error"].startswith(text)
            assert (error["authUpdateAttempted"], error["baseVersion"]) == (is_update, 0 if is_update else 1)
            with pytest.raises(ConnectionClosed) as closed:
                await client.receive()
            assert client.socket.close_code == 1005
            assert closed.value.rcvd is None or closed.value.rcvd.reason == ""


@on_site()
async def test_results_are_shared_by_all_who_may_see_them(site: Site) -> None:
    """Conformance 10: once for 100 users; once for each set of claims where a query looks; not again for new tokens."""
    users = [f"user {number}" for number in range(100)]
    for _ in range(2):
        for user in users:
            assert await site.value("who:everybody", site.token(user)) == 0
            assert await site.value("who:me", site.token(user)) == user
        site.clock.advance(seconds=1)  # other `iat` and `exp`, the same claims
    assert site.runs.count("everybody") == 1
    assert site.runs.count("me") == len(users)
    assert await site.value("who:me", site.token(users[0], name="Ann")) == users[0]
    assert site.runs.count("me") == len(users) + 1


@on_site()
async def test_a_fresh_token_of_the_same_user_runs_nothing_again(site: Site) -> None:
    async with raw_client(site.url) as client:
        await client.connect()
        await authenticate(client, site.token())
        await client.modify(add(0, "who:me"), add(1, "who:everybody"))
        while len(client.values) < 2:
            await client.receive_type("Transition")
        runs = list(site.runs)
        site.clock.advance(seconds=30)
        await authenticate(client, site.token(), base=1)
        message = await client.receive_type("Transition")
        assert (message["endVersion"]["identity"], message["modifications"]) == (2, [])
        assert site.runs == runs
        site.clock.advance(seconds=45)  # the first one is over, the second is not
        await client.mutate(0, "who:sign_up")
        assert (await client.receive_type("MutationResponse"))["success"]

        await authenticate(client, site.token("bob"), base=2)
        while client.version["identity"] != 3:
            await client.receive_type("Transition")
        assert client.values == {0: "bob", 1: 1}


@on_site()
async def test_what_a_function_does_to_its_claims_stays_its_own(site: Site) -> None:
    token = site.token(roles=["reader"])
    async with raw_client(site.url) as client:
        await client.connect()
        await authenticate(client, token)
        for number in range(2):
            await client.modify(add(number, "who:claims", {}), base=number)
            while number not in client.values:
                await client.receive_type("Transition")
            await site.deployment.mutation("messages:send", channel="a", body="x")
            while client.values[number]["seen"] != number + 1:
                await client.receive_type("Transition")
            assert client.values[number]["roles"] == ["reader", "admin"]


@on_site()
async def test_a_push_changes_the_providers(site: Site) -> None:
    folder = site.deployment.project_dir
    assert await site.value("who:me", site.token()) == "ann"
    (folder / "functions" / "auth_config.py").write_text(CONFIG.format(url="https://other.example"))
    await site.deployment.reload()
    assert "configured providers are [oidc(domain='https://other.example'" in (await site.refusal(site.token()))[2]
    (folder / "functions" / "auth_config.py").write_text(CONFIG.format(url=site.issuer.url))
    await site.deployment.reload()
    assert site.issuer.asked[JWKS] == 1
    assert await site.value("who:me", site.token()) == "ann"
    assert site.issuer.asked[JWKS] == 2, "keys of a provider that is gone are forgotten"
    (folder / "functions" / "auth_config.py").unlink()
    await site.deployment.reload()
    assert (await site.refusal(site.token()))[2].endswith("(no providers configured). Check functions/auth_config.py.")


@on_site()
async def test_keys_in_a_file_of_the_project(site: Site) -> None:
    folder = site.deployment.project_dir
    (folder / "keys.json").write_text(json.dumps({"keys": [public_jwk("ES256")]}))
    (folder / "functions" / "auth_config.py").write_text(
        "from reactor import auth_config, custom_jwt\n"
        "auth = auth_config([custom_jwt(issuer='https://x.example', jwks='keys.json', algorithm='ES256')])\n"
    )
    await site.deployment.reload()
    now = site.clock.now_ns() / 1e9
    assert await site.value("who:me", sign({"iss": "x.example", "sub": "eve", "exp": now + 9}, "ES256")) == "eve"


LATER = """
from reactor import auth_config, oidc

class Variable:
    def resolve(self, environment):
        return environment["AUTH_DOMAIN"]

auth = auth_config([oidc(domain=Variable(), application_id="app")])
"""


async def test_a_variable_that_is_not_set_refuses_the_push(tmp_path: Path) -> None:
    with pytest.raises(PushError, match=r"AuthConfigMissingEnvironmentVariable: domain= needs .* AUTH_DOMAIN"):
        await Deployment(write(tmp_path / "app", "", LATER), data=":memory:").open()


async def test_a_variable_that_the_first_push_needs_can_be_set_before(tmp_path: Path) -> None:
    deployment = Deployment(write(tmp_path / "app", "", LATER), data=":memory:")
    await deployment.open(load=False)
    try:
        with pytest.raises(ValidationError, match="AUTH_DOMAIN is text, not int"):
            await deployment.env.update({"AUTH_DOMAIN": 1})  # type: ignore[dict-item]
        with pytest.raises(LimitExceeded, match="'1X' can't be the name"):
            await deployment.env.update({"AUTH_DOMAIN": "https://issuer.example", "1X": "y"})
        assert await deployment.env.all() == {}
        with pytest.raises(PushError, match="AuthConfigMissingEnvironmentVariable"):
            await deployment.reload()
        await deployment.env.set("AUTH_DOMAIN", "https://issuer.example")
        assert await deployment.env.all() == {"AUTH_DOMAIN": "https://issuer.example"}
        await deployment.reload()
        await deployment.env.unset("AUTH_DOMAIN")
        assert await deployment.env.all() == {}
    finally:
        await deployment.close()


@asynccontextmanager
async def hosting(app: Starlette, listener: Any) -> Any:
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="websockets-sansio"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


async def test_a_deployment_may_live_where_its_issuer_does(tmp_path: Path) -> None:
    """Its keys are served by the very loop that has to fetch them, and not before it is open."""
    listener = bind("127.0.0.1", 0)
    url = url_of(listener)

    async def discovery(request: Request) -> JSONResponse:
        return JSONResponse({"issuer": url, "jwks_uri": f"{url}/jwks"})

    async def keys(request: Request) -> JSONResponse:
        count = await deployment.query("who:everybody")  # as an HTTP action would look at its database
        return JSONResponse({"keys": [public_jwk("EdDSA", number) for number in range(int(count) + 1)]})

    clock = VirtualClock()
    deployment = Deployment(write(tmp_path / "app", url), data=":memory:", clock=clock, alarms=clock)
    routes = [
        Route("/.well-known/openid-configuration", discovery),
        Route("/jwks", keys),
        Mount("/", app=deployment.asgi()),
    ]
    now = clock.now_ns() / 1e9
    token = sign({"iss": url, "aud": "app", "sub": "ann", "exp": now + 60}, "EdDSA")
    async with deployment, hosting(Starlette(routes=routes), listener):
        async with raw_client(url) as client:
            await client.connect()
            await authenticate(client, token)
            await client.modify(add(0, "who:me"))
            while not client.values:
                await client.receive_type("Transition")
            assert client.values == {0: "ann"}
        async with httpx.AsyncClient(base_url=url) as http:
            headers = {"Authorization": f"Bearer {token}"}
            answer = await http.post("/api/query", json={"path": "who:me", "args": {}}, headers=headers)
            assert answer.json()["value"] == "ann"
