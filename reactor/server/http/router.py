"""Which URL is answered by what, for every mount point.

Owns CORS, the error form of everything that fails before or beside a function, and paths with doubled slashes. Promises
that each path below `/api` answers in JSON, also the unknown ones, and that nothing of this touches HTTP actions, which
`actions` answers. Used by the composition root.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reactor.errors import Error
from reactor.limits import MAX_HTTP_BODY_BYTES, Limits
from reactor.server.http.admission import Admission
from reactor.server.http.bodies import read_body
from reactor.server.http.client_version import client_version
from reactor.server.http.deploys import DeployApi
from reactor.server.http.environment import EnvironmentApi
from reactor.server.http.errors import INTERNAL, HttpError, error_response, status_of
from reactor.server.http.files import FileApi
from reactor.server.http.functions import FunctionApi
from reactor.server.http.logs import LogApi
from reactor.server.http.paths import below, collapsed, route_path
from reactor.server.http.push import PushApi
from reactor.server.http.transfers import TransferApi

logger = logging.getLogger("reactor.http")

RUNNING: Final = "This reactor deployment is running. See https://docs.convex.dev/ for the clients that talk to it."
METHODS: Final = "GET, POST, OPTIONS, PATCH, DELETE, PUT"
HEALTH_ROUTES: Final = frozenset({"/version", "/instance_name", "/instance_version", "/echo"})
ACTIONS: Final = "/http"
CORS_MAX_AGE_SECONDS: Final = 86400

Endpoint = Callable[[Request], Awaitable[Response]]


class HttpApp:
    """The ASGI application of one deployment, without its lifespan."""

    def __init__(
        self,
        *,
        functions: FunctionApi,
        environment: EnvironmentApi,
        files: FileApi,
        push: PushApi,
        logs: LogApi,
        transfers: TransferApi,
        deploys: DeployApi,
        sync: ASGIApp,
        actions: ASGIApp,
        limits: Limits,
        name: Callable[[], str],
        version: str,
        page: ASGIApp | None,
        redact: bool = False,
    ) -> None:
        """
        Args:
            sync: serves sockets.
            actions: answers what is below `/http`, and sees paths without that.
            name: gives the instance name.
            page: serves `/` and what it needs, in place of a line of text.
            redact: keep texts from clients that only the developers should see.
        """

        admission = Admission(limits)

        def call(path: str, endpoint: Endpoint, *methods: str) -> Route:
            async def admitted(request: Request) -> Response:
                client = client_version(request.headers.get("convex-client"))
                async with admission.call():
                    response = await endpoint(request)
                response.raw_headers.extend(client.deprecation_headers)
                return response

            return Route(path, admitted, methods=methods)

        async def say_version(request: Request) -> Response:
            return PlainTextResponse(version)

        async def say_name(request: Request) -> Response:
            return PlainTextResponse(name())

        self._routes = [
            call("/api/query", functions.query, "GET", "POST"),
            call("/api/query_ts", functions.query_ts, "POST"),
            call("/api/query_at_ts", functions.query_at_ts, "POST"),
            call("/api/query_batch", functions.query_batch, "POST"),
            call("/api/mutation", functions.mutation, "POST"),
            call("/api/action", functions.action, "POST"),
            call("/api/function", functions.function, "POST"),
            call("/api/run/{path:path}", functions.run, "POST"),
            call("/api/run_test_function", functions.inline_query, "POST"),
            call("/api/list_environment_variables", environment.list, "GET"),
            call("/api/v1/list_environment_variables", environment.list, "GET"),
            call("/api/update_environment_variables", environment.update, "POST"),
            call("/api/v1/update_environment_variables", environment.update, "POST"),
            call("/api/get_config_hashes", push.config_hashes, "POST"),
            call("/api/deploy2/start_push", push.start, "POST"),
            call("/api/v1/get_canonical_urls", push.canonical_urls, "GET"),
            call("/api/deploy2/evaluate_push", push.refuse, "POST"),
            call("/api/deploy2/wait_for_schema", push.refuse, "POST"),
            call("/api/deploy2/finish_push", push.refuse, "POST"),
            call("/api/deploys", deploys.list, "GET"),
            Route("/api/deploys", deploys.create, methods=["POST"]),  # which takes its time
            Route("/api/deploys/rollback", deploys.roll_back, methods=["POST"]),
            Route("/api/storage/upload", files.upload, methods=["POST"]),
            Route("/api/storage/{uuid}", files.download, methods=["GET"]),
            Route("/api/stream_function_logs", logs.stream, methods=["GET"]),
            Route("/api/app_metrics/stream_function_logs", logs.stream, methods=["GET"]),
            Route("/api/stream_udf_execution", logs.completions, methods=["GET"]),
            Route("/api/app_metrics/stream_udf_execution", logs.completions, methods=["GET"]),
            call("/api/import/start_upload", transfers.start_upload, "POST"),
            Route("/api/import/upload_part", transfers.upload_part, methods=["POST"]),
            call("/api/import/finish_upload", transfers.finish_upload, "POST"),
            Route("/api/import", transfers.import_now, methods=["POST"]),
            call("/api/perform_import", transfers.perform_import, "POST"),
            call("/api/cancel_import", transfers.cancel_import, "POST"),
            call("/api/export/request/zip", transfers.request_zip, "POST"),
            Route("/api/export/zip/{key}", transfers.download, methods=["GET"]),
            call("/api/export/set_expiration/{id}", transfers.set_expiration, "POST"),
            call("/api/export/cancel/{id}", transfers.cancel_export, "POST"),
            Route("/api/debug_event", _noted, methods=["POST"]),
            Route("/version", say_version),
            Route("/instance_version", say_version),
            Route("/instance_name", say_name),
            call("/echo", _echo, "POST"),
            *([] if page is not None else [Route("/", _running)]),
            WebSocketRoute("/api/sync", sync),
            WebSocketRoute("/api/{version}/sync", sync),
        ]
        self._page = page
        self._redact = redact
        self._actions = actions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request or one socket."""
        scope = {**scope, "path": collapsed(scope)}
        if scope["type"] == "http":
            path = route_path(scope)
            if path == ACTIONS or path.startswith(f"{ACTIONS}/"):
                await self._actions(below(scope, ACTIONS), receive, send)
                return
            if path.startswith("/api/") or path in HEALTH_ROUTES or (path == "/" and self._page is None):
                headers = dict(scope["headers"])
                if scope["method"] == "OPTIONS":
                    await _preflight(headers)(scope, receive, send)
                    return
                send = _with_cors(send, headers)
        await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        wrong_method: Any = None
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope.update(child)
                if scope["type"] == "websocket":
                    await route.handle(scope, receive, send)  # the endpoint answers for itself
                    return
                try:
                    await route.handle(scope, receive, watched)
                except Error as error:
                    if status_of(error) == 500:
                        logger.exception("A request failed inside the server")
                    elif self._redact and isinstance(error, INTERNAL):
                        logger.warning("A request failed: %s", error)
                    await error_response(error, redact=self._redact)(scope, receive, send)
                except ClientDisconnect:
                    pass
                except Exception:
                    logger.exception("A request failed inside the server")
                    if started:
                        raise
                    await error_response(Error())(scope, receive, send)
                return
            if match is Match.PARTIAL:
                wrong_method = route
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        elif wrong_method is not None:
            allowed = ", ".join(sorted(wrong_method.methods))
            text = f"{scope['method']} is not possible here, only {allowed}."
            await error_response(HttpError(405, "MethodNotAllowed", text))(scope, receive, send)
        elif self._page is not None:
            await self._page(scope, receive, send)
        else:
            await error_response(not_found(scope))(scope, receive, send)


def not_found(scope: Scope) -> HttpError:
    """Return the error for a path that nothing answers."""
    return HttpError(404, "NotFound", f"There is nothing at {route_path(scope)}.")


async def _running(request: Request) -> Response:
    return PlainTextResponse(RUNNING)


async def _noted(request: Request) -> Response:
    """Clients report long outages here. Nothing depends on it, and a 404 would be one more error in their console."""
    return Response()


async def _echo(request: Request) -> Response:
    return Response(await read_body(request, MAX_HTTP_BODY_BYTES), media_type=request.headers.get("content-type"))


def _with_cors(send: Send, request: dict[bytes, bytes]) -> Send:
    origin = request.get(b"origin")
    if origin is None:
        return send

    async def allowed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin.decode("latin-1")
            headers["access-control-allow-credentials"] = "true"
            headers.add_vary_header("Origin")
        await send(message)

    return allowed


def _preflight(request: dict[bytes, bytes]) -> Response:
    headers = {
        "access-control-allow-methods": METHODS,
        "access-control-allow-credentials": "true",
        "access-control-max-age": str(CORS_MAX_AGE_SECONDS),
        "vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }
    if b"origin" in request:
        headers["access-control-allow-origin"] = request[b"origin"].decode("latin-1")
    if b"access-control-request-headers" in request:
        headers["access-control-allow-headers"] = request[b"access-control-request-headers"].decode("latin-1")
    return Response(status_code=200, headers=headers)
