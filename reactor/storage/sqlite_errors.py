"""What an error of SQLite means: whether anything was written, and what somebody should do about it.

Used by `sqlite`, `sqlite_gate` and `sqlite_wal`.
"""

import errno
import sqlite3
from pathlib import Path
from typing import Final

from reactor.storage.checksum import Damaged

# Raised before anything reaches the write-ahead log, or (FULL) before the frame that would make it count.
NOTHING_WRITTEN: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
    }
)

_FULL: Final = "the disk is full: free space on it"
_LOCKED: Final = "another program holds it locked: stop that program"
_CLOSED: Final = "it can't be written: check the permissions of the directory and of the files in it"
_DAMAGED: Final = "it is damaged, and nothing in it was changed: copy the directory away, then restore a backup"
_FAILING: Final = "the disk reports errors: look at the system's log, and copy the directory away"
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _CLOSED,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_PERM: _CLOSED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_IOERR: _FAILING,
    sqlite3.SQLITE_ERROR: _DAMAGED,  # every statement is right for the tables that were made
}


def explain(path: Path, action: str, error: BaseException) -> str:
    """Return what failed, and what to do about it where that is known."""
    code = primary_code(error)
    # Without a code the driver can't make anything of what it read, such as text that is none.
    advice = _DAMAGED if code is None else _ADVICE.get(code)
    if isinstance(error, OSError):
        advice = _FULL if error.errno == errno.ENOSPC else _CLOSED
    return f"{path}: can't {action}: {error}" + (f"; {advice}" if advice is not None else "")


def explain_damage(path: Path, damage: Damaged) -> str:
    """Return what is wrong with the file, and what to do about it."""
    return f"{path} is damaged: {damage}; copy the directory away, then restore a backup"


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code behind `error`, or None when it did not come from SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
