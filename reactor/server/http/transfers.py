"""Imports and exports over HTTP, for administrators: what the official command line and ours call.

Promises that uploads and downloads pass through in parts however large they are, and that a read-only key changes
nothing. Used by the router. The work is that of `transfer/service`.
"""

from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from reactor.errors import InvalidArgument, ProtocolError, TransferRefused
from reactor.limits import MAX_HTTP_BODY_BYTES
from reactor.server.backend import OpenBackend
from reactor.server.http.bodies import json_response, read_body
from reactor.server.http.errors import HttpError
from reactor.server.http.identity import admin_of
from reactor.transfer.requests import ImportRequest

T = TypeVar("T")

MAX_PARTS = 10_000


class _Import(msgspec.Struct, rename="camel", frozen=True):
    format: str
    mode: str = "requireEmpty"
    table_name: str | None = None
    component_path: str | None = None

    def request(self) -> ImportRequest:
        return ImportRequest(self.format, self.mode, self.table_name, self.component_path or "")


class _Finish(msgspec.Struct, rename="camel", frozen=True):
    import_: _Import = msgspec.field(name="import")
    upload_token: str
    part_tokens: list[str]


class _Perform(msgspec.Struct, rename="camel", frozen=True):
    import_id: str


class _Expiration(msgspec.Struct, rename="camel", frozen=True):
    expiration_ts_ns: int


class TransferApi:
    """The handlers of `/api/import*` and `/api/export/*`, as Starlette endpoints."""

    def __init__(self, backend: OpenBackend) -> None:
        self._backend = backend

    # Imports.

    async def start_upload(self, request: Request) -> Response:
        """POST `/api/import/start_upload`."""
        await admin_of(request, self._backend(), writes=True)
        return json_response(msgspec.json.encode({"uploadToken": self._backend().transfers.start_upload()}))

    async def upload_part(self, request: Request) -> Response:
        """POST `/api/import/upload_part?uploadToken=…&partNumber=…`: the raw bytes of a part."""
        await admin_of(request, self._backend(), writes=True)
        number = request.query_params.get("partNumber", "")
        if not number.isdecimal() or not 1 <= int(number) <= MAX_PARTS:
            raise InvalidArgument(f"partNumber is a number from 1 to {MAX_PARTS}, not {number[:20]!r}.")
        token = request.query_params.get("uploadToken", "")
        part = await self._backend().transfers.upload_part(token, int(number), request.stream())
        return json_response(msgspec.json.encode(part))

    async def finish_upload(self, request: Request) -> Response:
        """POST `/api/import/finish_upload`: say what was uploaded."""
        await admin_of(request, self._backend(), writes=True)
        body = await _read(request, _Finish)
        transfers = self._backend().transfers
        import_id = await transfers.finish_upload(body.upload_token, body.part_tokens, body.import_.request())
        return json_response(msgspec.json.encode({"importId": import_id}))

    async def perform_import(self, request: Request) -> Response:
        """POST `/api/perform_import`: do what waits for confirmation."""
        await admin_of(request, self._backend(), writes=True)
        await self._backend().transfers.perform((await _read(request, _Perform)).import_id)
        return Response()

    async def cancel_import(self, request: Request) -> Response:
        """POST `/api/cancel_import`."""
        await admin_of(request, self._backend(), writes=True)
        await self._backend().transfers.cancel_import((await _read(request, _Perform)).import_id)
        return Response()

    async def import_now(self, request: Request) -> Response:
        """POST `/api/import?tableName&componentPath&format&mode`: the body, imported without asking back."""
        await admin_of(request, self._backend(), writes=True)
        asked = request.query_params
        wanted = ImportRequest(
            asked.get("format", ""),
            asked.get("mode", "requireEmpty"),
            asked.get("tableName"),
            asked.get("componentPath", ""),
        )
        written = await self._backend().transfers.import_now(request.stream(), wanted)
        return json_response(msgspec.json.encode({"numWritten": written}))

    # Exports.

    async def request_zip(self, request: Request) -> Response:
        """POST `/api/export/request/zip?includeStorage&component`."""
        await admin_of(request, self._backend(), writes=True)
        include = request.query_params.get("includeStorage", "false") == "true"
        component = request.query_params.get("component", "")
        await self._backend().transfers.request_export(include_storage=include, component=component)
        return Response()

    async def download(self, request: Request) -> Response:
        """GET `/api/export/zip/{key}`: the archive, by its id or the timestamp of its snapshot."""
        await admin_of(request, self._backend())
        try:
            path, name = await self._backend().transfers.exported(request.path_params["key"])
        except TransferRefused as error:
            # Not 404: the official command line would try that again for a minute.
            raise HttpError(400, error.rule, str(error)) from None
        headers = {
            "content-disposition": f"attachment; filename={name}",
            "cache-control": "private, max-age=2592000",
        }
        return FileResponse(path, media_type="application/zip", headers=headers)

    async def set_expiration(self, request: Request) -> Response:
        """POST `/api/export/set_expiration/{id}`."""
        await admin_of(request, self._backend(), writes=True)
        when_ns = (await _read(request, _Expiration)).expiration_ts_ns
        await self._backend().transfers.set_expiration(request.path_params["id"], when_ns)
        return Response()

    async def cancel_export(self, request: Request) -> Response:
        """POST `/api/export/cancel/{id}`."""
        await admin_of(request, self._backend(), writes=True)
        self._backend().transfers.cancel_export(request.path_params["id"])
        return Response()


async def _read(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await read_body(request, MAX_HTTP_BODY_BYTES), type=kind)
    except msgspec.MsgspecError as error:
        raise ProtocolError("BadJsonBody", f"The body is not what it should be: {error}") from None
