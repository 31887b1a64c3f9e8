"""What a failed function looks like to its caller.

Owns the text of error messages sent to clients: the request id line, the error, and the user's frames of the traceback.
Promises that redaction leaves nothing but the request id, and that the data of a `ReactorError` or `InvalidCursor` is
never redacted. Used by runs, actions, and whatever runs functions by itself.
"""

import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from reactor.errors import (
    ArgumentsInvalid,
    DeterminismError,
    Error,
    FunctionNotFound,
    FunctionTimeout,
    InvalidCursor,
    InvalidFunctionCall,
    LimitExceeded,
    Overloaded,
    ReactorError,
    ReturnsInvalid,
    SnapshotTooOld,
    SystemTimeout,
    Unavailable,
    ValidationError,
)
from reactor.runtime.calls import Failure, Outcome, Refused, Success
from reactor.runtime.versions import Versions
from reactor.values.json import decode_json, encode_json
from reactor.values.stored import normalise
from reactor.values.types import Value

COMPLETE: Final = ("Invalid arguments for ", "Arguments for ", "Function ")  # texts that are said without a prefix
# What ends the function whoever meets it.
ENDS_THE_FUNCTION: Final = (
    DeterminismError,
    LimitExceeded,
    FunctionTimeout,
    SystemTimeout,
    SnapshotTooOld,
    Unavailable,
    Overloaded,
    MemoryError,
)
BEFORE_THE_FUNCTION: Final = (ArgumentsInvalid, ReturnsInvalid, FunctionNotFound, InvalidFunctionCall)


def failure_of(
    error: BaseException,
    *,
    request_id: str,
    ts: int,
    log_lines: tuple[str, ...],
    files: Collection[Path],
    redact: bool,
) -> Failure:
    """Return the failure a client is told about. `files` are the project's, whose frames are shown."""
    text, data = _described(error)
    detail = text if isinstance(error, BEFORE_THE_FUNCTION) else text + _frames(error, files)
    head = _head(request_id)
    if redact:
        return Failure(message=head, detail="", ts=ts, data=data, log_lines=(), error=error)
    return Failure(message=f"{head}\n{detail}", detail=detail, ts=ts, data=data, log_lines=log_lines, error=error)


def told_of(error: BaseException, files: Collection[Path]) -> str:
    """Return what is said of `error` to whoever may know everything. `files` are the project's, whose frames follow."""
    text, _ = _described(error)
    return text if isinstance(error, BEFORE_THE_FUNCTION) else text + _frames(error, files)


def http_failure(error: BaseException, *, request_id: str, files: Collection[Path], redact: bool) -> bytes:
    """Return the JSON body that answers a request whose HTTP action raised `error`."""
    text, data = _described(error)
    raw = UNSET if data is None else Raw(data)
    head = _head(request_id)
    if redact:
        return msgspec.json.encode(_HttpFailure(code=head, data=raw))
    trace = text + _frames(error, files)
    return msgspec.json.encode(_HttpFailure(code=f"{head}: {text}", trace=trace, data=raw))


class _HttpFailure(msgspec.Struct, omit_defaults=True):
    code: str
    trace: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


def _head(request_id: str) -> str:
    return f"[Request ID: {request_id}] Server Error"


def _described(error: BaseException) -> tuple[str, bytes | None]:
    """Return what is said of `error`, without frames, and the wire JSON of the data that goes with it."""
    data: bytes | None = None
    if isinstance(error, ReactorError):
        try:
            normal = normalise(error.data)
            data = encode_json(normal.value, normal.plain)
            text = f"Uncaught ConvexError: {data.decode() if not isinstance(error.data, str) else error.data}"
        except ValidationError as problem:
            text = f"Uncaught Error: ConvexError with invalid data: {problem}"
    elif isinstance(error, InvalidCursor):
        data = encode_json(error.data)
        text = f"Uncaught ConvexError: {error}"
    elif isinstance(error, ArgumentsInvalid | ReturnsInvalid):
        text = str(error) if str(error).startswith(COMPLETE) else f"{error.code}: {error}"
    elif isinstance(error, BEFORE_THE_FUNCTION) or isinstance(error, FunctionTimeout | SystemTimeout):
        text = str(error)
    else:
        name, message = type(error).__name__, _text(error)
        text = f"Uncaught {name}: {message}" if message else f"Uncaught {name}"
    return _sendable(text), data


def text_for_owner(failure: Failure, versions: Versions) -> str:
    """Return what a function has failed with, for the application itself, which nothing is kept from."""
    if failure.detail or failure.error is None:
        return failure.detail
    files = versions.latest().project.files
    return failure_of(failure.error, request_id="", ts=0, log_lines=(), files=files, redact=False).detail


def unwrap(outcome: Outcome) -> Value:
    """Return the value of an outcome, or raise what went wrong."""
    if isinstance(outcome, Success):
        return decode_json(outcome.value)
    error = outcome.error if isinstance(outcome, Refused) else exception_of(outcome)
    del outcome
    try:
        raise error
    finally:
        del error  # whose traceback refers to this frame


def exception_of(failure: Failure) -> BaseException:
    """Return what the function raised. A `ReactorError` holds its data as a client would get it."""
    if failure.data is not None:
        return ReactorError(decode_json(failure.data))
    return failure.error if failure.error is not None else Error(failure.message)


def _frames(error: BaseException, files: Collection[Path]) -> str:
    """Return the user's frames, innermost first, as lines of their own."""
    shown = {str(path) for path in files}
    # Not `extract_tb`, which reads the source lines from disk.
    frames = [
        f"\n    at {frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename in shown
    ]
    return _sendable("".join(reversed(frames)))


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # a lone surrogate could not be sent


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<the exception can't be printed>"
