"""What a failed function looks like to its caller.

Owns the text of error messages sent to clients: the request id line, the error, and the user's frames of the traceback.
Promises that redaction leaves nothing but the request id, and that the data of a `ReactorError` or `InvalidCursor` is
never redacted. Used by the executor.
"""

import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Final

from reactor.errors import (
    ArgumentsInvalid,
    Error,
    FunctionNotFound,
    FunctionTimeout,
    InvalidCursor,
    InvalidFunctionCall,
    ReactorError,
    ReturnsInvalid,
    SystemTimeout,
    ValidationError,
)
from reactor.runtime.calls import Failure, Outcome, Refused
from reactor.runtime.versions import Versions
from reactor.values.json import decode_json, encode_json
from reactor.values.stored import normalise
from reactor.values.types import Value

COMPLETE: Final = ("Invalid arguments for ", "Arguments for ", "Function ")  # texts that are said without a prefix
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
    data: bytes | None = None
    if isinstance(error, ReactorError):
        try:
            normal = normalise(error.data)
            data = encode_json(normal.value, normal.plain)
            detail = f"Uncaught ConvexError: {data.decode() if not isinstance(error.data, str) else error.data}"
        except ValidationError as problem:
            detail = f"Uncaught Error: ConvexError with invalid data: {problem}"
        detail += _frames(error, files)
    elif isinstance(error, InvalidCursor):
        data = encode_json(error.data)
        detail = f"Uncaught ConvexError: {error}{_frames(error, files)}"
    elif isinstance(error, ArgumentsInvalid | ReturnsInvalid):
        detail = str(error) if str(error).startswith(COMPLETE) else f"{error.code}: {error}"
    elif isinstance(error, BEFORE_THE_FUNCTION):
        detail = str(error)
    elif isinstance(error, FunctionTimeout | SystemTimeout):
        detail = str(error) + _frames(error, files)
    else:
        name, text = type(error).__name__, _text(error)
        detail = f"Uncaught {name}: {text}" if text else f"Uncaught {name}"
        detail += _frames(error, files)
    detail = detail.encode("utf-8", "replace").decode()  # a lone surrogate could not be sent
    head = f"[Request ID: {request_id}] Server Error"
    if redact:
        return Failure(message=head, detail="", ts=ts, data=data, log_lines=(), error=error)
    return Failure(message=f"{head}\n{detail}", detail=detail, ts=ts, data=data, log_lines=log_lines, error=error)


def text_for_owner(failure: Failure, versions: Versions) -> str:
    """Return what a function has failed with, for the application itself, which nothing is kept from."""
    if failure.detail or failure.error is None:
        return failure.detail
    files = versions.latest().project.files
    return failure_of(failure.error, request_id="", ts=0, log_lines=(), files=files, redact=False).detail


def unwrap(outcome: Outcome) -> Value:
    """Return the value of an outcome, or raise what went wrong."""
    if isinstance(outcome, Refused):
        raise outcome.error
    if isinstance(outcome, Failure):
        raise exception_of(outcome)
    return decode_json(outcome.value)


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
    return "".join(reversed(frames))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<the exception can't be printed>"
