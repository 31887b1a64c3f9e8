"""Imports and exports as documents: what stands in `_snapshot_imports` and `_exports`.

Owns how they are read, made and changed; their fields are those of the wire (`reference/cli.md`). Used by the system
functions that clients watch them through, and by whoever does the work.
"""

from collections.abc import Mapping
from typing import Any, Final

from reactor.engine.catalog import BY_CREATION_TIME, EXPORTS, IMPORTS, Table
from reactor.engine.database import Database
from reactor.engine.keyrange import EVERYTHING
from reactor.engine.systemdocs import Document, insert_system, put_system, read_system
from reactor.engine.transaction import Transaction
from reactor.errors import InvalidArgument
from reactor.values.ids import decode_id
from reactor.values.stored import decode_object

MOST: Final = 20  # imports that a list shows
KEPT: Final = 100  # of each table; older ones are removed when one more is made


def read_transfer(transaction: Transaction, transfer_id: str) -> Document | None:
    """Return an import or export, or None when there is none of that id."""
    try:
        number, _ = decode_id(transfer_id)
    except InvalidArgument:
        return None
    table = transaction.catalog.by_number.get(number)
    if table is None or table.name not in (EXPORTS, IMPORTS):
        return None
    return read_system(transaction, table, transfer_id)


def recent_imports(transaction: Transaction) -> list[Document]:
    """Return the newest imports, newest first."""
    return newest(transaction, transaction.catalog.by_name[IMPORTS], MOST)


def read_latest_export(transaction: Transaction) -> Document | None:
    """Return the newest export."""
    return next(iter(newest(transaction, transaction.catalog.by_name[EXPORTS], 1)), None)


def newest(transaction: Transaction, table: Table, most: int) -> list[Document]:
    """Return the newest documents of a table, newest first; all are recorded as read."""
    index = table.indexes[BY_CREATION_TIME]
    transaction.record_scan(index, EVERYTHING, True, None)
    found: list[Document] = []
    for chunk in transaction.scan(index, EVERYTHING.start, EVERYTHING.end, True, most):
        found += [decode_object(data) for _, data in chunk.rows]
        if len(found) >= most:
            break
    return found[:most]


def make_transfer(database: Database, name: str, fields: Mapping[str, Any]) -> str:
    """Commit a new document of `_exports` or `_snapshot_imports`; return its id. The oldest make room."""
    transaction = database.begin_mutation()
    table = database.catalog.by_name[name]
    transfer_id = insert_system(database, transaction, table, fields)
    for old in newest(transaction, table, len(table) + 1)[KEPT:]:
        put_system(transaction, table, old, None)
    database.committer.commit(transaction, source="_transfer")
    return transfer_id


def change_transfer(database: Database, transfer_id: str, **fields: Any) -> int:
    """Commit new values of some fields; return when. A document that is gone stays gone."""
    transaction = database.begin_mutation()
    before = read_transfer(transaction, transfer_id)
    if before is None:
        return transaction.begin_ts
    table = transaction.catalog.by_number[decode_id(transfer_id)[0]]
    put_system(transaction, table, before, {**before, **fields})
    return database.committer.commit(transaction, source="_transfer")
