"""Who may use the SQLite file now, and whether what was written to it is certain.

Owns the two locks around the connections, and the doubt that an error or a cancelled call leaves. Used by `sqlite` and
`sqlite_wal`.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from reactor.storage.sqlite_errors import NOTHING_WRITTEN, primary_code

T = TypeVar("T")


class Gate:
    """The locks of one open file. Who needs both takes `in_background` first."""

    def __init__(self) -> None:
        self.in_background = asyncio.Lock()  # owns the background connection
        self.writing = asyncio.Lock()  # may write: SQLite knows one writer, and to wait for it there is to poll
        self.is_settled = True  # False from an unknown append until `reopen`

    def doubt(self, error: BaseException) -> bool:
        """Return whether a write that failed with `error` leaves the write-ahead log in doubt, and `reopen` must come.

        A sync that failed is not made good by the next one: the kernel may have dropped what it could not write. Were
        an append to follow pages that a fold or a checkpoint failed to sync, it would be acknowledged and yet lost.
        """
        if primary_code(error) in NOTHING_WRITTEN:
            return False
        self.is_settled = False
        return True

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` to its end even when cancelled: its thread goes on anyway, and holds SQLite's write lock."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            if error := task.exception():
                self.doubt(error)
            raise
