"""Functions that every deployment has: `_system/…`, which the official command line and dashboard call.

Owns their paths, arguments and results. Only who may reach internal functions finds them, and the project's own
functions never do. Used by `invocation`, where the project has no function of that path.
"""

from collections.abc import Mapping
from typing import Any, Final

from reactor.runtime.decorators import Function, internal_mutation, internal_query
from reactor.runtime.documents import Documents
from reactor.runtime.environment.documents import change_variables, read_variable, read_variables
from reactor.runtime.registry import Registry
from reactor.runtime.system.modules import MODULE_FUNCTIONS
from reactor.runtime.system.tables import TABLE_FUNCTIONS
from reactor.runtime.transfers import read_latest_export, read_transfer, recent_imports
from reactor.schema.validators import v

CHANGE_VARIABLES: Final = "_system/environment:change"
LIST_VARIABLES: Final = "_system/cli/queryEnvironmentVariables:default"
GET_VARIABLE: Final = "_system/cli/queryEnvironmentVariables:get"


def _documents(ctx: Any) -> Documents:
    documents: Documents = ctx._execution.documents
    return documents


@internal_query(args={})
def _list_variables(ctx: Any) -> Any:
    return read_variables(_documents(ctx).transaction)


@internal_query(args={"name": v.string()})
def _get_variable(ctx: Any, name: str) -> Any:
    row = read_variable(_documents(ctx).transaction, name)
    return None if row is None else {"name": row["name"], "value": row["value"]}


@internal_mutation(
    args={"changes": v.array(v.object({"name": v.string(), "value": v.optional(v.nullable(v.string()))}))}
)
def _change_variables(ctx: Any, changes: list[Mapping[str, Any]]) -> Any:
    documents = _documents(ctx)
    wanted = {change["name"]: change.get("value") for change in changes}
    change_variables(documents.database, documents.transaction, wanted)


@internal_query(args={"importId": v.string()})
def _get_import(ctx: Any, importId: str) -> Any:
    return read_transfer(_documents(ctx).transaction, importId)


@internal_query(args={})
def _list_imports(ctx: Any) -> Any:
    return recent_imports(_documents(ctx).transaction)


@internal_query(args={})
def _latest_export(ctx: Any) -> Any:
    return read_latest_export(_documents(ctx).transaction)


def _registry(functions: Mapping[str, Function[..., Any]]) -> Registry:
    registry = Registry()
    for path, function in functions.items():
        module, _, name = path.partition(":")
        registry.register(module, name, function, "")
    return registry


SYSTEM_FUNCTIONS: Final = _registry(
    {
        LIST_VARIABLES: _list_variables,
        GET_VARIABLE: _get_variable,
        CHANGE_VARIABLES: _change_variables,
        "_system/cli/queryImport:default": _get_import,
        "_system/cli/queryImport:list": _list_imports,
        "_system/cli/exports:getLatest": _latest_export,
        "_system/frontend/listEnvironmentVariables:default": _list_variables,
        **TABLE_FUNCTIONS,
        **MODULE_FUNCTIONS,
    }
)
