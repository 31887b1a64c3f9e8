"""Filling a new index, and walking documents under a new schema, while commits go on.

Both go in chunks over the latest applied state and continue by key, so that no snapshot is held for long. An index is
maintained by every commit from the moment it exists, so that copying what is there, in any order, completes it. A walk
is completed by looking again at whatever commits have changed since it began. Used by the push.
"""

from collections.abc import Callable, Generator, Iterator

from reactor.engine.catalog import Catalog, Index, Table
from reactor.engine.writelog import LogEntry
from reactor.values.stored import decode_object
from reactor.values.types import Value

CheckDocument = Callable[[Table, dict[str, Value]], None]


def fill_index(catalog: Catalog, index: Index, chunk_size: int) -> Generator[int, None, None]:
    """Copy every document of its table into `index`; yields after each chunk with the number copied so far.

    Raises:
        DataBytesExceeded: the index does not fit into memory.
    """
    table = index.table
    copied = 0
    start = b""
    keys, encode, documents = index.keys, index.encoder, table.documents
    while chunk := table.by_id.keys.chunk(start, None, chunk_size):
        before = keys.bytes
        for key in chunk:
            keys.add(encode(decode_object(documents[key])))
        catalog.bytes += keys.bytes - before
        catalog.check_room(0)
        copied += len(chunk)
        start = chunk[-1] + b"\x00"
        yield copied


def walk_table(table: Table, check: CheckDocument, chunk_size: int) -> Generator[int, None, None]:
    """Call `check` with every document of `table`; yields after each chunk with the number checked so far."""
    checked = 0
    start = b""
    while chunk := table.by_id.keys.chunk(start, None, chunk_size):
        for key in chunk:
            check(table, decode_object(table.documents[key]))
        checked += len(chunk)
        start = chunk[-1] + b"\x00"
        yield checked


def changed_documents(entries: list[LogEntry]) -> Iterator[tuple[Table, dict[str, Value]]]:
    """Yield the present state of each document that `entries` wrote and that still exists."""
    seen: set[bytes] = set()
    for entry in entries:
        for change in entry.changes:
            if change.key in seen:
                continue
            seen.add(change.key)
            data = change.table.documents.get(change.key)
            if data is not None:
                yield change.table, decode_object(data)
