"""The small page that `dev` serves at `/`: the project's public functions, to be tried, its HTTP routes and its crons.

Promises to call nothing that a client could not call. Needs no build step and no files from elsewhere.
"""

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from reactor.errors import Error
from reactor.runtime.components.definitions import child_path
from reactor.runtime.project import Project
from reactor.server.http.errors import HttpError, error_response
from reactor.server.http.paths import route_path

PROJECT: Final = "/_page/project"
_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self' ws: wss:; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


class Page:
    """An ASGI application for HTTP: the page, what it lists, and 404 for the rest."""

    def __init__(self, project: Callable[[], Project]) -> None:
        """
        Args:
            project: gives the deployed version; raises `Error` while there is none.
        """
        self._project = project

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._response(route_path(scope))(scope, receive, send)

    def _response(self, path: str) -> Response:
        if path in ("", "/"):
            return HTMLResponse(_html(), headers=_HEADERS)
        try:
            if path != PROJECT:
                raise HttpError(404, "NotFound", f"There is nothing at {path}.")
            body = msgspec.json.encode(_described(self._project()))
        except Error as error:
            return error_response(error)
        return Response(body, media_type="application/json", headers=_HEADERS)


def _described(project: Project) -> dict[str, Any]:
    return {
        "functions": [
            {"path": path, "kind": function.kind, "args": function.binder.args.to_json()}
            for path, function in sorted(project.registry.functions.items())
            if function.visibility == "public" and function.kind in ("query", "mutation", "action")
        ],
        "routes": [] if project.http is None else project.http.spec(),
        "crons": [{"name": cron.name, "path": child_path(cron.component, cron.path)} for cron in project.crons],
    }


@cache
def _html() -> str:
    return resources.files("reactor.server.http").joinpath("page.html").read_text(encoding="utf-8")
