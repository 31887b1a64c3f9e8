"""Which function a call means: from what was written in a program to the registered function of some instance.

Owns the way across components: `components.name.…` leads down to the public functions of a child, a function handle
(`function://<id>#<name>`) to any function it was made for, and everything else stays in the instance of the caller.
Promises that whatever the answer depends on is in the read set. Used wherever server code names a function, and by the
push, which makes the handles.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from reactor.engine.catalog import FUNCTION_HANDLES, SYSTEM_TABLES
from reactor.engine.database import Database
from reactor.engine.systemdocs import insert_system, put_system, read_system
from reactor.engine.transaction import Transaction
from reactor.errors import FunctionNotFound, InvalidArgument, ProtocolError
from reactor.runtime.components.definitions import Instance, child_path
from reactor.runtime.components.scopes import Scope
from reactor.runtime.references import component_function, function_path
from reactor.runtime.registry import RegisteredFunction
from reactor.runtime.versions import Version
from reactor.values.ids import decode_id
from reactor.values.names import suggestion

HANDLE: Final = "function://"


class Address(NamedTuple):
    """Where a call goes: a path in a component instance, and whether internal functions can be reached there."""

    component: str
    path: str
    internal: bool


def address_of(component: str, function: object) -> Address:
    """Return where a call of `function` goes that code of the instance `component` makes.

    `function` is a decorated function, a reference, a path or a function handle.

    Raises:
        InvalidArgument: it names no function.
    """
    below = component_function(function)
    if below is not None:
        return Address(child_path(component, below[0]), below[1], False)
    return Address(component, function_path(function), True)


def find_scope(version: Version, transaction: Transaction | None, component: str) -> Scope:
    """Return the scope of a component instance. `transaction` is that of the caller, who may have none.

    Raises:
        FunctionNotFound: nothing is mounted there.
    """
    if not component:
        return version.root
    scope = version.scopes.get(component)
    if scope is None:
        if transaction is not None:
            version.depend_on_deployment(transaction)
        parent = component.rpartition("/")[0]  # whose code can name nothing but what is mounted beside this
        mounted = [path for path in version.scopes if path and path.rpartition("/")[0] == parent]
        hint = suggestion(component, mounted, "Mounted are")
        raise FunctionNotFound(f"Component path '{component}' not found. {hint}")
    return scope


def find_target(version: Version, transaction: Transaction, scope: Scope, function: object) -> RegisteredFunction:
    """Return the function that code in `scope` means by `function`, recording what the answer depends on.

    Raises:
        InvalidArgument: it names no function.
        FunctionNotFound: there is none, or not for the code in `scope`.
    """
    address = address_of(scope.path, function)
    if address.path.startswith(HANDLE):
        return resolve_handle(version, transaction, address.path)
    if address.component != scope.path:
        scope = find_scope(version, transaction, address.component)
    target = _look_up(scope, address)
    if target is None:
        version.depend_on_deployment(transaction)
        raise _not_found(address)
    scope.depend_on_module(transaction, target)
    return target


def find_outside(version: Version, address: Address) -> RegisteredFunction:
    """Return the function at an address, for code that has no transaction.

    Raises:
        FunctionNotFound: there is none in this version.
    """
    if address.path.startswith(HANDLE):
        return find_by_handle(version, address.path)
    target = _look_up(find_scope(version, None, address.component), address)
    if target is None:
        raise _not_found(address)
    return target


def _look_up(scope: Scope, address: Address) -> RegisteredFunction | None:
    try:
        target = scope.registry.lookup(address.path)
    except ProtocolError as error:  # of the application, not of its client
        raise FunctionNotFound(str(error)) from None
    return None if target is None or (target.visibility == "internal" and not address.internal) else target


def _not_found(address: Address) -> FunctionNotFound:
    where = f" in component '{address.component}'" if address.component else ""
    what = "function" if address.internal else "public function"
    return FunctionNotFound(f"Could not find {what} for '{address.path}'{where}.")


def resolve_handle(version: Version, transaction: Transaction, handle: str) -> RegisteredFunction:
    """Return the function that a handle was made for, whatever its visibility.

    Raises:
        FunctionNotFound: there is no such handle, or the function was deleted.
    """
    document_id = handle.removeprefix(HANDLE).partition("#")[0]
    try:
        number, _ = decode_id(document_id)
    except InvalidArgument:
        number = 0
    row = None
    if number == SYSTEM_TABLES[FUNCTION_HANDLES]:
        row = read_system(transaction, transaction.catalog.by_name[FUNCTION_HANDLES], document_id)
    if row is None:
        raise FunctionNotFound(f"{handle!r} is no function handle of this deployment.")
    component, path = str(row["component"]), str(row["path"])
    scope = version.scopes.get(component)
    target = scope.registry.functions.get(path) if scope is not None else None
    if scope is None or target is None:
        version.depend_on_deployment(transaction)
        where = f" of component '{component}'" if component else ""
        raise FunctionNotFound(f"The function '{path}'{where}, which the handle {handle!r} is for, was deleted.")
    scope.depend_on_module(transaction, target)
    return target


def find_by_handle(version: Version, handle: str) -> RegisteredFunction:
    """Return the function that a handle was made for, for code that has no transaction: an action.

    Raises:
        FunctionNotFound: there is none in this version.
    """
    place = version.places.get(handle.removeprefix(HANDLE).partition("#")[0])
    if place is None:
        raise FunctionNotFound(f"{handle!r} is no function handle of this deployment, or the function was deleted.")
    component, path = place
    return version.scopes[component].registry.functions[path]


def handle_of(version: Version, function: RegisteredFunction) -> str:
    """Return the handle of a deployed function."""
    return f"{HANDLE}{version.handles[function.component, function.path]}#{function.label}"


def stage_handles(database: Database, transaction: Transaction, root: Instance) -> Mapping[tuple[str, str], str]:
    """Stage the rows of `_function_handles`: one for each function, which keeps its id from version to version.

    Returns the ids by path of the instance and path of the function.
    """
    table = database.catalog.by_name[FUNCTION_HANDLES]
    rows = {(str(row["component"]), str(row["path"])): row for row in database.system_documents(FUNCTION_HANDLES)}
    handles: dict[tuple[str, str], str] = {}
    for instance in root.walk():
        for path in sorted(instance.registry.functions):
            row = rows.pop((instance.path, path), None)
            if row is None:
                fields = {"component": instance.path, "path": path}
                handles[instance.path, path] = insert_system(database, transaction, table, fields)
                continue
            handles[instance.path, path] = str(row["_id"])
            if "deleted" in row:
                found = {name: value for name, value in row.items() if name != "deleted"}
                put_system(transaction, table, row, found)
    for row in rows.values():
        if "deleted" not in row:
            put_system(transaction, table, row, {**row, "deleted": True})
    return handles
