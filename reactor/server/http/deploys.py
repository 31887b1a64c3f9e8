"""Deploys over HTTP, for administrators: what `reactor deploy` calls.

Used by the router.
"""

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from reactor.errors import DeployRefused
from reactor.limits import Limits
from reactor.protocol.deploys import EVENTS_TYPE
from reactor.server.backend import OpenBackend
from reactor.server.deploys.archive import too_large
from reactor.server.deploys.service import DeployRun, Deploys
from reactor.server.http.bodies import json_response, read_body
from reactor.server.http.errors import HttpError
from reactor.server.http.identity import admin_of

LOCAL: Final = (
    "This server runs a project of its own folder (`reactor dev`, or `reactor serve --project`), so nothing can be "
    "deployed to it: change the files there. `reactor serve` without --project takes deploys."
)
_encoder: Final = msgspec.json.Encoder()


class DeployApi:
    """The handlers of `/api/deploys`, as Starlette endpoints."""

    def __init__(self, backend: OpenBackend, limits: Limits) -> None:
        self._backend = backend
        self._most_bytes = limits.deploy_bytes

    async def list(self, request: Request) -> Response:
        """GET `/api/deploys?deploying=`: those that are kept.

        With the size of an archive it is refused as a deploy of that would be: a client that has to hear so while it
        uploads mostly hears of a broken connection.
        """
        size = _number(request, "deploying")
        await admin_of(request, self._backend(), writes=size is not None)
        if size is not None and size > self._most_bytes:
            raise too_large(self._most_bytes)
        return json_response(_encoder.encode(self._deploys().listing()), cache_control="no-store")

    async def create(self, request: Request) -> Response:
        """POST `/api/deploys?dryRun=&yes=`: deploy the archive that is the body."""
        await admin_of(request, self._backend(), writes=True)
        dry_run, yes = _flag(request, "dryRun"), _flag(request, "yes")
        self._deploys()  # before the upload
        try:
            archive = await read_body(request, self._most_bytes)
        except HttpError:
            raise too_large(self._most_bytes) from None
        return _following(self._deploys().begin(archive, dry_run=dry_run, yes=yes))

    async def roll_back(self, request: Request) -> Response:
        """POST `/api/deploys/rollback?number=&dryRun=&yes=`: deploy again what was deployed before."""
        await admin_of(request, self._backend(), writes=True)
        number = _number(request, "number")
        dry_run, yes = _flag(request, "dryRun"), _flag(request, "yes")
        return _following(self._deploys().roll_back(number, dry_run=dry_run, yes=yes))

    def _deploys(self) -> Deploys:
        deploys = self._backend().deploys
        if deploys is None:
            raise DeployRefused("ProjectIsLocal", LOCAL)
        return deploys


def _following(run: DeployRun) -> Response:
    """Return an answer of one line for each event. The deploy does not depend on whether they are read."""

    async def lines() -> AsyncIterator[bytes]:
        async for event in run.events():
            yield _encoder.encode(event) + b"\n"

    return StreamingResponse(lines(), media_type=EVENTS_TYPE, headers={"cache-control": "no-store"})


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name) == "true"


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HttpError(400, "BadDeployNumber", f"{name}={text[:20]!r} is no number.")
    return int(text)
