"""The texts clients get for each class of error."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from reactor.errors import (
    ArgumentsInvalid,
    DocumentNotFound,
    FunctionNotFound,
    InvalidFunctionCall,
    ReactorError,
    ReturnsInvalid,
    UnawaitedCallError,
)
from reactor.runtime.calls import Failure
from reactor.runtime.failures import failure_of
from reactor.values.types import Int64

HEAD = "[Request ID: 0123456789abcdef] Server Error"


def told(error: BaseException, *, redact: bool = False, files: tuple[Path, ...] = ()) -> Failure:
    """Return the failure of an error that was raised here."""
    try:
        raise error
    except BaseException as raised:
        failure = failure_of(
            raised, request_id="0123456789abcdef", ts=7, log_lines=("[LOG] 'x'",), files=files, redact=redact
        )
    assert failure.error is error
    assert failure.ts == 7
    return failure


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ValueError("no"), "Uncaught ValueError: no"),
        (ValueError(), "Uncaught ValueError"),
        (SystemExit(), "Uncaught SystemExit"),
        (
            DocumentNotFound("Update on nonexistent document ID x"),
            "Uncaught DocumentNotFound: Update on nonexistent document ID x",
        ),
        (UnawaitedCallError("1 call"), "Uncaught UnawaitedCallError: 1 call"),
        (ArgumentsInvalid("Value does not match"), "ArgumentValidationError: Value does not match"),
        (ArgumentsInvalid("Invalid arguments for a.js:b: x"), "Invalid arguments for a.js:b: x"),
        (ArgumentsInvalid("Arguments for a.js:b are too large"), "Arguments for a.js:b are too large"),
        (ReturnsInvalid("Value does not match"), "ReturnsValidationError: Value does not match"),
        (ReturnsInvalid("Function a.js:b return value invalid: x"), "Function a.js:b return value invalid: x"),
        (FunctionNotFound("Could not find public function for 'a:b'."), "Could not find public function for 'a:b'."),
        (InvalidFunctionCall("Trying to execute"), "Trying to execute"),
        (ReactorError("plain text"), "Uncaught ConvexError: plain text"),
        (ReactorError({"code": "TOO_LONG", "max": 500}), 'Uncaught ConvexError: {"code":"TOO_LONG","max":500.0}'),
    ],
)
def test_each_class_of_error_has_its_text(error: BaseException, detail: str) -> None:
    failure = told(error)
    assert (failure.detail, failure.message) == (detail, f"{HEAD}\n{detail}")
    assert failure.log_lines == ("[LOG] 'x'",)


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (None, b"null"),
        ("text", b'"text"'),
        ({"b": 1, "a": [True]}, b'{"a":[true],"b":1.0}'),
        (Int64(1), b'{"$integer":"AQAAAAAAAAA="}'),
    ],
)
@pytest.mark.parametrize("redact", [False, True])
def test_the_data_of_the_applications_own_error_is_never_redacted(data: Any, wire: bytes, redact: bool) -> None:
    failure = told(ReactorError(data), redact=redact)
    assert failure.data == wire
    assert (failure.message == HEAD) == redact


def test_other_errors_have_no_data() -> None:
    assert told(ValueError("x")).data is None


@pytest.mark.parametrize("data", [object(), {1: 2}, 2**70, "\ud800", {"$x": 1}])
def test_data_that_is_no_value_makes_a_plain_error(data: object) -> None:
    failure = told(ReactorError(data))
    assert failure.data is None
    assert failure.detail.startswith("Uncaught Error: ConvexError with invalid data: ")


def test_data_that_contains_itself_makes_a_plain_error() -> None:
    data: list[Any] = []
    data.append(data)
    failure = told(ReactorError(data))
    assert failure.data is None
    assert "ConvexError with invalid data" in failure.detail


def test_redaction_leaves_the_request_id_and_nothing_else() -> None:
    failure = told(ValueError("secret"), redact=True, files=(Path(__file__),))
    assert (failure.message, failure.detail, failure.log_lines) == (HEAD, "", ())


def test_only_the_users_frames_are_shown_innermost_first() -> None:
    def inner() -> None:
        raise KeyError("missing")

    def outer() -> None:
        inner()

    try:
        traceback.format_exc()
        outer()
    except KeyError as error:
        seen = error
    shown = failure_of(
        seen, request_id="1", ts=0, log_lines=(), files=frozenset({Path(__file__)}), redact=False
    ).detail.splitlines()
    hidden = failure_of(seen, request_id="1", ts=0, log_lines=(), files=frozenset(), redact=False).detail

    first = inner.__code__.co_firstlineno
    assert shown[:3] == [
        "Uncaught KeyError: 'missing'",
        f"    at inner ({__file__}:{first + 1})",
        f"    at outer ({__file__}:{first + 4})",
    ]
    assert hidden == "Uncaught KeyError: 'missing'"


def test_an_exception_that_can_not_be_printed_is_told_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    assert told(Broken()).detail == "Uncaught Broken: <the exception can't be printed>"


def test_a_text_that_can_not_be_sent_is_made_so() -> None:
    told(ValueError("\ud800")).message.encode()
