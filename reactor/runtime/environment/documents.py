"""Environment variables as documents: what stands in `_environment_variables`, and what may.

Owns the fields `name` and `value`, the rule for names, and the limits. The id of a document follows from its name, so
that a look at a name which is not there is a look at one key. Promises that a set of changes is staged whole or not at
all, that a variable which keeps its value is not written, and that no message shows a value. Used by `environment`, the
push and the system functions.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from reactor.engine.catalog import ENVIRONMENT_VARIABLES, SYSTEM_TABLES, Table
from reactor.engine.database import Database
from reactor.engine.keyrange import EVERYTHING
from reactor.engine.systemdocs import Document, put_system, read_system
from reactor.engine.transaction import Transaction
from reactor.errors import LimitExceeded
from reactor.limits import (
    MAX_VARIABLE_NAME_LENGTH,
    MAX_VARIABLE_VALUE_BYTES,
    MAX_VARIABLES,
    MAX_VARIABLES_BYTES,
)
from reactor.values.ids import INTERNAL_ID_BYTES, encode_id
from reactor.values.stored import decode_object
from reactor.values.types import Value

CLOUD_URL: Final = "CONVEX_CLOUD_URL"
SITE_URL: Final = "CONVEX_SITE_URL"
BUILT_IN: Final = frozenset({CLOUD_URL, SITE_URL})
DEFAULTS: Final = ""  # no variable has this name: its document is touched when what stands in for others has changed
_NUMBER: Final = SYSTEM_TABLES[ENVIRONMENT_VARIABLES]
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@lru_cache(maxsize=4 * MAX_VARIABLES)
def variable_id(name: str) -> str:
    """Return the id of the document of a variable."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return encode_id(_NUMBER, digest[:INTERNAL_ID_BYTES])


def read_variable(transaction: Transaction, name: str) -> Document | None:
    """Return a variable as `transaction` sees it, recorded as read, or None when there is none."""
    return read_system(transaction, _table(transaction), variable_id(name))


def read_variables(transaction: Transaction) -> Sequence[Document]:
    """Return all variables as `transaction` sees them, sorted by name; all are recorded as read."""
    index = _table(transaction).by_id
    transaction.record_scan(index, EVERYTHING, False, None)
    chunks = transaction.scan(index, EVERYTHING.start, EVERYTHING.end, False, MAX_VARIABLES + 1)
    variables = [decode_object(data) for chunk in chunks for _, data in chunk.rows]
    return sorted((found for found in variables if found["name"] != DEFAULTS), key=lambda found: str(found["name"]))


def touch_defaults(database: Database, transaction: Transaction) -> None:
    """Make everything stale that has asked for a variable which is not set: what stands in for it may have changed."""
    before = read_variable(transaction, DEFAULTS)
    count = 0.0 if before is None else before["value"]
    put_variable(database, transaction, DEFAULTS, count + 1, before)


def put_variable(
    database: Database, transaction: Transaction, name: str, value: Value, before: Document | None
) -> None:
    """Stage the value of a variable, or with None its removal; `before` is what `read_variable` gave."""
    after: Document | None = None
    if value is not None:
        created = database.creation_time(transaction) if before is None else before["_creationTime"]
        after = {"_id": variable_id(name), "_creationTime": created, "name": name, "value": value}
    put_system(transaction, _table(transaction), before, after)


def _table(transaction: Transaction) -> Table:
    return transaction.catalog.by_name[ENVIRONMENT_VARIABLES]


def change_variables(database: Database, transaction: Transaction, changes: Mapping[str, str | None]) -> None:
    """Stage new values by name; None unsets a variable, which need not be set.

    Raises:
        LimitExceeded: a name or value can't be stored, or there would be too many of them. `rule` is the code:
            `EnvironmentVariableNameInvalid`, `EnvironmentVariableNameTooLong`, `EnvVarNameForbidden`,
            `EnvironmentVariableValueTooLarge`, `EnvVarLimitMet` or `EnvVarTotalSizeLimitMet`.
    """
    sizes = {found["name"]: _size(found["name"], found["value"]) for found in read_variables(transaction)}
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
        before = read_variable(transaction, name)
        if value != (None if before is None else before["value"]):
            put_variable(database, transaction, name, value, before)


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
