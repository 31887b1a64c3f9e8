"""The function log over HTTP, for administrators: what `convex logs`, `reactor logs` and the dashboard follow.

Owns the official form of its entries. Promises that a request is answered as soon as there is something newer than its
cursor, with nothing new at the latest after `LOG_POLL_SECONDS`, and that functions of the system don't show. Used by
the router.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reactor.errors import ProtocolError
from reactor.limits import LOG_POLL_SECONDS, MAX_LOG_READERS
from reactor.runtime.calls import session_request_id
from reactor.runtime.functionlog import Entry, FunctionLog, request_id_of
from reactor.runtime.logs import TRUNCATED
from reactor.server.backend import OpenBackend
from reactor.server.http.bodies import json_response
from reactor.server.http.errors import HttpError
from reactor.server.http.identity import admin_of

KINDS: Final = {"query": "Query", "mutation": "Mutation", "action": "Action", "http_action": "HttpAction"}
IDENTITIES: Final = {
    "none": "unknown",
    "user": "user",
    "admin": "instance_admin",
    "acting": "member_acting_user",
}
TOOLS: Final = ("npm-cli-", "dashboard-", "python-reactor-")  # the clients that take log lines in parts
_LEVELS: Final = {"[LOG]": "LOG", "[DEBUG]": "DEBUG", "[INFO]": "INFO", "[WARN]": "WARN", "[ERROR]": "ERROR"}
_UNUSED: Final = (
    "databaseIoReadBytes databaseIoWriteBytes storageReadBytes storageWriteBytes vectorIndexReadBytes "
    "vectorIndexWriteBytes vectorIndexReadQueryBytes vectorIndexWriteQueryBytes textIndexQueryBytes "
    "textIndexWriteQueryBytes networkEgressBytes memoryUsedMb"
).split()


class LogApi:
    """The handlers of `/api/stream_function_logs` and its like, as Starlette endpoints."""

    def __init__(self, backend: OpenBackend) -> None:
        self._backend = backend
        self._readers = 0

    async def stream(self, request: Request) -> Response:
        """GET `/api/stream_function_logs?cursor=`: what ended since then, and lines of actions that go on."""
        is_tool = request.headers.get("convex-client", "").startswith(TOOLS)
        return await self._answer(request, structured=is_tool, progress=True)

    async def completions(self, request: Request) -> Response:
        """GET `/api/stream_udf_execution?cursor=`: the same without the lines of actions that go on."""
        return await self._answer(request, structured=False, progress=False)

    async def _answer(self, request: Request, *, structured: bool, progress: bool) -> Response:
        backend = self._backend()
        await admin_of(request, backend)
        cursor = _cursor(request)
        wanted = _wanted(request)
        if not cursor and not len(backend.log):
            # The command line takes the first answer for history: one that waited would hide what comes first.
            return _response((), backend.log.now_ns() / 1e6, structured=structured)
        if self._readers >= MAX_LOG_READERS:
            raise HttpError(
                429, "TooManyConcurrentRequests", f"{self._readers} readers follow the log already, the limit."
            )
        self._readers += 1
        try:
            cursor_ns, entries = await _next(backend.log, round(cursor * 1e6), wanted, progress=progress)
        finally:
            self._readers -= 1
        return _response(entries, cursor_ns / 1e6 if entries else cursor, structured=structured)


def _response(entries: Sequence[Entry], cursor: float, *, structured: bool) -> Response:
    shown = [official_form(entry, structured=structured) for entry in entries]
    return json_response(msgspec.json.encode({"entries": shown, "newCursor": cursor}), cache_control="no-store")


async def _next(log: FunctionLog, cursor_ns: int, wanted: str | None, *, progress: bool) -> tuple[int, Sequence[Entry]]:
    """Return the next entries with the moment of the last one, when there are some, or none when nothing comes."""
    try:
        async with asyncio.timeout(LOG_POLL_SECONDS):
            while True:
                # A cursor comes back through a float of milliseconds, which is up to a quarter of a microsecond off.
                found = log.after(cursor_ns + 500)
                shown = [entry for entry in found if _is_shown(entry, wanted, progress=progress)]
                if shown or log.is_closed:
                    return (found[-1].ts_ns if found else cursor_ns), shown
                if found:
                    cursor_ns = found[-1].ts_ns
                await log.news()
    except TimeoutError:
        return cursor_ns, ()


def _is_shown(entry: Entry, wanted: str | None, *, progress: bool) -> bool:
    if entry.path.startswith("_system/") or (entry.is_progress and not progress):
        return False
    return wanted is None or (not entry.parent and request_id_of(entry) == wanted)


def _cursor(request: Request) -> float:
    text = request.query_params.get("cursor", "0")
    try:
        cursor = float(text)
    except ValueError:
        cursor = math.nan
    if not 0 <= cursor < 1e16:
        raise ProtocolError("InvalidCursor", f"`cursor` is a number of milliseconds, such as 0, not {text[:50]!r}.")
    return cursor


def _wanted(request: Request) -> str | None:
    """Return the id of the one request that is asked about, if it is one."""
    session, counter = request.query_params.get("sessionId"), request.query_params.get("clientRequestCounter")
    if session is None and counter is None:
        return None
    if session is None or counter is None or not counter.isdecimal() or len(counter) > 15:
        raise ProtocolError("InvalidFilter", "`sessionId` and `clientRequestCounter`, a number, go together.")
    return session_request_id(session.lower(), int(counter))


def official_form(entry: Entry, *, structured: bool) -> dict[str, Any]:
    """Return an entry as official clients know it."""
    lines: Sequence[Any] = [_line(entry, line) for line in entry.log_lines] if structured else entry.log_lines
    shared = {
        "udfType": KINDS[entry.kind],
        "componentPath": entry.component or None,
        "identifier": entry.path.replace(".js:", ":"),
        "timestamp": entry.ts_ns / 1e9,
        "logLines": lines,
        "requestId": request_id_of(entry),
        "executionId": _execution_id(entry.execution),
    }
    if entry.is_progress:
        return {"kind": "Progress", **shared}
    usage = dict.fromkeys(_UNUSED, 0) | {
        "databaseReadBytes": entry.bytes_read,
        "databaseReadDocuments": entry.documents_read,
        "databaseWriteBytes": entry.bytes_written,
        "databaseWriteDocuments": entry.documents_written,
    }
    seconds = max(0.0, (entry.ts_ns - entry.began_ns) / 1e9)
    return {
        "kind": "Completion",
        **shared,
        "executionTimestamp": entry.began_ns / 1e9,
        "executionTime": seconds,
        "userExecutionTime": seconds,
        "cachedResult": entry.is_cached,
        "success": {"status": str(entry.status)} if entry.status and entry.error is None else None,
        "error": entry.error,
        "parentExecutionId": _execution_id(entry.parent) if entry.parent else None,
        "caller": entry.caller,
        "identityType": IDENTITIES[entry.identity],
        "environment": "isolate",
        "usageStats": usage,
        "returnBytes": entry.return_bytes,
        "occInfo": None,
        "willRetry": False,
    }


def _execution_id(number: int) -> str:
    return f"{number:016x}"


def _line(entry: Entry, line: str) -> dict[str, Any]:
    head, _, text = line.partition(" ")
    path: str | None = None
    if text.startswith("[") and "] " in text:  # of a function that this one has called
        path, _, text = text[1:].partition("] ")
    is_truncated = text.endswith(TRUNCATED)
    parts: dict[str, Any] = {
        "messages": [text.removesuffix(TRUNCATED)],
        "level": _LEVELS.get(head, "LOG"),
        "timestamp": (entry.ts_ns if entry.is_progress else entry.began_ns) / 1e6,
        "isTruncated": is_truncated,
    }
    return parts if path is None else {**parts, "udfPath": path}
