"""Environment variables over HTTP, for administrators: what the official command line and dashboard call.

Used by the router.
"""

from starlette.requests import Request
from starlette.responses import Response

from reactor.auth.identity import Identity
from reactor.limits import MAX_HTTP_BODY_BYTES
from reactor.protocol.http import VariablesResponse, decode_variables_request, encode_body
from reactor.server.backend import OpenBackend
from reactor.server.callers import Caller
from reactor.server.environment import EnvironmentControl
from reactor.server.http.bodies import json_response, read_body
from reactor.server.http.identity import admin_of


class EnvironmentApi:
    """The handlers of `/api/…_environment_variables`, as Starlette endpoints."""

    def __init__(self, backend: OpenBackend) -> None:
        self._backend = backend

    async def list(self, request: Request) -> Response:
        """GET `/api/list_environment_variables`: those that are set, with their values."""
        variables = await self._control(await admin_of(request, self._backend())).all()
        return json_response(encode_body(VariablesResponse(environment_variables=variables)), cache_control="no-store")

    async def update(self, request: Request) -> Response:
        """POST `/api/update_environment_variables`: set some, unset others, all or none."""
        caller = await admin_of(request, self._backend(), writes=True)
        changes = decode_variables_request(await read_body(request, MAX_HTTP_BODY_BYTES))
        await self._control(caller).update({change.name: change.value for change in changes})
        return Response()

    def _control(self, caller: Identity) -> EnvironmentControl:
        return EnvironmentControl(self._backend, Caller(self._backend, set(), caller))
