"""Documents of system tables: what the deployment keeps for itself, from its tables to its scheduled functions.

Owns how they are read and written by code of ours. They are documents like any other, seen at a snapshot, recorded as
read and changed by commits; but they count toward no limit of a function, and no schema is asked. Used by the database
itself, and by each part of the runtime for the tables that are its own.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from reactor.engine.catalog import Table, id_key
from reactor.engine.keyrange import KeyRange
from reactor.engine.transaction import Transaction
from reactor.values.ids import IdGenerator
from reactor.values.keys import encode_key, prefix_bounds
from reactor.values.stored import decode_object, encode_stored, normalise

Document = dict[str, Any]


class Source(Protocol):
    """Where new documents get their ids and creation times: the database, or what a sampled run has in its place."""

    ids: IdGenerator

    def creation_time(self, transaction: Transaction) -> float:
        """Draw the `_creationTime` of a document that `transaction` inserts now."""


def read_system(transaction: Transaction, table: Table, document_id: str) -> Document | None:
    """Return a document, fresh, as `transaction` sees it, or None; recorded as read either way."""
    data = transaction.look_up(table, document_id)
    return None if data is None else decode_object(data)


def find_system(transaction: Transaction, table: Table, fields: tuple[str, ...], value: str) -> Document | None:
    """Return the first document that has `value` in the first field of an index, or None; recorded as `read_system`."""
    index = table.indexes[fields]
    start, end = prefix_bounds(encode_key([value]))
    transaction.record_scan(index, KeyRange(start, end, len(start)), False, None)
    for chunk in transaction.scan(index, start, end, False, 1):
        for _, data in chunk.rows:
            return decode_object(data)
    return None


def insert_system(source: Source, transaction: Transaction, table: Table, fields: Mapping[str, Any]) -> str:
    """Stage a new document; return its id."""
    document_id = source.ids.next(table.number)
    transaction.expect_absent(table, document_id)
    creation_time = source.creation_time(transaction)
    put_system(transaction, table, None, {**fields, "_id": document_id, "_creationTime": creation_time})
    return document_id


def put_system(transaction: Transaction, table: Table, before: Document | None, after: Document | None) -> None:
    """Stage any change: from `before`, which the caller has read, to `after`. None is no document."""
    document = after if before is None else before
    assert document is not None, "there is something to change"
    document_id: str = document["_id"]
    standing = None if before is None else table.documents.get(id_key(document_id))
    transaction.documents_written -= 1
    if after is None:
        transaction.put(table, document_id, None, None, before, standing)
        return
    normal = normalise(after).value
    assert isinstance(normal, dict)
    data = b"%b" % encode_stored(normal)  # copied: the encoder's bytes keep half as much again that it had reserved
    transaction.bytes_written -= len(data)
    transaction.put(table, document_id, normal, data, before, standing)
