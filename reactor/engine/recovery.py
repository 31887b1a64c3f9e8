"""Recovery: bringing a deployment's documents back into memory when it opens.

Owns the order: system tables, then the log behind what is folded. What belongs to the application's tables stays on
disk, the end of the log with it, until somebody touches them (`loading`). No reader exists yet, so no history is kept.
Used by the database.
"""

from reactor.engine.catalog import TABLES, Catalog, Table, document_bytes, id_key
from reactor.engine.folding import Folding
from reactor.engine.sessions import SessionResult, SessionResults
from reactor.limits import FIRST_USER_TABLE
from reactor.storage.interface import SESSION_MARKS, LogState, Persistence, Record
from reactor.values.stored import decode_object

PAGE_RECORDS = 1000


Strays = dict[int, dict[str, bytes | None]]  # by tablet: what the log says of documents that no table has


async def recover(
    persistence: Persistence, state: LogState, catalog: Catalog, sessions: SessionResults, folding: Folding
) -> Strays:
    """Fill `catalog` and `sessions` from storage that was opened at `state`; return what belongs to no table.

    That is what is left of imports which did not end, and of what others have replaced.

    Raises:
        StorageError: it can't be read.
    """
    system = catalog.by_name[TABLES].number
    strays: Strays = {}
    await _load(persistence, catalog.by_tablet[system])
    _adopt_tables(catalog)
    stored = await persistence.tables()
    for tablet in stored:
        table = catalog.by_tablet.get(tablet)
        if table is not None and table.is_system and tablet != system:
            await _load(persistence, table)
    async for marks in persistence.load(SESSION_MARKS):
        for mark in marks:
            sessions.refuse_through(mark.id, int(mark.value))
    after = state.floor
    while records := await persistence.read(after, PAGE_RECORDS):
        for record in records:
            if record.session is not None and record.request is not None and record.result is not None:
                result = SessionResult(record.result, record.log_lines, record.ts)
                sessions.remember(record.session, record.request, result)
            folding.found(record, record.ts <= state.folded)
            if record.ts > state.folded:
                _replay(catalog, record, strays)
        after = records[-1].ts
    for table in catalog.by_number.values():
        if table.unloaded is None:
            catalog.bytes += sum(map(document_bytes, table.documents.values()))
            catalog.bytes += sum(index.keys.bytes for index in table.order)
    for tablet in stored:
        if tablet not in catalog.by_tablet and tablet != SESSION_MARKS:
            strays.setdefault(tablet, {})
    return strays


async def _load(persistence: Persistence, table: Table) -> None:
    async for documents in persistence.load(table.tablet):
        for stored in documents:
            _place(table, stored.id, stored.value)


def _place(table: Table, document_id: str, data: bytes | None) -> None:
    """Let `data` stand for the document, or nothing."""
    key = id_key(document_id)
    standing = table.documents.pop(key, None)
    if standing is not None:
        document = decode_object(standing)
        for index in table.order:
            index.keys.discard(index.encoder(document))
    if data is not None:
        table.documents[key] = data
        document = decode_object(data)
        for index in table.order:
            index.keys.add(index.encoder(document))


def _replay(catalog: Catalog, record: Record, strays: Strays) -> None:
    system = catalog.by_name[TABLES].number
    for write in record.writes:
        table = catalog.by_tablet.get(write.table)
        if table is None:
            # An import under way: its rows come before the commit that lets a table have them.
            strays.setdefault(write.table, {})[write.id] = write.value
            continue
        if table.unloaded is not None:
            table.unloaded.writes[write.id] = write.value
            continue
        _place(table, write.id, write.value)
        if write.table == system and write.value is not None:
            _adopt_table(catalog, write.value, strays)


def _adopt_tables(catalog: Catalog) -> None:
    """Make the catalog agree with the documents of `_tables`."""
    for data in catalog.by_name[TABLES].documents.values():
        _adopt_table(catalog, data, {})


def _adopt_table(catalog: Catalog, data: bytes, strays: Strays) -> None:
    row = decode_object(data)
    name, number, row_id = row["name"], row["number"], row["_id"]
    assert isinstance(name, str)
    assert isinstance(number, float)
    assert isinstance(row_id, str)
    tablet = row.get("tablet", int(number))
    assert isinstance(tablet, int)
    table = catalog.by_name.get(name)
    if table is None:
        assert number >= FIRST_USER_TABLE
        table = catalog.add_table(int(number), name, tablet)
        if not table.is_system:  # those of a component are loaded at once, like the deployment's own
            catalog.leave_unloaded(table)
    elif table.number != number:
        catalog.renumber(table, int(number))
    if table.tablet != tablet:
        if table.unloaded is not None:
            strays.setdefault(table.tablet, {}).update(table.unloaded.writes)
            table.unloaded.writes = {}
        assert table.unloaded is not None or not table.documents, "no system table is replaced while it holds anything"
        catalog.move_tablet(table, tablet)
    if table.unloaded is not None:
        table.unloaded.writes.update(strays.pop(tablet, {}))
    table.row_key = id_key(row_id)
