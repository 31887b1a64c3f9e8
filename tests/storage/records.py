"""Records and batches for tests."""

from reactor.storage.interface import DocumentWrite, Persistence, Record, StoredDocument

TABLE = 10_001


def write(id: str, value: bytes | None = b"value", *, table: int = TABLE) -> DocumentWrite:
    """A write of one document."""
    return DocumentWrite(table, id, value)


def commit(ts: int, *writes: DocumentWrite) -> Record:
    """A commit at `ts`; without `writes`, of a document named after it."""
    return Record(ts, "commit", writes or (write(f"document {ts}"),))


def commits(first: int, last: int) -> list[Record]:
    """One commit per timestamp, both ends included."""
    return [commit(ts) for ts in range(first, last + 1)]


async def documents(persistence: Persistence, table: int = TABLE) -> list[StoredDocument]:
    """Everything folded of `table`."""
    return [document async for chunk in persistence.load(table) for document in chunk]
