"""`_system/cli/…` on tables: their names, their documents a page at a time, how many there are.

Promises that an administrator sees every document as it is stored: past row rules, and also in a table that the schema
has left behind; that a table which is not there is empty, since the official command line can't bear to be told; and
that live queries follow. Used by `system_functions`.
"""

from collections.abc import Generator, Mapping
from typing import Any, Final

from reactor.engine.catalog import BY_CREATION_TIME, VISIBLE_SYSTEM_TABLES, Index
from reactor.engine.cursor import fingerprint
from reactor.engine.keyrange import EVERYTHING
from reactor.engine.query import query_json
from reactor.engine.unloaded import TableUnloaded
from reactor.limits import MAX_ADMIN_PAGE_BYTES, MAX_ADMIN_PAGE_ITEMS
from reactor.runtime.decorators import Function, internal_query
from reactor.runtime.executions import Operation
from reactor.runtime.pages import page_options
from reactor.runtime.scans import Scan, SystemScan
from reactor.runtime.system.surroundings import documents_of, scope_of
from reactor.runtime.systemdocs import published
from reactor.schema.validators import v

CURSOR_AT_END: Final = "end"  # of a list that always is one page
SIGNAL_BYTES: Final = 6  # of a number that differs from the one before


@internal_query(args={"paginationOpts": v.any()})
def list_tables(ctx: Any, pagination_opts: object) -> Any:
    """Return the names of the application's tables, or of a component's, as one page."""
    documents, scope = documents_of(ctx), scope_of(ctx)
    documents.transaction.reads.add_range(documents.database.tables_index, EVERYTHING)
    names = sorted(name for name, table in scope.namespace.by_name.items() if not table.is_system)
    return {"page": [{"name": name} for name in names], "isDone": True, "continueCursor": CURSOR_AT_END}


@internal_query(
    args={
        "table": v.string(),
        "order": v.union(v.literal("asc"), v.literal("desc")),
        "paginationOpts": v.any(),
    }
)
async def read_documents(ctx: Any, table: str, order: Any, pagination_opts: Any) -> Any:
    """Return a page of documents by creation time. `_storage` and `_scheduled_functions` can be read, too."""
    return await Operation(ctx._execution, "tableData", lambda: _page(ctx, table, order, pagination_opts), depth=1)


@internal_query(args={"tableName": v.string()})
def count_documents(ctx: Any, table_name: str) -> int:
    """Return how many documents a table has."""
    index = _index(ctx, table_name)
    return 0 if index is None else documents_of(ctx).transaction.count(index, EVERYTHING)


@internal_query(args={"tableName": v.string()})
def signal_changes(ctx: Any, table_name: str) -> int:
    """Return a number that is another one after each change of a table."""
    index = _index(ctx, table_name)
    documents = documents_of(ctx)
    if index is not None:
        documents.transaction.record_scan(index, EVERYTHING, False, None)
    return int.from_bytes(documents.database.rng.token_bytes(SIGNAL_BYTES), "big")


def _page(ctx: Any, table: str, order: Any, asked: Any) -> Generator[None, None, dict[str, Any]]:
    documents, index = documents_of(ctx), _index(ctx, table)
    if index is None:
        return {"page": [], "isDone": True, "continueCursor": CURSOR_AT_END}
    if isinstance(asked, Mapping) and isinstance(asked.get("numItems"), int | float):
        asked = {**asked, "numItems": min(asked["numItems"], MAX_ADMIN_PAGE_ITEMS)}
    options = page_options(asked)
    options = options._replace(max_bytes=min(options.max_bytes, MAX_ADMIN_PAGE_BYTES))
    transaction, chunk = documents.transaction, documents.database.limits.scan_check_entries
    # Documents count toward no limit of the function: the page is bounded already.
    if index.table.is_system:
        scan: Scan = SystemScan(transaction, index, EVERYTHING, order, published(index.table), chunk)
    else:
        scan = Scan(transaction, index, EVERYTHING, order, None, chunk, is_free=True)
    query = query_json(index.table.name, None, (), order, ())
    return (yield from documents.open_pager().read(scan, fingerprint(query, index.fields), options))


def _index(ctx: Any, name: str) -> Index | None:
    """Return the index by creation time of a table, recording the look at it, or None if there is no such table."""
    documents = documents_of(ctx)
    transaction, tables = documents.transaction, documents.database.tables_index
    table = scope_of(ctx).namespace.by_name.get(name)
    if table is None or (table.is_system and name not in VISIBLE_SYSTEM_TABLES):
        transaction.reads.add_range(tables, EVERYTHING)
        return None
    if table.unloaded is not None:
        transaction.needs = table
        raise TableUnloaded(name)
    if table.row_key is not None:
        transaction.reads.add_point(tables, table.row_key)
    return table.indexes[BY_CREATION_TIME]


TABLE_FUNCTIONS: Final[Mapping[str, Function[..., Any]]] = {
    "_system/cli/tables:default": list_tables,
    "_system/cli/tableData:default": read_documents,
    "_system/cli/tableSize:default": count_documents,
    "_system/cli/queryTable:default": signal_changes,
}
