"""The application's own HTTP: which route a request takes, on whose behalf, and what comes of its failure.

Promises that nobody but the application says what is answered once an HTTP action runs: no CORS unasked, no refusal for
an `Authorization` that is not ours; that a failure is told as JSON as long as nothing has been sent, else the stream
just ends; that every failure is logged; and that an action whose client has gone runs on, as it would in FastAPI. Used
by the router for `/http`, by the site port, and by `fetch`.
"""

import asyncio
import logging
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from reactor.auth.identity import Identity
from reactor.errors import Error, Forbidden, LimitExceeded
from reactor.limits import Limits
from reactor.runtime.http.mounts import HttpPlace
from reactor.runtime.http.router import Cors, HttpRouter, Route
from reactor.runtime.http.runner import HttpEnd
from reactor.runtime.logs import log_unheard
from reactor.runtime.versions import Version
from reactor.server.backend import Backend, OpenBackend
from reactor.server.http.admission import Admission
from reactor.server.http.bridge import TOO_LARGE, Bridge, too_large
from reactor.server.http.errors import HttpError, error_response
from reactor.server.http.identity import identity_or_anonymous
from reactor.server.http.paths import below
from reactor.server.permissions import READ_ONLY

logger = logging.getLogger("reactor.http")

NOT_ENABLED: Final = "This Convex deployment does not have HTTP actions enabled."
NO_ROUTE: Final = "No matching routes found"
IDENTITY: Final = "reactor.identity"  # in the scope of a call from this process, in place of a header


class HttpActions:
    """An ASGI application: paths are those of the project's routes."""

    def __init__(self, backend: OpenBackend, limits: Limits) -> None:
        self._backend = backend
        self._max_bytes = limits.http_action_bytes
        self._admission = Admission(limits, "http_actions")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and refuse sockets."""
        scope = below(scope, "")  # nothing, unless mounted by itself
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        try:
            backend = self._backend()
            version = backend.http.version()
        except Error as error:
            await error_response(error)(scope, receive, send)
            return
        place = _located(backend, version, scope)
        if place.router is None:
            await PlainTextResponse(NOT_ENABLED, 404)(scope, receive, send)
            return
        if place.component or place.path != scope["path"]:
            scope = {**scope, "path": place.path, "raw_path": None}
        routes = _Routes(backend, version, place.component, place.router, self._admission, self._max_bytes)
        await _with_cors(place.router, routes, scope)(scope, receive, send)


class _Routes:
    """The routes of the application, or of one component, for one request."""

    def __init__(
        self,
        backend: Backend,
        version: Version,
        component: str,
        router: HttpRouter,
        admission: Admission,
        max_bytes: int,
    ) -> None:
        self._backend = backend
        self._version = version
        self._component = component
        self._router = router
        self._admission = admission
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._router.find(scope["method"], scope["path"])
        if route is None:
            await PlainTextResponse(NO_ROUTE, 404)(scope, receive, send)
            return
        try:
            if _announced_bytes(scope) > self._max_bytes:
                raise _http_error(too_large(self._max_bytes))
            # Before a place is taken: who is asked about a token may be an HTTP action of this deployment.
            caller = await _caller(scope, self._backend)
            async with self._admission.place():
                await self._run(route, caller, scope, receive, send)
        except Error as error:
            await error_response(error)(scope, receive, send)

    async def _run(self, route: Route, caller: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the action of a route.

        Raises:
            Error: it did not begin to answer, for a reason that is not its own.
        """
        bridge = Bridge(scope["method"], receive, send, self._max_bytes)
        ended: asyncio.Future[HttpEnd] = asyncio.get_running_loop().create_future()
        cancel = self._backend.http.run(
            self._version,
            route,
            _as_seen(scope),
            bridge,
            lambda end: None if ended.done() else ended.set_result(end),
            identity=caller,
            request_id=self._backend.new_request_id(),
            component=self._component,
        )
        try:
            end = await bridge.carry(ended)
        finally:
            cancel()  # if it still runs: the server takes no answer any more
        path = quote(scope["path"])  # as it came: a line break would forge a line of the log
        log_unheard(f"{scope['method']} {path}", end.log_lines)
        error = end.error
        if error is None or isinstance(error, ClientDisconnect):
            return
        if isinstance(error, LimitExceeded) and error.rule == TOO_LARGE and not bridge.has_started:
            raise _http_error(error)
        if end.refusal is not None:
            logger.warning("The HTTP action for %s %s was stopped: %s", scope["method"], path, end.refusal)
        else:
            logger.error("The HTTP action for %s %s failed: %s", scope["method"], path, end.detail)
        if bridge.has_started:
            return
        if end.refusal is not None:
            raise end.refusal
        response = Response(end.body, 500, media_type="application/json")
        await response(scope, receive, send)


def _with_cors(router: HttpRouter, routed: ASGIApp, scope: Scope) -> ASGIApp:
    """Return what answers, with CORS where it was asked for. An OPTIONS route of the application goes first."""
    method, path = scope["method"], scope["path"]
    if method == "OPTIONS":
        if router.find(method, path) is not None:
            return routed
        method = Headers(scope=scope).get("access-control-request-method", method)
    cors: Cors | None = router.cors(method, path)
    return routed if cors is None else CORSMiddleware(routed, allow_methods=router.methods(path), **cors)


def _located(backend: Backend, version: Version, scope: Scope) -> HttpPlace:
    """Return whose routes a request is for. A question of a browser goes where its request would."""
    method, path = scope["method"], scope["path"]
    place = backend.http.locate(version, method, path)
    if method == "OPTIONS" and (place.router is None or place.router.find(method, place.path) is None):
        method = Headers(scope=scope).get("access-control-request-method", method)
        place = backend.http.locate(version, method, path)
    return place


async def _caller(scope: Scope, backend: Backend) -> Identity:
    """Return on whose behalf an action runs. A header that says nothing to us is the application's own affair.

    Raises:
        AuthProviderUnavailable, Overloaded: a token may be good, but can't be checked now.
        Forbidden: `BadDeployKey`, an admin key that may only read.
    """
    known = scope.get(IDENTITY)
    if isinstance(known, Identity):
        return known
    authorization = Headers(scope=scope).get("authorization")
    caller = await identity_or_anonymous(authorization, backend.check_admin, backend.identify)
    if caller.read_only:  # an action may write, in the name of whoever the key acts as
        raise Forbidden("BadDeployKey", READ_ONLY)
    return caller


def _as_seen(scope: Scope) -> Scope:
    """Return the scope an action gets: of the request, and of nothing around it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},  # with which Starlette ends streams whose client is gone
        "http_version": scope.get("http_version", "1.1"),
        "method": scope["method"],
        "scheme": _scheme(scope),
        "path": scope["path"],
        "raw_path": scope.get("raw_path"),
        "query_string": scope.get("query_string", b""),
        "root_path": "",
        "headers": list(scope["headers"]),
        "client": scope.get("client"),
        "server": scope.get("server"),
        "state": {},
        "app": None,  # with which Starlette tells of a malformed form by an HTTPException
    }


def _scheme(scope: Scope) -> str:
    """Return what a proxy says the client used, else what the server knows."""
    headers = Headers(scope=scope)
    told = headers.get("x-forwarded-proto")
    if told is None:
        nearest = headers.get("forwarded", "").partition(",")[0].split(";")
        pairs = (part.partition("=") for part in nearest)
        told = next((value.strip().strip('"') for name, _, value in pairs if name.strip().lower() == "proto"), "")
    told = told.partition(",")[0].strip().lower()
    return told if told in ("http", "https") else str(scope.get("scheme", "http"))


def _announced_bytes(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "")
    return int(text) if text.isdecimal() and len(text) <= 19 else 0


def _http_error(error: LimitExceeded) -> HttpError:
    return HttpError(413, error.rule, str(error))
