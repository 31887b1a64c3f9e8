"""The format of the SQLite file: whose it is, its version, and the steps that bring an older one up to date.

Owns the header fields and the numbered scripts in `migrations/sqlite`. Promises that a file of another program or of a
newer version is left alone, and that each step happens whole or not at all. Used by `sqlite`.
"""

import logging
import re
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from reactor.errors import StorageError
from reactor.storage.folders import sync_folder
from reactor.storage.sqlite_connection import SqliteConnection

_logger = logging.getLogger("reactor.storage")

APPLICATION_ID: Final = 0x72656163  # "reac", in the header of the file


class Migration(NamedTuple):
    """One step of the format."""

    version: int
    script: str


def migrations() -> list[Migration]:
    """Return all steps, oldest first."""
    found = []
    for entry in resources.files("reactor.storage").joinpath("migrations", "sqlite").iterdir():
        if match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name):
            found.append(Migration(int(match[1]), entry.read_text(encoding="utf-8")))
    return sorted(found)


async def prepare(connection: SqliteConnection, path: Path) -> None:
    """Check whose file `connection` has open, set up an empty one, and bring its format up to date.

    Raises:
        StorageError: the file belongs to another program or a newer version, or can't have a write-ahead log.
        sqlite3.Error: it can't be read or written.
    """
    steps = migrations()
    newest = steps[-1].version
    ((owner,),) = await connection.fetch("PRAGMA application_id")
    ((version,),) = await connection.fetch("PRAGMA user_version")
    ((objects,),) = await connection.fetch("SELECT count(*) FROM sqlite_master")
    if owner != APPLICATION_ID and (owner or version or objects):
        raise StorageError(f"{path} is a database of another program: choose another data directory")
    if version > newest:
        raise StorageError(
            f"{path} has format {version}, this version of reactor knows up to {newest}: upgrade reactor"
        )
    if not objects:
        await connection.fetch("PRAGMA auto_vacuum = INCREMENTAL")  # has to come before the first table
    ((mode,),) = await connection.fetch("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise StorageError(f"{path} can't have a write-ahead log: put the data directory on a local disk")
    for step in steps:
        if step.version > version:
            await connection.transact(
                [
                    *((sql, ()) for sql in _statements(step.script)),
                    (f"PRAGMA application_id = {APPLICATION_ID}", ()),
                    (f"PRAGMA user_version = {step.version}", ()),
                ]
            )
    await _give_pages_back(connection, path)
    if not version:
        sync_folder(path.parent)


async def _give_pages_back(connection: SqliteConnection, path: Path) -> None:
    """Let a file from before `auto_vacuum` shrink too: it is written anew, once."""
    ((mode,),) = await connection.fetch("PRAGMA auto_vacuum")
    if mode:
        return
    try:
        await connection.fetch("PRAGMA auto_vacuum = INCREMENTAL")
        await connection.fetch("VACUUM")
    except sqlite3.Error as error:  # most likely there is no room for the copy; the file is as good as it was
        _logger.warning("%s can't be made to shrink, the next start tries again: %s", path, error)


def _statements(script: str) -> Iterator[str]:
    """Split a migration into statements; `;` at the end of a line ends one."""
    for sql in re.split(r";[ \t]*$", script, flags=re.MULTILINE):
        if sql.strip():
            yield sql
