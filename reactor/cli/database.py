"""Where the environment says that data is kept: `DATABASE_URL`, as compose files for Convex's own image have it.

Owns what such a URL means here. Promises that no URL is ignored and none is shown, since it may hold a password. Used
by `settings`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from reactor.errors import InvalidArgument
from reactor.server.data import MEMORY

DATABASE_URL: Final = "DATABASE_URL"
_OTHERS: Final = ("POSTGRES_URL", "MYSQL_URL")
_SQLITE: Final = re.compile(r"(sqlite|file):", re.IGNORECASE)
# Behind two slashes the path begins with one more, or two as SQLAlchemy writes it. The one option is so anyway.
_PATH: Final = re.compile(r"\w+:(?://(?:localhost)?/?(?=/)|(?!//))([^?#]+)(?:\?mode=rwc)?")


def read_database(environ: Mapping[str, str]) -> Path | None:
    """Return the folder that the environment keeps data in, or None when it says nothing.

    `sqlite:///data/app.db` and `file:/data/app.db` name a file in `/data`, `sqlite:///data` the folder itself; a path
    that does not begin with `/` begins in the working directory.

    Raises:
        InvalidArgument: it names a database that is not SQLite, or no path.
    """
    for variable in _OTHERS:
        if environ.get(variable):
            raise _unusable(variable)
    url = environ.get(DATABASE_URL)
    if not url:
        return None
    if _SQLITE.match(url) is None:
        raise _unusable(DATABASE_URL)
    named = _PATH.fullmatch(url)
    if named is None or MEMORY in named[1]:
        raise InvalidArgument(
            f"{DATABASE_URL} names no folder to keep data in: write it as {DATABASE_URL}=sqlite:///data/app.db, with "
            "the path behind two slashes, or unset it and use --data DIR. Nothing was opened."
        )
    path = Path(unquote(named[1]))
    return (path.parent if path.suffix else path).resolve()


def data_below(folder: Path | None, data: str | None) -> str | None:
    """Return where data is kept: in the `folder` of the environment, which is `data` or below it when both are told.

    Raises:
        InvalidArgument: it is elsewhere.
    """
    if folder is None:
        return data
    if data is not None and (data == MEMORY or not folder.is_relative_to(Path(data).resolve())):
        raise InvalidArgument(
            f"{DATABASE_URL} keeps data in {folder}, and --data in {data}. Unset {DATABASE_URL}, or let it name a "
            f"folder below the other. Nothing was opened."
        )
    return str(folder)


def _unusable(variable: str) -> InvalidArgument:
    return InvalidArgument(
        f"{variable} is set, but this version of reactor stores data in SQLite only (--data DIR, or "
        f"{DATABASE_URL}=sqlite:///PATH). Unset {variable} to go on; nothing was opened."
    )
