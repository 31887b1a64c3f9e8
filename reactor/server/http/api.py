"""The HTTP function API: one request, one function, one JSON answer.

Promises status 200 for everything a function did, failures included, and `{code, message}` for what kept it from
running. Used by the router; talks to the open deployment through `Backend`.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from msgspec import UNSET, Raw
from starlette.requests import Request
from starlette.responses import Response

from reactor.errors import Forbidden, ProtocolError
from reactor.limits import MAX_HTTP_BODY_BYTES
from reactor.ports import Rng
from reactor.protocol.http import (
    FunctionRequest,
    UdfFailure,
    UdfResponse,
    UdfSuccess,
    arguments_object,
    decode_function_request,
    decode_run_request,
    encode_body,
)
from reactor.runtime.calls import Call, Failure, Identity, Outcome, Refused
from reactor.runtime.references import parse_path
from reactor.server.backend import Backend, OpenBackend
from reactor.server.http.errors import HttpError
from reactor.server.http.headers import client_version, identity
from reactor.server.permissions import NO_ACTIONS, NO_PERMISSION, refusal
from reactor.server.text import printable
from reactor.values.json import Format, decode_json, encode_format, parse_format

ENCODED: Final = "convex_encoded_json"

_JSON_TYPE: Final = re.compile(r"application/(?:json|[\w.!#$&^-]+\+json)\s*(?:;.*)?", re.IGNORECASE)
_REQUEST_ID: Final = re.compile(r"[0-9a-zA-Z-]{1,64}")

Submit = Callable[[Call, Callable[[Outcome], None]], None]


class Api:
    """The handlers of `/api/*`, as Starlette endpoints."""

    def __init__(self, backend: OpenBackend, rng: Rng) -> None:
        self._backend = backend
        self._rng = rng

    async def query(self, request: Request) -> Response:
        """POST (or GET) `/api/query`."""
        backend = self._backend()
        if request.method == "GET":
            asked = _from_url(request)
        else:
            asked = decode_function_request(await read_json(request))
        return await self._answer(request, backend, asked, backend.functions.submit_query, writes=False)

    async def mutation(self, request: Request) -> Response:
        """POST `/api/mutation`. Over HTTP nothing tells a repeated mutation from a new one."""
        backend = self._backend()
        asked = decode_function_request(await read_json(request))
        return await self._answer(request, backend, asked, backend.functions.submit_mutation, writes=True)

    async def action(self, request: Request) -> Response:
        """POST `/api/action`: answers that there are none yet."""
        backend = self._backend()
        caller = self._identity(request, backend)
        asked = decode_function_request(await read_json(request))
        parse_path(asked.path)
        text = refusal(asked.path, asked.component_path or "", caller, writes=True) or NO_ACTIONS
        return _respond(self._failed(request, text), ENCODED)

    async def function(self, request: Request) -> Response:
        """POST `/api/function`: any function, internal ones too, for administrators."""
        backend = self._backend()
        caller = self._identity(request, backend)
        if caller.kind != "admin":
            raise Forbidden("BadDeployKey", f"{NO_PERMISSION} This endpoint needs an admin key.")
        asked = decode_function_request(await read_json(request))
        return await self._answer(request, backend, asked, _any(backend, caller), writes=False)

    async def run(self, request: Request) -> Response:
        """POST `/api/run/{path}`: any public function, named by the URL."""
        backend = self._backend()
        # From the raw path, since a segment may hold an encoded slash.
        segments = [unquote(part) for part in _raw_tail(request).split("/")]
        if len(segments) < 2 or not all(segments):
            raise HttpError(
                400, "MissingIdentifier", "The URL must name a module and a function: /api/run/messages/list"
            )
        body = decode_run_request(await read_json(request))
        asked = FunctionRequest(
            path="/".join(segments[:-1]) + ":" + segments[-1], args=body.args, format=body.format or "json"
        )
        caller = self._identity(request, backend)
        return await self._answer(request, backend, asked, _any(backend, caller), writes=False)

    async def _answer(
        self, request: Request, backend: Backend, asked: FunctionRequest, submit: Submit, *, writes: bool
    ) -> Response:
        caller = self._identity(request, backend)
        if asked.format is None:
            name = client_version(request.headers.get("convex-client")).default_format
        else:
            name = asked.format
        shape = parse_format(name)
        parse_path(asked.path)
        refused = refusal(asked.path, asked.component_path or "", caller, writes=writes)
        if refused is not None:
            return _respond(self._failed(request, refused), ENCODED)
        call = Call(
            path=asked.path,
            args=asked.args,
            identity=caller,
            request_id=self._request_id(request),
            internal=caller.kind == "admin",
        )
        outcome = await outcome_of(submit, call)
        if isinstance(outcome, Refused):
            raise outcome.error
        return _respond(outcome, shape)

    def _identity(self, request: Request, backend: Backend) -> Identity:
        return identity(request.headers.get("authorization"), request.query_params.get("adminKey"), backend.check_admin)

    def _request_id(self, request: Request) -> str:
        given = request.headers.get("convex-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return self._rng.token_bytes(8).hex()

    def _failed(self, request: Request, text: str) -> Failure:
        message = f"[Request ID: {self._request_id(request)}] Server Error\n{text}"
        return Failure(message=message, detail=text, ts=0)


async def outcome_of(submit: Submit, call: Call) -> Outcome:
    """Run a call and wait for its outcome; an awaiter that goes away loses only the answer."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def done(outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    submit(call, done)
    return await future


async def read_json(request: Request) -> bytes:
    """Return the body of a JSON request.

    Raises:
        ProtocolError: rule `BadJsonBody`; the request does not say it is JSON.
        HttpError: 413; the body is too large.
    """
    if not _JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
        raise ProtocolError("BadJsonBody", "Expected request with `Content-Type: application/json`")
    return await read_body(request, MAX_HTTP_BODY_BYTES)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request, reading no more than `limit` bytes of it.

    Raises:
        HttpError: 413; there is more.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise HttpError(413, "RequestTooLarge", f"The request body is larger than {limit} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


def _any(backend: Backend, caller: Identity) -> Submit:
    # A read-only key runs what it names as a query; a function of another kind then says so.
    return backend.functions.submit_query if caller.read_only else backend.functions.submit_any


def _from_url(request: Request) -> FunctionRequest:
    parameters = request.query_params
    path = parameters.get("path")
    if path is None:
        raise ProtocolError("BadQueryArgs", "The URL has no `path` parameter.")
    args = parameters.get("args", "{}").encode()
    return FunctionRequest(path=path, args=arguments_object(args), format=parameters.get("format"))


def _raw_tail(request: Request) -> str:
    raw = request.scope.get("raw_path")
    path = raw.decode("latin-1") if isinstance(raw, bytes) else request.scope["path"]
    return str(path).partition("/api/run/")[2]


def _respond(outcome: Outcome, shape: Format) -> Response:
    body: UdfResponse
    if isinstance(outcome, Failure):
        data = UNSET if outcome.data is None else _shaped(outcome.data, shape)
        body = UdfFailure(error_message=outcome.message, error_data=data, log_lines=outcome.log_lines)
    else:
        assert not isinstance(outcome, Refused)
        body = UdfSuccess(value=_shaped(outcome.value, shape), log_lines=outcome.log_lines)
    try:
        text = encode_body(body)
    except UnicodeEncodeError:
        text = encode_body(printable(body))
    return Response(text, media_type="application/json")


def _shaped(value: bytes, shape: Format) -> Raw:
    return Raw(value if shape == ENCODED else encode_format(decode_json(value), shape))
