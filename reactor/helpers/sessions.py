"""Sessions: data that belongs to one browser or device, whether or not its user has logged in.

The client makes a session id, keeps it, and sends it with every call as `sessionId`. Owns `Sessions`, which makes
decorators whose functions take that argument and have `ctx.session`. Promises that a session is read only when a
function asks for it, so that functions which don't depend on it are not run again when it changes. An id is a secret of
its client: who knows it has the session.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from reactor import ReactorError, v

MIN_LENGTH: Final = 16  # below, an id can be guessed
MAX_LENGTH: Final = 128

session_fields: Final[Mapping[str, Any]] = {"sessionId": v.string(), "data": v.record(v.string(), v.any())}
"""The fields of the application's table of sessions, which needs the index `by_session` over `["sessionId"]`."""

session_id_args: Final[Mapping[str, Any]] = {"sessionId": v.string()}
"""The argument that functions with a session take beside their own."""


def new_session_id() -> str:
    """Return an id that nobody can guess: for Python clients. Browsers have `crypto.randomUUID()`."""
    return secrets.token_urlsafe(24)


class Session:
    """`ctx.session` of a function: what is kept for the client that calls."""

    def __init__(self, db: Any, table: str, id: str) -> None:
        self.id = id
        self._db = db
        self._table = table

    async def load(self) -> dict[str, Any] | None:
        """Return what was saved, or None when nothing was."""
        document = await self._document()
        return None if document is None else dict(document["data"])

    async def save(self, data: Mapping[str, Any]) -> None:
        """Keep `data` in the place of what was kept before; in mutations."""
        document = await self._document()
        if document is None:
            await self._db.insert(self._table, {"sessionId": self.id, "data": dict(data)})
        else:
            await self._db.patch(document["_id"], {"data": dict(data)})

    async def update(self, **changes: Any) -> dict[str, Any]:
        """Keep `changes` beside what was kept before, and return all of it; in mutations."""
        data = {**(await self.load() or {}), **changes}
        await self.save(data)
        return data

    async def end(self) -> None:
        """Keep nothing any more; in mutations."""
        document = await self._document()
        if document is not None:
            await self._db.delete(document["_id"])

    async def _document(self) -> dict[str, Any] | None:
        found = self._db.query(self._table).with_index("by_session", sessionId=self.id)
        document: dict[str, Any] | None = await found.unique()
        return document


class Sessions:
    """The sessions in one table of an application."""

    def __init__(self, table: str = "sessions") -> None:
        self._table = table

    def extend(self, decorator: Any) -> Any:
        """Return a decorator of `async def` functions with `ctx.session`: `session_query = sessions.extend(query)`.

        `decorator` is `query`, `mutation`, one of their internal forms, or what `extend` has made of these.
        """
        return decorator.extend(args=session_id_args, context=self._context)

    def of(self, ctx: Any, session_id: str) -> Session:
        """Return a session for functions that take the id in another way.

        Raises:
            ReactorError: it can't be the id of a session: `INVALID_SESSION_ID`.
        """
        if not MIN_LENGTH <= len(session_id) <= MAX_LENGTH:
            raise ReactorError(
                {
                    "code": "INVALID_SESSION_ID",
                    "message": f"A session id has {MIN_LENGTH} to {MAX_LENGTH} characters, not {len(session_id)}",
                }
            )
        return Session(ctx.db, self._table, session_id)

    async def _context(self, ctx: Any, session_id: str) -> dict[str, Any]:
        return {"session": self.of(ctx, session_id)}
