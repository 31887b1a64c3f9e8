"""The HTTP function API: one request, one function, one JSON answer.

Promises status 200 for everything a function did, failures included, and `{code, message}` for what kept it from
running. Used by the router; talks to the open deployment through `Backend`.
"""

import asyncio
import re
from typing import Final
from urllib.parse import unquote

from msgspec import UNSET, Raw
from starlette.requests import Request
from starlette.responses import Response

from reactor.auth.identity import Identity
from reactor.errors import ProtocolError
from reactor.limits import MAX_BATCH_BYTES, MAX_BATCH_QUERIES, MAX_PARALLEL_QUERIES
from reactor.protocol.http import (
    BatchResponse,
    FunctionRequest,
    TsResponse,
    UdfFailure,
    UdfResponse,
    UdfSuccess,
    arguments_object,
    decode_function_request,
    decode_inline_query_request,
    decode_query_at_ts_request,
    decode_query_batch_request,
    decode_run_request,
    encode_body,
)
from reactor.protocol.sync import encode_ts
from reactor.runtime.calls import Call, Failure, Refused, Success
from reactor.runtime.references import parse_path
from reactor.server.backend import Backend, OpenBackend, Submit, outcome_of
from reactor.server.http.bodies import json_response, read_json
from reactor.server.http.client_version import client_version
from reactor.server.http.errors import HttpError
from reactor.server.http.identity import admin_of, caller_of, check_admin_key
from reactor.server.permissions import Rights
from reactor.server.text import printable
from reactor.values.json import Format, decode_json, encode_format, parse_format

ENCODED: Final = "convex_encoded_json"
NO_INLINE_QUERIES: Final = (
    "Queries given as text are not supported: functions of this deployment are written in Python. Put the query into "
    "functions/ as an internal_query and run it by name, as in `convex run messages:recent`."
)

_REQUEST_ID: Final = re.compile(r"[0-9a-zA-Z-]{1,64}")


class FunctionApi:
    """The handlers of `/api/query`, `/api/mutation` and their like, as Starlette endpoints."""

    def __init__(self, backend: OpenBackend) -> None:
        self._backend = backend

    async def query(self, request: Request) -> Response:
        """POST (or GET) `/api/query`."""
        backend = self._backend()
        if request.method == "GET":
            asked = _from_url(request)
        else:
            asked = decode_function_request(await read_json(request))
        return await self._answer(request, backend, asked, backend.functions.submit_query, writes=False)

    async def query_ts(self, request: Request) -> Response:
        """POST `/api/query_ts`: the latest timestamp, at which queries can be asked for a while."""
        backend = self._backend()
        await caller_of(request, backend)
        return json_response(encode_body(TsResponse(ts=encode_ts(backend.snapshots.lend()))))

    async def query_at_ts(self, request: Request) -> Response:
        """POST `/api/query_at_ts`: several of these see one state."""
        backend = self._backend()
        asked, ts = decode_query_at_ts_request(await read_json(request))
        latest = backend.durable_ts()
        if ts > latest:
            raise HttpError(
                400, "InvalidTimestamp", f"Timestamp {ts} is after the latest, {latest}. Take one from /api/query_ts."
            )
        return await self._answer(request, backend, asked, _at(backend, ts), writes=False)

    async def query_batch(self, request: Request) -> Response:
        """POST `/api/query_batch`: several queries at one timestamp."""
        backend = self._backend()
        caller = await caller_of(request, backend)
        batch = decode_query_batch_request(await read_json(request))
        if len(batch) > MAX_BATCH_QUERIES:
            raise HttpError(
                400, "TooManyQueries", f"The batch has {len(batch)} queries, above the limit of {MAX_BATCH_QUERIES}."
            )
        shapes = [self._shape(request, asked) for asked in batch]
        for asked in batch:
            parse_path(asked.path)
        bodies: list[UdfResponse] = []
        size = 0
        with backend.snapshots.latest() as ts:
            submit = _at(backend, ts)
            for start in range(0, len(batch), MAX_PARALLEL_QUERIES):
                end = start + MAX_PARALLEL_QUERIES
                calls = [self._outcome(request, caller, asked, submit, writes=False) for asked in batch[start:end]]
                for outcome, shape in zip(await asyncio.gather(*calls), shapes[start:end], strict=True):
                    bodies.append(_body(outcome, shape))
                    size += len(outcome.value) if isinstance(outcome, Success) else len(outcome.message)
                if size > MAX_BATCH_BYTES:
                    raise HttpError(
                        400, "TooLargeResult", f"The results of the batch take more than {MAX_BATCH_BYTES} bytes."
                    )
        return _encoded(BatchResponse(results=bodies))

    async def mutation(self, request: Request) -> Response:
        """POST `/api/mutation`. Over HTTP nothing tells a repeated mutation from a new one."""
        backend = self._backend()
        asked = decode_function_request(await read_json(request))
        return await self._answer(request, backend, asked, backend.functions.submit_mutation, writes=True)

    async def action(self, request: Request) -> Response:
        """POST `/api/action`. One whose client goes away runs on."""
        backend = self._backend()
        asked = decode_function_request(await read_json(request))
        return await self._answer(request, backend, asked, backend.functions.submit_action, writes=True)

    async def function(self, request: Request) -> Response:
        """POST `/api/function`: any function, internal ones too, for administrators."""
        backend = self._backend()
        caller = await admin_of(request, backend)
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
        caller = await caller_of(request, backend)
        return await self._answer(request, backend, asked, _any(backend, caller), writes=False)

    async def inline_query(self, request: Request) -> Response:
        """POST `/api/run_test_function`: a query in JavaScript, which nothing here can run; the answer says so."""
        asked = decode_inline_query_request(await read_json(request))
        check_admin_key(asked.admin_key, self._backend())
        return _encoded(UdfFailure(error_message=NO_INLINE_QUERIES, log_lines=()))

    async def _answer(
        self, request: Request, backend: Backend, asked: FunctionRequest, submit: Submit, *, writes: bool
    ) -> Response:
        caller = await caller_of(request, backend)
        shape = self._shape(request, asked)
        return _encoded(_body(await self._outcome(request, caller, asked, submit, writes=writes), shape))

    async def _outcome(
        self, request: Request, caller: Identity, asked: FunctionRequest, submit: Submit, *, writes: bool
    ) -> Success | Failure:
        parse_path(asked.path)
        refused = Rights(caller).refusal(asked.path, asked.component_path or "", writes=writes)
        if refused is not None:
            return self._failed(request, refused)
        call = Call(
            path=asked.path,
            args=asked.args,
            identity=caller,
            request_id=self._request_id(request),
            internal=caller.kind == "admin",
            component=asked.component_path or "",
            caller="HttpApi",
        )
        outcome = await outcome_of(submit, call)
        if isinstance(outcome, Refused):
            raise outcome.error
        return outcome

    def _shape(self, request: Request, asked: FunctionRequest) -> Format:
        """Return the form of the result: what is asked for, else what a client of this version expects."""
        name = asked.format
        if name is None:
            name = client_version(request.headers.get("convex-client")).default_format
        return parse_format(name)

    def _request_id(self, request: Request) -> str:
        given = request.headers.get("convex-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return self._backend().new_request_id()

    def _failed(self, request: Request, text: str) -> Failure:
        message = f"[Request ID: {self._request_id(request)}] Server Error\n{text}"
        return Failure(message=message, detail=text, ts=0)


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


def _at(backend: Backend, ts: int) -> Submit:
    return lambda call, done: backend.functions.submit_query(call, done, ts)


def _body(outcome: Success | Failure, shape: Format) -> UdfResponse:
    if isinstance(outcome, Failure):
        data = UNSET if outcome.data is None else _shaped(outcome.data, shape)
        return UdfFailure(error_message=outcome.message, error_data=data, log_lines=outcome.log_lines)
    return UdfSuccess(value=_shaped(outcome.value, shape), log_lines=outcome.log_lines)


def _encoded(body: UdfResponse | BatchResponse) -> Response:
    try:
        return json_response(encode_body(body))
    except UnicodeEncodeError:
        return json_response(encode_body(printable(body)))


def _shaped(value: bytes, shape: Format) -> Raw:
    return Raw(value if shape == ENCODED else encode_format(decode_json(value), shape))
