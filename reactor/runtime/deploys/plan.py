"""What a deploy would change, before anything does.

Owns the comparison of a loaded project with the version that runs and with the documents there are. Promises to change
nothing, to look at the documents behind requests, and to count all that do not match and name the first ones. Writes go
on meanwhile: the push looks again. Used by deploys.
"""

from collections.abc import Callable, Sequence
from typing import Any

from reactor.engine.backfill import walk_table
from reactor.engine.catalog import COMPONENTS, Table
from reactor.engine.database import Database
from reactor.errors import ValidationError
from reactor.limits import MAX_DEPLOY_SAMPLE_CHARACTERS, MAX_DEPLOY_SAMPLES
from reactor.protocol.deploys import Change, Detached, IndexFill, Misfit, Plan, TableCheck
from reactor.runtime.components.definitions import child_path
from reactor.runtime.deploys.progress import Tell, told
from reactor.runtime.project import Project
from reactor.runtime.push import Part
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.versions import Versions
from reactor.schema.compare import SchemaChange, compare_schemas
from reactor.schema.definition import TableDefinition


class Planner:
    """Makes plans for one deployment."""

    def __init__(
        self,
        database: Database,
        versions: Versions,
        queue: RunQueue,
        parts: Callable[[Project], Sequence[Part]],
    ) -> None:
        """`parts` gives what of a project is pushed to which component instance."""
        self._database = database
        self._versions = versions
        self._queue = queue
        self._parts = parts

    async def plan(self, project: Project, tell: Tell) -> Plan:
        """Return what deploying `project` would change now.

        Raises:
            StorageError, DataBytesExceeded: a table that has to be looked at can't be loaded.
        """
        parts = self._parts(project)
        running = None if self._versions.is_empty else self._versions.latest().project
        changes = [(part, compare_schemas(part.active, part.schema)) for part in parts]
        unmounted = self._unmounted(parts)
        return Plan(
            functions=_change(_functions(running), _functions(project)),
            crons=_change(_crons(running), _crons(project)),
            components=Change(
                added=[part.instance.path for part in parts if part.instance.path and part.active is None],
                removed=unmounted,
            ),
            added_tables=[
                part.namespace.full_name(name)
                for part in parts
                for name in sorted(part.schema.tables)
                if name not in part.namespace.by_name
            ],
            detached_tables=await self._detached(changes, unmounted),
            added_indexes=[fill for part in parts for fill in _fills(part)],
            removed_indexes=[
                f"{part.namespace.full_name(removed.table)}.{removed.definition.name}"
                for part, change in changes
                for removed in change.removed_indexes
            ],
            checks=[check for part, change in changes for check in await self._checks(part, change, tell)],
        )

    def _unmounted(self, parts: Sequence[Part]) -> list[str]:
        staying = {part.instance.path for part in parts}
        rows = self._database.system_documents(COMPONENTS)
        return sorted(str(row["path"]) for row in rows if row["state"] == "active" and row["path"] not in staying)

    async def _detached(self, changes: Sequence[tuple[Part, SchemaChange]], unmounted: Sequence[str]) -> list[Detached]:
        """Return the tables that leave a schema which allows no others, or that go with their component."""
        gone = [
            part.namespace.by_name.get(name)
            for part, change in changes
            if part.schema.strict_table_names and part.schema.tables
            for name in change.removed_tables
        ]
        gone += [table for table in self._database.user_tables() if table.component in unmounted]
        return [Detached(table.name, await self._documents(table)) for table in gone if table is not None]

    async def _documents(self, table: Table) -> int:
        """Count the documents of a table that may not be in memory, and need not come there to be left alone."""
        unloaded = table.unloaded
        if unloaded is None:
            return len(table)
        count = sum(data is not None for data in unloaded.writes.values())
        async for chunk in self._database.persistence.load(table.number):
            count += sum(stored.id not in unloaded.writes for stored in chunk)
        return count

    async def _checks(self, part: Part, change: SchemaChange, tell: Tell) -> list[TableCheck]:
        database = self._database
        found = []
        for name in sorted(change.tables_to_check):
            table = part.namespace.by_name.get(name)
            if table is None:
                continue
            await database.loading.load(table)
            search = _Search(part, part.schema.tables[name])
            steps = walk_table(table, search, database.limits.scan_check_entries)
            await self._queue.run(told(steps, tell, f"compare table {table.name}", table))
            found.append(TableCheck(table.name, search.documents, search.failing, search.samples))
        return found


class _Search:
    """Looks for documents of one table that don't match."""

    def __init__(self, part: Part, definition: TableDefinition) -> None:
        self._namespace = part.namespace
        self._definition = definition
        self.documents = self.failing = 0
        self.samples: list[Misfit] = []

    def __call__(self, table: Table, document: dict[str, Any]) -> None:
        self.documents += 1
        if self._definition.accepts_document(document, self._namespace):
            return
        self.failing += 1
        if len(self.samples) < MAX_DEPLOY_SAMPLES:
            try:
                self._definition.check_document(document, self._namespace)
            except ValidationError as error:
                self.samples.append(Misfit(str(document["_id"]), str(error)[:MAX_DEPLOY_SAMPLE_CHARACTERS]))


def _functions(project: Project | None) -> dict[str, object]:
    """Return what stands behind the name of each function, those of components included."""
    if project is None:
        return {}
    return {
        child_path(instance.path, path): (function.kind, function.visibility, function.digest)
        for instance in project.root.walk()
        for path, function in instance.registry.functions.items()
    }


def _crons(project: Project | None) -> dict[str, object]:
    return {} if project is None else {cron.name: cron for cron in project.crons}


def _change(old: dict[str, object], new: dict[str, object]) -> Change:
    return Change(
        added=sorted(new.keys() - old.keys()),
        removed=sorted(old.keys() - new.keys()),
        changed=sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
    )


def _fills(part: Part) -> list[IndexFill]:
    """Return the indexes that are declared and not built."""
    found = []
    for name, definition in sorted(part.schema.tables.items()):
        table = part.namespace.by_name.get(name)
        for declared in definition.indexes:
            if table is None or declared.stored_fields not in table.indexes:
                count = 0 if table is None else _count(table)
                full_name = part.namespace.full_name(name)
                found.append(IndexFill(full_name, declared.name, list(declared.fields), count))
    return found


def _count(table: Table) -> int | None:
    return len(table) if table.unloaded is None else None
