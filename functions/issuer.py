"""The deployment as an issuer of tokens, so that an example page can sign people in without a provider.

Owns the key that tokens are signed with, which lives as long as this process has this version of the code. Promises
that nobody gets a token unless AI_PUBLIC_LOGGING is `true`, as `make dev` sets it: there is no password, and the token
allows what everybody may do then. Used by `functions/http` and `functions/auth_config`.
"""

import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, PlainTextResponse

from functions.access import PUBLIC_LOGGING, CallerQueryCtx, analytics_query
from reactor import ActionCtx, Request, Response, env, http_action, v

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

AUDIENCE: Final = "dashboard"
SCOPE: Final = "analytics:read analytics:write"
KEY_ID: Final = "demo"
TOKEN_SECONDS: Final = 3600
MAX_NAME_CHARACTERS: Final = 40


@analytics_query(args={}, returns=v.nullable(v.object({"name": v.string()})))
async def viewer(ctx: CallerQueryCtx) -> dict[str, str] | None:
    """Tell the caller who they are, or None for somebody without a token."""
    identity = await ctx.auth.get_user_identity()
    return None if identity is None else {"name": identity.get("name") or identity["subject"]}


@http_action
async def sign_in(ctx: ActionCtx, request: Request) -> Response:
    """Answer `{"name": ...}` with `{"token": ...}` for whoever claims to have this name."""
    if env.get(PUBLIC_LOGGING) != "true":
        return PlainTextResponse("There is no sign-in without a provider unless AI_PUBLIC_LOGGING=true is set.", 404)
    name = await name_in(request)
    if name is None:
        return PlainTextResponse(f'The body must be {{"name": 1 to {MAX_NAME_CHARACTERS} characters}}.', 400)
    return JSONResponse({"token": token(issuer=env["CONVEX_SITE_URL"], name=name)})


@http_action
async def discovery(ctx: ActionCtx, request: Request) -> Response:
    """Say where the keys are, as OpenID Connect wants it."""
    site = env["CONVEX_SITE_URL"]
    return JSONResponse({"issuer": site, "jwks_uri": f"{site}/.well-known/jwks.json"})


@http_action
async def keys(ctx: ActionCtx, request: Request) -> Response:
    """Publish the public half of the key."""
    from jwt.algorithms import OKPAlgorithm

    public = OKPAlgorithm.to_jwk(signing_key().public_key(), as_dict=True)
    return JSONResponse({"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": "EdDSA"}]})


async def name_in(request: Request) -> str | None:
    """Return the name that a sign-in asks for, or None if it asks for nothing of the kind."""
    try:
        body: Any = await request.json()
    except ValueError:
        return None
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= MAX_NAME_CHARACTERS:
        return None
    return name.strip()


def token(*, issuer: str, name: str) -> str:
    """Return an id token for `name`, good for an hour."""
    import jwt

    now = int(time.time())
    times = {"iat": now, "exp": now + TOKEN_SECONDS}
    claims = {"iss": issuer, "aud": AUDIENCE, "sub": name.lower(), "name": name, "scope": SCOPE}
    return jwt.encode(claims | times, signing_key(), algorithm="EdDSA", headers={"kid": KEY_ID})


@cache
def signing_key() -> "Ed25519PrivateKey":
    """Return this process's key.

    The libraries are imported here and above, not with the module: they take longer to load than the rest of the
    application, and most deployments never sign a token.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate()
