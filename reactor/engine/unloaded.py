"""What stands in for a table that is still on disk only.

Owns its documents and keys, which answer every question by saying that the table must be loaded first, and what the log
says about its documents beyond what is folded. Promises that nobody takes a table that is not loaded for an empty one.
Used by the catalog, recovery and loading.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from reactor.engine.sortedkeys import SortedKeys


class TableUnloaded(BaseException):
    """A table was touched that is not in memory; load it and begin again.

    Not an `Exception`, so that a handler does not catch it: the attempt has to end.
    """


class UnloadedDocuments(dict[bytes, bytes]):
    """The documents of a table that is not loaded."""

    __slots__ = ("_table",)

    def __init__(self, table: str) -> None:
        super().__init__()
        self._table = table

    def _refuse(self, *_: Any) -> NoReturn:
        raise TableUnloaded(f"Table {self._table!r} is not loaded.")

    def __len__(self) -> int:
        self._refuse()

    def __iter__(self) -> Iterator[bytes]:
        self._refuse()

    def __contains__(self, key: object) -> bool:
        self._refuse()

    def __getitem__(self, key: bytes) -> bytes:
        self._refuse()

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._refuse()

    def __delitem__(self, key: bytes) -> None:
        self._refuse()

    get = pop = keys = values = items = _refuse


class UnloadedKeys(SortedKeys):
    """The keys of an index of a table that is not loaded."""

    __slots__ = ("_table",)

    def __init__(self, table: str) -> None:
        super().__init__()
        self._table = table

    def _refuse(self) -> NoReturn:
        raise TableUnloaded(f"Table {self._table!r} is not loaded.")

    def __len__(self) -> int:
        self._refuse()

    def __contains__(self, key: bytes) -> bool:
        self._refuse()

    def replace(self, keys: Iterable[bytes]) -> None:
        """See `SortedKeys.replace`."""
        self._refuse()

    def add(self, key: bytes) -> None:
        """See `SortedKeys.add`."""
        self._refuse()

    def discard(self, key: bytes) -> None:
        """See `SortedKeys.discard`."""
        self._refuse()

    def chunk(self, start: bytes, end: bytes | None, limit: int, reverse: bool = False) -> list[bytes]:
        """See `SortedKeys.chunk`."""
        self._refuse()

    def count(self, start: bytes, end: bytes | None) -> int:
        """See `SortedKeys.count`."""
        self._refuse()


class Unloaded:
    """What the log says, beyond the folded documents, about a table that is not loaded.

    No commit can touch the table until it is loaded, so this is final: whatever a fold moves meanwhile, these values
    laid over the folded documents are the current ones.
    """

    __slots__ = ("writes",)

    def __init__(self) -> None:
        self.writes: dict[str, bytes | None] = {}  # the newest of each document; None is a tombstone
