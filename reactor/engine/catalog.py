"""Tables and their indexes: the latest applied state of every document, in memory.

Owns the documents of each table, the sorted keys of each index, and the numbering of both. A document's bytes are kept
once, by id; an index holds only keys, each of which ends with the id, so a document that changes in place touches no
index. An index is identified by its table and stored fields, never by its name: names belong to a schema version and
are resolved there, so a deploy can swap a name without rebuilding anything. Tables of the component instance `a/b` are
those named `a/b/…`, with numbers of the one number space; code sees its own through its `Namespace`, and no others.
Used by the database; nothing else writes here.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from reactor.engine.history import History, Moves
from reactor.engine.keyrange import IndexId
from reactor.engine.sortedkeys import SortedKeys
from reactor.engine.unloaded import Unloaded, UnloadedDocuments, UnloadedKeys
from reactor.errors import DataBytesExceeded, LimitExceeded
from reactor.limits import FIRST_USER_TABLE, MAX_TABLES
from reactor.values.keys import ID_TAG, IndexKeyEncoder

BY_ID: Final[tuple[str, ...]] = ()
BY_CREATION_TIME: Final = ("_creationTime",)

# System tables, below the numbers of user tables (`reference/values-and-schema.md` §4.2).
TABLES: Final = "_tables"
MODULES: Final = "_modules"
DEPLOYMENT: Final = "_deployment"
ENVIRONMENT_VARIABLES: Final = "_environment_variables"
CRON_JOBS: Final = "_cron_jobs"
CRON_JOB_LOGS: Final = "_cron_job_logs"
FUNCTION_HANDLES: Final = "_function_handles"
COMPONENTS: Final = "_components"
EXPORTS: Final = "_exports"
IMPORTS: Final = "_snapshot_imports"
SCHEDULED_FUNCTIONS: Final = "_scheduled_functions"
STORED_FILES: Final = "_storage"
VISIBLE_SYSTEM_TABLES: Final = {SCHEDULED_FUNCTIONS: 539, STORED_FILES: 540}  # to applications, through `db.system`
SYSTEM_TABLES: Final = {
    TABLES: 513,
    MODULES: 514,
    DEPLOYMENT: 515,
    ENVIRONMENT_VARIABLES: 516,
    CRON_JOBS: 517,
    CRON_JOB_LOGS: 518,
    FUNCTION_HANDLES: 519,
    COMPONENTS: 520,
    EXPORTS: 530,
    IMPORTS: 531,
    **VISIBLE_SYSTEM_TABLES,
}
BY_NEXT_TIME: Final = ("nextTime", "_creationTime")  # what is due at one time keeps the order it was made in
BY_COMPLETED_TIME: Final = ("completedTime",)
BY_CRON: Final = ("name", "ts")
BY_UUID: Final = ("uuid",)
BY_BLOB: Final = ("blob",)
SYSTEM_INDEXES: Final = {
    CRON_JOBS: (BY_NEXT_TIME,),
    CRON_JOB_LOGS: (BY_CRON,),
    SCHEDULED_FUNCTIONS: (BY_NEXT_TIME, BY_COMPLETED_TIME),
    STORED_FILES: (BY_UUID, BY_BLOB),
}


DOCUMENT_BYTES: Final = 96  # of memory that a document takes beside its own: object header, place in its table


class Index:
    """The order of a table's documents by some fields: their keys, and which of these came and went recently."""

    __slots__ = ("before", "encoder", "fields", "id", "keys", "moves", "table", "top_fields", "valid_from")

    def __init__(self, index_id: IndexId, table: "Table", fields: tuple[str, ...]) -> None:
        self.id = index_id
        self.table = table
        self.fields = fields  # stored fields; `_id` always follows
        self.top_fields = tuple(dict.fromkeys(field.partition(".")[0] for field in fields))
        self.encoder = IndexKeyEncoder(fields)
        self.keys = SortedKeys()
        self.moves = Moves()
        self.valid_from = 0  # snapshots older than this would see documents that were not there yet
        self.before: Index | None = None  # where these snapshots find what stood here, if it was replaced as a whole


class Table:
    """One table: its number, its name, its documents, and its indexes by stored fields."""

    __slots__ = (
        "by_id",
        "component",
        "documents",
        "history",
        "indexes",
        "is_system",
        "local_name",
        "name",
        "number",
        "order",
        "row_key",
        "tablet",
        "unloaded",
    )

    def __init__(self, number: int, name: str, by_id: IndexId, by_creation_time: IndexId) -> None:
        self.number = number
        self.tablet = number  # under which storage has the documents; another one once they were replaced as a whole
        self.name = name
        self.component, _, self.local_name = name.rpartition("/")  # what the code of the component calls it
        self.is_system = self.local_name.startswith("_")
        self.documents: dict[bytes, bytes] = {}  # by `id_key`: the stored form, in the latest applied state
        self.history: History[bytes | None] = History()  # what stood there before; None: no document
        self.by_id = Index(by_id, self, BY_ID)
        self.indexes = {BY_ID: self.by_id, BY_CREATION_TIME: Index(by_creation_time, self, BY_CREATION_TIME)}
        self.order: tuple[Index, ...] = tuple(self.indexes.values())  # by id first
        self.row_key: bytes | None = None  # of its document in `_tables`; reading the table reads that key
        self.unloaded: Unloaded | None = None  # until the documents are in memory

    def __len__(self) -> int:
        return len(self.documents)


def id_key(document_id: str) -> bytes:
    """Return the key of a document in the index by id. Ids are base32 text, so nothing needs escaping."""
    return ID_TAG + document_id.encode("ascii") + b"\x00"


def document_key(index_key: bytes) -> bytes:
    """Return the key by id of the document that a key of any index belongs to."""
    return index_key[index_key.rindex(ID_TAG) :]


def document_id(index_key: bytes) -> str:
    """Return the id of the document that a key of any index belongs to."""
    return document_key(index_key)[1:-1].decode("ascii")


def document_bytes(data: bytes | None) -> int:
    """Return what a document takes in memory, without its keys; None is no document."""
    return 0 if data is None else DOCUMENT_BYTES + len(data)


class Namespace:
    """The tables of one component instance, the application itself included: all that its code can name or reach.

    Names are those the code uses. It is the `TableNumbers` of the instance's validators.
    """

    __slots__ = ("by_name", "by_number", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.by_name: dict[str, Table] = {}
        self.by_number: dict[int, Table] = {}

    def table_name(self, number: int) -> str | None:
        """Return the name of a table, or None when code of this instance knows no such table."""
        table = self.by_number.get(number)
        if table is None or (table.is_system and table.local_name not in VISIBLE_SYSTEM_TABLES):
            return None
        return table.local_name

    def full_name(self, name: str) -> str:
        """Return the name of a table of this instance in the catalog."""
        return f"{self.path}/{name}" if self.path else name


class Catalog:
    """Every table of the deployment, by name and by number."""

    def __init__(self, data_bytes: int) -> None:
        """`data_bytes` is how much memory documents and indexes may take (`limits.data_bytes`)."""
        self.data_bytes = data_bytes
        self.bytes = 0  # of memory that all documents and index keys take
        self.by_name: dict[str, Table] = {}
        self.by_number: dict[int, Table] = {}
        self.by_tablet: dict[int, Table] = {}
        self.namespaces: dict[str, Namespace] = {}  # by path of the component instance; "" is the application
        self._next_index = 0
        for name, number in SYSTEM_TABLES.items():
            self.add_table(number, name)

    def namespace(self, path: str) -> Namespace:
        """Return the tables of one component instance; there are none yet if it is new."""
        namespace = self.namespaces.get(path)
        if namespace is None:
            namespace = self.namespaces[path] = Namespace(path)
        return namespace

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

    def add_table(self, number: int, name: str, tablet: int | None = None) -> Table:
        """Make the empty table `name`, with its two automatic indexes, and those of a system table."""
        table = Table(number, name, self._new_id(), self._new_id())
        self.by_name[name] = table
        self.by_number[number] = table
        if tablet is not None:
            table.tablet = tablet
        self.by_tablet[table.tablet] = table
        namespace = self.namespace(table.component)
        namespace.by_name[table.local_name] = table
        namespace.by_number[number] = table
        for fields in SYSTEM_INDEXES.get(table.local_name, ()):
            self.add_index(table, fields)
        return table

    def new_content(self, name: str, tablet: int, fields: Iterable[tuple[str, ...]]) -> Table:
        """Return an empty table for `replace_content`, with indexes over `fields`, which nobody finds."""
        table = Table(0, name, self._new_id(), self._new_id())
        table.tablet = tablet
        for each in fields:
            if each not in table.indexes:
                table.indexes[each] = Index(self._new_id(), table, each)
        table.order = tuple(table.indexes.values())
        return table

    def replace_content(self, table: Table, content: Table, ts: int) -> None:
        """Let `table` hold the documents of `content` from `ts` on, and the other way round, in no time.

        Both have the same indexes and are in memory. Snapshots before `ts` find the old documents through `before`.
        """
        table.documents, content.documents = content.documents, table.documents
        table.history, content.history = content.history, table.history
        del self.by_tablet[table.tablet]
        table.tablet, content.tablet = content.tablet, table.tablet
        self.by_tablet[table.tablet] = table
        for fields, index in table.indexes.items():
            old = content.indexes[fields]
            index.keys, old.keys = old.keys, index.keys
            index.moves, old.moves = old.moves, index.moves
            old.valid_from, old.before = index.valid_from, index.before
            index.valid_from, index.before = ts, old

    def move_tablet(self, table: Table, tablet: int) -> None:
        """Let storage keep the documents of `table`, which holds none in memory, under `tablet`."""
        if self.by_tablet.get(table.tablet) is table:
            del self.by_tablet[table.tablet]
        table.tablet = tablet
        self.by_tablet[tablet] = table

    def renumber(self, table: Table, number: int) -> None:
        """Give `table` another number; its documents, if it has any, have ids of that number."""
        namespace = self.namespaces[table.component]
        for tables in (self.by_number, namespace.by_number):
            if tables.get(table.number) is table:
                del tables[table.number]
            tables[number] = table
        table.number = number

    def drop_table(self, number: int) -> None:
        """Forget a table and its documents."""
        table = self.by_number.pop(number)
        del self.by_name[table.name], self.by_tablet[table.tablet]
        namespace = self.namespaces[table.component]
        del namespace.by_name[table.local_name], namespace.by_number[number]
        if table.unloaded is None:
            self.bytes -= sum(document_bytes(data) for data in table.documents.values())
            self.bytes -= sum(index.keys.bytes for index in table.order)

    def leave_unloaded(self, table: Table) -> None:
        """Let the documents of an empty table stay on disk until somebody needs them."""
        table.unloaded = Unloaded()
        table.documents = UnloadedDocuments(table.name)
        for index in table.order:
            index.keys = UnloadedKeys(table.name)

    def add_index(self, table: Table, fields: Sequence[str]) -> Index:
        """Give `table` an index over stored `fields`, still empty; every commit from now on maintains it.

        That of a table which is not loaded is filled when the table is.
        """
        index = Index(self._new_id(), table, tuple(fields))
        if table.unloaded is not None:
            index.keys = UnloadedKeys(table.name)
        table.indexes[index.fields] = index
        table.order = tuple(table.indexes.values())
        return index

    def drop_index(self, table: Table, fields: tuple[str, ...]) -> None:
        """Forget an index that no schema version in use names."""
        self.bytes -= table.indexes.pop(fields).keys.bytes
        table.order = tuple(table.indexes.values())

    def check_room(self, growth: int) -> None:
        """Check that documents and indexes may grow by so many bytes.

        Raises:
            DataBytesExceeded: they would take more memory than they may.
        """
        actual = self.bytes + growth
        if actual > self.data_bytes:
            raise DataBytesExceeded(
                f"Documents and indexes would take {actual} bytes of memory, more than "
                f"REACTOR_DATA_BYTES={self.data_bytes}. Delete documents, drop indexes, or raise it if the machine has "
                "more memory."
            )

    def _new_id(self) -> IndexId:
        self._next_index += 1
        return IndexId(self._next_index)
