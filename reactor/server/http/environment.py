"""Environment variables over HTTP, for administrators: what the official command line and dashboard call.

Used by the router.
"""

from starlette.requests import Request
from starlette.responses import Response

from reactor.errors import Forbidden
from reactor.limits import MAX_HTTP_BODY_BYTES
from reactor.protocol.http import VariablesResponse, decode_variables_request, encode_body
from reactor.runtime.calls import Identity
from reactor.server.backend import OpenBackend
from reactor.server.callers import Caller
from reactor.server.environment import EnvironmentControl
from reactor.server.http.api import read_body
from reactor.server.http.headers import identity
from reactor.server.permissions import NO_PERMISSION


class EnvironmentApi:
    """The handlers of `/api/…_environment_variables`, as Starlette endpoints."""

    def __init__(self, backend: OpenBackend) -> None:
        self._backend = backend

    async def list(self, request: Request) -> Response:
        """GET `/api/list_environment_variables`: those that are set, with their values."""
        variables = await self._control(await self._admin(request)).all()
        return Response(
            encode_body(VariablesResponse(environment_variables=variables)),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    async def update(self, request: Request) -> Response:
        """POST `/api/update_environment_variables`: set some, unset others, all or none."""
        caller = await self._admin(request)
        if caller.read_only:
            raise Forbidden("BadDeployKey", f"{NO_PERMISSION} The admin key is read-only.")
        changes = decode_variables_request(await read_body(request, MAX_HTTP_BODY_BYTES))
        await self._control(caller).update({change.name: change.value for change in changes})
        return Response()

    async def _admin(self, request: Request) -> Identity:
        backend, authorization = self._backend(), request.headers.get("authorization")
        admin_key = request.query_params.get("adminKey")
        caller = await identity(authorization, admin_key, backend.check_admin, backend.identify)
        if caller.kind != "admin":
            raise Forbidden("BadDeployKey", f"{NO_PERMISSION} This endpoint needs an admin key.")
        return caller

    def _control(self, caller: Identity) -> EnvironmentControl:
        return EnvironmentControl(Caller(self._backend, set(), caller))
