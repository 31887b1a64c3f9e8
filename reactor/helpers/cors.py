"""CORS for the routes of HTTP actions, as browsers need it where the options of `http_router(cors=...)` don't do.

Owns `cors_router`: origins found out by a function or with a `*` before the host, refusal of all others, and an answer
to OPTIONS that lists the methods of its path. Promises that every response of a route, one with an error raised as
`HTTPException` too, tells the browser the same. Used by `functions/http.py` of applications and components.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from reactor import Request, Response, http_action

log = logging.getLogger(__name__)

Origins = Sequence[str] | Callable[[Request], Sequence[str] | Awaitable[Sequence[str]]]
ORDER = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Cors:
    """What pages of other origins may do; see `cors_router`."""

    allowed_origins: Origins = ("*",)
    allowed_headers: Sequence[str] = ("Content-Type",)
    exposed_headers: Sequence[str] = ("Content-Range", "Accept-Ranges")
    allow_credentials: bool = False
    browser_cache_max_age: int = 86_400
    enforce_allow_origins: bool = False
    debug: bool = False

    async def allowing(self, request: Request) -> str | None:
        """Return what to allow for a request: its origin, any one (`*`), or None."""
        origins: Any = self.allowed_origins
        if callable(origins):
            origins = origins(request)
        return self.choose(request, await origins if inspect.isawaitable(origins) else origins)

    def allowing_now(self, request: Request) -> str | None:
        """Return what `allowing` does, where nothing can be awaited.

        Raises:
            TypeError: the origins have to be awaited.
        """
        found = self.allowed_origins
        origins = found(request) if callable(found) else found
        if inspect.isawaitable(origins):
            if inspect.iscoroutine(origins):
                origins.close()
            raise TypeError("a plain `def` HTTP action needs a plain function for allowed_origins")
        return self.choose(request, origins)

    def choose(self, request: Request, origins: Sequence[str]) -> str | None:
        """Return what of `origins` to tell the browser."""
        origin = request.headers.get("origin")
        if "*" in origins and not self.allow_credentials:
            allowed: str | None = "*"
        else:
            allowed = origin if origin is not None and any(matches(origin, known) for known in origins) else None
        if self.debug:
            log.info("CORS: origin %s of %s %s: allowed %s", origin, request.method, request.url.path, allowed)
        return allowed

    def refusal(self, request: Request, allowed: str | None) -> Response | None:
        """Return the response to a page that may not ask, when others are to be kept out."""
        if not self.enforce_allow_origins or allowed is not None:
            return None
        return Response(status_code=403, headers={"Vary": "Origin"})

    def headers(self, allowed: str | None) -> dict[str, str]:
        """Return the headers of every response."""
        headers = {"Vary": "Origin"}
        if allowed is not None:
            headers["Access-Control-Allow-Origin"] = allowed
            if self.allow_credentials:
                headers["Access-Control-Allow-Credentials"] = "true"
            if self.exposed_headers:
                headers["Access-Control-Expose-Headers"] = ", ".join(self.exposed_headers)
        return headers

    def preflight(self, allowed: str | None, methods: Sequence[str]) -> dict[str, str]:
        """Return the headers of the answer to OPTIONS."""
        headers = self.headers(allowed)
        headers.pop("Access-Control-Expose-Headers", None)
        if allowed is not None:
            headers["Access-Control-Allow-Methods"] = ", ".join(methods)
            headers["Access-Control-Allow-Headers"] = ", ".join(self.allowed_headers)
            headers["Access-Control-Max-Age"] = str(self.browser_cache_max_age)
        return headers


def matches(origin: str, known: str) -> bool:
    """Whether an origin is a known one: `*`, the same, or below `*.example.com`, which is https and the host itself."""
    if known == "*" or origin == known:
        return True
    if not known.startswith("*."):
        return False
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:  # whatever a client has sent as its origin
        return False
    return parts.scheme == "https" and (host == known[2:].lower() or host.endswith(known[1:].lower()))


class CorsRouter:
    """Adds routes to a router, with CORS for each. Made by `cors_router`."""

    def __init__(self, http: Any, cors: Cors) -> None:
        self.http = http
        self._cors = cors
        self._methods: dict[tuple[str, str], list[str]] = {}  # of each path or prefix

    def route(
        self,
        *,
        method: str,
        handler: Any,
        path: str | None = None,
        path_prefix: str | None = None,
        **options: Any,
    ) -> None:
        """Let `handler`, an HTTP action, answer requests for `path`, or for every path that begins with `path_prefix`.

        Args:
            options: those of `cors_router`, for this route. The answer to OPTIONS is that of the path's first route.

        Raises:
            TypeError, ValueError: as `route` of the router; an option is unknown.
        """
        cors = replace(self._cors, **options)
        kind, place = ("path", path) if path_prefix is None else ("path_prefix", path_prefix)
        where = {"path": path, "path_prefix": path_prefix}
        guarded = _guarded(handler, cors) if getattr(handler, "kind", None) == "http_action" else handler
        self.http.route(method=method, handler=guarded, cors=False, **where)
        methods = self._methods.get((kind, str(place)))
        if methods is not None:
            methods.append(method)
            return
        methods = self._methods[kind, str(place)] = [method]
        if method != "OPTIONS":
            self.http.route(method="OPTIONS", handler=_preflight(cors, methods), cors=False, **where)


def cors_router(
    http: Any,
    *,
    allowed_origins: Origins = ("*",),
    allowed_headers: Sequence[str] = ("Content-Type",),
    exposed_headers: Sequence[str] = ("Content-Range", "Accept-Ranges"),
    allow_credentials: bool = False,
    browser_cache_max_age: int = 86_400,
    enforce_allow_origins: bool = False,
    debug: bool = False,
) -> CorsRouter:
    """Return what adds routes with CORS to a router: `cors = cors_router(http)`, then `cors.route(path=..., ...)`.

    Args:
        http: made by `http_router()`; what it answers without this has no CORS of this.
        allowed_origins: such as `["https://app.example.com", "*.example.com"]`, or a function of the request. `"*"` is
            any; with `allow_credentials` it is any, too, each told by its name: then any page acts as its visitor.
        allowed_headers: what pages may send.
        exposed_headers: what pages may read of a response.
        allow_credentials: pages may send cookies and the like.
        browser_cache_max_age: seconds for which browsers need not ask again.
        enforce_allow_origins: answer 403 to requests from other origins, and to those that name none.
        debug: log what is decided.
    """
    cors = Cors(
        allowed_origins,
        allowed_headers,
        exposed_headers,
        allow_credentials,
        browser_cache_max_age,
        enforce_allow_origins,
        debug,
    )
    return CorsRouter(http, cors)


def _guarded(handler: Any, cors: Cors) -> Any:
    """Return an HTTP action that does what `handler` does, and tells the browser who may see it."""
    if handler.is_async:

        @wraps(handler.handler)
        async def answer(ctx: Any, request: Request) -> Response:
            allowed = await cors.allowing(request)
            refusal = cors.refusal(request, allowed)
            if refusal is not None:
                return refusal
            try:
                return _told(await handler(ctx, request), cors.headers(allowed))
            except HTTPException as error:
                raise _told_error(error, cors.headers(allowed)) from error

        return _as_action(answer, handler)

    @wraps(handler.handler)
    def answer_plainly(ctx: Any, request: Request) -> Response:
        allowed = cors.allowing_now(request)
        refusal = cors.refusal(request, allowed)
        if refusal is not None:
            return refusal
        try:
            return _told(handler(ctx, request), cors.headers(allowed))
        except HTTPException as error:
            raise _told_error(error, cors.headers(allowed)) from error

    return _as_action(answer_plainly, handler)


def _as_action(answer: Any, handler: Any) -> Any:
    action = http_action(name=handler.name)(answer)
    action.module = handler.module
    return action


def _preflight(cors: Cors, methods: Sequence[str]) -> Any:
    @http_action
    async def preflight(ctx: Any, request: Request) -> Response:
        allowed = await cors.allowing(request)
        listed = [method for method in ORDER if method in methods] + ["OPTIONS"]
        return cors.refusal(request, allowed) or Response(status_code=204, headers=cors.preflight(allowed, listed))

    return preflight


def _told(response: Response, headers: dict[str, str]) -> Response:
    for name, value in headers.items():
        if name == "Vary":
            response.headers.add_vary_header(value)
        else:
            response.headers[name] = value
    return response


def _told_error(error: HTTPException, headers: dict[str, str]) -> HTTPException:
    return HTTPException(error.status_code, error.detail, {**headers, **(error.headers or {})})
