"""One import: all of it, or nothing.

Owns the order of steps: rows go into tablets that no table has and contents into blobs that no document names, a slice
at a time behind everything else; then one commit lets the tables have the one and `_storage` name the other. Promises
that nobody sees a part of it, that whatever fails leaves nothing but garbage, which is removed, and that memory beyond
the rows themselves is bounded. Triggers do not run, and row rules are not asked. See `design/24-import.md`.
"""

import re
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from reactor.engine.catalog import STORED_FILES, TABLES, Table, id_key
from reactor.engine.database import Database
from reactor.engine.systemdocs import insert_system, put_system
from reactor.engine.tablets import Unseen
from reactor.engine.timestamps import covering_ts
from reactor.engine.transaction import PendingWrite, Transaction
from reactor.errors import StorageError, TransferRefused, ValidationError
from reactor.runtime.files.documents import is_content_type
from reactor.runtime.files.store import PART_BYTES, Files
from reactor.runtime.runqueue import RunQueue
from reactor.schema.definition import Schema
from reactor.storage import failpoints
from reactor.storage.interface import Written
from reactor.transfer.bundle import Bundle, FileRows, Mode, Open
from reactor.transfer.plan import Plan, Target, make_plan, not_empty
from reactor.transfer.rows import Row, refused
from reactor.values.document import check_document, check_document_size
from reactor.values.ids import decode_id
from reactor.values.stored import decode_object, encode_stored, normalise
from reactor.values.types import Int64

SMALL_APPEND: Final = 500  # rows that are appended by the commit itself; more go in with a copy of the table
POLITE: Final = 0.25  # of a slice, for each turn
SETTLED: Final = 100  # documents written meanwhile that the last step itself may copy
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Progress = Callable[[str, int, int], None]  # table, rows so far, rows in all


class Done(msgspec.Struct, frozen=True):
    """What an import did."""

    ts: int
    rows: int


class _Staged(msgspec.Struct):
    """The next documents of one target."""

    target: Target
    unseen: Unseen
    content: Table | None = None  # None: a few rows for a table that stays
    since: int = 0  # from when on writes to the table are to be copied; 0: none
    imported: int = 0


class _StagedFile(msgspec.Struct):
    """The document of a file whose content is there."""

    table: Table
    document: dict[str, Any]


class Import:
    """One import into an open database. `run` it once."""

    def __init__(
        self,
        database: Database,
        files: Files,
        queue: RunQueue,
        schemas: Mapping[str, Schema],
        bundle: Bundle,
        mode: Mode,
        progress: Progress,
    ) -> None:
        """`schemas` are those of the mounted instances. Until the end nothing is pushed, and nothing else imported."""
        self._database = database
        self._files = files
        self._queue = queue
        self._schemas = schemas
        self._bundle = bundle
        self._mode: Mode = mode
        self._progress = progress
        self._staged: list[_Staged] = []
        self._staged_files: list[_StagedFile] = []
        self._keys: list[str] = []  # of blobs

    async def plan(self) -> Plan:
        """Return what `run` would do now.

        Raises:
            TransferRefused: it can't be done.
            StorageError, DataBytesExceeded: the tables can't be brought into memory.
        """
        await self._load_tables()
        return make_plan(self._database.catalog, self._schemas, self._bundle, self._mode)

    async def run(self) -> Done:
        """Do it.

        Raises:
            TransferRefused: it can't be done, for a reason that lies in the file or in what is here.
            StorageError, OutcomeUnknown, DataBytesExceeded: the data can't be kept. In every case nothing was imported,
                except for `OutcomeUnknown`, when that can't be said.
        """
        is_done = False
        try:
            plan = await self.plan()
            for target in plan.targets:
                await self._stage(target)
            for files in self._bundle.files:
                await self._stage_files(files)
            for staged in self._staged:
                await self._complete(staged)
            if failpoints.armed is not None:
                failpoints.armed("import: before the switch")
            done = self._switch(plan)
            is_done = True
        finally:
            if not is_done:
                for staged in self._staged:
                    staged.unseen.abandon()
                await self._remove_blobs()
            for staged in self._staged:
                if staged.since:
                    self._database.retention.unpin(staged.since)
        await self._database.durable(done.ts)
        self._files.arriving.difference_update(self._keys)
        return done

    async def _load_tables(self) -> None:
        """Bring every table into memory that is touched, or that may have to give way."""
        catalog, numbers = self._database.catalog, {rows.number for rows in self._bundle.tables}
        names = {catalog.namespace(rows.component).full_name(rows.table) for rows in self._bundle.tables}
        for table in list(catalog.by_number.values()):
            if table.unloaded is not None and (
                table.name in names or table.number in numbers or self._mode == "replaceAll"
            ):
                await self._database.loading.load(table)

    # Rows.

    async def _stage(self, target: Target) -> None:
        fields = () if target.table is None else tuple(target.table.indexes)
        staged = _Staged(target, Unseen(self._database, target.full_name, fields))
        self._staged.append(staged)
        rows = target.rows
        if rows is None:
            return
        batches = rows.batches()
        try:
            while batch := await self._files.in_thread(next, batches, None):
                await self._queue.run(self._take(staged, batch), POLITE)
                if staged.unseen.is_due:
                    await staged.unseen.settle()
                staged.imported = len(staged.unseen)
                self._progress(target.name, staged.imported, rows.count)
                if failpoints.armed is not None:
                    failpoints.armed("import: rows")
        finally:
            await self._files.in_thread(batches.close)  # type: ignore[attr-defined]

    def _take(self, staged: _Staged, batch: list[Row]) -> Iterator[None]:
        for row in batch:
            try:
                document, data = self._document(staged.target, row)
                key = id_key(document["_id"])
                if key in staged.unseen:
                    raise ValidationError(f"there are two rows with the `_id` {document['_id']!r}")
            except ValidationError as error:
                raise TransferRefused(
                    "ImportFailed",
                    f"Hit an error while importing:\ntable {staged.target.name!r}, row {row.number}: {error}",
                ) from None
            staged.unseen.add(key, document, data)
            yield

    def _document(self, target: Target, row: Row) -> tuple[dict[str, Any], bytes]:
        """Return the document that a row is, checked, and its stored form."""
        normal = row.read()
        document = normal.value
        if type(document) is not dict:
            raise ValidationError("it is no object")
        if "_id" not in document or "_creationTime" not in document:
            database = self._database
            given: dict[str, Any] = {**document}
            given.setdefault("_id", database.ids.next(target.number))
            if "_creationTime" not in given:
                given["_creationTime"] = database.creation_clock.next()
            normal = normalise(given)
            document = normal.value
            assert isinstance(document, dict)
        _check_id(document["_id"], target.number)
        _check_time(document["_creationTime"])
        check_document(document, normal.nesting)
        check_document_size(normal.size)
        definition = target.definition
        if definition is not None and not definition.accepts_document(document, target.numbers):
            definition.check_document(document, target.numbers)
        return document, b"%b" % encode_stored(document)

    # Tables that stay, and get more.

    async def _complete(self, staged: _Staged) -> None:
        """Bring the next documents of a target into the form in which the switch takes them."""
        table = staged.target.table
        unseen = staged.unseen
        if self._mode == "append" and table is not None and len(table):
            for key in unseen.documents:
                if key in table.documents:
                    raise _clash(staged.target)
            if len(unseen) <= SMALL_APPEND:
                await unseen.settle()
                return
            await self._copy(staged, table)
        staged.content = await unseen.finish()
        if staged.since:
            while len(changed := self._changed(staged)) > SETTLED:
                newest = self._database.applied_ts
                transaction = self._database.begin_mutation()
                self._stage_changes(transaction, staged, changed)
                self._database.retention.pin(newest)
                ts = self._database.committer.commit(transaction, source="_import")
                self._database.retention.unpin(staged.since)
                staged.since = newest
                await self._database.durable(ts)

    async def _copy(self, staged: _Staged, table: Table) -> None:
        """Add the documents of a table to those that are imported into it."""
        database = self._database
        database.retention.pin(database.applied_ts)
        staged.since = database.applied_ts
        start = b""
        while chunk := table.by_id.keys.chunk(start, None, database.limits.scan_check_entries):
            for key in chunk:
                data = table.documents[key]
                if key in staged.unseen:
                    raise _clash(staged.target)
                staged.unseen.add(key, decode_object(data), data)
            start = chunk[-1] + b"\x00"
            if staged.unseen.is_due:
                await staged.unseen.settle()
            await self._queue.run(())

    def _changed(self, staged: _Staged) -> list[bytes]:
        """Return the documents that were written to a table since it was copied."""
        entries = self._database.write_log.since(staged.since)
        table = staged.target.table
        return list(dict.fromkeys(change.key for entry in entries for change in entry.changes if change.table is table))

    def _stage_changes(self, transaction: Transaction, staged: _Staged, keys: list[bytes]) -> None:
        table, content = staged.target.table, staged.content
        assert table is not None
        assert content is not None
        for key in keys:
            _put(transaction, content, key, table.documents.get(key))

    # Files.

    async def _stage_files(self, files: FileRows) -> None:
        """Put the contents of files into the blob store, and check them against their documents."""
        catalog = self._database.catalog
        table = catalog.by_name[catalog.namespace(files.component).full_name(STORED_FILES)]
        if self._mode == "requireEmpty" and len(table):
            raise not_empty(STORED_FILES)
        number = files.documents.number or table.number
        seen: set[str] = set()
        batches = files.documents.batches()
        try:
            while batch := await self._files.in_thread(next, batches, None):
                for row in batch:
                    try:
                        document = await self._file(row, files.contents, number)
                        if document["_id"] in seen or (
                            self._mode == "append" and id_key(document["_id"]) in table.documents
                        ):
                            raise ValidationError(f"there is already a file {document['_id']!r}")
                    except ValidationError as error:
                        raise refused(row.number, f"of `_storage`: {error}") from None
                    seen.add(document["_id"])
                    self._staged_files.append(_StagedFile(table, document))
                    self._progress(STORED_FILES, len(seen), files.documents.count)
        finally:
            await self._files.in_thread(batches.close)  # type: ignore[attr-defined]
        if lost := files.contents.keys() - seen:
            raise TransferRefused("ImportFailed", f"The content of file {min(lost)!r} has no row in `_storage`.")

    async def _file(self, row: Row, contents: Mapping[str, Open], number: int) -> dict[str, Any]:
        fields = row.read().value
        if type(fields) is not dict:
            raise ValidationError("it is no object")
        stored_id = fields.get("_id")
        _check_id(stored_id, number)
        assert isinstance(stored_id, str)
        kind = fields.get("contentType")
        if kind is not None and not is_content_type(kind):
            raise ValidationError(f"{kind!r} is no content type")
        if stored_id not in contents:
            raise ValidationError(f"the content of file {stored_id!r} is missing")
        time = fields.get("_creationTime", self._database.creation_clock.next())
        _check_time(time)
        key = self._files.new_key()
        self._files.arriving.add(key)
        self._keys.append(key)
        written = await self._files.in_thread(self._write, key, contents[stored_id])
        digest = b64encode(written.sha256).decode()
        if fields.get("sha256", digest) != digest:
            raise ValidationError(f"the content of file {stored_id!r} has another sha256 than its row says")
        if fields.get("size", float(written.size)) != written.size:
            raise ValidationError(f"file {stored_id!r} has {written.size} bytes, but its row says {fields['size']}")
        name = fields.get("internalId")
        is_known = isinstance(name, str) and _UUID.fullmatch(name) is not None
        return {
            "_id": stored_id,
            "_creationTime": time,
            "uuid": str(uuid.UUID(str(name))) if is_known else self._files.new_uuid(),
            "blob": key,
            "sha256": digest,
            "size": float(written.size),
        } | ({} if kind is None else {"contentType": kind})

    def _write(self, key: str, content: Open) -> Written:
        limit, size = self._files.file_bytes, 0
        writer = self._files.blobs.write(key)
        try:
            with content() as stream:
                while part := stream.read(PART_BYTES):
                    size += len(part)
                    if limit and size > limit:
                        raise ValidationError(f"the file is larger than REACTOR_FILE_BYTES={limit}")
                    writer.write(part)
            return writer.finish()
        except BaseException:
            writer.abort()
            raise

    async def _remove_blobs(self) -> None:
        if self._keys:
            with suppress(StorageError):  # found by the collector's next search
                await self._files.in_thread(self._files.blobs.delete, self._keys)
            self._files.arriving.difference_update(self._keys)

    # The switch.

    def _switch(self, plan: Plan) -> Done:
        """Let everybody see it: one commit. Nothing else runs from the first line to the last."""
        database, catalog = self._database, self._database.catalog
        again = make_plan(catalog, self._schemas, self._bundle, self._mode)
        if [(target.table, target.number) for target in again.targets] != [
            (target.table, target.number) for target in plan.targets
        ] or again.moved != plan.moved:
            raise TransferRefused(
                "ImportFailed", "Tables were made while the import ran. Nothing was imported; try again."
            )
        transaction = database.begin_mutation()
        rows = {str(row["name"]): row for row in database.system_documents(TABLES)}
        made: dict[str, str] = {}
        written = 0
        for staged in self._staged:
            target = staged.target
            written += staged.imported
            if staged.content is None:
                assert target.table is not None
                for key, data in staged.unseen.documents.items():
                    if key in target.table.documents:
                        raise _clash(target)
                    _put(transaction, target.table, key, data)
                continue
            if staged.since:
                self._stage_changes(transaction, staged, self._changed(staged))
            fields = {"number": float(target.number), "tablet": Int64(staged.content.tablet)}
            row = rows.get(target.full_name)
            tables = catalog.by_name[TABLES]
            if row is None:
                made[target.full_name] = insert_system(
                    database, transaction, tables, {"name": target.full_name, **fields}
                )
            else:
                put_system(transaction, tables, row, {**row, **fields})
        tablets: dict[str, int] = {}
        for table, number in plan.moved:
            row = rows[table.name]
            tablets[table.name] = tablet = database.commit_clock.next()
            fields = {"number": float(number), "tablet": Int64(tablet)}
            put_system(transaction, catalog.by_name[TABLES], row, {**row, **fields})
        written += self._put_files(transaction)
        transaction.last_creation_ts = covering_ts(database.creation_clock.last)
        ts = database.committer.commit(transaction, source="_import")
        # From here on nothing may raise: others must never see half of it.
        for table, number in plan.moved:
            catalog.move_tablet(table, tablets[table.name])
            catalog.renumber(table, number)
        for staged in self._staged:
            self._install(staged, made, ts)
        return Done(ts, written)

    def _install(self, staged: _Staged, made: Mapping[str, str], ts: int) -> None:
        database, target, content = self._database, staged.target, staged.content
        if content is None:
            # The rows have become those of the table; what was put under the tablet is garbage.
            staged.unseen.abandon()
            return
        table = target.table
        if table is None:
            table = database.catalog.add_table(target.number, target.full_name, database.commit_clock.next())
            table.row_key = id_key(made[target.full_name])
        elif table.number != target.number:
            database.catalog.renumber(table, target.number)
        database.catalog.replace_content(table, content, ts)
        database.tablets.discard_replaced(content, table, ts)

    def _put_files(self, transaction: Transaction) -> int:
        tables = {id(staged.table): staged.table for staged in self._staged_files}
        if self._mode != "append":
            catalog = self._database.catalog
            for files in self._bundle.files:
                table = catalog.by_name[catalog.namespace(files.component).full_name(STORED_FILES)]
                tables[id(table)] = table
            for table in tables.values():
                for key in list(table.documents):
                    _put(transaction, table, key, None)
        for staged in self._staged_files:
            normal = normalise(staged.document).value
            _put(transaction, staged.table, id_key(staged.document["_id"]), b"%b" % encode_stored(normal))
        return len(self._staged_files)


def _put(transaction: Transaction, table: Table, key: bytes, data: bytes | None) -> None:
    """Stage what shall stand at `key`. The bounds of a transaction do not hold here."""
    document_id = key[1:-1].decode("ascii")
    standing = table.documents.get(key)
    pending = transaction.writes.get(document_id)
    if pending is None:
        before = None if standing is None else decode_object(standing)
        pending = transaction.writes[document_id] = PendingWrite(table, document_id, key, standing, before)
    pending.after = data
    pending.new = None if data is None else decode_object(data)


def _clash(target: Target) -> TransferRefused:
    return TransferRefused(
        "ImportFailed", f"Table {target.name} already has a document with the `_id` of a row. Nothing was imported."
    )


def _check_id(document_id: object, number: int) -> None:
    if not isinstance(document_id, str):
        raise ValidationError(f"`_id` is no string: {document_id!r}")
    try:
        found, _ = decode_id(document_id)
    except Exception as error:
        raise ValidationError(f"`_id` {document_id[:100]!r}: {error}") from None
    if found != number:
        raise ValidationError(
            f"the `_id` {document_id!r} is one of table number {found}, but the table has number {number}"
        )


def _check_time(time: object) -> None:
    if not isinstance(time, float) or time - time != 0.0 or time < 0:
        raise ValidationError(f"`_creationTime` is no time in milliseconds: {time!r}")
