"""The bodies of the HTTP function API, as structs.

Owns the JSON field names of requests, results and errors. Promises that decoding raises `ProtocolError` and nothing
else, and passes arguments and values through as the bytes they are. Used by `server/http`.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from reactor.errors import ProtocolError
from reactor.protocol.sync import decode_ts


class FunctionRequest(msgspec.Struct, rename="camel", frozen=True):
    """Call one function. `args` is always one object here; on the wire it may be a list holding it."""

    path: str
    args: Raw
    format: str | None = None
    component_path: str | None = None


class QueryAtTsRequest(msgspec.Struct, rename="camel", frozen=True):
    """Run a query at a timestamp that `/api/query_ts` gave."""

    path: str
    args: Raw
    ts: str
    format: str | None = None


class RunRequest(msgspec.Struct, rename="camel", frozen=True):
    """Call the function that the URL names."""

    args: Raw
    format: str | None = None


class InlineQueryRequest(msgspec.Struct, rename="camel", frozen=True):
    """Run a query that the request brings along, in JavaScript. The key comes in the body."""

    admin_key: str


class QueryBatchRequest(msgspec.Struct, rename="camel", frozen=True):
    """Run several queries at one timestamp."""

    queries: list[FunctionRequest]


class VariableChange(msgspec.Struct, frozen=True):
    """A new value of an environment variable, or None to unset it."""

    name: str
    value: str | None = None

    def __repr__(self) -> str:  # values are secrets, and this may end in a traceback
        return f"VariableChange(name={self.name!r})"


class VariablesRequest(msgspec.Struct, frozen=True):
    """Change environment variables, all or none."""

    changes: list[VariableChange]


class VariablesResponse(msgspec.Struct, rename="camel", frozen=True):
    """All environment variables."""

    environment_variables: dict[str, str]

    def __repr__(self) -> str:
        return f"VariablesResponse({len(self.environment_variables)})"


class UdfSuccess(msgspec.Struct, tag="success", tag_field="status", rename="camel", frozen=True, omit_defaults=True):
    """The function returned."""

    value: Raw
    log_lines: Sequence[str] = ()  # left out when empty


class UdfFailure(msgspec.Struct, tag="error", tag_field="status", rename="camel", frozen=True, omit_defaults=True):
    """The function failed, which is HTTP 200 too. `error_data` is there only for the application's own errors."""

    error_message: str
    error_data: Raw | UnsetType = UNSET
    log_lines: Sequence[str] = ()


UdfResponse = UdfSuccess | UdfFailure


class BatchResponse(msgspec.Struct, frozen=True):
    """The results of a batch, in the order of its queries."""

    results: Sequence[UdfResponse]


class TsResponse(msgspec.Struct, frozen=True):
    """The latest timestamp, base64."""

    ts: str


class ErrorBody(msgspec.Struct, frozen=True):
    """Every answer that is not a function's result; official clients need both fields."""

    code: str
    message: str


T = TypeVar("T")

_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
_encoder: Final = msgspec.json.Encoder()
_function_decoder: Final = msgspec.json.Decoder(FunctionRequest)
_at_ts_decoder: Final = msgspec.json.Decoder(QueryAtTsRequest)
_inline_decoder: Final = msgspec.json.Decoder(InlineQueryRequest)
_run_decoder: Final = msgspec.json.Decoder(RunRequest)
_batch_decoder: Final = msgspec.json.Decoder(QueryBatchRequest)
_variables_decoder: Final = msgspec.json.Decoder(VariablesRequest)
_args_decoder: Final = msgspec.json.Decoder(tuple[Raw])


def decode_function_request(body: bytes) -> FunctionRequest:
    """Return the request in the body of `/api/query`, `/api/mutation`, `/api/action` or `/api/function`.

    Raises:
        ProtocolError: rule `BadJsonBody`, or `BadQueryArgs` for arguments that are not one object.
    """
    request = _decode(_function_decoder, body)
    return _with_object(request)


def decode_query_at_ts_request(body: bytes) -> tuple[FunctionRequest, int]:
    """Return the request in the body of `/api/query_at_ts`, and its timestamp.

    Raises:
        ProtocolError: rule `BadJsonBody`, or `BadQueryArgs` for arguments that are not one object.
    """
    request = _decode(_at_ts_decoder, body)
    try:
        ts = decode_ts(request.ts)
    except ProtocolError:
        raise _bad_body(f"invalid timestamp {request.ts[:40]!r}") from None
    return FunctionRequest(path=request.path, args=arguments_object(request.args), format=request.format), ts


def decode_run_request(body: bytes) -> RunRequest:
    """Return the request in the body of `/api/run/{path}`.

    Raises:
        ProtocolError: rule `BadJsonBody`, or `BadQueryArgs` for arguments that are not one object.
    """
    request = _decode(_run_decoder, body)
    return RunRequest(args=arguments_object(request.args), format=request.format)


def decode_inline_query_request(body: bytes) -> InlineQueryRequest:
    """Return the request in the body of `/api/run_test_function`.

    Raises:
        ProtocolError: rule `BadJsonBody`.
    """
    return _decode(_inline_decoder, body)


def decode_query_batch_request(body: bytes) -> list[FunctionRequest]:
    """Return the requests in the body of `/api/query_batch`.

    Raises:
        ProtocolError: rule `BadJsonBody`, or `BadQueryArgs` for arguments that are not one object.
    """
    return [_with_object(request) for request in _decode(_batch_decoder, body).queries]


def decode_variables_request(body: bytes) -> list[VariableChange]:
    """Return the changes in the body of `/api/update_environment_variables`.

    Raises:
        ProtocolError: rule `BadJsonBody`.
    """
    return _decode(_variables_decoder, body).changes


def arguments_object(args: Raw | bytes) -> Raw:
    """Return the single arguments object of `args`, which is that object or a list holding only it.

    Raises:
        ProtocolError: it is neither, or no JSON at all; the rule is `BadQueryArgs`.
    """
    text = bytes(args).strip()
    inner = text
    if text.startswith(b"["):
        try:
            inner = bytes(_args_decoder.decode(text)[0])
        except _DECODE_ERRORS as error:
            raise _bad_args(str(error)) from None
    if not inner.startswith(b"{"):
        raise _bad_args(f"Expected `object`, got {inner[:40].decode(errors='replace')}")
    return Raw(inner)


def encode_body(
    body: UdfResponse
    | BatchResponse
    | TsResponse
    | ErrorBody
    | FunctionRequest
    | RunRequest
    | VariablesRequest
    | VariablesResponse,
) -> bytes:
    """Return the JSON text of a body, as UTF-8."""
    return _encoder.encode(body)


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except _DECODE_ERRORS as error:
        raise _bad_body(str(error)) from None


def _with_object(request: FunctionRequest) -> FunctionRequest:
    return msgspec.structs.replace(request, args=arguments_object(request.args))


def _bad_body(detail: str) -> ProtocolError:
    return ProtocolError("BadJsonBody", f"Failed to parse the request body as JSON: {detail}")


def _bad_args(detail: str) -> ProtocolError:
    return ProtocolError("BadQueryArgs", f"Invalid arguments, expected one object: {detail}")
