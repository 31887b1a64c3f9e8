"""Uploads and downloads of stored files.

Promises that content passes through in parts however large a file is; that a client which goes away, stalls or lies
about what it sends leaves nothing behind; and that as many transfers run at a time as limits allow. Used by the router.
Content and documents are in `runtime/files/store`.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from reactor.errors import Error
from reactor.limits import KIB, Limits
from reactor.runtime.calls import Call
from reactor.runtime.context import MutationCtx
from reactor.runtime.failures import unwrap
from reactor.runtime.files.documents import FileRow, Incoming
from reactor.runtime.files.storage import add_file
from reactor.runtime.files.store import Files
from reactor.server.backend import Backend, OpenBackend, outcome_of
from reactor.server.http.abort import abort
from reactor.server.http.admission import Admission
from reactor.server.http.bodies import json_response
from reactor.server.http.errors import HttpError, error_body
from reactor.server.http.ranges import (
    Span,
    asked_span,
    content_length,
    content_type,
    expected_sha256,
    mismatch,
    names_tag,
)
from reactor.storage.interface import Written

logger = logging.getLogger("reactor.http")

T = TypeVar("T")

PROGRESS_BYTES: Final = 64 * KIB
CACHE_CONTROL: Final = "private, max-age=2592000"
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class FileApi:
    """The handlers of `/api/storage/*`: `upload` as a Starlette endpoint, `download` as an ASGI application."""

    def __init__(self, backend: OpenBackend, limits: Limits) -> None:
        self._backend = backend
        self._limits = limits
        self._uploads = Admission(limits, "file_transfers")
        self.download = _Download(backend, limits)

    async def upload(self, request: Request) -> Response:
        """POST `/api/storage/upload?token=…`: store the body, and answer with its id."""
        async with self._uploads.place():
            backend = self._backend()
            component = backend.files.component_of(request.query_params.get("token", ""))
            if await backend.files.load(component) is None:
                raise HttpError(404, "ComponentNotFound", f"There is no component {component!r} to upload files into.")
            kind, digest = content_type(request.headers), expected_sha256(request.headers)
            size = content_length(request.headers)
            try:
                stored_id = await backend.files.store(
                    self._body(request, backend.files, size),
                    kind,
                    lambda incoming: _insert(backend, component, incoming),
                    lambda written: _check(written, digest),
                )
            except _Stalled as stalled:
                # What is left of the body may never come.
                return json_response(error_body(stalled), 408, connection="close")
            return json_response(msgspec.json.encode({"storageId": stored_id}))

    async def _body(self, request: Request, files: Files, size: int | None) -> AsyncIterator[bytes]:
        limit = files.file_bytes
        if size is not None and limit and size > limit:
            raise too_large(limit)
        patience = Patience(self._limits.file_idle_seconds)
        stream = aiter(request.stream())
        received = 0
        while True:
            try:
                part = await patience.wait(anext(stream))
            except StopAsyncIteration:
                break
            received += len(part)
            if limit and received > limit:
                raise too_large(limit)
            patience.moved(len(part))
            yield part
        if size is not None and received != size:
            raise HttpError(400, "BadHeader", f"Content-Length says {size} bytes, but {received} came.")


class _Download:
    """GET and HEAD `/api/storage/{uuid}`, as an ASGI application."""

    def __init__(self, backend: OpenBackend, limits: Limits) -> None:
        self._backend = backend
        self._limits = limits
        self._downloads = Admission(limits, "file_transfers")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        async with self._downloads.place():
            files = self._backend().files
            row = await self._row(request, files)
            headers = _headers(row)
            span = None
            if names_tag(request.headers.get("if-none-match", ""), _tag(row)):
                await send(_start(304, {"cache-control": CACHE_CONTROL, "etag": _tag(row)}))
                await send({"type": "http.response.body"})
                return
            asked = request.headers.get("range")
            if asked is not None and names_tag(request.headers.get("if-range", _tag(row)), _tag(row)):
                span = asked_span(asked, row.size)
            if span is None:
                status, span = 200, Span(0, row.size)
            else:
                status = 206
                headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{row.size}"
                del headers["digest"]
            headers["content-length"] = str(span.end - span.start)
            if request.method == "HEAD":
                await send(_start(status, headers))
                await send({"type": "http.response.body"})
            else:
                await self._send(request, send, files, row, span, _start(status, headers))

    async def _row(self, request: Request, files: Files) -> FileRow:
        """Return the file that the URL names.

        Raises:
            HttpError: 400 `InvalidStoragePath`, or 404 `FileNotFound`.
        """
        uuid = str(request.path_params["uuid"]).lower()
        if not _UUID.fullmatch(uuid):
            raise HttpError(
                400, "InvalidStoragePath", f"Invalid storage path: {uuid[:100]!r}. A file has a UUID in its URL."
            )
        table = await files.load(request.query_params.get("component", ""))
        row = None if table is None else files.find(table, uuid)
        if row is None:
            raise HttpError(404, "FileNotFound", f"File {uuid} not found")
        return row

    async def _send(self, request: Request, send: Send, files: Files, row: FileRow, span: Span, start: Message) -> None:
        patience = Patience(self._limits.file_idle_seconds)
        parts = files.parts(row, span.start, span.end)
        is_started = False
        try:
            async for part in parts:
                if not is_started:  # only now, so that content which can't be read gives an error
                    is_started = True
                    await send(start)
                if await request.is_disconnected():
                    return
                view = memoryview(part)
                for at in range(0, len(view), PROGRESS_BYTES):
                    body = bytes(view[at : at + PROGRESS_BYTES])
                    await patience.wait(send({"type": "http.response.body", "body": body, "more_body": True}))
                    patience.moved(len(body))
            if not is_started:
                await send(start)
            await send({"type": "http.response.body"})
        except _Stalled:
            logger.info("a download was given up: its client takes too long to read")
            await abort(request)
        except Error:
            if not is_started:
                raise
            logger.exception("a download was cut off")
            await abort(request)
        finally:
            await parts.aclose()  # type: ignore[attr-defined]


class _Stalled(HttpError):
    """The client has not moved enough bytes for too long."""


class Patience:
    """How long a transfer waits for its client, all waits together, between two times that enough bytes have moved."""

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds
        self._moved = 0

    async def wait(self, work: Awaitable[T]) -> T:
        """Wait for the client.

        Raises:
            _Stalled: it took too long.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left):
                return await work
        except TimeoutError:
            raise _Stalled(
                408,
                "RequestTimeout",
                f"Less than {PROGRESS_BYTES} bytes have come in {self._seconds} s (REACTOR_FILE_IDLE_SECONDS). "
                "Nothing was stored.",
            ) from None
        finally:
            self._left -= loop.time() - began

    def moved(self, count: int) -> None:
        """Count bytes that the client has sent or taken."""
        self._moved += count
        if self._moved >= PROGRESS_BYTES:
            self._moved = 0
            self._left = self._seconds


def too_large(limit: int) -> HttpError:
    """Return the error for an upload that is larger than files may be."""
    return HttpError(413, "FileTooLarge", f"The file is larger than REACTOR_FILE_BYTES={limit}. Nothing was stored.")


def _check(written: Written, digest: bytes | None) -> None:
    if digest is not None and written.sha256 != digest:
        raise mismatch(digest, written.sha256)


async def _insert(backend: Backend, component: str, incoming: Incoming) -> str:
    """Commit the document of a file that has arrived."""
    call = Call(
        path="storage:upload", args=b"{}", request_id=backend.new_request_id(), component=component, internal=True
    )

    async def insert(ctx: MutationCtx) -> str:
        return add_file(ctx, incoming)

    return str(unwrap(await outcome_of(partial(backend.submit_handler, "mutation", insert), call)))


def _headers(row: FileRow) -> dict[str, str]:
    headers = {} if row.content_type is None else {"content-type": row.content_type}
    return headers | {
        "digest": f"sha-256={row.sha256}",
        "cache-control": CACHE_CONTROL,
        "accept-ranges": "bytes",
        "etag": _tag(row),
    }


def _tag(row: FileRow) -> str:
    return f'"{row.sha256}"'


def _start(status: int, headers: dict[str, str]) -> Message:
    raw = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": raw}
