"""`ctx.storage` of queries and mutations: what can be done with stored files inside a transaction.

Owns which ids are those of files, and the errors of those that are not. Content is for actions, since it takes a disk.
Promises that a URL is read through the file's document, so that a live query learns when the file is gone, and that
deleting takes effect with the transaction. Used by `context`, and where content arrives or is asked for:
`action_files` and the endpoint for uploads.
"""

import re
from typing import TYPE_CHECKING, Final

from reactor.engine.catalog import BY_UUID, STORED_FILES, Table
from reactor.engine.systemdocs import Document, find_system, insert_system, put_system, read_system
from reactor.errors import DeterminismError, InvalidArgument, InvalidStorageId, StoredFileNotFound
from reactor.runtime.executions import Execution, Operation
from reactor.runtime.files.documents import Incoming
from reactor.values.ids import decode_id

if TYPE_CHECKING:
    from reactor.runtime.context import QueryCtx

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class StorageReader:
    """`ctx.storage` of a query."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def get_url(self, storage_id: str, /) -> Operation[str | None]:
        """Return the URL of a file, or None when there is no such file (any more).

        Whoever has the URL can read the file until it is deleted.

        Raises:
            InvalidStorageId: `storage_id` is no id of `_storage`.
        """
        execution = self._execution
        return Operation(execution, "storage.get_url()", lambda: url_of(execution, storage_id))

    if not TYPE_CHECKING:  # type checkers know that these are missing; whoever calls them is told why

        def __getattr__(self, name):
            if name in ("store", "get"):
                raise DeterminismError(
                    f"Can't use storage.{name}() in queries and mutations. Please consider using an action. "
                    "See https://docs.convex.dev/functions/actions for more details."
                )
            if name in ("generate_upload_url", "delete"):
                raise DeterminismError(f"Can't use storage.{name}() in a query: it writes. Use a mutation.")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class StorageWriter(StorageReader):
    """`ctx.storage` of a mutation."""

    __slots__ = ()

    def generate_upload_url(self) -> Operation[str]:
        """Return a URL that a file can be posted to for an hour; the answer is `{"storageId": …}`."""
        execution = self._execution
        return Operation(execution, "storage.generate_upload_url()", lambda: upload_url(execution))

    def delete(self, storage_id: str, /) -> Operation[None]:
        """Delete a file with this transaction. Its URL is dead at once, its content goes a while later.

        Raises:
            InvalidStorageId: `storage_id` is no id of `_storage`.
            StoredFileNotFound: there is no such file.
        """
        execution = self._execution
        return Operation(execution, "storage.delete()", lambda: delete(execution, storage_id))


class BlockingStorageReader(StorageReader):
    """`ctx.storage` of a plain `def` query."""

    __slots__ = ()

    def get_url(self, storage_id: str, /) -> str | None:  # type: ignore[override]
        """See `StorageReader.get_url`."""
        self._execution.check_alive()
        return url_of(self._execution, storage_id)


class BlockingStorageWriter(BlockingStorageReader):
    """`ctx.storage` of a plain `def` mutation."""

    __slots__ = ()

    def generate_upload_url(self) -> str:
        """See `StorageWriter.generate_upload_url`."""
        self._execution.check_alive()
        return upload_url(self._execution)

    def delete(self, storage_id: str, /) -> None:
        """See `StorageWriter.delete`."""
        self._execution.check_alive()
        delete(self._execution, storage_id)


def url_of(execution: Execution, storage_id: object) -> str | None:
    """Return the URL of a file as the transaction sees it, or None."""
    table = execution.documents.system_table(STORED_FILES)
    file = _file(execution, table, storage_id)
    return None if file is None else execution.owner.files.url(table.component, file["uuid"])


def upload_url(execution: Execution) -> str:
    """Return a URL for uploads, good for an hour from the time that the function sees."""
    table = execution.documents.system_table(STORED_FILES)
    return execution.owner.files.upload_url(table.component, execution.ambient.read_clock())


def delete(execution: Execution, storage_id: object) -> None:
    """Stage the removal of a file's document."""
    table = execution.documents.system_table(STORED_FILES)
    file = _file(execution, table, storage_id)
    if file is None:
        raise StoredFileNotFound(f"storage id {storage_id} not found")
    put_system(execution.documents.transaction, table, file, None)


def add_file(ctx: "QueryCtx", incoming: Incoming) -> str:
    """Stage the document of content that has arrived, in the mutation of `ctx`; return its id."""
    documents = ctx._execution.documents
    table = documents.system_table(STORED_FILES)
    return insert_system(documents.database, documents.transaction, table, incoming.fields)


def find_file(ctx: "QueryCtx", storage_id: object) -> Document | None:
    """Return a file's document with all of its fields, or None."""
    execution = ctx._execution
    return _file(execution, execution.documents.system_table(STORED_FILES), storage_id)


def _file(execution: Execution, table: Table, storage_id: object) -> Document | None:
    """Return a file's document as the transaction sees it, or None.

    Raises:
        InvalidStorageId: `storage_id` is neither an id of the table nor a UUID, which old applications have kept.
    """
    transaction = execution.documents.transaction
    if isinstance(storage_id, str):
        if _UUID.fullmatch(storage_id):
            return find_system(transaction, table, BY_UUID, storage_id.lower())
        try:
            number, _ = decode_id(storage_id)
        except InvalidArgument:
            number = -1
        if number == table.number:
            return read_system(transaction, table, storage_id)
    raise InvalidStorageId(f"Invalid storage id {storage_id!r}: expected an id of the table {STORED_FILES!r}.")
