"""How a function is called: found by its path, given its arguments, its result checked.

Owns the checks before and after a handler runs, and their official texts. Promises that what a handler receives and
returns is what its declaration says. Used by runs, also nested ones.
"""

from collections.abc import Generator
from typing import Literal

from reactor.engine.transaction import Transaction
from reactor.errors import (
    ArgumentsInvalid,
    Error,
    FunctionNotFound,
    InvalidArgument,
    InvalidFunctionCall,
    LimitExceeded,
    ProtocolError,
    ReturnsInvalid,
    ValidationError,
)
from reactor.limits import MAX_CALL_DEPTH, MAX_RESULT_BYTES
from reactor.runtime.calls import Call
from reactor.runtime.components.targets import HANDLE, find_by_handle, find_scope, resolve_handle
from reactor.runtime.decorators import KINDS
from reactor.runtime.queries import RETURNED, QueryChain
from reactor.runtime.references import author_path
from reactor.runtime.registry import RegisteredFunction
from reactor.runtime.system_functions import SYSTEM_FUNCTIONS
from reactor.runtime.versions import Version
from reactor.schema.validator import TableNumbers
from reactor.values.json import decode_args, encode_json
from reactor.values.size import format_size
from reactor.values.stepwise import normalise_in_steps
from reactor.values.stored import Normalised, normalise
from reactor.values.types import Value

RunKind = Literal["query", "mutation"]


def find_function(version: Version, call: Call, kind: RunKind, transaction: Transaction) -> RegisteredFunction:
    """Return the function a call names, recording what the answer depends on.

    Raises:
        FunctionNotFound, InvalidFunctionCall: there is none the caller may call, or it is of another kind.
    """
    scope = version.root if not call.component else find_scope(version, transaction, call.component)
    try:
        function = scope.registry.lookup(call.path)
    except ProtocolError:
        if not (call.internal and call.path.startswith(HANDLE)):
            raise
        function = resolve_handle(version, transaction, call.path)
        scope = version.scopes[function.component]
    if function is None or (function.function.visibility == "internal" and not call.internal):
        system = _system_function(call) if function is None else None
        if system is None:
            version.depend_on_deployment(transaction)
            raise _not_found(call)
        if system.kind != kind:
            raise wrong_kind(system, kind)
        return system
    scope.depend_on_module(transaction, function)
    if function.function.kind != kind:
        raise wrong_kind(function, kind)
    return function


def look_up(version: Version, call: Call) -> RegisteredFunction | None:
    """Return the function a call names: of the project, or one of ours for those who may reach internal functions."""
    scope = version.scopes.get(call.component)
    function = None if scope is None else scope.registry.lookup(call.path)
    return _system_function(call) if function is None else function


def _system_function(call: Call) -> RegisteredFunction | None:
    return SYSTEM_FUNCTIONS.lookup(call.path) if call.internal else None


def find_action(version: Version, call: Call) -> RegisteredFunction:
    """Return the action a call names.

    Raises:
        FunctionNotFound, InvalidFunctionCall: there is none the caller may call, or it is of another kind.
        ProtocolError: the path can't be one.
    """
    if call.internal and call.path.startswith(HANDLE):
        function: RegisteredFunction | None = find_by_handle(version, call.path)
    else:
        function = find_scope(version, None, call.component).registry.lookup(call.path)
    if function is None or (function.function.visibility == "internal" and not call.internal):
        raise _not_found(call)
    if function.function.kind != "action":
        raise wrong_kind(function, "action")
    return function


def _not_found(call: Call) -> FunctionNotFound:
    where = f" in component '{call.component}'" if call.component else ""
    # To an administrator all functions are open; the official command line lists them when it finds this text.
    what = "function" if call.identity.is_admin else "public function"
    return FunctionNotFound(f"Could not find {what} for '{author_path(call.path)}'{where}.")


def wrong_kind(function: RegisteredFunction, kind: str) -> InvalidFunctionCall:
    """Return the error of calling a function as another kind than it is."""
    defined = KINDS[function.kind].partition(" ")[2]
    return InvalidFunctionCall(
        f"Trying to execute {function.shown} as {kind.capitalize()}, but it is defined as {defined}."
    )


def check_depth(depth: int) -> None:
    """Check that a function inside `depth` others may call another one.

    Raises:
        LimitExceeded: it is too deep already.
    """
    if depth >= MAX_CALL_DEPTH:
        raise LimitExceeded(
            "MaximumCallDepthExceeded",
            "Cross component call depth limit exceeded. Do you have an infinite loop in your app?",
        )


def read_arguments(function: RegisteredFunction, data: bytes | Normalised, tables: TableNumbers) -> dict[str, object]:
    """Return the keyword arguments for a handler: from wire JSON fresh for each attempt, else to be used once.

    Raises:
        ArgumentsInvalid: they are no object, too large, or not what the function declares.
    """
    try:
        args = decode_args(data, function.shown)
    except ValidationError as error:
        raise ArgumentsInvalid(str(error)) from None
    validator = function.binder.args
    if not validator.accepts(args, tables):
        try:
            validator.check(args, tables)
        except ValidationError as error:
            raise ArgumentsInvalid(str(error)) from None
    return function.binder.bind(args)


def encode_result(function: RegisteredFunction, result: object, tables: TableNumbers) -> bytes:
    """Return what a handler returned as wire JSON.

    Raises:
        ReturnsInvalid: it is no value, too large, or not what the function declares.
    """
    normal = _normal_result(function, result, tables)
    return encode_json(normal.value, normal.plain)


def encode_in_steps(function: RegisteredFunction, result: object, tables: TableNumbers) -> Generator[None, None, bytes]:
    """Do what `encode_result` does, yielding now and then inside a long array.

    Raises:
        ReturnsInvalid: as `encode_result`.
    """
    result = _coerced(function, result)
    try:
        normal = yield from normalise_in_steps(result)
    except ValidationError as error:
        raise _no_value(function, result, error) from None
    _check_result(function, normal, tables)
    return encode_json(normal.value, normal.plain)


def read_result(function: RegisteredFunction, result: object, tables: TableNumbers) -> Value:
    """Return what a handler returned as a value that shares nothing with it.

    Raises:
        ReturnsInvalid: as `encode_result`.
    """
    return _normal_result(function, result, tables).value


def _normal_result(function: RegisteredFunction, result: object, tables: TableNumbers) -> Normalised:
    result = _coerced(function, result)
    try:
        normal = normalise(result)
    except ValidationError as error:
        raise _no_value(function, result, error) from None
    _check_result(function, normal, tables)
    return normal


def _coerced(function: RegisteredFunction, result: object) -> object:
    result = function.binder.result(result)
    validator = function.binder.returns
    return validator.coerce(result) if validator is not None and validator.needs_coercion else result


def _no_value(function: RegisteredFunction, result: object, error: ValidationError) -> Error:
    if isinstance(result, QueryChain):
        return InvalidArgument(RETURNED)
    return ReturnsInvalid(f"Function {function.shown} return value invalid: {error}")


def _check_result(function: RegisteredFunction, normal: Normalised, tables: TableNumbers) -> None:
    validator = function.binder.returns
    if validator is not None and not validator.accepts(normal.value, tables):
        try:
            validator.check(normal.value, tables)
        except ValidationError as error:
            raise ReturnsInvalid(str(error)) from None
    if normal.size > MAX_RESULT_BYTES:
        raise ReturnsInvalid(
            f"Function {function.shown} return value is too large (actual: {format_size(normal.size)}, limit: 16 MiB)"
        )
