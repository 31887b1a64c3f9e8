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


def fill_index(table: Table, index: Index, chunk_size: int) -> Generator[int, None, None]:
    """Copy every document of `table` into `index`; yields after each chunk with the number copied so far."""
    copied = 0
    start = b""
    entries = index.entries
    encode = index.encoder
    while rows := table.by_id.entries.chunk(start, None, chunk_size, False):
        for _, data in rows:
            entries[encode(decode_object(data))] = data
        copied += len(rows)
        start = rows[-1][0] + b"\x00"
        yield copied


def walk_table(table: Table, check: CheckDocument, chunk_size: int) -> Generator[int, None, None]:
    """Call `check` with every document of `table`; yields after each chunk with the number checked so far."""
    checked = 0
    start = b""
    while rows := table.by_id.entries.chunk(start, None, chunk_size, False):
        for _, data in rows:
            check(table, decode_object(data))
        checked += len(rows)
        start = rows[-1][0] + b"\x00"
        yield checked


def changed_documents(catalog: Catalog, entries: list[LogEntry]) -> Iterator[tuple[Table, dict[str, Value]]]:
    """Yield the present state of each document that `entries` wrote and that still exists."""
    seen: set[bytes] = set()
    for entry in entries:
        for index_id, key in entry.writes:
            index = catalog.by_index.get(index_id)
            if index is None or index.fields or key in seen:
                continue
            seen.add(key)
            data = index.entries.get(key)
            if data is not None:
                yield catalog.by_number[index.table], decode_object(data)
