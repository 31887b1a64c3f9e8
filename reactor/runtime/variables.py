"""What may be stored as an environment variable.

Owns the rule for names and the limits. Promises that a set of changes is staged whole or not at all, that a variable
which keeps its value is not written, and that no message shows a value. Used by the system functions.
"""

import re
from collections.abc import Mapping
from typing import Final

from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.errors import LimitExceeded
from reactor.limits import (
    MAX_VARIABLE_NAME_LENGTH,
    MAX_VARIABLE_VALUE_BYTES,
    MAX_VARIABLES,
    MAX_VARIABLES_BYTES,
)
from reactor.runtime.environment import BUILT_IN, put_row, read_row, read_rows

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def change_variables(database: Database, transaction: Transaction, changes: Mapping[str, str | None]) -> None:
    """Stage new values by name; None unsets a variable, which need not be set.

    Raises:
        LimitExceeded: a name or value can't be stored, or there would be too many of them. `rule` is the code:
            `EnvironmentVariableNameInvalid`, `EnvironmentVariableNameTooLong`, `EnvVarNameForbidden`,
            `EnvironmentVariableValueTooLarge`, `EnvVarLimitMet` or `EnvVarTotalSizeLimitMet`.
    """
    sizes = {str(row["name"]): _size(str(row["name"]), str(row["value"])) for row in read_rows(transaction)}
    for name, value in changes.items():
        _check_name(name)
        if value is None:
            sizes.pop(name, None)
        else:
            _check_value(name, value)
            sizes[name] = _size(name, value)
    if len(sizes) > MAX_VARIABLES:
        raise LimitExceeded(
            "EnvVarLimitMet",
            f"There would be {len(sizes)} environment variables, more than the limit of {MAX_VARIABLES}. "
            "Unset some, or keep several settings in one.",
        )
    total = sum(sizes.values())
    if total > MAX_VARIABLES_BYTES and any(value is not None for value in changes.values()):
        raise LimitExceeded(
            "EnvVarTotalSizeLimitMet",
            f"The names and values of all environment variables would take {total} bytes, more than the limit of "
            f"{MAX_VARIABLES_BYTES}. Unset some, or keep long values in documents.",
        )
    for name, value in changes.items():
        row = read_row(transaction, name)
        if value != (None if row is None else row["value"]):
            put_row(database, transaction, name, value, row)


def _check_name(name: str) -> None:
    if len(name) > MAX_VARIABLE_NAME_LENGTH:
        raise LimitExceeded(
            "EnvironmentVariableNameTooLong",
            f"The name of environment variable {name[:40]}… has {len(name)} characters, more than the limit of "
            f"{MAX_VARIABLE_NAME_LENGTH}.",
        )
    if not _NAME.fullmatch(name):
        raise LimitExceeded(
            "EnvironmentVariableNameInvalid",
            f"{name!r} can't be the name of an environment variable: a letter comes first, then letters, digits and "
            "underscores.",
        )
    if name in BUILT_IN:
        raise LimitExceeded("EnvVarNameForbidden", f"Environment variable {name} is built in and can't be set.")


def _check_value(name: str, value: str) -> None:
    size = len(value.encode())
    if size > MAX_VARIABLE_VALUE_BYTES:
        raise LimitExceeded(
            "EnvironmentVariableValueTooLarge",
            f"The value of environment variable {name} has {size} bytes, more than the limit of "
            f"{MAX_VARIABLE_VALUE_BYTES}. Keep long values in documents.",
        )


def _size(name: str, value: str) -> int:
    return len(name.encode()) + len(value.encode())
