"""The write-ahead log of the SQLite file: how far it has grown, and the checkpoints that let it start over.

Owns the estimate of its size and the one checkpoint under way. Promises that checkpoints stay off the commit path until
the log has outgrown its bound several times. Used by `sqlite`.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from reactor.storage import failpoints
from reactor.storage.sqlite_connection import SqliteConnection
from reactor.storage.sqlite_errors import explain
from reactor.storage.sqlite_gate import Gate
from reactor.storage.sqlite_steps import PAGE_BYTES

_logger = logging.getLogger("reactor.storage")

SLACK: Final = 4  # how many times its bound the log may grow before appends wait for it to start over
_FRAME_BYTES: Final = PAGE_BYTES + 24


class WriteAheadLog:
    """The write-ahead log of the database at `path`, kept at about `bound` bytes and refused at about `limit`."""

    def __init__(
        self, path: Path, bound: int, limit: int, gate: Gate, background: Callable[[], SqliteConnection | None]
    ) -> None:
        self.path = path.with_name(f"{path.name}-wal")
        self.limit = limit
        self.size = 0  # bytes since it last started over, estimated
        self.checkpointing: asyncio.Task[None] | None = None
        self._database_path = path
        self._bound = bound
        self._gate = gate
        self._background = background
        self._grown = 0  # bytes since the last checkpoint, estimated

    def start_over(self) -> None:
        """Take note that it is empty."""
        self._grown = self.size = 0

    def note_written(self, pages: int) -> None:
        """Count what went into it; start a checkpoint when one is due."""
        self._grown += pages * PAGE_BYTES
        self.size += pages * PAGE_BYTES
        if self._grown >= self._bound:
            self.start_checkpoint()

    def start_checkpoint(self) -> None:
        """Begin a checkpoint unless one is under way."""
        if self.checkpointing is None or self.checkpointing.done():
            self.checkpointing = asyncio.create_task(self._checkpoint(), name="sqlite checkpoint")

    async def close(self) -> None:
        """Wait for the checkpoint that is under way."""
        if self.checkpointing is not None:
            await asyncio.wait([self.checkpointing])

    async def _checkpoint(self) -> None:
        """Copy the write-ahead log into the database while appends go on.

        The log starts over by itself when an append finds all of it copied. Under steady load none ever does; then, at
        `SLACK` times the bound, appends wait while the last few pages are copied. Neither happens while another program
        reads an older state.
        """
        try:
            async with self._gate.in_background:
                background = self._background()
                if background is None:  # reopening failed
                    return
                self._grown = 0
                if failpoints.armed is not None:
                    failpoints.armed("checkpoint: before")
                is_whole = await self._copy(background)
                if not is_whole and self.size >= SLACK * self._bound:
                    async with self._gate.writing:
                        self._grown = 0
                        await self._copy(background)
                if failpoints.armed is not None:
                    failpoints.armed("checkpoint: after")
        except sqlite3.Error as error:
            self._gate.doubt(error)
            _logger.warning("checkpoint failed: %s", explain(self._database_path, "copy the write-ahead log", error))

    async def _copy(self, background: SqliteConnection) -> bool:
        """Copy what no reader stands in the way of; return whether that was all there is, so that the log starts over.

        What was appended meanwhile may follow what was copied: then the log goes on, and has not become smaller.
        """
        ((_, frames, copied),) = await self._gate.finish(background.fetch("PRAGMA wal_checkpoint(PASSIVE)"))
        is_whole: bool = frames == copied and not self._grown
        self.size = 0 if is_whole else frames * _FRAME_BYTES + self._grown
        return is_whole
