"""HTTP of the application: `POST /ai/{provider}` asks whether a request to a provider may be made now.

Answers `{"allowed": true}` with 200; `{"allowed": false, "reason"}` with 400 for an unknown provider, 401 and 403 for
who is not let in, 403 for a bot, and 429 with `Retry-After`, in seconds, when a limit is reached. The other routes are
those of an issuer of tokens: `functions/issuer`.
"""

import math
from typing import Final

from starlette.responses import JSONResponse

from functions.issuer import discovery, keys, sign_in
from functions.model.addresses import client_address, trusted_proxies
from functions.model.fingerprint import fields_of
from reactor import ActionCtx, Error, Request, Response, http_action, http_router, internal

PREFIX: Final = "/ai/"
BEARER: Final = "Bearer "
KEY_SIGN: Final = "rk_"  # tells a key of ours from a user's token
MAX_HEADER_LENGTH: Final = 1000  # of what is looked at: a longer one makes no other client


@http_action
async def admission(ctx: ActionCtx, request: Request) -> Response:
    """Decide about a request to the provider that the path names."""
    peer = None if request.client is None else request.client.host
    proxies = trusted_proxies(ctx.env)
    args = {
        "provider": request.url.path.removeprefix(PREFIX),
        "headers": {name: value[:MAX_HEADER_LENGTH] for name, value in fields_of(request.headers).items()},
        "ip": client_address(peer, request.headers.getlist("x-forwarded-for"), proxies),
        "apiKey": api_key_of(request),
    }
    try:
        answer = await ctx.run_mutation(
            internal.ai.limits.admit_request, {name: value for name, value in args.items() if value is not None}
        )
    except Error as error:
        if not error.retryable:
            raise
        # Too many at a time, such as attempts that lost to others. That says nothing of limits, and passes.
        return JSONResponse({"allowed": False, "reason": "Busy"}, 503, {"Retry-After": "1"})
    wait = answer["body"].get("retryAfter")
    headers = {} if wait is None else {"Retry-After": str(max(1, math.ceil(wait / 1000)))}
    return JSONResponse(answer["body"], int(answer["status"]), headers)


def api_key_of(request: Request) -> str | None:
    """Return the API key of a request: of the header `X-API-Key`, or of `Authorization: Bearer rk_…`."""
    given = request.headers.get("x-api-key")
    if given is not None:
        return given
    authorization = request.headers.get("authorization", "")
    key = authorization.removeprefix(BEARER)
    return key if key != authorization and key.startswith(KEY_SIGN) else None


http = http_router()
http.route(path_prefix=PREFIX, method="POST", handler=admission)
http.route(path="/.well-known/openid-configuration", method="GET", handler=discovery)
http.route(path="/.well-known/jwks.json", method="GET", handler=keys)
http.route(path="/sign-in", method="POST", handler=sign_in, cors=True)
