"""Following relationships: documents by their ids, by a field that refers to them, and through a table in between.

Each helper takes `ctx.db` of an `async def` function first. An index named `by_author` is taken to begin with the field
`author`; where it does not, name the field. Owns no state; used by applications and components.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Document = dict[str, Any]


class DocumentMissing(LookupError):
    """A document that should be there is not. `table` and `id`, or `index` and `value`, say which one."""

    def __init__(
        self, text: str, *, table: str | None = None, id: str | None = None, index: str | None = None, value: Any = None
    ) -> None:
        self.table, self.id, self.index, self.value = table, id, index, value
        super().__init__(text)


async def get_or_throw(db: Any, *table_and_id: str) -> Document:
    """Return a document by `get_or_throw(db, id)` or `get_or_throw(db, table, id)`.

    Raises:
        DocumentMissing: there is none.
    """
    document: Document | None = await db.get(*table_and_id)
    if document is None:
        raise _missing(*table_and_id)
    return document


async def get_all(db: Any, ids: Iterable[str], *, table: str | None = None) -> list[Document | None]:
    """Return a document for each id in their order, or None where there is none."""
    return [await (db.get(id) if table is None else db.get(table, id)) for id in ids]


async def get_all_or_throw(db: Any, ids: Iterable[str], *, table: str | None = None) -> list[Document]:
    """Return a document for each id, in their order.

    Raises:
        DocumentMissing: there is none for one of them.
    """
    named = () if table is None else (table,)
    return [await get_or_throw(db, *named, id) for id in ids]


async def get_one_from(db: Any, table: str, index: str, value: Any, field: str | None = None) -> Document | None:
    """Return the one document whose `field` is `value`, or None.

    Raises:
        Error: there are several (`NotUnique`), or the index does not begin with the field.
    """
    document: Document | None = await _from(db, table, index, value, field).unique()
    return document


async def get_one_from_or_throw(db: Any, table: str, index: str, value: Any, field: str | None = None) -> Document:
    """Return the one document whose `field` is `value`.

    Raises:
        DocumentMissing: there is none.
        Error: as `get_one_from`.
    """
    document = await get_one_from(db, table, index, value, field)
    if document is None:
        name = _field_of(index, field)
        raise DocumentMissing(
            f"Table {table!r} has no document with {name} = {value!r} (index {index!r})",
            table=table,
            index=index,
            value=value,
        )
    return document


async def get_many_from(db: Any, table: str, index: str, value: Any, field: str | None = None) -> list[Document]:
    """Return all documents whose `field` is `value`, in the order of the index."""
    documents: list[Document] = await _from(db, table, index, value, field).collect()
    return documents


async def get_many_via(
    db: Any, join_table: str, to_field: str, index: str, value: Any, field: str | None = None
) -> list[Document | None]:
    """Return the documents that the entries of a join table refer to, or None where one is gone.

    `get_many_via(ctx.db, "members", "user", "by_room", room)` gives the users of a room.

    Args:
        to_field: the field of the join table that has the ids.
        index: the index of the join table over `field`.
    """
    joins = await get_many_from(db, join_table, index, value, field)
    return [await db.get(_reference(join, join_table, to_field)) for join in joins]


async def get_many_via_or_throw(
    db: Any, join_table: str, to_field: str, index: str, value: Any, field: str | None = None
) -> list[Document]:
    """Return the documents that the entries of a join table refer to; see `get_many_via`.

    Raises:
        DocumentMissing: one is gone; the text names the entry that refers to it.
    """
    found = []
    for join in await get_many_from(db, join_table, index, value, field):
        id = _reference(join, join_table, to_field)
        document: Document | None = await db.get(id)
        if document is None:
            raise DocumentMissing(
                f"Document {id} is gone, which {to_field!r} of {join_table} {join['_id']} refers to",
                table=join_table,
                id=id,
            )
        found.append(document)
    return found


def _from(db: Any, table: str, index: str, value: Any, field: str | None) -> Any:
    return db.query(table).with_index(index, lambda q: q.eq(_field_of(index, field), value))


def _field_of(index: str, field: str | None) -> str:
    return index.removeprefix("by_") if field is None else field


def _reference(join: Mapping[str, Any], table: str, field: str) -> str:
    id = join.get(field)
    if not isinstance(id, str):
        raise DocumentMissing(f"{table} {join['_id']} has no id in {field!r}, but {id!r}", table=table)
    return id


def _missing(*table_and_id: str) -> DocumentMissing:
    *table, id = table_and_id
    where = f"Table {table[0]!r} has no document" if table else "There is no document"
    return DocumentMissing(f"{where} {id}", table=table[0] if table else None, id=id)
