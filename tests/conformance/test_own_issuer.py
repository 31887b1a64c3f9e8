"""A real server that is its own issuer: it signs tokens in an HTTP action, and publishes the keys in others."""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.auth.issuer import jwks, private_key, public_jwk
from tests.conformance.test_auth import WHO
from tests.servers import copy_fixture, javascript, output, running, start_dev

HTTP = """
import json
import time

import jwt

from reactor import Response, env, http_action, http_router

KEYS = {keys!r}
PRIVATE = {private!r}


@http_action
async def discovery(ctx, request):
    site = env["CONVEX_SITE_URL"]
    return Response(json.dumps({{"issuer": site, "jwks_uri": site + "/jwks"}}), media_type="application/json")


@http_action
async def keys(ctx, request):
    return Response(KEYS, media_type="application/jwk-set+json")


@http_action
async def login(ctx, request):
    now = time.time()
    claims = {{"iss": env["CONVEX_SITE_URL"], "aud": "app", "iat": now, "exp": now + 3600}}
    claims["sub"] = (await request.body()).decode()
    return Response(jwt.encode(claims, PRIVATE, "EdDSA", headers={{"kid": "EdDSA-0"}}))


@http_action
async def me(ctx, request):
    identity = await ctx.auth.get_user_identity()
    return Response("nobody" if identity is None else identity["subject"])


http = http_router()
http.route(path="/.well-known/openid-configuration", method="GET", handler=discovery)
http.route(path="/jwks", method="GET", handler=keys)
http.route(path="/login", method="POST", handler=login)
http.route(path="/me", method="GET", handler=me)
"""
CONFIG = """
from reactor import auth_config, env, oidc

auth = auth_config([oidc(domain=env.ref("CONVEX_SITE_URL"), application_id="app")])
"""


def test_javascript(tmp_path: Path) -> None:
    project = copy_fixture(tmp_path / "app")
    private = private_key("EdDSA", 0).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (project / "functions" / "who.py").write_text(WHO)
    (project / "functions" / "http.py").write_text(HTTP.format(keys=jwks(public_jwk("EdDSA")), private=private))
    (project / "functions" / "auth_config.py").write_text(CONFIG)
    server = start_dev(project, "--data", ":memory:")
    with running(server):
        steps = output(javascript("js_own_issuer", server.url, server.site_url))
    assert steps == [
        ["anonymous", None],
        ["logged in", "ann"],
        ["mutation", "ann"],
        ["http", "bob"],
        ["http action", "eve"],
    ]
