"""Tables and their indexes: the latest applied state of every document, in memory.

Owns the maps from index key to document bytes, and the numbering of tables and indexes. An index is identified by its
table and stored fields, never by its name: names belong to a schema version and are resolved there, so a deploy can
swap a name without rebuilding anything. Used by the database; nothing else writes to the maps.
"""

from collections.abc import Sequence
from typing import Final

from reactor.engine.history import History
from reactor.engine.keyrange import IndexId
from reactor.engine.sortedmap import SortedMap
from reactor.errors import LimitExceeded
from reactor.limits import FIRST_USER_TABLE, MAX_TABLES
from reactor.values.keys import IndexKeyEncoder

BY_ID: Final[tuple[str, ...]] = ()
BY_CREATION_TIME: Final = ("_creationTime",)

# System tables, below the numbers of user tables (`reference/values-and-schema.md` §4.2).
TABLES: Final = "_tables"
MODULES: Final = "_modules"
DEPLOYMENT: Final = "_deployment"
SYSTEM_TABLES: Final = {TABLES: 513, MODULES: 514, DEPLOYMENT: 515}


class Index:
    """One sorted map from key bytes to document bytes, with the history of recent changes."""

    __slots__ = ("encoder", "entries", "fields", "history", "id", "table", "top_fields", "valid_from")

    def __init__(self, index_id: IndexId, table: int, fields: tuple[str, ...]) -> None:
        self.id = index_id
        self.table = table
        self.fields = fields  # stored fields; `_id` always follows
        self.top_fields = tuple(dict.fromkeys(field.partition(".")[0] for field in fields))
        self.encoder = IndexKeyEncoder(fields)
        self.entries: SortedMap[bytes] = SortedMap()
        self.history = History()
        self.valid_from = 0  # snapshots older than this would see documents that were not there yet


class Table:
    """One table: its number, its name, and its indexes by stored fields."""

    __slots__ = ("by_id", "indexes", "name", "number", "order", "row_key")

    def __init__(self, number: int, name: str, by_id: Index, by_creation_time: Index) -> None:
        self.number = number
        self.name = name
        self.by_id = by_id
        self.indexes: dict[tuple[str, ...], Index] = {BY_ID: by_id, BY_CREATION_TIME: by_creation_time}
        # Another tuple whenever `indexes` changes, so that keys computed for the old one are known to be incomplete.
        self.order: tuple[Index, ...] = (by_id, by_creation_time)
        self.row_key: bytes | None = None  # of its document in `_tables`; reading the table reads that key

    def __len__(self) -> int:
        return len(self.by_id.entries)


def id_key(document_id: str) -> bytes:
    """Return the key of a document in the index by id. Ids are base32 text, so nothing needs escaping."""
    return b"\x10" + document_id.encode("ascii") + b"\x00"


class Catalog:
    """Every table of the deployment, by name and by number."""

    def __init__(self) -> None:
        self.by_name: dict[str, Table] = {}
        self.by_number: dict[int, Table] = {}
        self.by_index: dict[IndexId, Index] = {}
        self._next_index = 1
        for name, number in SYSTEM_TABLES.items():
            self.add_table(number, name)

    def table_name(self, number: int) -> str | None:
        """Return the name of a user table, or None when no such table is known to applications."""
        table = self.by_number.get(number)
        return None if table is None or number < FIRST_USER_TABLE else table.name

    def free_number(self) -> int:
        """Return the lowest number no table holds.

        Raises:
            LimitExceeded: there are already as many tables as a deployment may have.
        """
        if len(self.by_number) - len(SYSTEM_TABLES) >= MAX_TABLES:
            raise LimitExceeded("TooManyTables", f"Number of tables cannot exceed {MAX_TABLES}.")
        number = FIRST_USER_TABLE
        while number in self.by_number:
            number += 1
        return number

    def add_table(self, number: int, name: str) -> Table:
        """Make the empty table `name`, with its two automatic indexes."""
        table = Table(number, name, self._new_index(number, BY_ID), self._new_index(number, BY_CREATION_TIME))
        self.by_name[name] = table
        self.by_number[number] = table
        return table

    def drop_table(self, number: int) -> None:
        """Forget a table and its documents."""
        table = self.by_number.pop(number)
        del self.by_name[table.name]
        for index in table.indexes.values():
            del self.by_index[index.id]

    def add_index(self, table: Table, fields: Sequence[str]) -> Index:
        """Give `table` an index over stored `fields`, still empty; every commit from now on maintains it."""
        index = self._new_index(table.number, tuple(fields))
        table.indexes[index.fields] = index
        table.order = tuple(table.indexes.values())
        return index

    def drop_index(self, table: Table, fields: tuple[str, ...]) -> None:
        """Forget an index that no schema version in use names."""
        index = table.indexes.pop(fields)
        table.order = tuple(table.indexes.values())
        del self.by_index[index.id]

    def _new_index(self, table: int, fields: tuple[str, ...]) -> Index:
        index = Index(IndexId(self._next_index), table, fields)
        self._next_index += 1
        self.by_index[index.id] = index
        return index
