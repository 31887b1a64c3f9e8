"""Pushing a project: from a loaded version to the deployed one, in one commit, while requests go on.

Owns the order of steps: tables exist, new indexes are filled, existing documents are checked against the new schema,
and only then one commit switches code and schema together. Promises that until that commit nothing of the new version
is visible, and that a push which fails changes nothing but tables and indexes nobody names. Because code and schema are
documents in read sets, the commit itself makes every live query stale that it changes, and every mutation caught by it
run again on the new code (`design.md` §4, 14). Used by the host.
"""

import asyncio
from collections.abc import Callable, Generator, Iterable
from typing import Any

import msgspec

from reactor.engine.backfill import changed_documents, fill_index, walk_table
from reactor.engine.catalog import DEPLOYMENT, MODULES, TABLES, Index, Table, id_key
from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.errors import PushError, ValidationError
from reactor.runtime.environment import touch_defaults
from reactor.runtime.loader import Project
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.versions import Version, Versions
from reactor.schema.compare import compare_schemas
from reactor.schema.definition import Schema, schema_from_json
from reactor.values.types import Value

SETTLED: int = 100  # documents changed during a walk that the switching step itself may look at again


class PushReport(msgspec.Struct, frozen=True):
    """What a push did. Names are sorted."""

    version: int
    ts: int
    created_tables: tuple[str, ...]
    built_indexes: tuple[str, ...]
    changed_modules: tuple[str, ...]
    checked_documents: int


class Pusher:
    """Deploys project versions, one at a time."""

    def __init__(self, database: Database, versions: Versions, queue: RunQueue) -> None:
        self._database = database
        self._versions = versions
        self._queue = queue
        self._lock = asyncio.Lock()
        self.on_switch: list[Callable[[Transaction, Project], None]] = []  # stages what else comes with a version

    async def push(self, project: Project) -> PushReport:
        """Deploy `project`; returns when the switch is durable.

        Raises:
            PushError: existing documents do not match the new schema, or a write during the push broke it.
        """
        async with self._lock:
            database = self._database
            created = self._create_tables(project.schema)
            indexes: dict[str, Index] = {}
            try:
                await self._build_indexes(project.schema, indexes)
                since, checked = await self._check_documents(project.schema)
                try:
                    version, changed = self._switch(project, list(indexes.values()), since)
                finally:
                    database.retention.unpin(since)
            except BaseException:
                self._drop_unused(indexes.values())
                raise
            await database.durable(version.ts)
            await database.retention.no_reader_before(version.ts)
            for retired in self._versions.retire(version.ts):
                retired.retire()
            self._drop_indexes(project.schema)
            return PushReport(
                version=version.number,
                ts=version.ts,
                created_tables=tuple(created),
                built_indexes=tuple(sorted(indexes)),
                changed_modules=tuple(changed),
                checked_documents=checked,
            )

    def _create_tables(self, schema: Schema) -> list[str]:
        missing = sorted(name for name in schema.tables if self._database.table(name) is None)
        for name in missing:
            self._database.create_table(name)
        return missing

    async def _build_indexes(self, schema: Schema, built: dict[str, Index]) -> None:
        """Fill what `schema` declares and nobody has built; each goes into `built`, by name, before it is filled."""
        database = self._database
        for name, definition in schema.tables.items():
            table = self._table(name)
            for declared in definition.indexes:
                fields = declared.stored_fields
                if fields not in table.indexes:
                    await database.loading.settled(table)
                    index = database.catalog.add_index(table, fields)
                    built[f"{name}.{declared.name}"] = index
                    if table.unloaded is None:  # otherwise the load fills it
                        chunk = database.limits.scan_check_entries
                        await self._in_background(fill_index(database.catalog, index, chunk))

    def _drop_unused(self, indexes: Iterable[Index]) -> None:
        """Forget what a push that failed has built: it may be half filled, and no version names it."""
        for index in indexes:
            self._database.catalog.drop_index(index.table, index.fields)

    async def _check_documents(self, schema: Schema) -> tuple[int, int]:
        """Walk the tables that may hold documents the new schema refuses; return since when to look at the write log.

        The timestamp returned is pinned.
        """
        database = self._database
        since = database.applied_ts
        database.retention.pin(since)
        checked = 0
        try:
            change = compare_schemas(self._active_schema(), schema)
            for name in sorted(change.tables_to_check):
                table = self._table(name)
                await database.loading.load(table)
                check = _DocumentCheck(schema, database, since)
                await self._in_background(walk_table(table, check, database.limits.scan_check_entries))
                checked += check.count
            while len(entries := database.write_log.since(since)) > SETTLED:
                newest = entries[-1].commit_ts
                self._check_changed(schema, since)
                database.retention.pin(newest)
                database.retention.unpin(since)
                since = newest
                await asyncio.sleep(0)
        except BaseException:
            database.retention.unpin(since)
            raise
        return since, checked

    def _check_changed(self, schema: Schema, since: int) -> None:
        check = _DocumentCheck(schema, self._database, since)
        entries = list(self._database.write_log.since(since))
        for table, document in changed_documents(entries):
            check(table, document)

    def _switch(self, project: Project, indexes: list[Index], since: int) -> tuple[Version, list[str]]:
        """Commit the switch. From the last look at the write log to the commit nothing else can run."""
        database = self._database
        self._check_changed(project.schema, since)
        transaction = database.begin_mutation()
        module_keys, changed = self._stage_modules(transaction, project)
        self._stage_tables(transaction, project)
        number = self._stage_deployment(transaction, project.schema)
        if self._versions.newest_defaults() not in (None, project.env):
            touch_defaults(database, transaction)
        for stage in self.on_switch:
            stage(transaction, project)
        ts = database.committer.commit(transaction, source="", version=number)
        for index in indexes:
            index.valid_from = ts
        version = Version(database, project, ts, number, database.deployment_key, module_keys)
        self._versions.add(version)
        return version, changed

    def _stage_modules(self, transaction: Transaction, project: Project) -> tuple[dict[str, bytes], list[str]]:
        """Stage the rows of `_modules`: one per namespace, with the digest of everything its code depends on."""
        database = self._database
        table = database.catalog.by_name[MODULES]
        rows = {row["path"]: row for row in database.system_documents(MODULES)}
        keys: dict[str, bytes] = {}
        changed: list[str] = []
        digests = {path.rpartition(":")[0]: function.digest for path, function in project.registry.functions.items()}
        for module, digest in sorted(digests.items()):
            row = rows.pop(module, None)
            if row is None:
                document_id = database.insert_system(transaction, MODULES, {"path": module, "digest": digest})
                changed.append(module)
            else:
                document_id = str(row["_id"])
                if row["digest"] != digest:
                    database.put_system(transaction, table, document_id, {**row, "digest": digest}, row)
                    changed.append(module)
            keys[module] = id_key(document_id)
        for row in rows.values():
            database.put_system(transaction, table, str(row["_id"]), None, row)
            changed.append(str(row["path"]))
        return keys, sorted(changed)

    def _stage_tables(self, transaction: Transaction, project: Project) -> None:
        """Touch the rows of `_tables` whose definition or rules change: whoever reads the table depends on it."""
        database, schema, rules = self._database, project.schema, project.rules
        for row in database.system_documents(TABLES):
            definition = schema.tables.get(str(row["name"]))
            if definition is None:
                text = f"undeclared, strict={schema.strict_table_names and bool(schema.tables)}"
            else:
                text = _canonical(definition.to_json(str(row["name"]), stored=True))
                text += f" validated={schema.schema_validation}"
            if rules is not None and row["name"] in rules.tables:
                text += f" rules={rules.digest}"
            if row.get("definition") != text:
                table = database.catalog.by_name[TABLES]
                database.put_system(transaction, table, str(row["_id"]), {**row, "definition": text}, row)

    def _stage_deployment(self, transaction: Transaction, schema: Schema) -> int:
        database = self._database
        (row,) = database.system_documents(DEPLOYMENT)
        version = row["version"]
        assert isinstance(version, float)
        fields: dict[str, Value] = {
            **row,
            "version": version + 1,
            "schema": _canonical(schema.to_json(stored=True)),
        }
        database.put_system(transaction, database.catalog.by_name[DEPLOYMENT], str(row["_id"]), fields, row)
        return int(version) + 1

    def _active_schema(self) -> Schema | None:
        """Return the schema that existing documents are known to satisfy, or None before the first push."""
        (row,) = self._database.system_documents(DEPLOYMENT)
        text = row.get("schema")
        return schema_from_json(msgspec.json.decode(text)) if isinstance(text, str) else None

    def _drop_indexes(self, schema: Schema) -> None:
        for table in self._database.user_tables():
            definition = schema.tables.get(table.name)
            named = {index.stored_fields for index in definition.indexes} if definition is not None else set()
            for fields in [fields for fields in table.indexes if len(fields) > 1 and fields not in named]:
                self._database.catalog.drop_index(table, fields)

    def _table(self, name: str) -> Table:
        table = self._database.table(name)
        assert table is not None, f"table {name} was created by this push"
        return table

    async def _in_background(self, steps: Generator[Any, None, None]) -> None:
        """Run `steps` from the run queue, behind requests, a slice at a time."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queue

        def slice_() -> None:
            if done.done():  # the push was cancelled
                return
            try:
                for _ in steps:
                    if queue.is_due():
                        queue.background(slice_)
                        return
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        queue.background(slice_)
        await done


class _DocumentCheck:
    """Checks documents against a schema that is not deployed yet. What was written after `since` is new."""

    def __init__(self, schema: Schema, database: Database, since: int) -> None:
        self._schema = schema
        self._database = database
        self._since = since
        self.count = 0

    def __call__(self, table: Table, document: dict[str, Value]) -> None:
        definition = self._schema.tables.get(table.name)
        if definition is None or not self._schema.schema_validation:
            return
        self.count += 1
        catalog = self._database.catalog
        if definition.accepts_document(document, catalog):
            return
        try:
            definition.check_document(document, catalog)
        except ValidationError as error:
            key = id_key(str(document["_id"]))
            written = self._database.write_log.since(self._since)
            if any(change.key == key for entry in written for change in entry.changes):
                subject = "New document"
            else:
                subject = f'Document with ID "{document["_id"]!s}"'
            raise PushError(
                f'Schema validation failed. {subject} in table "{table.name}" does not match the schema: {error}'
            ) from None


def _canonical(exported: Any) -> str:
    return msgspec.json.encode(exported, order="sorted").decode()
