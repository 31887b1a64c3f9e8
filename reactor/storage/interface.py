"""The contracts of storage: a log with compare-and-append, the documents folded out of it, and files beside them.

Owns the records, the outcomes and the `Persistence` protocol. Every backend promises the same:

- The log is a sequence of records with strictly increasing timestamps. It grows only at its end, only through the
  holder of the lease, and only when it still ends where the appender thinks it does.
- What `append` reported as DONE is found by every later `open`, also after `kill -9` or power loss.
- `fold` moves the oldest records into *documents*, the latest value of each document as of `folded`. Current state is
  the documents plus the log after `folded`.
- `trim` forgets folded records and raises the `floor`; `read` never answers from below it.

One event loop, one appender: at most one `append` is in flight. `fold`, `trim`, `read` and `load` may run beside it and
beside each other. Used by the committer, by start-up and by the background work of `engine`.

A *blob* is the content of one stored file, under a key that is made up for it and never used again. Blobs know no
transactions: bytes are put first and a document that names the key is committed afterwards, so that what a document
names is there; what no document names is garbage for somebody else to find (`runtime/files/collector`).
"""

import enum
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final, Literal, Protocol

import msgspec

SESSION_MARKS: Final = 1  # the table of storage's own; users' and system tables have higher numbers
SESSION_MARK_NS: Final = 14 * 86_400 * 10**9  # official clients do not resend for longer than that either

RecordKind = Literal["commit", "fence", "undo"]


class DocumentWrite(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One document as a commit left it."""

    table: int
    id: str
    value: bytes | None  # None is a tombstone


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Everything about one commit; schema changes are ordinary writes to system tables.

    A new field goes at the end and has a default, so that older logs stay readable.
    """

    ts: int
    kind: RecordKind
    writes: tuple[DocumentWrite, ...] = ()
    session: str | None = None
    request: int | None = None
    result: bytes | None = None  # wire JSON
    log_lines: tuple[str, ...] = ()
    source: str = ""
    version: int = 0


class AppendOutcome(enum.Enum):
    """What became of an append."""

    DONE = "done"  # durable
    REFUSED = "refused"  # certainly not in the log, now or later
    UNKNOWN = "unknown"  # `reopen` tells; until then every append is unknown and writes nothing


class LogState(msgspec.Struct, frozen=True):
    """Where the log stands."""

    end: int  # timestamp of the last record ever appended; 0 before the first
    floor: int  # records at or below it may be gone
    folded: int  # documents hold every record at or below it
    epoch: int  # fencing token of the lease


class StoredDocument(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The latest folded version of one document."""

    id: str
    ts: int
    value: bytes


class Persistence(Protocol):
    """One database. Open it before use, close it in the end; then it may be opened again."""

    trouble: str
    """Why the newest failed append or `reopen` failed and what to do about it, for people; no sentence of its own."""

    async def open(self) -> LogState:
        """Take the lease under a new epoch, bring the format up to date and make what is there durable.

        Raises:
            StorageError: another process holds the lease (the text has its pid), the files belong to a newer version or
                to another program, or they can't be read or written. Nothing is held then.
        """

    async def append(self, batch: Sequence[Record], after: int) -> AppendOutcome:
        """Append `batch` as one unit if the log ends at `after` and the lease is still ours.

        Never raises for a reason that lies in storage. After UNKNOWN, and after any failure that leaves storage in
        doubt, every append is UNKNOWN and writes nothing until `reopen`.

        Raises:
            ValueError: `batch` is empty or its timestamps do not increase strictly from `after`.
        """

    async def read(self, after: int, limit: int) -> list[Record]:
        """Return the oldest records newer than `after`, at most `limit`, oldest first; empty when there are none.

        Raises:
            SnapshotTooOld: `after` is below the floor, so records in between may be gone.
            StorageError: the log can't be read.
        """

    async def tables(self) -> list[int]:
        """Return the numbers of all tables with folded documents, ascending; `SESSION_MARKS` may be among them.

        Raises:
            StorageError: the documents can't be read.
        """

    def load(self, table: int) -> AsyncIterator[list[StoredDocument]]:
        """Iterate over the folded documents of `table` in chunks, in order of their ids.

        A fold during the load may show in the chunks that follow. Replaying the log from the `folded` that held before
        the load began gives the current state in any case: a record's write replaces whatever was loaded.

        Raises:
            StorageError: the documents can't be read.
        """

    async def fold(self, limit: int) -> LogState:
        """Move up to `limit` of the oldest records not yet folded into documents.

        Fewer when they wrote a lot, but one at least if there is any. Appends get in between. When it is cut short, by
        a crash too, documents may already be newer than `folded` says, which replaying the log makes good.

        Raises:
            StorageError: not all was folded, or it can't be said; calling again is safe in both cases. Also while the
                outcome of an append is unknown.
        """

    async def trim(self, keep_after: int) -> LogState:
        """Forget the records at or below `min(keep_after, folded)`; that becomes the floor unless it is higher already.

        Of each session among them the highest request stays, as a document of `SESSION_MARKS`: the session is its id,
        the request in decimal its value. Marks older than `SESSION_MARK_NS` before the floor may go.

        Raises:
            StorageError: nothing was trimmed, or it can't be said; calling again is safe in both cases. Also while the
                outcome of an append is unknown.
        """

    async def reopen(self) -> LogState:
        """Settle an unknown append: drop everything cached, look again, and make what is found durable.

        When it returns, `end` is the truth for good: a batch that is not there then will never appear. The lease
        continues under a new epoch.

        Raises:
            StorageError: it can't be said yet; call again, or close.
        """

    async def close(self) -> None:
        """Release everything, lease included. Never raises for a reason that lies in storage; may be called twice."""


BLOB_KEY_BYTES: Final = 16
_BLOB_KEY: Final = re.compile(r"[0-9a-f]{32}")


class Written(msgspec.Struct, frozen=True):
    """What a blob turned out to be."""

    size: int
    sha256: bytes


class FoundBlob(msgspec.Struct, frozen=True):
    """One blob of a listing."""

    key: str
    modified_ns: int  # wall clock, of when it was put


class BlobWriter(Protocol):
    """A blob on its way in. Ends with `finish` or `abort`; nobody sees anything of it before `finish`."""

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            StorageError: they can't be kept; `abort` is all that is left.
        """

    def finish(self) -> Written:
        """Make the blob durable and then visible, as a whole.

        Raises:
            StorageError: it can't be said to be durable. It may be visible; deleting its key settles that.
        """

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `finish` or another `abort`; never raises for what lies in storage."""


class BlobReader(Protocol):
    """A blob being read. Where the backend can, it reads to the end though the blob is deleted meanwhile."""

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on.

        Raises:
            StorageError: they can't be read, or the blob is shorter.
        """

    def close(self) -> None:
        """Release it; may be called twice."""


class BlobStore(Protocol):
    """The blobs of one deployment. Every method blocks, may be called from any thread, and several at a time.

    What `finish` has returned for is found by every later `read`, also after `kill -9` or power loss, until `delete`.
    """

    outlives_process: bool
    """Whether another process may have left something here that no document names."""

    def open(self) -> None:
        """Remove what unfinished writers of an earlier process have left. Called once, by the holder of the lease.

        Raises:
            StorageError: the place can't be used.
        """

    def write(self, key: str) -> BlobWriter:
        """Begin the blob `key`, 32 hex digits that never stood for another.

        Raises:
            StorageError: it can't be kept.
        """

    def read(self, key: str) -> BlobReader | None:
        """Begin to read a blob, or return None: there is none.

        Raises:
            StorageError: it can't be read.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Delete blobs. One that is not there is deleted already.

        Raises:
            StorageError: some may be left.
        """

    def list(self) -> Iterator[list[FoundBlob]]:
        """Iterate over all blobs in parts, in any order. What comes or goes meanwhile may be in it or not.

        Raises:
            StorageError: the place can't be read.
        """


def check_blob_key(key: str) -> str:
    """Return `key` if it has the form of one, so that it can stand in a path.

    Raises:
        ValueError: it has not.
    """
    if not _BLOB_KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a blob")
    return key
