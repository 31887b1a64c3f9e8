"""Tokens of a real issuer, given to a real server process by every client."""

from collections.abc import Iterator

import pytest

from reactor.client import BlockingClient, Client
from reactor.errors import AuthError
from tests.auth.issuer import Issuer, issuing
from tests.servers import (
    SHARED_KILL_AFTER_SECONDS,
    Server,
    copy_fixture,
    javascript,
    output,
    python,
    running,
    start_dev,
)

WHO = """
from reactor import MutationCtx, QueryCtx, mutation, query


@query
async def me(ctx: QueryCtx) -> str | None:
    identity = await ctx.auth.get_user_identity()
    return None if identity is None else identity["subject"]


@mutation
async def sign_up(ctx: MutationCtx) -> str | None:
    identity = await ctx.auth.get_user_identity()
    await ctx.db.insert("messages", {"channel": "users", "body": "" if identity is None else identity["subject"]})
    return None if identity is None else identity["subject"]
"""
CONFIG = """
from reactor import auth_config, oidc

auth = auth_config([oidc(domain={url!r}, application_id="app")])
"""
LIFETIME = {"iat": 1, "exp": 1 << 40}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Server]:
    project = copy_fixture(tmp_path_factory.mktemp("auth") / "app")
    (project / "functions" / "who.py").write_text(WHO)
    (project / "functions" / "auth_config.py").write_text(CONFIG.format(url=issuer.url))
    env = {"REACTOR_AUTH_RETRY_SECONDS": "0"}
    server = start_dev(project, "--data", ":memory:", env=env, kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


def test_javascript(server: Server, issuer: Issuer) -> None:
    steps = dict(output(javascript("js_auth", server.url, issuer.url)))

    assert steps == {
        "anonymous": None,
        "login": ["ann", [False, True], [True, True], "ann"],
        "reconnected": ["ann", "ann", 2],
        "refreshed": ["ann", 0, False],
        "rejected": [None, [False, True, True, True], [False]],
        "rotated": "bob",
        "expired": ["eve", False],
        "cleared": None,
        "http": "ann",
        "http refused": "NoAuthProvider",
        "http cleared": None,
    }


def test_pypi(server: Server, issuer: Issuer) -> None:
    ann, bob = (issuer.token(aud="app", sub=name, **LIFETIME) for name in ("ann", "bob"))
    assert output(python("pypi_auth", server.url, ann, bob)) == [
        ["anonymous", None],
        ["ann", "ann"],
        ["ann wrote", "ann"],
        ["bob", "bob"],
        ["bob wrote", "bob"],
        ["cleared", None],
    ]


@pytest.mark.asyncio
async def test_reactor(server: Server, issuer: Issuer) -> None:
    forced: list[bool] = []
    audience = "app"

    async def fetch(*, force_refresh: bool) -> str:
        forced.append(force_refresh)
        return issuer.token(aud=audience, sub="ann", jti=len(forced), **LIFETIME)

    async with Client(server.url) as client:
        live = client.subscribe("who:me")
        assert await live.next(timeout=30) is None
        client.set_auth(fetch)
        assert await live.next(timeout=30) == "ann"
        assert await client.mutation("who:sign_up") == "ann"

        client.set_auth(None)
        assert await live.next(timeout=30) is None

        audience, forced[:] = "other", []
        client.set_auth(fetch)
        with pytest.raises(AuthError, match="No auth provider found matching the given token"):
            await client.query("who:me")
        assert forced == [False, True, True, True]
        assert await client.query("who:me") is None

        issuer.rotate()
        client.set_auth(issuer.token(aud="app", sub="bob", **LIFETIME))
        assert await client.query("who:me") == "bob"


def test_reactor_blocking(server: Server, issuer: Issuer) -> None:
    with BlockingClient(server.url) as client:
        client.set_auth(issuer.token(aud="app", sub="ann", **LIFETIME))
        assert client.mutation("who:sign_up", timeout=30) == "ann"
