"""The plan of an import: which table gets which rows, under which number, and who has to give way.

Ids hold the number of their table, so a table takes the number that its rows come with. An empty table that has it
gives way; one that is not empty is a conflict. Pure but for what it reads of the catalog. Used by imports.
"""

from collections.abc import Mapping, Sequence

import msgspec

from reactor.engine.catalog import SYSTEM_TABLES, VISIBLE_SYSTEM_TABLES, Catalog, Namespace, Table
from reactor.errors import TransferRefused
from reactor.limits import FIRST_USER_TABLE, MAX_TABLES
from reactor.schema.definition import Schema, TableDefinition
from reactor.transfer.bundle import Bundle, Mode, TableRows


class Target(msgspec.Struct):
    """One table of an import."""

    component: str
    name: str
    full_name: str
    rows: TableRows | None  # None: it becomes empty
    table: Table | None  # None: it comes to be
    definition: TableDefinition | None
    numbers: "FutureNumbers"
    number: int

    @property
    def standing(self) -> int:
        """How many documents there are now."""
        return 0 if self.table is None else len(self.table)


class FutureNumbers:
    """The `TableNumbers` of one component instance as they will be."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.planned: dict[int, str] = {}
        self.void: set[int] = set()  # numbers of now that no table will have

    def table_name(self, number: int) -> str | None:
        """See `TableNumbers`."""
        name = self.planned.get(number)
        if name is not None or number in self.void:
            return name
        return self._namespace.table_name(number)


class Plan(msgspec.Struct):
    """What an import will do."""

    targets: list[Target]
    moved: list[tuple[Table, int]]  # empty tables that give way, with their next number


def make_plan(catalog: Catalog, schemas: Mapping[str, Schema], bundle: Bundle, mode: Mode) -> Plan:
    """Return the plan of an import, on tables that are all in memory.

    Raises:
        TransferRefused: it can't be done: there is no such component, a table is not empty, or a number is taken.
    """
    numbers = {path: FutureNumbers(catalog.namespace(path)) for path in schemas}
    wanted = {(rows.component, rows.table): rows for rows in bundle.tables}
    for component in {*(path for path, _ in wanted), *(files.component for files in bundle.files)}:
        if component not in schemas:
            raise TransferRefused("InvalidImport", f"No component {component!r} is mounted here.")
    names: list[tuple[str, str]] = sorted(wanted)
    if mode == "replaceAll":
        names += sorted(
            (table.component, table.local_name)
            for table in catalog.by_number.values()
            if not table.is_system and table.component in schemas and (table.component, table.local_name) not in wanted
        )
    targets = [_target(catalog, schemas[path], numbers[path], path, name, wanted) for path, name in names]
    for target in targets:
        if mode == "requireEmpty" and target.standing:
            raise not_empty(target.name)
    return Plan(targets, _number(catalog, targets, bundle, mode, numbers))


def not_empty(name: str) -> TransferRefused:
    """Return the error of a table that should hold nothing."""
    return TransferRefused(
        "ImportFailed",
        f"Table {name} already exists. Please choose a new table name or use replace/append modes.",
    )


def _target(
    catalog: Catalog,
    schema: Schema,
    numbers: FutureNumbers,
    path: str,
    name: str,
    wanted: Mapping[tuple[str, str], TableRows],
) -> Target:
    full_name = catalog.namespace(path).full_name(name)
    definition = schema.tables.get(name) if schema.schema_validation else None
    return Target(
        path, name, full_name, wanted.get((path, name)), catalog.by_name.get(full_name), definition, numbers, 0
    )


def _number(
    catalog: Catalog, targets: Sequence[Target], bundle: Bundle, mode: Mode, numbers: Mapping[str, FutureNumbers]
) -> list[tuple[Table, int]]:
    """Give each target its number; return who gives way."""
    taking: dict[int, str] = {}
    leaving = {id(target.table) for target in targets if target.table is not None}
    waiting: list[Target] = []
    for target in targets:
        number = None if target.rows is None else target.rows.number
        table = target.table
        if number is None:
            waiting.append(target)
            continue
        if table is not None and number != table.number and mode == "append" and len(table):
            raise TransferRefused(
                "TableNumberConflict",
                f"Table {target.name} has number {table.number}, but the ids of the import have {number}. "
                "Replace the table, or leave out `_id`.",
            )
        if number < FIRST_USER_TABLE:
            raise TransferRefused("InvalidImport", f"The ids for table {target.name} are those of a system table.")
        _take(taking, number, target.full_name)
        target.number = number
    for target in list(waiting):
        table = target.table
        if table is not None and (table.number not in taking or (mode == "append" and len(table))):
            _take(taking, table.number, target.full_name)
            target.number = table.number
            waiting.remove(target)
    moving: list[Table] = []
    for files in bundle.files:
        _take_storage(catalog, files.component, files.documents.number, taking, moving)
    moved: list[tuple[Table, int]] = []
    for number, name in list(taking.items()):
        table = catalog.by_number.get(number)
        if table is None or table.name == name or id(table) in leaving or table in moving:
            continue
        if table.unloaded is not None or len(table) or number < FIRST_USER_TABLE:
            raise TransferRefused(
                "TableNumberConflict",
                f"conflict between `{name}` and `{table.name}` with table number {number}. Import into a deployment "
                f"where `{table.name}` is empty, or replace it too.",
            )
        moving.append(table)
    free = FIRST_USER_TABLE
    used = taking.keys() | catalog.by_number.keys()
    if len(used) - len(SYSTEM_TABLES) + len(waiting) + len(moving) > MAX_TABLES:
        raise TransferRefused("TooManyTables", f"Number of tables cannot exceed {MAX_TABLES}.")

    def next_number() -> int:
        nonlocal free
        while free in used:
            free += 1
        used.add(free)
        return free

    for target in waiting:
        target.number = next_number()
    by_name = {name: number for number, name in taking.items()}
    for table in moving:
        moved.append((table, by_name.get(table.name) or next_number()))
    for target in targets:
        if target.table is not None and target.table.number != target.number:
            target.numbers.void.add(target.table.number)
        target.numbers.planned[target.number] = target.name
    for table, number in moved:
        future = numbers.get(table.component)
        if future is not None:
            future.void.add(table.number)
            future.planned[number] = table.local_name
    for future in numbers.values():
        future.void -= future.planned.keys()
    return moved


def _take_storage(
    catalog: Catalog, component: str, number: int | None, taking: dict[int, str], moving: list[Table]
) -> None:
    """Let the files of a component have the number that their ids come with."""
    table = catalog.by_name[catalog.namespace(component).full_name("_storage")]
    if number is None or number == table.number:
        return
    if table.number in VISIBLE_SYSTEM_TABLES.values() or len(table) or number < FIRST_USER_TABLE:
        raise TransferRefused(
            "TableNumberConflict",
            f"`{table.name}` has table number {table.number}, but the ids of the imported files have {number}.",
        )
    _take(taking, number, table.name)
    moving.append(table)


def _take(taking: dict[int, str], number: int, name: str) -> None:
    other = taking.setdefault(number, name)
    if other != name:
        raise TransferRefused(
            "TableNumberConflict", f"conflict between `{other}` and `{name}` with table number {number}."
        )
