"""The function log: what ran lately, for whoever asks: how long, for whom, with which lines and which error.

Owns a ring of the newest entries, bounded in number and in bytes of text, in memory only. Promises that a run costs one
`append` where nobody reads, that nobody is told of a mutation before it is durable, that each entry has a moment of its
own by which readers go on, and that log redaction, which is for clients, takes nothing from it. Filled by runs and
actions; read by `server/http/logs`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from reactor.auth.identity import Identity
from reactor.limits import MAX_LOGGED_BYTES, MAX_LOGGED_ENTRIES
from reactor.ports import Clock
from reactor.runtime.calls import Call, session_request_id
from reactor.runtime.decorators import Kind

if TYPE_CHECKING:
    from reactor.runtime.runs import Run

STEP_NS: Final = 1000  # between two entries that end at one moment: readers get their time in milliseconds, as a float
ENTRY_BYTES: Final = 200  # of one that is weighed, beside its text


class Entry(msgspec.Struct, gc=False):
    """One run that has ended; or, with `is_progress`, lines of an action that goes on.

    It holds no more than text and numbers: what a run worked with must not live on here.
    """

    ts_ns: int  # when it ended; no other entry has the same
    began_ns: int
    kind: Kind
    path: str
    component: str
    log_lines: tuple[str, ...]
    error: str | None
    request_id: str  # empty when it is that of `session` and `request`
    session: str | None
    request: int | None
    caller: str
    identity: str
    execution: int
    parent: int  # the execution that called it; 0 is none
    rests_on: int  # not to be told before this timestamp is durable
    documents_read: int = 0
    bytes_read: int = 0
    documents_written: int = 0
    bytes_written: int = 0
    return_bytes: int = 0
    is_cached: bool = False
    is_progress: bool = False
    status: int = 0  # of the response of an HTTP action


class FunctionLog:
    """The newest entries of one deployment. Belongs to the engine's thread."""

    def __init__(self, clock: Clock, durable_ts: Callable[[], int], *, redact: bool) -> None:
        """`redact`: runs hand over no log lines of theirs, which are taken from where they gathered."""
        self._clock = clock
        self._durable_ts = durable_ts
        self._redact = redact
        self._entries: deque[Entry] = deque()
        self._heavy: deque[tuple[int, int]] = deque()  # moment and bytes of those with text
        self._bytes = 0
        self._last_ns = 0
        self._executions = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._is_closed = False

    # Filling it.

    def ran(self, run: "Run", kind: Kind, size: int, error: str | None, rests_on: int, lines: tuple[str, ...]) -> None:
        """Take down a query or mutation that has ended, with `size` bytes of result."""
        if run.handler is not None:
            return  # plumbing: no function of the project
        call, transaction, function = run.call, run.transaction, run.function
        identity = call.identity
        if self._redact and len(run.surroundings.log):
            lines = run.surroundings.log.lines
        now = self._clock.now_ns()
        if now <= self._last_ns:
            now = self._last_ns + STEP_NS
        self._last_ns = now
        self._executions += 1
        self._entries.append(
            Entry(
                now,
                run.surroundings.now_ns,
                kind,
                call.path if function is None else function.path,
                call.component,
                lines,
                error,
                call.request_id,
                call.session,
                call.request,
                call.caller,
                identity.kind if identity.claims is None else _who(identity),
                self._executions,
                call.parent,
                rests_on,
                transaction.documents_read,
                transaction.bytes_read,
                transaction.documents_written,
                transaction.bytes_written,
                size,
            )
        )
        if len(self._entries) > MAX_LOGGED_ENTRIES:
            self._drop()
        if lines or error is not None:
            self._weigh(now, lines, error)
        if self._waiting:
            self._wake()

    def add(
        self,
        call: Call,
        kind: Kind,
        path: str,
        *,
        execution: int,
        began_ns: int = 0,
        lines: Sequence[str] = (),
        error: str | None = None,
        size: int = 0,
        is_cached: bool = False,
        is_progress: bool = False,
        status: int = 0,
    ) -> None:
        """Take down anything else: the lines and the end of an action, a result that was kept."""
        now = self._last_ns = max(self._clock.now_ns(), self._last_ns + STEP_NS)
        entry = Entry(
            now,
            began_ns or now,
            kind,
            path,
            call.component,
            tuple(lines),
            error,
            call.request_id,
            call.session,
            call.request,
            call.caller,
            _who(call.identity),
            execution,
            call.parent,
            0,
            return_bytes=size,
            is_cached=is_cached,
            is_progress=is_progress,
            status=status,
        )
        self._entries.append(entry)
        if len(self._entries) > MAX_LOGGED_ENTRIES:
            self._drop()
        if entry.log_lines or error is not None:
            self._weigh(now, entry.log_lines, error)
        if self._waiting:
            self._wake()

    def new_execution(self) -> int:
        """Return a number for an execution that will have several entries, or calls others."""
        self._executions += 1
        return self._executions

    def _weigh(self, ts_ns: int, lines: tuple[str, ...], error: str | None) -> None:
        size = ENTRY_BYTES + sum(map(len, lines)) + len(error or "")
        self._heavy.append((ts_ns, size))
        self._bytes += size
        while self._bytes > MAX_LOGGED_BYTES and len(self._entries) > 1:
            self._drop()

    def _drop(self) -> None:
        """Let the oldest entry go."""
        ts_ns = self._entries.popleft().ts_ns
        while self._heavy and self._heavy[0][0] <= ts_ns:
            self._bytes -= self._heavy.popleft()[1]

    # Reading it.

    def __len__(self) -> int:
        return len(self._entries)

    def after(self, cursor_ns: int) -> list[Entry]:
        """Return the entries after a moment, oldest first, up to the first one that must not be told yet."""
        # A cursor of a process whose clock was ahead must not silence this one.
        cursor_ns = min(cursor_ns, max(self._last_ns, self._clock.now_ns()))
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.ts_ns <= cursor_ns:
                break
            found.append(entry)
        found.reverse()
        durable_ts = self._durable_ts()
        for position, entry in enumerate(found):
            if entry.rests_on > durable_ts:
                del found[position:]
                break
        return found

    def now_ns(self) -> int:
        """Return a moment before every later entry."""
        self._last_ns = max(self._clock.now_ns(), self._last_ns)
        return self._last_ns

    async def news(self) -> None:
        """Return when there may be more to read, at once when the log is closed."""
        if self._is_closed:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def published(self, *_: object) -> None:
        """More is durable."""
        if self._waiting:
            self._wake()

    def close(self) -> None:
        """Send all readers home, also later ones."""
        self._is_closed = True
        self._wake()

    @property
    def is_closed(self) -> bool:
        """Whether there will be no more news."""
        return self._is_closed

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def _who(identity: Identity) -> str:
    return "acting" if identity.kind == "admin" and identity.claims is not None else identity.kind


def request_id_of(entry: Entry) -> str:
    """Return the request id that error texts show."""
    if entry.request_id or entry.session is None:
        return entry.request_id or "0" * 16
    return session_request_id(entry.session, entry.request or 0)
