"""Pushing a project: from a loaded version to the deployed one, in one commit, while requests go on.

Owns the order of steps: tables exist, new indexes are filled, existing documents are checked against the new schema,
and only then one commit switches code and schema together. Promises that until that commit nothing of the new version
is visible, and that a push which fails changes nothing but tables and indexes nobody names. All that goes for the
mounted components too: they are pushed with the application, in the same commit. Because code and schema are
documents in read sets, the commit itself makes every live query stale that it changes, and every mutation caught by it
run again on the new code (`design.md` §4, 14). Used by the host.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from reactor.engine.backfill import changed_documents, fill_index, walk_table
from reactor.engine.catalog import (
    COMPONENTS,
    DEPLOYMENT,
    MODULES,
    TABLES,
    VISIBLE_SYSTEM_TABLES,
    Index,
    Namespace,
    Table,
    id_key,
)
from reactor.engine.database import Database
from reactor.engine.systemdocs import insert_system, put_system
from reactor.engine.transaction import Transaction
from reactor.errors import PushError, ValidationError
from reactor.protocol.deploys import Deploy
from reactor.runtime.components.definitions import Instance, child_path
from reactor.runtime.components.targets import stage_handles
from reactor.runtime.deploys.kept import with_deploy
from reactor.runtime.deploys.progress import Tell, nobody, told
from reactor.runtime.environment.documents import touch_defaults
from reactor.runtime.importing import public_names
from reactor.runtime.project import Project
from reactor.runtime.rules.declared import Rules
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.versions import Version, Versions
from reactor.schema.compare import compare_schemas
from reactor.schema.definition import Schema, schema_from_json
from reactor.storage import failpoints
from reactor.values.types import Value

SETTLED: int = 100  # documents changed during a walk that the switching step itself may look at again

Stage = Callable[[Transaction, Project], None]  # makes a part of the switch


class PushReport(msgspec.Struct, frozen=True):
    """What a push did. Names are sorted."""

    version: int
    ts: int
    created_tables: tuple[str, ...]
    built_indexes: tuple[str, ...]
    changed_modules: tuple[str, ...]
    checked_documents: int


class Part(NamedTuple):
    """What is pushed to one component instance, the application included."""

    instance: Instance
    namespace: Namespace
    active: Schema | None  # what existing documents are known to satisfy

    @property
    def schema(self) -> Schema:
        return self.instance.schema

    def digests(self) -> list[tuple[str, str]]:
        """Return the namespaces, with the digests of all that their functions depend on."""
        bindings = self.instance.bindings
        bound = hashlib.sha256(repr(sorted(bindings.items())).encode()).hexdigest() if bindings else ""
        functions = self.instance.registry.functions
        found = {path.rpartition(":")[0]: function.digest + bound for path, function in functions.items()}
        return sorted(found.items())


class Pusher:
    """Deploys project versions, one at a time."""

    def __init__(
        self,
        database: Database,
        versions: Versions,
        queue: RunQueue,
        *,
        built_in: Mapping[str, str],
        stages: Sequence[Stage],
    ) -> None:
        """`built_in` are environment variables of every version; `stages` stage what else comes with one."""
        self._database = database
        self._versions = versions
        self._queue = queue
        self._built_in = built_in
        self._stages = stages
        self.lock = asyncio.Lock()  # held by a push, and by an import: neither expects the schema or tables to change

    async def push(self, project: Project, *, deploy: Deploy | None = None, tell: Tell = nobody) -> PushReport:
        """Deploy `project`; returns when the switch is durable.

        Args:
            deploy: what to remember of it, in the same commit, as the newest deploy.
            tell: is told how far the steps are that look at documents.

        Raises:
            PushError: existing documents do not match the new schema, or a write during the push broke it.
        """
        async with self.lock:
            database = self._database
            parts = self.parts(project)
            created = self._create_tables(parts)
            indexes: dict[str, Index] = {}
            try:
                await self._build_indexes(parts, indexes, tell)
                since, checked = await self._check_documents(parts, tell)
                try:
                    version, changed = self._switch(project, parts, list(indexes.values()), since, deploy)
                finally:
                    database.retention.unpin(since)
            except BaseException:
                self._drop_unused(indexes.values())
                raise
            await database.durable(version.ts)
            if failpoints.armed is not None:
                failpoints.armed("deploy: durable")
            await database.retention.no_reader_before(version.ts)
            for retired in self._versions.retire(version.ts):
                retired.retire()
            self._drop_indexes(parts)
            return PushReport(
                version=version.number,
                ts=version.ts,
                created_tables=tuple(created),
                built_indexes=tuple(sorted(indexes)),
                changed_modules=tuple(changed),
                checked_documents=checked,
            )

    def parts(self, project: Project) -> list[Part]:
        """Return the instances of a project, the application first, with what the database has of each."""
        (deployment,) = self._database.system_documents(DEPLOYMENT)
        known = {str(row["path"]): row for row in self._database.system_documents(COMPONENTS)}
        parts: list[Part] = []
        for instance in project.root.walk():
            row = known.get(instance.path) if instance.path else deployment
            text = None if row is None else row.get("schema")
            active = schema_from_json(msgspec.json.decode(text)) if isinstance(text, str) else None
            parts.append(Part(instance, self._database.catalog.namespace(instance.path), active))
        return parts

    def _create_tables(self, parts: Sequence[Part]) -> list[str]:
        created: list[str] = []
        for part in parts:
            # The system tables of the application are there from the start.
            wanted = [*sorted(part.schema.tables), *(sorted(VISIBLE_SYSTEM_TABLES) if part.instance.path else ())]
            for name in wanted:
                if name not in part.namespace.by_name:
                    full_name = part.namespace.full_name(name)
                    if not self._database.create_table(full_name).is_system:
                        created.append(full_name)
        return created

    async def _build_indexes(self, parts: Sequence[Part], built: dict[str, Index], tell: Tell) -> None:
        """Fill what is declared and nobody has built; each goes into `built`, by name, before it is filled."""
        database = self._database
        for part in parts:
            for name, definition in part.schema.tables.items():
                table = part.namespace.by_name[name]
                for declared in definition.indexes:
                    fields = declared.stored_fields
                    if fields not in table.indexes:
                        await database.loading.settled(table)
                        index = database.catalog.add_index(table, fields)
                        built[f"{table.name}.{declared.name}"] = index
                        if table.unloaded is None:  # otherwise the load fills it
                            chunk = database.limits.scan_check_entries
                            steps = fill_index(database.catalog, index, chunk)
                            what = f"fill index {table.name}.{declared.name}"
                            await self._queue.run(told(steps, tell, what, table))

    def _drop_unused(self, indexes: Iterable[Index]) -> None:
        """Forget what a push that failed has built: it may be half filled, and no version names it."""
        for index in indexes:
            self._database.catalog.drop_index(index.table, index.fields)

    async def _check_documents(self, parts: Sequence[Part], tell: Tell) -> tuple[int, int]:
        """Walk the tables that may hold documents a new schema refuses; return since when to look at the write log.

        The timestamp returned is pinned.
        """
        database = self._database
        since = database.applied_ts
        database.retention.pin(since)
        checked = 0
        try:
            for part in parts:
                change = compare_schemas(part.active, part.schema)
                for name in sorted(change.tables_to_check):
                    table = part.namespace.by_name[name]
                    await database.loading.load(table)
                    check = _DocumentCheck(parts, database, since)
                    steps = walk_table(table, check, database.limits.scan_check_entries)
                    await self._queue.run(told(steps, tell, f"check table {table.name}", table))
                    checked += check.count
            while len(entries := database.write_log.since(since)) > SETTLED:
                newest = entries[-1].commit_ts
                self._check_changed(parts, since)
                database.retention.pin(newest)
                database.retention.unpin(since)
                since = newest
                await asyncio.sleep(0)
        except BaseException:
            database.retention.unpin(since)
            raise
        return since, checked

    def _check_changed(self, parts: Sequence[Part], since: int) -> None:
        check = _DocumentCheck(parts, self._database, since)
        entries = list(self._database.write_log.since(since))
        for table, document in changed_documents(entries):
            check(table, document)

    def _switch(
        self, project: Project, parts: Sequence[Part], indexes: list[Index], since: int, deploy: Deploy | None
    ) -> tuple[Version, list[str]]:
        """Commit the switch. From the last look at the write log to the commit nothing else can run."""
        database = self._database
        if failpoints.armed is not None:
            failpoints.armed("deploy: before the switch")
        self._check_changed(parts, since)
        transaction = database.begin_mutation()
        module_keys, changed = self._stage_modules(transaction, parts)
        handles = stage_handles(database, transaction, project.root)
        self._stage_tables(transaction, parts, project.rules)
        self._stage_components(transaction, parts)
        number = self._stage_deployment(transaction, project.schema, deploy)
        if self._versions.newest_defaults() not in (None, project.env):
            touch_defaults(database, transaction)
        for stage in self._stages:
            stage(transaction, project)
        ts = database.committer.commit(transaction, source="", version=number)
        if failpoints.armed is not None:
            failpoints.armed("deploy: after the switch")
        for index in indexes:
            index.valid_from = ts
        version = Version(database, project, ts, number, database.deployment_key, module_keys, handles, self._built_in)
        self._versions.add(version)
        return version, changed

    def _stage_modules(
        self, transaction: Transaction, parts: Sequence[Part]
    ) -> tuple[dict[str, dict[str, bytes]], list[str]]:
        """Stage the rows of `_modules`: one per namespace, with the digest of everything its code depends on."""
        database = self._database
        table = database.catalog.by_name[MODULES]
        rows = {(str(row.get("component", "")), str(row["path"])): row for row in database.system_documents(MODULES)}
        keys: dict[str, dict[str, bytes]] = {}
        changed: list[str] = []
        for part in parts:
            component = part.instance.path
            keys[component] = {}
            for module, digest in part.digests():
                row = rows.pop((component, module), None)
                if row is None:
                    fields: dict[str, Value] = {"path": module, "digest": digest}
                    if component:
                        fields["component"] = component
                    document_id = insert_system(database, transaction, table, fields)
                    changed.append(child_path(component, module))
                else:
                    document_id = str(row["_id"])
                    if row["digest"] != digest:
                        put_system(transaction, table, row, {**row, "digest": digest})
                        changed.append(child_path(component, module))
                keys[component][module] = id_key(document_id)
        for (component, module), row in rows.items():
            put_system(transaction, table, row, None)
            changed.append(child_path(component, module))
        return keys, sorted(changed)

    def _stage_tables(self, transaction: Transaction, parts: Sequence[Part], rules: Rules | None) -> None:
        """Touch the rows of `_tables` whose definition or rules change: whoever reads the table depends on it."""
        database = self._database
        table = database.catalog.by_name[TABLES]
        schemas = {part.instance.path: part.schema for part in parts}
        for row in database.system_documents(TABLES):
            component, _, name = str(row["name"]).rpartition("/")
            schema = schemas.get(component)
            definition = None if schema is None else schema.tables.get(name)
            if schema is None:
                text = "unmounted"
            elif definition is None:
                text = f"undeclared, strict={schema.strict_table_names and bool(schema.tables)}"
            else:
                text = _canonical(definition.to_json(name, stored=True))
                text += f" validated={schema.schema_validation}"
            if rules is not None and row["name"] in rules.tables:
                text += f" rules={rules.digest}"
            if row.get("definition") != text:
                put_system(transaction, table, row, {**row, "definition": text})

    def _stage_components(self, transaction: Transaction, parts: Sequence[Part]) -> None:
        """Stage the rows of `_components`: one for each instance that was ever mounted, since its data is kept."""
        database = self._database
        table = database.catalog.by_name[COMPONENTS]
        rows = {str(row["path"]): row for row in database.system_documents(COMPONENTS)}
        for part in parts:
            mount = part.instance.mount
            if mount is None:
                continue
            row = rows.pop(part.instance.path, None)
            fields: dict[str, Value] = {
                "path": part.instance.path,
                "component": public_names(mount.component.package),
                "schema": _canonical(part.schema.to_json(stored=True)),
                "state": "active",
            }
            if row is None:
                insert_system(database, transaction, table, fields)
            elif row != row | fields:
                put_system(transaction, table, row, row | fields)
        for row in rows.values():
            if row["state"] != "unmounted":
                put_system(transaction, table, row, row | {"state": "unmounted"})

    def _stage_deployment(self, transaction: Transaction, schema: Schema, deploy: Deploy | None) -> int:
        database = self._database
        (row,) = database.system_documents(DEPLOYMENT)
        version = row["version"]
        assert isinstance(version, float)
        fields: dict[str, Value] = {
            **row,
            "version": version + 1,
            "schema": _canonical(schema.to_json(stored=True)),
        }
        if deploy is not None:
            fields |= with_deploy(row, deploy, database.limits.deploys_kept)
        put_system(transaction, database.catalog.by_name[DEPLOYMENT], row, fields)
        return int(version) + 1

    def _drop_indexes(self, parts: Sequence[Part]) -> None:
        schemas = {part.instance.path: part.schema for part in parts}
        for table in self._database.user_tables():
            schema = schemas.get(table.component)
            definition = None if schema is None else schema.tables.get(table.local_name)
            named = {index.stored_fields for index in definition.indexes} if definition is not None else set()
            for fields in [fields for fields in table.indexes if len(fields) > 1 and fields not in named]:
                self._database.catalog.drop_index(table, fields)


class _DocumentCheck:
    """Checks documents against schemas that are not deployed yet. What was written after `since` is new."""

    def __init__(self, parts: Sequence[Part], database: Database, since: int) -> None:
        self._parts = {part.instance.path: part for part in parts}
        self._database = database
        self._since = since
        self.count = 0

    def __call__(self, table: Table, document: dict[str, Value]) -> None:
        part = self._parts.get(table.component)
        definition = None if part is None else part.schema.tables.get(table.local_name)
        if part is None or definition is None or not part.schema.schema_validation:
            return
        self.count += 1
        tables = part.namespace
        if definition.accepts_document(document, tables):
            return
        try:
            definition.check_document(document, tables)
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
